"""Meshes beside the head: neck and shoulders, long hair, glasses. In mm, axes as in `head_sculpt`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BUST, CURTAIN, FRAME, LENS = range(10, 14)  # parts of triangles; the head's own are below 10
# The bust's cross-sections: y, half width, half depth, centre z.
BUST_RINGS = (
    (-56, 42, 40, 6), (-74, 48, 47, 5), (-88, 52, 51, 4), (-104, 55, 53, 1), (-117, 61, 54, -2), (-127, 78, 56, -6),
    (-136, 106, 60, -9), (-146, 140, 66, -11), (-162, 168, 74, -12), (-190, 186, 84, -12), (-240, 190, 92, -12),
)  # fmt: skip
BUST_SPOKES = 36
# Long hair from the crown down: y, half width, half depth, centre z.
CURTAIN_RINGS = (
    (118, 46, 62, -4), (98, 70, 88, -6), (70, 84, 100, -8), (36, 89, 104, -10), (0, 88, 100, -12),
    (-36, 87, 92, -12), (-72, 90, 86, -14), (-110, 96, 84, -16), (-150, 102, 84, -18), (-200, 108, 84, -18),
)  # fmt: skip
CURTAIN_SPOKES = 40
GLASS_CENTRE, GLASS_HALF = (31.5, 23.5, 104.0), (23.0, 17.5)
GLASS_SPOKES, RIM = 20, 1.7


@dataclass(frozen=True)
class Prop:
    """(V, 3) vertices in mm, (T, 3) triangles, (T,) parts."""

    vertices: np.ndarray
    triangles: np.ndarray
    parts: np.ndarray


def bust() -> Prop:
    """Neck and shoulders, as one closed tube around y."""
    angle = np.linspace(-np.pi, np.pi, BUST_SPOKES + 1)
    grid = np.stack([_ring(ring, angle) for ring in BUST_RINGS])
    return _sheet(grid, BUST)


def curtain(opening: float) -> Prop:
    """Long hair seen from outside, open in front by `opening` radians to either side of z; visible from both sides."""
    angle = np.linspace(opening, 2 * np.pi - opening, CURTAIN_SPOKES + 1)
    grid = np.stack([_ring(ring, angle) for ring in CURTAIN_RINGS])
    return _two_sided(_sheet(grid, CURTAIN))


def glasses() -> Prop:
    """Rims, bridge, temples and lenses."""
    rim = _join([_rim(side) for side in (1.0, -1.0)])
    bars = _join([_bar((-9, 26, 106), (9, 26, 106), 1.3)] + [_temple(side) for side in (1.0, -1.0)])
    lenses = _join([_lens(side) for side in (1.0, -1.0)])
    return _join([_two_sided(rim), _two_sided(bars), _two_sided(lenses)])


def _ring(ring: tuple[float, float, float, float], angle: np.ndarray) -> np.ndarray:
    y, width, depth, z = ring
    return np.stack([np.sin(angle) * width, np.full(len(angle), float(y)), np.cos(angle) * depth + z], axis=1)


def _sheet(grid: np.ndarray, part: int) -> Prop:
    """A (rows, columns, 3) grid: rows run down, columns to the right as seen from outside."""
    nodes = np.arange(grid.shape[0] * grid.shape[1]).reshape(grid.shape[:2])
    a, b, c, d = nodes[:-1, :-1].ravel(), nodes[:-1, 1:].ravel(), nodes[1:, 1:].ravel(), nodes[1:, :-1].ravel()
    triangles = np.concatenate([np.stack([a, d, c], 1), np.stack([a, c, b], 1)])
    return Prop(grid.reshape(-1, 3), triangles, np.full(len(triangles), part))


def _two_sided(prop: Prop) -> Prop:
    triangles = np.concatenate([prop.triangles, prop.triangles[:, ::-1]])
    return Prop(prop.vertices, triangles, np.concatenate([prop.parts, prop.parts]))


def _join(props: list[Prop]) -> Prop:
    starts = np.cumsum([0] + [len(prop.vertices) for prop in props[:-1]])
    triangles = [prop.triangles + start for prop, start in zip(props, starts, strict=True)]
    vertices, parts = [prop.vertices for prop in props], [prop.parts for prop in props]
    return Prop(np.concatenate(vertices), np.concatenate(triangles), np.concatenate(parts))


def _oval(side: float, inset: float) -> np.ndarray:
    """A rounded rectangle around the eye, wrapping back at the temple."""
    angle = np.linspace(0, 2 * np.pi, GLASS_SPOKES + 1)
    reach = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** 0.7
    height = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** 0.7
    x = GLASS_CENTRE[0] + reach * (GLASS_HALF[0] - inset)
    y = GLASS_CENTRE[1] + height * (GLASS_HALF[1] - inset)
    return np.stack([side * x, y, GLASS_CENTRE[2] - 0.006 * np.clip(x - 10, 0, None) ** 2], axis=1)


def _rim(side: float) -> Prop:
    return _sheet(np.stack([_oval(side, -RIM), _oval(side, RIM)]), FRAME)


def _lens(side: float) -> Prop:
    edge = _oval(side, RIM)
    return _sheet(np.stack([edge, np.broadcast_to(edge.mean(axis=0), edge.shape)]), LENS)


def _bar(start: tuple[float, float, float], stop: tuple[float, float, float], half: float) -> Prop:
    """A thin upright strip between two points."""
    ends = np.array([start, stop], dtype=float)
    rise = np.array([0.0, half, 0.0])
    return _sheet(np.stack([ends + rise, ends - rise]), FRAME)


def _temple(side: float) -> Prop:
    return _bar((side * 54, 27, 92), (side * 74, 25, -6), 2.0)
