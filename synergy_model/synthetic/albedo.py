"""Colour of each visible pixel before lighting, computed from its position on the mean head."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from synergy.synergy_model.synthetic import texture
from synergy.synergy_model.synthetic.appearance import BALD, CAP, Appearance
from synergy.synergy_model.synthetic.head_mesh import EAR, EAR_CENTRE, EAR_HALF_SIZE, MOUTH, SKIN, SLIT_Y, TEETH
from synergy.synergy_model.synthetic.props import BUST, CURTAIN, FRAME, LENS
from synergy.synergy_model.synthetic.scene import FACE

IRIS_RADIUS, PUPIL_RADIUS = 5.9, 2.3  # mm
IRIS_XY = (31.2, 26.2)  # mm, when looking straight ahead
SCLERA = np.array([0.50, 0.45, 0.43], dtype=np.float32)
CAVITY, TOOTH, TONGUE = (0.10, 0.02, 0.018), (0.62, 0.56, 0.46), (0.42, 0.13, 0.12)
TONGUE_BELOW, LOWER_TEETH_BELOW = 4.5, 7.6  # mm under the closed mouth's line
NOISE_ORIGIN = 512.0  # texels: keeps coordinates positive, and whole tiles away from 0
CHEEK_HAIR_LENGTH = 100.0  # mm by which hair in front of the ears is longer
SHAVEN_HAIR = 0.25  # opacity of the hair on a shaven head


def albedo(canonical: np.ndarray, parts: np.ndarray, appearance: Appearance) -> tuple[np.ndarray, np.ndarray]:
    """Linear RGB (3, M) and gloss (M,), float32, of pixels at `canonical` (3, M) mm of the triangles' `parts` (M,),
    which must be sorted.
    """
    colour = np.empty((3, len(parts)), dtype=np.float32)
    gloss = np.full(len(parts), appearance.gloss, dtype=np.float32)
    edges = np.searchsorted(parts, np.arange(LENS + 2, dtype=parts.dtype))
    for part, paint in PAINTERS.items():
        here = slice(edges[part], edges[part + 1])
        colour[:, here], gloss[here] = paint(canonical[:, here], appearance)
    for part, rgb in (
        (TEETH, TOOTH),
        (FRAME, appearance.frame),
        (LENS, appearance.details.lens_rgb or appearance.frame * 0.3 + 0.01),
    ):
        colour[:, edges[part] : edges[part + 1]] = np.reshape(rgb, (3, 1))
    return colour, gloss


def hair_depth(canonical: np.ndarray, appearance: Appearance) -> np.ndarray:
    """(M,) distance in mm inside the hairline, at points (3, M); bounded by forehead, temples and nape."""
    x, y, z = canonical
    front = y - appearance.hairline + 0.004 * x * x
    behind = 24.0 + 0.35 * (y - 20.0) - z
    nape = y + 48.0 - np.clip((z + 30.0) * 1.6, 0.0, 62.0)
    details = appearance.details
    if details.parting:
        front += details.parting * x
    if any(details.cheek_hair):
        left, right = details.cheek_hair
        behind += np.where(x < 0, left, right)
        nape += CHEEK_HAIR_LENGTH
    return np.maximum(front, np.minimum(behind, nape))


def _face(canonical: np.ndarray, appearance: Appearance) -> tuple[np.ndarray, np.ndarray]:
    colour, grain = _complexion(canonical, appearance)
    gloss = np.full(len(grain), appearance.gloss, dtype=np.float32)
    masks = _masks(canonical)
    _paint_features(colour, masks, grain, appearance)
    eye = np.flatnonzero(masks[texture.EYE] > 0.02)
    _paint(colour, eye, masks[texture.EYE].take(eye), _eye(canonical.take(eye, axis=1), appearance))
    colour *= 1 - 0.9 * appearance.brows * masks[texture.LASH]
    gloss *= 1 - 0.9 * masks[texture.BROW] - 0.6 * masks[texture.EYE]
    _grow_hair(colour, gloss, canonical, appearance)
    return colour, gloss


def _scalp(canonical: np.ndarray, appearance: Appearance) -> tuple[np.ndarray, np.ndarray]:
    """The head outside the face masks."""
    colour, grain = _complexion(canonical, appearance)
    gloss = np.full(len(grain), appearance.gloss, dtype=np.float32)
    _grow_hair(colour, gloss, canonical, appearance)
    return colour, gloss


def _complexion(canonical: np.ndarray, appearance: Appearance) -> tuple[np.ndarray, np.ndarray]:
    """Colour of bare skin (3, M), and fine noise (M,) in -1 to 1 used in it."""
    x, y, z = canonical
    mottle = _noise(x * 1.3 + z, y * 1.3, appearance, texture.COARSE)
    grain = _noise(x * 2 + z, y * 2, appearance, texture.FINE)
    return appearance.skin.astype(np.float32)[:, None] * (1 + 0.07 * mottle + 0.05 * grain), grain


def _masks(canonical: np.ndarray) -> np.ndarray:
    """(10, M) values of `face_masks`, which are frontal projections; they fade out towards the ears."""
    _, y, z = canonical
    rows = texture.face_masks().take(texture.mask_rows(canonical), axis=0)
    fade = np.clip((z - texture.MASKED_Z) / 14, 0, 1)
    masks = np.empty(rows.shape[::-1], dtype=np.float32)
    for mask, column in zip(masks, rows.T, strict=True):
        np.multiply(column, fade, out=mask)
    masks[texture.BEARD] *= _below_cheek_line(y, z)
    return masks


def _paint(colour: np.ndarray, where: np.ndarray, cover: np.ndarray, paint: np.ndarray) -> None:
    """Blend `paint`, (3,) or (3, R), over `colour[:, where]` in place."""
    for channel, tint in zip(colour, paint.astype(np.float32), strict=True):
        below = channel.take(where)
        channel[where] = below + cover * (tint - below)


def _paint_features(colour: np.ndarray, masks: np.ndarray, grain: np.ndarray, appearance: Appearance) -> None:
    """Flush, creases, beard, brows and lips, painted on `colour` in place."""
    flush = appearance.blush * masks[texture.BLUSH]
    dark = 1 - appearance.creases * (0.25 * masks[texture.SOCKET] + 0.45 * masks[texture.CREASE])
    shade = dark - 0.8 * masks[texture.NOSTRIL]
    for channel, tint in zip(colour, (1, 1 - 0.35 * flush, 1 - 0.3 * flush), strict=True):
        channel *= shade * tint
    beard = masks[texture.BEARD] * np.clip(appearance.stubble + appearance.beard * (0.8 + 0.4 * grain), 0, 0.95)
    brow = masks[texture.BROW] * appearance.brows * np.clip(0.75 + 0.7 * grain, 0, 1)
    layers = ((beard, appearance.hair * 0.8), (brow, appearance.hair * 0.6 + appearance.skin * 0.05))
    for cover, rgb in (*layers, (masks[texture.LIP] * 0.9, appearance.lips)):
        where = np.flatnonzero(cover > 0.01)
        _paint(colour, where, cover.take(where), rgb)
    lips = np.flatnonzero(masks[texture.LIP] > 0.01)
    for channel in colour:
        channel[lips] *= 1 - 0.55 * masks[texture.LIP_LINE].take(lips)


def _below_cheek_line(y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """(M,) 1 below the beard's upper edge, from mouth to sideburn; always 1 in front, where the moustache is."""
    line = -44 + 0.0085 * np.clip(92 - z, 0, None) ** 2
    return np.where(z > 92, 1.0, np.clip((line - y) / 10 + 0.5, 0, 1))


