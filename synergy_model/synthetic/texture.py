"""Masks of the facial features over the frontal plane of the mean head, and tiling noise."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from synergy.synergy_model.synthetic.head_mesh import FRONTAL, SLIT_Y
from synergy.synergy_model.synthetic.shape_bases import EYE_HALF_WIDTH, EYE_TILT, EYE_XY, LOWER_LID, UPPER_LID

X_RANGE, Y_RANGE = (-80.0, 80.0), (-100.0, 100.0)  # mm
TEXELS_PER_MM = 2.0
EYE, LASH, CREASE, LIP, LIP_LINE, BROW, NOSTRIL, BLUSH, BEARD, SOCKET = range(10)
MASKED_Z = 4.0  # mm: the masks apply in front of this plane
NOISE_SIZE = 256  # texels a side; the tile wraps
FINE, COARSE, STREAK = range(3)


@cache
def face_masks() -> np.ndarray:
    """(400 * 320, 10) float32, 0 to 1, rows from the forehead down: one column per name above."""
    x, y = _grid()
    masks = [_eye(x, y), _lash(x, y), _crease(x, y), _lips(), _lip_line(x, y), _brow(), _nostril(x, y)]
    masks += [_blush(x, y), _beard(x, y), _socket(x, y)]
    return np.stack(masks, axis=2).reshape(-1, len(masks)).astype(np.float32)


def mask_rows(canonical: np.ndarray) -> np.ndarray:
    """Rows of `face_masks` for (3, M) points of the mean head in mm."""
    columns = ((canonical[0] - X_RANGE[0]) * TEXELS_PER_MM).astype(np.int32)
    rows = ((Y_RANGE[1] - canonical[1]) * TEXELS_PER_MM).astype(np.int32)
    width, height = _size_wh()
    return np.clip(rows, 0, height - 1) * width + np.clip(columns, 0, width - 1)


@cache
def noise_tile() -> np.ndarray:
    """(3, 256 * 256) float32 in -1 to 1, wrapping: fine grain, coarse mottling, vertical streaks."""
    rng = np.random.default_rng(20)
    white = rng.standard_normal((3, NOISE_SIZE, NOISE_SIZE)).astype(np.float32)
    blurs = ((1.2, 1.2), (7.0, 7.0), (1.0, 14.0))
    tiles = [_wrapped_blur(noise, sigma) for noise, sigma in zip(white, blurs, strict=True)]
    return np.stack([np.clip(tile / (2.5 * tile.std()), -1, 1).ravel() for tile in tiles])


def _wrapped_blur(noise: np.ndarray, sigma_xy: tuple[float, float]) -> np.ndarray:
    tiled = np.tile(noise, (3, 3))
    blurred = cv2.GaussianBlur(tiled, (0, 0), sigma_xy[0], sigmaY=sigma_xy[1])
    return blurred[NOISE_SIZE : 2 * NOISE_SIZE, NOISE_SIZE : 2 * NOISE_SIZE]


def noise_at(x: np.ndarray, y: np.ndarray, kind: int) -> np.ndarray:
    """The tile at (M,) texel coordinates, wrapping."""
    row, column = y.astype(np.int32) & (NOISE_SIZE - 1), x.astype(np.int32) & (NOISE_SIZE - 1)
    return noise_tile()[kind].take(row * NOISE_SIZE + column)


def _size_wh() -> tuple[int, int]:
    return int((X_RANGE[1] - X_RANGE[0]) * TEXELS_PER_MM), int((Y_RANGE[1] - Y_RANGE[0]) * TEXELS_PER_MM)


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Frontal mm of every texel's centre."""
    width, height = _size_wh()
    x = X_RANGE[0] + (np.arange(width) + 0.5) / TEXELS_PER_MM
    y = Y_RANGE[1] - (np.arange(height) + 0.5) / TEXELS_PER_MM
    return np.meshgrid(x, y)


def _polygons(half: list[tuple[float, float]], blur_mm: float, joined: bool) -> np.ndarray:
    """Fill a frontal polygon and its mirror image; `joined`: both halves are one outline."""
    left = np.array(half)
    right = left * np.array([-1.0, 1.0])
    outlines = [np.concatenate([left, right[::-1]])] if joined else [left, right]
    image = np.zeros(_size_wh()[::-1], dtype=np.float32)
    for outline in outlines:
        texels = (outline - np.array([X_RANGE[0], Y_RANGE[1]])) * np.array([1, -1]) * TEXELS_PER_MM - 0.5
        cv2.fillPoly(image, [np.round(texels * 16).astype(np.int32)], 1.0, cv2.LINE_8, 4)
    return cv2.GaussianBlur(image, (0, 0), blur_mm * TEXELS_PER_MM)


