"""The mean head as an implicit surface: smooth unions of ellipsoids and tapered capsules, in millimetres.

Axes as in the Basel Face Model: x to the image's right when the face is frontal, y up, z towards the viewer;
eyes at y = 26, nose tip near (0, -8, 128), ears at z = 0. Proportions are adult anthropometric averages
(bizygomatic width 138 mm, inner canthi 34 mm apart, mouth 50 mm wide, nose 36 mm wide, chin 112 mm below the eyes).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CENTRE = np.array([0.0, 0.0, 30.0])  # every ray from here leaves the head once: the head is star-shaped about it
MAX_RADIUS = 190.0
COARSE_STEPS = 48
BISECTIONS = 22
SOFT_BLEND = 14.0  # parts with a seam this wide are mirrored smoothly, or the chin would show a cleft at x = 0
SOFT_MIRROR = 7.0  # mm


@dataclass(frozen=True)
class Ellipsoid:
    """Mirrored in x when `centre[0]` is not 0; `blend` is the width in mm of the smooth seam; `carve` removes."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    blend: float
    carve: bool = False

    def distance(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        offset = [(axis - c) / r for axis, c, r in zip((x, y, z), self.centre, self.radii, strict=True)]
        inner = _length(*offset)
        outer = _length(*(part / r for part, r in zip(offset, self.radii, strict=True)))
        return inner * (inner - 1.0) / np.maximum(outer, 1e-9)


@dataclass(frozen=True)
class Capsule:
    """A segment with a radius at either end, mirrored as above."""

    start: tuple[float, float, float]
    stop: tuple[float, float, float]
    radii: tuple[float, float]
    blend: float
    carve: bool = False

    def distance(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        axis = [stop - start for start, stop in zip(self.start, self.stop, strict=True)]
        offset = [value - start for value, start in zip((x, y, z), self.start, strict=True)]
        dot = offset[0] * axis[0] + offset[1] * axis[1] + offset[2] * axis[2]
        along = np.clip(dot / sum(part * part for part in axis), 0.0, 1.0)
        gap = _length(*(value - along * part for value, part in zip(offset, axis, strict=True)))
        return gap - (self.radii[0] + along * (self.radii[1] - self.radii[0]))


# Order matters: each shape is added to, or carved from, those above it.
HEAD: tuple[Ellipsoid | Capsule, ...] = (
    Ellipsoid((0, 54, 4), (74, 82, 96), 0),  # cranium
    Ellipsoid((0, 60, 40), (59, 48, 65), 16),  # forehead
    Ellipsoid((0, -10, 36), (59, 76, 62), 28),  # midface
    Capsule((50, 12, 10), (43, -48, 24), (12, 12), 22),  # mandible: ramus
    Capsule((42, -49, 26), (11, -74, 82), (13, 15), 26),  # mandible: body
    Ellipsoid((0, -74, 84), (22, 15, 20), 18),  # chin
    Ellipsoid((34, -28, 46), (21, 32, 32), 24),  # masseter and buccal fat
    Ellipsoid((46, 5, 50), (19, 16, 28), 22),  # cheekbone
    Ellipsoid((32, -12, 68), (22, 22, 24), 22),  # cheek
    Ellipsoid((0, -37, 72), (33, 28, 34), 20),  # muzzle
    Capsule((12, 43, 92), (40, 45, 78), (9, 8), 12),  # brow ridge
    Ellipsoid((31, 25, 105), (18, 12, 16), 12, carve=True),  # orbit
    Ellipsoid((31.5, 26, 77.5), (14, 12, 12.5), 4),  # eyeball under its lids
    Capsule((0, 30, 94), (0, 2, 108), (7, 8), 12),  # nose bridge
    Ellipsoid((0, -5, 115), (11, 10, 12.5), 10),  # nose tip
    Ellipsoid((12, -9.5, 104), (6.5, 7.5, 10), 6),  # ala
    Ellipsoid((0, -12, 110), (4, 7, 10), 6),  # columella
    Ellipsoid((7, -18, 110), (3.6, 3, 5), 3, carve=True),  # nostril
    Ellipsoid((0, -27, 113.5), (2.6, 8, 3.5), 4, carve=True),  # philtrum
    Capsule((0, -36.5, 104), (21, -40.5, 93.5), (6.0, 3.0), 4),  # upper lip
    Capsule((0, -47, 102), (19, -43.5, 94), (7.0, 3.5), 4),  # lower lip
    Capsule((0, -41.3, 112.5), (22, -41.5, 100.5), (1.8, 0.6), 4, carve=True),  # the mouth's line
    Ellipsoid((0, -57.5, 112), (15, 4.5, 8), 9, carve=True),  # mentolabial fold
    Capsule((0, -60, 10), (0, -104, 2), (44, 47), 14),  # neck stub
)


def head_distance(points: np.ndarray) -> np.ndarray:
    """Signed distance in mm, approximate, negative inside. `points` is (N, 3)."""
    x, y, z = np.ascontiguousarray(points.T)  # separate axes are several times faster than rows of three
    sharp, soft = np.abs(x), np.hypot(x, SOFT_MIRROR)
    distance = HEAD[0].distance(sharp, y, z)
    for shape in HEAD[1:]:
        part = shape.distance(soft if shape.blend >= SOFT_BLEND else sharp, y, z)
        if shape.carve:
            distance = -_smooth_min(-distance, part, shape.blend)
        else:
            distance = _smooth_min(distance, part, shape.blend)
    return distance


def cast_rays(directions: np.ndarray) -> np.ndarray:
    """Where rays from CENTRE along unit `directions` (N, 3) leave the head: points (N, 3) in mm."""
    radii = np.subtract.accumulate(np.r_[MAX_RADIUS, np.full(COARSE_STEPS, MAX_RADIUS / COARSE_STEPS)])
    outside, inside = np.zeros(len(directions), int), np.full(len(directions), COARSE_STEPS)
    while (inside - outside).max(initial=0) > 1:
        middle = (outside + inside) // 2
        hit = head_distance(CENTRE + directions * radii[middle, None]) < 0
        outside, inside = np.where(hit, outside, middle), np.where(hit, middle, inside)
    return CENTRE + directions * _bisect(directions, radii[inside], radii[outside])[:, None]


def _bisect(directions: np.ndarray, inner: np.ndarray, outer: np.ndarray) -> np.ndarray:
    for _ in range(BISECTIONS):
        middle = (inner + outer) / 2
        inside = head_distance(CENTRE + directions * middle[:, None]) < 0
        inner, outer = np.where(inside, middle, inner), np.where(inside, outer, middle)
    return (inner + outer) / 2


def _length(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    return np.sqrt(x * x + y * y + z * z)


def _smooth_min(first: np.ndarray, second: np.ndarray, width: float) -> np.ndarray:
    """Polynomial smooth minimum (Quilez): exact outside a seam `width` mm wide."""
    if width == 0:
        return np.minimum(first, second)
    near = np.maximum(width - np.abs(first - second), 0.0) / width
    return np.minimum(first, second) - near * near * width / 4