def _eye(canonical: np.ndarray, appearance: Appearance) -> np.ndarray:
    """White, iris with a dark rim, pupil, and the upper lid's shadow."""
    side = np.sign(canonical[0])
    across = canonical[0] - side * IRIS_XY[0] - appearance.gaze[0]
    up = canonical[1] - IRIS_XY[1] - appearance.gaze[1]
    radius = np.hypot(across, up)
    exposed = 0.55 + 0.45 * min(1.0, float(appearance.skin[0]) / 0.5)  # darker exposure of the whites for dark skin
    white = SCLERA[:, None] * (exposed * (1 - 0.02 * np.abs(across)))
    iris = appearance.iris.astype(np.float32)[:, None] * np.clip(1.7 - 1.3 * (radius / IRIS_RADIUS) ** 3, 0.25, 1.5)
    colour = white + _disc(radius, IRIS_RADIUS) * (iris - white)
    colour *= 1 - 0.95 * _disc(radius, PUPIL_RADIUS)
    return colour * np.clip(0.85 - 0.13 * (up - 1.0), 0.3, 0.9)


def _disc(radius: np.ndarray, limit: float) -> np.ndarray:
    """(M,) 1 inside `limit` mm, with a soft rim."""
    return np.clip((limit - radius) / 0.8 + 0.5, 0, 1)


