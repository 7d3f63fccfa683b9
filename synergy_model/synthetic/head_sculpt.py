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

    def distance(self, points: np.ndarray) -> np.ndarray:
        radii = np.array(self.radii)
        offset = (points - np.array(self.centre)) / radii
        inner = np.linalg.norm(offset, axis=1)
        outer = np.linalg.norm(offset / radii, axis=1)
        return inner * (inner - 1.0) / np.maximum(outer, 1e-9)


@dataclass(frozen=True)
class Capsule:
    """A segment with a radius at either end, mirrored as above."""

    start: tuple[float, float, float]
    stop: tuple[float, float, float]
    radii: tuple[float, float]
    blend: float
    carve: bool = False

    def distance(self, points: np.ndarray) -> np.ndarray:
        start, axis = np.array(self.start), np.array(self.stop) - np.array(self.start)
        along = np.clip((points - start) @ axis / (axis @ axis), 0.0, 1.0)
        gap = np.linalg.norm(points - start - along[:, None] * axis, axis=1)
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
    sharp = np.concatenate([np.abs(points[:, :1]), points[:, 1:]], axis=1)
    soft = np.concatenate([np.hypot(points[:, :1], SOFT_MIRROR), points[:, 1:]], axis=1)
    distance = HEAD[0].distance(sharp)
    for shape in HEAD[1:]:
        part = shape.distance(soft if shape.blend >= SOFT_BLEND else sharp)
        if shape.carve:
            distance = -_smooth_min(-distance, part, shape.blend)
        else:
            distance = _smooth_min(distance, part, shape.blend)
    return distance


def cast_rays(directions: np.ndarray) -> np.ndarray:
    """Where rays from CENTRE along unit `directions` (N, 3) leave the head: points (N, 3) in mm."""
    outer = np.full(len(directions), MAX_RADIUS)
    step = MAX_RADIUS / COARSE_STEPS
    outside = np.ones(len(directions), dtype=bool)
    for _ in range(COARSE_STEPS - 1):
        rows = np.flatnonzero(outside)
        hit = head_distance(CENTRE + directions[rows] * (outer[rows] - step)[:, None]) < 0
        outside[rows[hit]] = False
        outer[rows[~hit]] -= step
    return CENTRE + directions * _bisect(directions, outer - step, outer)[:, None]


def _bisect(directions: np.ndarray, inner: np.ndarray, outer: np.ndarray) -> np.ndarray:
    for _ in range(BISECTIONS):
        middle = (inner + outer) / 2
        inside = head_distance(CENTRE + directions * middle[:, None]) < 0
        inner, outer = np.where(inside, middle, inner), np.where(inside, outer, middle)
    return (inner + outer) / 2


def _smooth_min(first: np.ndarray, second: np.ndarray, width: float) -> np.ndarray:
    """Polynomial smooth minimum (Quilez): exact outside a seam `width` mm wide."""
    if width == 0:
        return np.minimum(first, second)
    near = np.maximum(width - np.abs(first - second), 0.0) / width
    return np.minimum(first, second) - near * near * width / 4
