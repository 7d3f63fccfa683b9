"""The mean head as a mesh: a lattice of rays, bent so that the 68 landmarks and the mouth's line are vertices.

Parts: the head itself (one lattice, closed at crown and neck), a pocket behind the lips that shows when the mouth
opens, and two ears. All coordinates here are millimetres, axes as in `head_sculpt`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synergy.synergy_model.synthetic.head_sculpt import CENTRE, cast_rays

SKIN, MOUTH, TEETH, EAR = range(4)  # what a triangle belongs to
# (until, step) in degrees: rays are denser on the face.
COLUMN_BANDS = ((42.0, 1.9), (110.0, 4.3), (171.0, 15.0))
ROWS_UP = ((34.0, 1.7), (88.0, 6.0))
ROWS_DOWN = ((60.0, 1.7), (87.0, 5.2))
BEND_CELLS = 1.5  # radius, in cells, in which a landmark deforms the lattice
SNAP_ROUNDS = 6  # depth and ray depend on each other: iterated to far below 0.01 mm

# Landmarks by their iBUG index, for the subject's left (x > 0) and the middle: frontal (x, y) in mm, as a human
# annotator marks them; depth comes from the surface; `MIRROR` gives the other half.
FRONTAL = {
    22: (12.5, 43.5), 23: (20.5, 47.5), 24: (30.0, 48.8), 25: (39.0, 46.6), 26: (47.0, 40.5),
    27: (0.0, 27.5), 28: (0.0, 17.0), 29: (0.0, 6.5), 30: (0.0, -4.5),
    33: (0.0, -19.0), 34: (6.8, -18.0), 35: (13.0, -16.0),
    42: (17.5, 24.6), 43: (26.0, 30.3), 44: (35.5, 30.4), 45: (44.5, 26.2), 46: (36.0, 21.9), 47: (26.5, 21.3),
    51: (0.0, -32.6), 52: (6.0, -31.4), 53: (15.0, -35.6), 54: (25.0, -41.6),
    55: (17.0, -48.2), 56: (8.0, -51.8), 57: (0.0, -52.4),
}  # fmt: skip
# The jaw as (azimuth, elevation) from CENTRE in degrees, from the chin (8) to the front of the ear (16).
JAW = {
    8: (0.0, -54.5), 9: (19.0, -54.3), 10: (40.0, -54.2), 11: (64.0, -52.0), 12: (83.0, -44.0),
    13: (93.5, -30.5), 14: (97.5, -15.5), 15: (99.5, -1.0), 16: (101.0, 12.0),
}  # fmt: skip
SLIT_END = 22.5  # mm: the inner corner of the mouth, where upper and lower lip join
SLIT_Y = -41.6
INNER_LIP_X = 8.0  # mm: x of landmarks 61, 63, 65, 67 on the closed mouth's line
# The pocket behind the lips, from the upper to the lower: (y, z) offsets in mm from the slit, and whether the row
# follows the lower jaw. Rows 0 to 1 are the upper teeth; the rest is the cavity and its floor.
POCKET = ((2.0, -3.0, 0.0), (-7.5, -4.5, 0.0), (-5.0, -24.0, 0.0), (-9.0, -24.0, 1.0), (-4.0, -5.0, 1.0))
EAR_CENTRE = (67.0, 9.0, -2.0)
EAR_HALF_SIZE = (16.0, 31.0)  # mm, forward and up
# Rings of the ear from the canal outwards: (size, height over the ear's plane in mm). The last is inside the head.
EAR_RINGS = ((0.2, -5.0), (0.45, -4.0), (0.6, 2.5), (0.78, 1.0), (0.9, 3.0), (1.0, 2.0), (1.0, -2.5), (0.62, -12.0))
EAR_SPOKES = 22
EAR_FLARE, EAR_LEAN = np.radians(24.0), np.radians(12.0)
# For every landmark, its mirror image's index, in iBUG order.
MIRROR = np.r_[
    16:-1:-1, 26:16:-1, 27:31, 35:30:-1, 45:41:-1, 47, 46, 39:35:-1, 41, 40, 54:47:-1, 59:54:-1, 64:59:-1, 67:64:-1
]


@dataclass(frozen=True)
class HeadMesh:
    """(V, 3) float64 vertices in mm, (T, 3) int32 outward triangles, (T,) part of each, (68,) landmark vertices.

    `lower` (V,) is 1 on the lower side of the mouth (lower lip at the slit, floor of the pocket), which follows the
    jaw, and 0 on the upper side; NaN elsewhere, where position decides. `anchors` (V, 3) is
    where displacement fields are evaluated: the vertex itself, or for the pocket the lip's line, which it follows.
    """

    vertices: np.ndarray
    triangles: np.ndarray
    parts: np.ndarray
    landmarks: np.ndarray
    lower: np.ndarray
    anchors: np.ndarray

    @property
    def parts_of_vertices(self) -> np.ndarray:
        """(V,) part of each vertex; where two parts meet, the later."""
        parts = np.zeros(len(self.vertices), dtype=int)
        np.maximum.at(parts, self.triangles.ravel(), np.repeat(self.parts, 3))
        return parts


def head_mesh() -> HeadMesh:
    """Build the mesh; deterministic, about half a second."""
    azimuth, elevation = _angles()
    snaps = _snaps(azimuth, elevation)
    surface = cast_rays(_bent_rays(azimuth, elevation, snaps).reshape(-1, 3))
    builder = _Builder(surface, len(elevation), len(azimuth))
    upper, lower = builder.add_skin(snaps.slit)
    builder.add_pocket(upper, lower)
    builder.add_ear(1.0)
    builder.add_ear(-1.0)
    vertex = {index: int(builder.grid[node]) for index, node in snaps.landmarks.items()}
    middle = len(upper) // 2
    below = {65: lower[upper == vertex[63]], 66: lower[[middle]], 67: lower[upper == vertex[61]]}
    return builder.mesh(vertex | {index: int(found[0]) for index, found in below.items()})


@dataclass(frozen=True)
class _Snaps:
    """Lattice nodes (row, column) with fixed directions; the nodes of the landmarks; the slit's nodes."""

    node_rc: np.ndarray
    angles: np.ndarray
    landmarks: dict[int, tuple[int, int]]
    slit: list[tuple[int, int]]