def _grow_hair(colour: np.ndarray, gloss: np.ndarray, canonical: np.ndarray, appearance: Appearance) -> None:
    """Paint hair over `colour` and `gloss`, in place; noise makes the hairline irregular."""
    depth = hair_depth(canonical, appearance)
    near = np.flatnonzero(depth > -appearance.fringe - 4)
    strands = _strands(canonical.take(near, axis=1), appearance)
    cover = np.clip((depth.take(near) + appearance.fringe * strands) / 6 + 0.5, 0, 1)
    cover *= SHAVEN_HAIR if appearance.style == BALD else 1.0
    _paint(colour, near, cover, _hair_colour(strands, appearance))
    gloss[near] *= 1 - 0.8 * cover


def _long_hair(canonical: np.ndarray, appearance: Appearance) -> tuple[np.ndarray, float]:
    return _hair_colour(_strands(canonical, appearance), appearance), 0.02


def _hair_colour(strands: np.ndarray, appearance: Appearance) -> np.ndarray:
    cloth = appearance.style == CAP or appearance.details.scarf
    contrast = 0.1 if cloth else 0.55  # cloth shows no strands
    return appearance.hair.astype(np.float32)[:, None] * (1 + contrast * strands)


def _strands(canonical: np.ndarray, appearance: Appearance) -> np.ndarray:
    """(M,) noise in -1 to 1, stretched from the crown downwards."""
    x, y, z = canonical
    return _noise(np.arctan2(x, z + 30.0) * 60, y * 0.5, appearance, texture.STREAK)


def _noise(across: np.ndarray, down: np.ndarray, appearance: Appearance, kind: int) -> np.ndarray:
    shift = appearance.noise_shift
    return texture.noise_at(across + (shift[0] + NOISE_ORIGIN), down + (shift[1] + NOISE_ORIGIN), kind)


def _ear(canonical: np.ndarray, appearance: Appearance) -> tuple[np.ndarray, float]:
    """Redder than the face, darker towards the canal and in the groove inside the rim."""
    up = (canonical[1] - EAR_CENTRE[1]) / EAR_HALF_SIZE[1]
    back = (canonical[2] - EAR_CENTRE[2]) / EAR_HALF_SIZE[0]
    radius = np.hypot(up + 0.2 * back, back)
    bowl = np.exp(-0.5 * ((radius - 0.2) / 0.25) ** 2)
    groove = np.exp(-0.5 * ((radius - 0.8) / 0.08) ** 2)
    shade = (1 - 0.5 * bowl - 0.3 * groove) * np.array([[1.0], [0.88], [0.86]], dtype=np.float32)
    return _complexion(canonical, appearance)[0] * shade, appearance.gloss


def _mouth(canonical: np.ndarray, appearance: Appearance) -> tuple[np.ndarray, float]:
    """The cavity; low in it the tongue, below that the lower teeth."""
    colour = np.repeat(np.array(CAVITY, dtype=np.float32)[:, None], canonical.shape[1], axis=1)
    below, details = SLIT_Y - canonical[1], appearance.details
    tongue = np.flatnonzero(below > TONGUE_BELOW)
    teeth = np.flatnonzero(below > LOWER_TEETH_BELOW)
    _paint(colour, tongue, np.full(len(tongue), details.tongue), np.array(TONGUE))
    _paint(colour, teeth, np.full(len(teeth), details.lower_teeth), np.array(TOOTH))
    return colour, appearance.gloss


def _bust(canonical: np.ndarray, appearance: Appearance) -> tuple[np.ndarray, float]:
    """Skin above the collar, cloth below."""
    x, y, z = canonical
    edge = appearance.collar + 0.12 * np.abs(x) - 0.12 * z
    weave = _noise(x * 0.7, y * 0.7, appearance, texture.COARSE)
    cloth = appearance.cloth.astype(np.float32)[:, None] * (1 + 0.15 * weave)
    return np.where(y < edge, cloth, (appearance.skin.astype(np.float32) * 0.95)[:, None]), 0.01


PAINTERS: dict[int, Callable[[np.ndarray, Appearance], tuple[np.ndarray, np.ndarray | float]]] = {
    FACE: _face,
    SKIN: _scalp,
    EAR: _ear,
    MOUTH: _mouth,
    BUST: _bust,
    CURTAIN: _long_hair,
}