def _spot(x: np.ndarray, y: np.ndarray, centre: tuple[float, float], sigma: tuple[float, float]) -> np.ndarray:
    across, up = (np.abs(x) - centre[0]) / sigma[0], (y - centre[1]) / sigma[1]
    return np.exp(-0.5 * (across**2 + up**2))


def _eye_frame(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Position along the eye (-1 inner to 1 outer corner), height over the corners' line in mm, the lids' arch."""
    along = (np.abs(x) - EYE_XY[0]) / EYE_HALF_WIDTH
    return along, y - EYE_XY[1] - EYE_TILT * along, np.clip(1 - along**2, 0.0, None)


def _soft(distance: np.ndarray, width: float) -> np.ndarray:
    """1 where `distance` is positive, falling to 0 over `width` mm."""
    return np.clip(distance / width + 0.5, 0.0, 1.0)


def _eye(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    along, height, arch = _eye_frame(x, y)
    inside = _soft(1.0 - np.abs(along), 0.08)
    return inside * _soft(UPPER_LID * arch - height, 0.8) * _soft(height - LOWER_LID * arch, 0.8)


def _lash(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    along, height, arch = _eye_frame(x, y)
    inside = _soft(1.08 - np.abs(along), 0.15)
    upper = np.exp(-0.5 * ((height - UPPER_LID * arch) / 0.75) ** 2)
    lower = 0.4 * np.exp(-0.5 * ((height - LOWER_LID * arch) / 0.6) ** 2)
    return inside * np.maximum(upper * (0.75 + 0.25 * along), lower)


def _crease(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    along, height, arch = _eye_frame(x, y)
    line = np.exp(-0.5 * ((height - UPPER_LID * arch - 1.2 - 2.6 * np.sqrt(arch)) / 0.7) ** 2)
    return line * _soft(1.05 - np.abs(along), 0.3)


def _lips() -> np.ndarray:
    upper = [FRONTAL[51], FRONTAL[52], (10.0, -32.6), FRONTAL[53], (20.5, -38.8), FRONTAL[54]]
    lower = [(21.5, -45.3), FRONTAL[55], (12.8, -50.4), FRONTAL[56], FRONTAL[57]]
    return _polygons(upper + lower, 0.7, joined=True)


def _lip_line(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * ((y - SLIT_Y) / 0.8) ** 2) * _soft(25.5 - np.abs(x), 3.0)


def _brow() -> np.ndarray:
    line = np.array([FRONTAL[index] for index in range(22, 27)])
    above, below = np.array([0.8, 1.4, 1.6, 1.2, 0.4]), np.array([6.0, 5.4, 4.4, 3.2, 1.4])
    top, bottom = line + np.stack([0 * above, above], 1), line - np.stack([0 * below, below], 1)
    return _polygons([tuple(point) for point in np.concatenate([top, bottom[::-1]])], 0.9, joined=False)


def _nostril(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.clip(1.5 * _spot(x, y, (7.0, -15.6), (3.0, 1.7)), 0.0, 1.0)


def _blush(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    cheeks = _spot(x, y, (38, -6), (15, 13))
    nose = _spot(x, y, (0, -6), (11, 10))
    return np.clip(cheeks + nose + 0.5 * _spot(x, y, (0, -76), (16, 10)), 0.0, 1.0)


def _beard(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Moustache, chin and jaw, up to the sideburns; without the lips."""
    moustache = _spot(x, y, (10, -27.5), (13, 4.5))
    top = -46 + 0.028 * np.clip(np.abs(x) - 20, 0, None) ** 2  # the upper edge rises towards the ears
    jaw = _soft(top - y, 16.0)
    chin_gap = 1 - 0.75 * _spot(x, y, (0, -54), (17, 4))
    return np.clip(moustache * 1.2 + jaw, 0.0, 1.0) * chin_gap * _soft(y + 91, 7.0)


def _socket(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    under = _spot(x, y, (29, 17.5), (11, 3.5))
    # The nasolabial fold, from the ala to the side of the mouth's corner.
    along = np.clip((-10 - y) / 30, 0, 1)
    fold = np.exp(-0.5 * ((np.abs(x) - 16.5 - 14 * along) / 1.6) ** 2) * np.sin(np.pi * along) ** 0.5
    inner = _spot(x, y, (17, 29), (5, 6))
    return np.clip(under + 0.9 * fold + 0.7 * inner, 0.0, 1.0)
