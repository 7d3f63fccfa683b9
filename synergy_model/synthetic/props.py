"""Meshes beside the head: neck and shoulders, long hair, glasses. In mm, axes as in `head_sculpt`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synergy.synergy_model.synthetic.appearance import Details, GlassesShape

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
CURTAIN_WAVES = 0.07  # radians per mm, of a wavy edge
GLASS_CENTRE, GLASS_GAP = (31.5, 23.5, 104.0), 4.0  # mm; the gap is between the middle and the lens
GLASS_SPOKES = 20
BRIM_REACH, BRIM_HALF_ANGLE = 58.0, 1.15  # mm to the front, radians


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


def curtain(opening: float, details: Details) -> Prop:
    """Long hair, open in front by `opening` radians to either side of z or as `details` says; visible from both
    sides.
    """
    left, right = details.opening_left_right or (opening, opening)
    rings = []
    for y, width, depth, z in CURTAIN_RINGS:
        wave = details.hair_wave * np.sin(CURTAIN_WAVES * y + 10 * left)
        angle = np.linspace(right + wave, 2 * np.pi - left - wave, CURTAIN_SPOKES + 1)
        low = max(y, details.hair_end)
        rings.append(_ring((low, width * details.hair_width, depth * details.hair_depth, z), angle))
    return _two_sided(_sheet(np.stack(rings), CURTAIN))


def brim(hairline: float) -> Prop:
    """The visor of a cap, above the hairline's middle; painted like the cap."""
    angle = np.linspace(-BRIM_HALF_ANGLE, BRIM_HALF_ANGLE, CURTAIN_SPOKES + 1)
    inner = np.stack([np.sin(angle) * 66, np.full(len(angle), hairline), np.cos(angle) * 92], axis=1)
    reach = np.cos(angle * (np.pi / 2 / BRIM_HALF_ANGLE)) ** 0.6
    outer = inner + np.stack([0 * reach, -0.22 * BRIM_REACH * reach, BRIM_REACH * reach], axis=1)
    return _two_sided(_sheet(np.stack([inner, outer]), CURTAIN))


def glasses(shape: GlassesShape) -> Prop:
    """Rims, bridge, temples and lenses."""
    rim = _join([_rim(side, shape) for side in (1.0, -1.0)])
    bars = _join([_bar((-9, 26, 106), (9, 26, 106), 1.3)] + [_temple(side) for side in (1.0, -1.0)])
    lenses = _join([_lens(side, shape) for side in (1.0, -1.0)])
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


def _oval(side: float, inset: float, shape: GlassesShape) -> np.ndarray:
    """A rounded rectangle around the eye, wrapping back at the temple."""
    angle = np.linspace(0, 2 * np.pi, GLASS_SPOKES + 1)
    reach = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** shape.roundness
    height = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** shape.roundness
    x = max(GLASS_CENTRE[0], shape.half_width + GLASS_GAP) + reach * (shape.half_width - inset)
    y = GLASS_CENTRE[1] + height * (shape.half_height - inset) - shape.drop * reach
    return np.stack([side * x, y, GLASS_CENTRE[2] - 0.006 * np.clip(x - 10, 0, None) ** 2], axis=1)


def _rim(side: float, shape: GlassesShape) -> Prop:
    return _sheet(np.stack([_oval(side, -shape.rim, shape), _oval(side, shape.rim, shape)]), FRAME)


def _lens(side: float, shape: GlassesShape) -> Prop:
    edge = _oval(side, shape.rim, shape)
    return _sheet(np.stack([edge, np.broadcast_to(edge.mean(axis=0), edge.shape)]), LENS)


def _bar(start: tuple[float, float, float], stop: tuple[float, float, float], half: float) -> Prop:
    """A thin upright strip between two points."""
    ends = np.array([start, stop], dtype=float)
    rise = np.array([0.0, half, 0.0])
    return _sheet(np.stack([ends + rise, ends - rise]), FRAME)


def _temple(side: float) -> Prop:
    return _bar((side * 54, 27, 92), (side * 74, 25, -6), 2.0)
