"""The colour of every visible pixel before lighting, from where on the mean head it lies."""

from __future__ import annotations

import numpy as np

from synergy_model import face_texture as texture
from synergy_model.face_look import BALD, CAP, Look
from synergy_model.face_props import BUST, CURTAIN, FRAME, LENS
from synergy_model.head_mesh import EAR, EAR_CENTRE, EAR_HALF_SIZE, MOUTH, SKIN, TEETH

IRIS_RADIUS, PUPIL_RADIUS = 5.9, 2.3  # mm
IRIS_XY = (31.2, 26.2)  # mm, when looking straight ahead
SCLERA = np.array([0.50, 0.45, 0.43], dtype=np.float32)
CAVITY, TOOTH = (0.10, 0.02, 0.018), (0.62, 0.56, 0.46)
NOISE_ORIGIN = 512.0  # texels: keeps coordinates positive, and whole tiles away from 0
SHAVEN_HAIR = 0.25  # how much hair shows on a shaven head


def albedo(canonical: np.ndarray, parts: np.ndarray, look: Look) -> tuple[np.ndarray, np.ndarray]:
    """Linear RGB (M, 3) and gloss (M,), float32, of pixels at `canonical` (M, 3) mm of the triangles' `parts`."""
    colour = np.empty((len(parts), 3), dtype=np.float32)
    gloss = np.full(len(parts), look.gloss, dtype=np.float32)
    head = np.flatnonzero((parts == SKIN) | (parts == EAR))
    colour[head], gloss[head] = _head(canonical[head], parts[head] == SKIN, look)
    body, strands = np.flatnonzero(parts == BUST), np.flatnonzero(parts == CURTAIN)
    colour[body], gloss[body] = _bust(canonical[body], look), 0.01
    colour[strands], gloss[strands] = _hair(canonical[strands], look), 0.02
    plain = ((MOUTH, CAVITY), (TEETH, TOOTH), (FRAME, look.frame), (LENS, look.frame * 0.3 + 0.01))
    for part, rgb in plain:
        colour[parts == part] = rgb
    return colour, gloss


def hair_depth(canonical: np.ndarray, look: Look) -> np.ndarray:
    """mm inside the hairline: over the forehead, behind the temples and sideburns, above the nape."""
    x, y, z = canonical.T
    front = y - look.hairline + 0.004 * x * x
    behind = 24.0 + 0.35 * (y - 20.0) - z
    nape = y + 48.0 - np.clip((z + 30.0) * 1.6, 0.0, 62.0)
    return np.maximum(front, np.minimum(behind, nape))


def _head(canonical: np.ndarray, is_skin: np.ndarray, look: Look) -> tuple[np.ndarray, np.ndarray]:
    x, y, z = np.ascontiguousarray(canonical.T)
    mottle = _noise(x * 1.3 + z, y * 1.3, look, texture.COARSE)
    grain = _noise(x * 2 + z, y * 2, look, texture.FINE)
    colour = look.skin.astype(np.float32) * (1 + 0.07 * mottle + 0.05 * grain)[:, None]
    gloss = np.full(len(x), look.gloss, dtype=np.float32)
    front = np.flatnonzero(is_skin & (z > 4))  # the masks are seen from the front; their edge fades at the ears
    masks = texture.face_masks().take(texture.mask_rows(canonical[front]), axis=0)
    masks *= np.clip((z[front] - 4) / 14, 0, 1)[:, None]
    masks[:, texture.BEARD] *= _below_cheek_line(y[front], z[front])
    colour[front] = _face(colour[front], masks, grain[front], look)
    eye = masks[:, texture.EYE] > 0.02
    _paint(colour, front[eye], masks[eye, texture.EYE], _eye(canonical[front[eye]], look))
    colour[front] *= (1 - 0.9 * look.brows * masks[:, texture.LASH])[:, None]
    gloss[front] *= 1 - 0.9 * masks[:, texture.BROW] - 0.6 * masks[:, texture.EYE]
    ears = np.flatnonzero(~is_skin)
    colour[ears] *= _ear_shade(canonical[ears])
    _grow_hair(colour, gloss, canonical, np.flatnonzero(is_skin), look)
    return colour, gloss


def _paint(colour: np.ndarray, rows: np.ndarray, cover: np.ndarray, paint: np.ndarray) -> None:
    """Blend `paint` over `colour[rows]` in place."""
    below = colour[rows]
    colour[rows] = below + cover[:, None] * (paint.astype(np.float32) - below)


def _face(colour: np.ndarray, masks: np.ndarray, grain: np.ndarray, look: Look) -> np.ndarray:
    flush = look.blush * masks[:, texture.BLUSH]
    dark = 1 - look.creases * (0.25 * masks[:, texture.SOCKET] + 0.45 * masks[:, texture.CREASE])
    shade = dark - 0.8 * masks[:, texture.NOSTRIL]
    colour = colour * np.stack([shade, shade * (1 - 0.35 * flush), shade * (1 - 0.3 * flush)], axis=1)
    beard = masks[:, texture.BEARD] * np.clip(look.stubble + look.beard * (0.8 + 0.4 * grain), 0, 0.95)
    brow = masks[:, texture.BROW] * look.brows * np.clip(0.75 + 0.7 * grain, 0, 1)
    layers = ((beard, look.hair * 0.8), (brow, look.hair * 0.6 + look.skin * 0.05))
    for cover, rgb in (*layers, (masks[:, texture.LIP] * 0.9, look.lips)):
        rows = np.flatnonzero(cover > 0.01)
        _paint(colour, rows, cover[rows], rgb)
    lips = np.flatnonzero(masks[:, texture.LIP] > 0.01)
    colour[lips] *= (1 - 0.55 * masks[lips, texture.LIP_LINE])[:, None]
    return colour