def _angles() -> tuple[np.ndarray, np.ndarray]:
    """Columns' azimuths (C,), symmetric about 0 and open at the back; rows' elevations (R,) from the crown down."""
    right = _bands(COLUMN_BANDS)
    columns = np.concatenate([-right[:0:-1], right])
    return columns, np.concatenate([_bands(ROWS_UP)[:0:-1], -_bands(ROWS_DOWN)])


def _bands(bands: tuple[tuple[float, float], ...]) -> np.ndarray:
    values = [0.0]
    for until, step in bands:
        count = round((until - values[-1]) / step)
        values.extend(np.linspace(values[-1], until, count + 1)[1:])
    return np.array(values)


def _directions(azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    """Degrees -> unit vectors (..., 3); azimuth 0 looks along z, 90 along x."""
    az, el = np.radians(azimuth), np.radians(elevation)
    return np.stack([np.sin(az) * np.cos(el), np.sin(el), np.cos(az) * np.cos(el)], axis=-1)


def _frontal_angles(frontal: np.ndarray) -> np.ndarray:
    """(N, 2) frontal x, y in mm -> (N, 2) azimuth and elevation of the rays that meet the face there."""
    points = np.column_stack([frontal, np.full(len(frontal), 100.0)])
    for _ in range(SNAP_ROUNDS):
        offset = points - CENTRE
        hit = cast_rays(offset / np.linalg.norm(offset, axis=1, keepdims=True))
        points[:, 2] = hit[:, 2]
    x, y, z = (points - CENTRE).T
    return np.degrees(np.column_stack([np.arctan2(x, z), np.arctan2(y, np.hypot(x, z))]))


def _snaps(azimuth: np.ndarray, elevation: np.ndarray) -> _Snaps:
    """Choose a lattice node for every landmark and for the slit, on the left half; mirror them to the right."""
    middle = len(azimuth) // 2
    targets = dict(zip(FRONTAL, _frontal_angles(np.array(list(FRONTAL.values()))), strict=True))
    targets.update({index: np.array(angles) for index, angles in JAW.items()})
    corner = int(np.argmin(np.abs(azimuth - targets[54][0]))) - 1  # landmark 54 is one node farther out
    slit_x = np.linspace(0.0, SLIT_END, corner - middle + 1)
    slit_angles = _frontal_angles(np.column_stack([slit_x, np.full(len(slit_x), SLIT_Y)]))
    row = int(np.argmin(np.abs(elevation - slit_angles[:, 1].mean())))
    nodes = {
        index: (int(np.argmin(np.abs(elevation - el))), int(np.argmin(np.abs(azimuth - az))))
        for index, (az, el) in targets.items()
    }
    nodes[54] = (row, corner + 1)
    half = [(row, middle + i, *angles) for i, angles in enumerate(slit_angles)]
    half += [(*nodes[index], *angles) for index, angles in targets.items()]
    both = np.array(half + [(r, 2 * middle - c, -az, el) for r, c, az, el in half if c != middle])
    nodes.update(_inner_lips(row, middle, corner, slit_x))
    nodes.update({MIRROR[index]: (r, 2 * middle - c) for index, (r, c) in list(nodes.items())})
    slit = [(row, column) for column in range(2 * middle - corner, corner + 1)]
    return _Snaps(both[:, :2].astype(int), both[:, 2:], nodes, slit)


def _inner_lips(row: int, middle: int, corner: int, slit_x: np.ndarray) -> dict[int, tuple[int, int]]:
    """Nodes of the inner lips' landmarks, left half; upper and lower share a node until the slit is cut."""
    inner = middle + int(np.argmin(np.abs(slit_x - INNER_LIP_X)))
    columns = {62: middle, 66: middle, 63: inner, 65: inner, 64: corner}
    return {index: (row, column) for index, column in columns.items()}


def _bent_rays(azimuth: np.ndarray, elevation: np.ndarray, snaps: _Snaps) -> np.ndarray:
    """(R, C, 3) rays: the regular lattice, bent smoothly (Gaussian interpolation) through every snap."""
    rows, columns = snaps.node_rc.T
    wanted = snaps.angles - np.column_stack([azimuth[columns], elevation[rows]])
    gaps = np.linalg.norm(snaps.node_rc[:, None] - snaps.node_rc[None], axis=2)
    strength = np.linalg.solve(_falloff(gaps), wanted)
    grid_rc = np.moveaxis(np.mgrid[: len(elevation), : len(azimuth)], 0, -1).reshape(-1, 1, 2)
    bend = _falloff(np.linalg.norm(grid_rc - snaps.node_rc[None], axis=2)) @ strength
    bend = bend.reshape(len(elevation), len(azimuth), 2)
    return _directions(azimuth[None, :] + bend[:, :, 0], elevation[:, None] + bend[:, :, 1])


def _falloff(cells: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * (cells / BEND_CELLS) ** 2)


class _Builder:
    """Collects the parts of the mesh."""

    def __init__(self, surface: np.ndarray, rows: int, columns: int) -> None:
        self.vertices = [surface]
        self.grid = np.arange(rows * columns).reshape(rows, columns)
        self.triangles: list[np.ndarray] = []
        self.parts: list[np.ndarray] = []
        self.anchors = [surface]
        self.lower = [np.full(rows * columns, np.nan)]

    def _count(self) -> int:
        return sum(len(block) for block in self.vertices)

    def _append(self, vertices: np.ndarray, lower: np.ndarray, anchors: np.ndarray | None = None) -> np.ndarray:
        first = self._count()
        self.vertices.append(vertices)
        self.anchors.append(vertices if anchors is None else anchors)
        self.lower.append(lower)
        return np.arange(first, first + len(vertices))

    def _append_quads(self, grid: np.ndarray, part: int) -> None:
        """Two triangles per cell of `grid`, whose rows run down and columns to +x as seen from outside."""
        a, b, c, d = grid[:-1, :-1].ravel(), grid[:-1, 1:].ravel(), grid[1:, 1:].ravel(), grid[1:, :-1].ravel()
        half = (grid.shape[1] - 1) / 2
        left = np.tile(np.arange(grid.shape[1] - 1) < half, grid.shape[0] - 1)[:, None]
        # Diagonals are mirrored about the middle, so that the mean head's surface is symmetric.
        one = np.where(left, np.stack([a, d, c], 1), np.stack([b, a, d], 1))
        two = np.where(left, np.stack([a, c, b], 1), np.stack([b, d, c], 1))
        self._append_triangles(np.concatenate([one, two]), part)

    def _append_triangles(self, triangles: np.ndarray, part: int) -> None:
        a, b, c = triangles.T
        whole = triangles[(a != b) & (b != c) & (c != a)]
        self.triangles.append(whole)
        self.parts.append(np.full(len(whole), part))

    def add_skin(self, slit: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
        """The lattice, cut along the inner nodes of `slit`; returns the slit's upper and lower vertices."""
        row, columns = slit[0][0], np.array([column for _, column in slit])
        cut = columns[1:-1]
        lower_row = self.grid[row].copy()
        lower_row[cut] = self._append(self.vertices[0][self.grid[row, cut]], np.ones(len(cut)))
        self.lower[0][self.grid[row, cut]] = 0.0
        below = np.vstack([lower_row, self.grid[row + 1 :]])
        for block in (self.grid[: row + 1], below):
            self._append_quads(block, SKIN)
            self._append_quads(block[:, [-1, 0]], SKIN)
        self._close(self.grid[0, ::-1], up=1.0)
        self._close(self.grid[-1], up=-1.0)
        return self.grid[row, columns], lower_row[columns]

    def _close(self, ring: np.ndarray, up: float) -> None:
        """A fan over the crown or under the neck."""
        pole = self._append(cast_rays(np.array([[0.0, up, 0.0]])), np.full(1, np.nan))
        self._append_triangles(np.stack([np.roll(ring, -1), ring, np.full(len(ring), pole[0])], 1), SKIN)

    def add_pocket(self, upper: np.ndarray, lower: np.ndarray) -> None:
        """The inside of the mouth: from the upper lip over teeth and cavity to the lower lip."""
        inner = self.vertices[0][upper[1:-1]]
        rows = [upper]
        for y, z, follows in POCKET:
            made = self._append(inner + np.array([0.0, y, z]), np.full(len(inner), follows), inner)
            rows.append(np.concatenate([upper[:1], made, upper[-1:]]))
        rows.append(lower)
        grid = np.stack(rows)
        self._append_quads(grid[:2], MOUTH)
        self._append_quads(grid[1:3], TEETH)
        self._append_quads(grid[2:], MOUTH)

    def add_ear(self, side: float) -> None:
        """`side` is 1 for the subject's left ear (x > 0), -1 for the right."""
        forward, up, out = _ear_axes()
        angle = np.linspace(0.0, 2 * np.pi, EAR_SPOKES, endpoint=False)
        outline = np.outer(np.cos(angle) * (1 + 0.12 * np.sin(angle)), forward) * EAR_HALF_SIZE[0]
        outline += np.outer(np.sin(angle), up) * EAR_HALF_SIZE[1]
        rings = np.stack([outline * size + height * out for size, height in EAR_RINGS]) + np.array(EAR_CENTRE)
        mirrored = rings.reshape(-1, 3) * np.array([side, 1.0, 1.0])
        nodes = self._append(mirrored, np.full(len(mirrored), np.nan)).reshape(len(EAR_RINGS), EAR_SPOKES)
        pole = self._append(mirrored[:EAR_SPOKES].mean(axis=0, keepdims=True), np.full(1, np.nan))
        nodes = np.vstack([np.full(EAR_SPOKES, pole[0]), nodes])
        nodes = np.hstack([nodes, nodes[:, :1]])
        a, b, c, d = nodes[:-1, :-1].ravel(), nodes[:-1, 1:].ravel(), nodes[1:, 1:].ravel(), nodes[1:, :-1].ravel()
        triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
        self._append_triangles(triangles if side > 0 else triangles[:, ::-1], EAR)

    def mesh(self, landmarks: dict[int, int]) -> HeadMesh:
        return HeadMesh(
            vertices=np.concatenate(self.vertices),
            triangles=np.concatenate(self.triangles).astype(np.int32),
            parts=np.concatenate(self.parts),
            landmarks=np.array([landmarks[index] for index in range(68)]),
            lower=np.concatenate(self.lower),
            anchors=np.concatenate(self.anchors),
        )


def _ear_axes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit forward, up and outward axes of the left ear, which leans back and whose rear edge is off the head."""
    forward = np.array([-np.sin(EAR_FLARE), 0.0, np.cos(EAR_FLARE)])
    up = np.array([0.04, np.cos(EAR_LEAN), -np.sin(EAR_LEAN)])
    up -= forward * (up @ forward)
    up /= np.linalg.norm(up)
    return forward, up, np.cross(up, forward)
