"""Background, occlusion and camera effects of a rendered face: exposure, blur, noise, JPEG compression."""

from __future__ import annotations

import cv2
import numpy as np

GAMMA = 1 / 2.2


def background(rng: np.random.Generator, side: int) -> np.ndarray:
    """(side, side, 3) float32 linear RGB: a gradient, coloured clouds, and often shapes."""
    picture = _clouds(rng, side)
    for _ in range(rng.integers(0, 7) if rng.random() < 0.6 else 0):
        _shape(rng, picture)
    if rng.random() < 0.6:
        picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.7, 5)))
    return picture * np.float32(rng.uniform(0.3, 1.3))


def _clouds(rng: np.random.Generator, side: int) -> np.ndarray:
    """Random colours at two scales: small grids, enlarged."""
    base = rng.uniform(0.02, 0.7) * np.exp(rng.normal(0, 0.22, 3))
    coarse, fine = (int(rng.integers(2, 5)), 0.5), (int(rng.integers(6, 40)), rng.uniform(0, 0.35))
    return np.asarray(_tinted(_layer(rng, side, *coarse), base) * _layer(rng, side, *fine))


def _layer(rng: np.random.Generator, side: int, cells: int, strength: float) -> np.ndarray:
    grid = rng.standard_normal((cells, cells, 3)).astype(np.float32)
    grid = 0.22 * grid + 0.8 * grid[:, :, :1]
    layer = cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC)
    layer *= np.float32(strength)
    return np.asarray(np.exp(layer, out=layer))


def _tinted(picture: np.ndarray, tint: np.ndarray) -> np.ndarray:
    """(H, W, 3) times (3,) float32, row by row: NumPy is slow where the last axis has only three elements."""
    height, width, channels = picture.shape
    rows = picture.reshape(height, width * channels) * np.tile(np.float32(tint), width)
    return np.asarray(rows.reshape(picture.shape))


def _colour(rng: np.random.Generator) -> tuple[float, float, float]:
    red, green, blue = rng.uniform(0.01, 0.8) * np.exp(rng.normal(0, 0.25, 3))
    return float(red), float(green), float(blue)


def _shape(rng: np.random.Generator, picture: np.ndarray) -> None:
    """A filled or outlined box, ellipse, polygon or line, anywhere."""
    side = picture.shape[0]
    first, second = (tuple(int(v) for v in rng.integers(-20, side + 20, 2)) for _ in range(2))
    kind, width = rng.integers(4), int(rng.integers(1, 10))
    if kind == 0:
        cv2.rectangle(picture, first, second, _colour(rng), -1)
    elif kind == 1:
        axes = tuple(int(v) for v in rng.integers(4, side // 3, 2))
        cv2.ellipse(picture, first, axes, float(rng.uniform(0, 180)), 0, 360, _colour(rng), -1, cv2.LINE_AA)
    elif kind == 2:
        cv2.line(picture, first, second, _colour(rng), width, cv2.LINE_AA)
    else:
        corners = np.array(first) + rng.integers(-side // 3, side // 3, (int(rng.integers(3, 7)), 2))
        cv2.fillPoly(picture, [corners.astype(np.int32)], _colour(rng), cv2.LINE_AA)


def occlude(rng: np.random.Generator, picture: np.ndarray) -> None:
    """Cover part of the linear picture with a blob or a bar, in place."""
    side = picture.shape[0]
    centre = rng.uniform(0.12, 0.88, 2) * side
    reach = rng.uniform(0.06, 0.2) * side
    if rng.random() < 0.5:
        angle = np.sort(rng.uniform(0, 2 * np.pi, 9))
        radius = reach * rng.uniform(0.6, 1.3, 9)
        outline = centre + np.stack([np.cos(angle), np.sin(angle)], 1) * radius[:, None]
    else:
        along = rng.normal(0, 1, 2)
        along *= side / np.linalg.norm(along)
        across = np.array([-along[1], along[0]]) * (0.5 * reach / side)
        start = centre
        outline = np.stack([start - across, start + across, start + along + across, start + along - across])
    mask = np.zeros((side, side), dtype=np.float32)
    cv2.fillPoly(mask, [outline.astype(np.int32)], 1.0, cv2.LINE_AA)
    mask = cv2.GaussianBlur(mask, (0, 0), 0.8)[:, :, None]
    patch = _clouds(rng, side)
    picture += mask * (patch - picture)


def occlude_by_hand(rng: np.random.Generator, picture: np.ndarray, skin: np.ndarray) -> None:
    """Put a few fingers of colour `skin` (3,) over the linear picture from below or from a side, in place."""
    side = picture.shape[0]
    tip = rng.uniform(0.2, 0.8, 2) * side
    towards = rng.uniform(-0.2, np.pi + 0.2)  # the hand comes from below, roughly
    along = np.array([np.cos(towards), np.sin(towards)])
    across = np.array([-along[1], along[0]])
    width = rng.uniform(0.05, 0.09) * side
    colour = skin * rng.uniform(0.5, 1.2)
    for finger in range(int(rng.integers(1, 5))):
        start = tip + across * (width * 1.05 * finger) + along * rng.uniform(0, width)
        stop = start + along * side
        ends = [tuple(int(v) for v in point * 16) for point in (start, stop)]
        for share, shade in ((1.0, 0.55), (0.8, 1.0), (0.4, 1.1)):
            rgb = tuple(float(v) for v in colour * shade)
            cv2.line(picture, ends[0], ends[1], rgb, max(1, round(width * share)), cv2.LINE_AA, 4)


def develop(rng: np.random.Generator, linear: np.ndarray) -> np.ndarray:
    """Linear RGB (side, side, 3) -> BGR uint8 with a camera's exposure, tone curve, blur, noise and compression."""
    middle = float(np.mean(linear)) + 1e-3
    exposure = (0.2 / middle) ** 0.7 * np.exp(rng.normal(0, 0.3))
    balance = np.exp(rng.normal(0, 0.04, 3))
    bright = _tinted(cv2.cvtColor(linear, cv2.COLOR_RGB2BGR), exposure * balance)
    picture = 255 * _tone(bright) ** np.float32(GAMMA)
    picture = 118 + (picture - 118) * np.float32(rng.uniform(0.9, 1.4))
    if rng.random() < 0.12:
        blue, green, red = cv2.split(picture)
        picture = cv2.merge([(blue + green + red) / 3] * 3)
    if rng.random() < 0.35:
        picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.3, 1.5)))
    if rng.random() < 0.6:
        picture = picture + rng.standard_normal(picture.shape, dtype=np.float32) * np.float32(rng.gamma(1.5, 2.5))
    image = np.asarray(cv2.add(picture, 0.0, dtype=cv2.CV_8U))  # rounds and saturates
    return _recompressed(rng, image) if rng.random() < 0.4 else image


def _tone(bright: np.ndarray) -> np.ndarray:
    """Tone curve that compresses highlights instead of clipping them (Reinhard, white point 2)."""
    bright = np.maximum(bright, 0)
    return np.minimum(bright * (1 + bright / 4) / (1 + bright) * 1.35, 1.0)


def _recompressed(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 95))])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