def _below_cheek_line(y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """(M,) 1 under the line in which a beard climbs from the mouth to the sideburn; the moustache is in front."""
    line = -44 + 0.0085 * np.clip(92 - z, 0, None) ** 2
    return np.where(z > 92, 1.0, np.clip((line - y) / 10 + 0.5, 0, 1))


def _eye(canonical: np.ndarray, look: Look) -> np.ndarray:
    """White, iris with a dark rim, pupil, and the upper lid's shadow."""
    side = np.sign(canonical[:, 0])
    across = canonical[:, 0] - side * IRIS_XY[0] - look.gaze[0]
    up = canonical[:, 1] - IRIS_XY[1] - look.gaze[1]
    radius = np.hypot(across, up)
    exposed = 0.55 + 0.45 * min(1.0, float(look.skin[0]) / 0.5)  # a dark face's eyes are not photographed white
    white = SCLERA * (exposed * (1 - 0.02 * np.abs(across)))[:, None]
    iris = look.iris.astype(np.float32) * np.clip(1.7 - 1.3 * (radius / IRIS_RADIUS) ** 3, 0.25, 1.5)[:, None]
    colour = white + _disc(radius, IRIS_RADIUS) * (iris - white)
    colour *= 1 - 0.95 * _disc(radius, PUPIL_RADIUS)
    return colour * np.clip(0.85 - 0.13 * (up - 1.0), 0.3, 0.9)[:, None]


def _disc(radius: np.ndarray, limit: float) -> np.ndarray:
    """(M, 1) 1 inside `limit` mm, with a soft rim."""
    return np.clip((limit - radius) / 0.8 + 0.5, 0, 1)[:, None]


def _grow_hair(colour: np.ndarray, gloss: np.ndarray, canonical: np.ndarray, skin: np.ndarray, look: Look) -> None:
    """Paint the scalp's hair over `colour`, in place; strands of uneven length make the hairline."""
    depth = hair_depth(canonical[skin], look)
    near = depth > -look.fringe - 4
    rows, depth = skin[near], depth[near]
    strands = _strands(canonical[rows], look)
    cover = np.clip((depth + look.fringe * strands) / 6 + 0.5, 0, 1)
    cover *= SHAVEN_HAIR if look.style == BALD else 1.0
    _paint(colour, rows, cover, _hair_colour(strands, look))
    gloss[rows] *= 1 - 0.8 * cover


def _hair(canonical: np.ndarray, look: Look) -> np.ndarray:
    return _hair_colour(_strands(canonical, look), look)


def _hair_colour(strands: np.ndarray, look: Look) -> np.ndarray:
    contrast = 0.1 if look.style == CAP else 0.55  # a cap's cloth shows no strands
    return look.hair.astype(np.float32) * (1 + contrast * strands)[:, None]


def _strands(canonical: np.ndarray, look: Look) -> np.ndarray:
    """(M,) noise in -1 to 1, drawn out from the crown down."""
    x, y, z = canonical.T
    return _noise(np.arctan2(x, z + 30.0) * 60, y * 0.5, look, texture.STREAK)


def _noise(across: np.ndarray, down: np.ndarray, look: Look, kind: int) -> np.ndarray:
    shift = look.noise_shift
    return texture.noise_at(across + (shift[0] + NOISE_ORIGIN), down + (shift[1] + NOISE_ORIGIN), kind)


def _ear_shade(canonical: np.ndarray) -> np.ndarray:
    """(M, 3) redder than the face, darker towards the canal and in the groove inside the rim."""
    up = (canonical[:, 1] - EAR_CENTRE[1]) / EAR_HALF_SIZE[1]
    back = (canonical[:, 2] - EAR_CENTRE[2]) / EAR_HALF_SIZE[0]
    radius = np.hypot(up + 0.2 * back, back)
    bowl = np.exp(-0.5 * ((radius - 0.2) / 0.25) ** 2)
    groove = np.exp(-0.5 * ((radius - 0.8) / 0.08) ** 2)
    return (1 - 0.5 * bowl - 0.3 * groove)[:, None] * np.array([1.0, 0.88, 0.86], dtype=np.float32)


def _bust(canonical: np.ndarray, look: Look) -> np.ndarray:
    """Skin above the collar, cloth below."""
    x, y, z = canonical.T
    edge = look.collar + 0.12 * np.abs(x) - 0.12 * z
    weave = _noise(x * 0.7, y * 0.7, look, texture.COARSE)
    cloth = look.cloth.astype(np.float32) * (1 + 0.15 * weave)[:, None]
    return np.where((y < edge)[:, None], cloth, look.skin.astype(np.float32) * 0.95)
