"""What all rendered faces share: the mesh of head and bust, and which light directions reach each vertex.

Light is a radiance per direction. The visibility of each direction is computed once, on the mean head (precomputed
radiance transfer), so that soft shadows of nose, brows and chin cost one matrix product per image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from synergy.runtime.media.rasterizer import product, rasterize
from synergy.synergy_model.synthetic.appearance import LIGHTS, light_directions
from synergy.synergy_model.synthetic.head_mesh import MOUTH, SKIN, TEETH
from synergy.synergy_model.synthetic.morphable_bases import MICROMETRES, procedural_morphable
from synergy.synergy_model.synthetic.props import bust
from synergy.synergy_model.synthetic.texture import MASKED_Z

FACE = 4  # the part of SKIN that the masks of `texture` cover
SHADOW_MAP = 160  # pixels a side; one is about 2 mm
SHADOW_BIAS = 4.0  # mm: a vertex does not shade itself
SHADOW_SMOOTHING = 3  # rounds of averaging with the neighbours, for soft shadow edges
FACES_PER_VERTEX = 8  # enough for every vertex but the two poles, which hair and shoulders hide
WRAP = 0.12  # wrapped diffuse lighting: skin scatters light past the shadow edge
MOUTH_LIGHT = (
    (MOUTH, 0.25),
    (TEETH, 0.6),
)  # visibility of frontal light: the mean head's mouth is closed, so it is dark


@dataclass(frozen=True)
class Scene:
    """Head and bust, V vertices of which the first `head` are the 3DMM's; lengths in mm, float32.

    `canonical` (V, 3) undeformed positions; `triangles` (T, 3) and their `parts` (T,); `around` (8, V) the triangles
    that meet at each vertex; `visibility` (V, 64) of each light direction, 0 to 1; `scalp` (V,) 1 where hair can grow.
    """

    canonical: np.ndarray
    triangles: np.ndarray
    parts: np.ndarray
    head: int
    around: np.ndarray
    visibility: np.ndarray
    scalp: np.ndarray


@cache
def scene() -> Scene:
    """The scene, built once per process in about a second."""
    morph, body = procedural_morphable(), bust()
    head = morph.u.reshape(-1, 3) / MICROMETRES
    canonical = np.concatenate([head, body.vertices]).astype(np.float32)
    shown = ~_inside_bust(head)[morph.triangles].any(axis=1)
    triangles = np.concatenate([morph.triangles[shown], body.triangles + len(head)]).astype(np.int32)
    parts = np.concatenate([morph.parts[shown], body.parts])
    around = triangles_around(triangles, len(canonical))
    visibility = _visibility(canonical, triangles, parts, around, len(head))
    scalp = _scalp(triangles, parts, len(canonical))
    parts[(parts == SKIN) & (canonical[triangles, 2] > MASKED_Z).any(axis=1)] = FACE
    return Scene(canonical, triangles, parts, len(head), around, visibility, scalp)


def irradiance(normals: np.ndarray, visibility: np.ndarray, light: np.ndarray) -> np.ndarray:
    """(V, 3): light (64, 3) gathered over the hemisphere of each of (V, 3) normals; 1 for radiance 1 all around."""
    facing = product(normals, light_directions().T)
    facing += np.float32(WRAP)
    np.maximum(facing, 0.0, out=facing)
    facing *= visibility
    return product(facing, light * (4 / LIGHTS / (1 + WRAP) ** 2))


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray, around: np.ndarray) -> np.ndarray:
    """(3, U) unit outward normals, weighted by area, of the vertices whose triangles `around` (8, U) gives as
    `triangles_around` does. `vertices` (V, 3), `triangles` (T, 3).
    """
    first, second, third = np.ascontiguousarray(vertices.T).take(triangles.T, axis=1).transpose(1, 0, 2)
    faces = np.zeros((3, len(triangles) + 1), dtype=np.float32)
    faces[:, :-1] = _cross(second - first, third - first)
    normals = faces.take(around[0], axis=1)
    for place in around[1:]:
        normals += faces.take(place, axis=1)
    x, y, z = normals
    normals /= np.maximum(np.sqrt(x * x + y * y + z * z), 1e-6)
    return normals


def _cross(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cross products of (3, N) vectors."""
    (a, b, c), (d, e, f) = first, second
    return np.stack([b * f - c * e, c * d - a * f, a * e - b * d])


def triangles_around(triangles: np.ndarray, vertices: int) -> np.ndarray:
    """(8, V) indices of triangles; unused entries are T, which is no triangle's index."""
    order = np.argsort(triangles.ravel(), kind="stable")
    owner = triangles.ravel()[order]
    place = np.arange(len(owner)) - np.searchsorted(owner, owner)
    table = np.full((FACES_PER_VERTEX, vertices), len(triangles))
    kept = place < FACES_PER_VERTEX
    table[place[kept], owner[kept]] = order[kept] // 3
    return table


def _inside_bust(head: np.ndarray) -> np.ndarray:
    """(V,) whether a vertex is of the head's neck stub, which would show through the bust when a face deforms."""
    return (head[:, 1] < -96) & (np.hypot(head[:, 0], head[:, 2]) < 58)


def _scalp(triangles: np.ndarray, parts: np.ndarray, vertices: int) -> np.ndarray:
    share = np.zeros(vertices, dtype=np.float32)
    share[triangles[parts == SKIN]] = 1.0
    share[triangles[parts != SKIN]] = 0.0
    return share


def _visibility(
    canonical: np.ndarray, triangles: np.ndarray, parts: np.ndarray, around: np.ndarray, head: int
) -> np.ndarray:
    """(V, 64) visibility of every light direction, smoothed, and corrected at neck and mouth."""
    both_sides = np.concatenate([triangles, triangles[:, ::-1]])
    visibility = np.stack([_lit(canonical, both_sides, direction) for direction in light_directions()], axis=1).astype(
        np.float32
    )
    visibility = _smoothed(visibility, triangles, around)
    _light_neck(visibility, canonical, head)
    ahead = np.clip(light_directions()[:, 2], 0, None).astype(np.float32)
    for part, share in MOUTH_LIGHT:
        visibility[np.setdiff1d(triangles[parts == part], triangles[parts == SKIN])] = share * ahead
    return visibility


def _lit(vertices: np.ndarray, triangles: np.ndarray, towards: np.ndarray) -> np.ndarray:
    """(V,) whether parallel light from direction `towards` reaches each vertex, by a shadow map."""
    side = np.cross(towards, [0.3, 0.1, 0.95] if abs(towards[1]) > 0.9 else [0.0, 1.0, 0.0])
    side /= np.linalg.norm(side)
    view = vertices @ np.stack([side, np.cross(side, towards), towards], axis=1)
    low, span = view[:, :2].min(axis=0), np.ptp(view[:, :2], axis=0).max()
    flat = np.column_stack([(view[:, :2] - low) * ((SHADOW_MAP - 1) / span), view[:, 2]])
    fragments = rasterize(flat, triangles, (SHADOW_MAP, SHADOW_MAP))
    depth = np.full(SHADOW_MAP * SHADOW_MAP, -np.inf)
    depth[fragments.pixel] = (fragments.weights * flat[:, 2][triangles[fragments.triangle]]).sum(axis=1)
    column, row = np.round(flat[:, :2]).astype(int).T
    return flat[:, 2] > depth[row * SHADOW_MAP + column] - SHADOW_BIAS


def _smoothed(visibility: np.ndarray, triangles: np.ndarray, around: np.ndarray) -> np.ndarray:
    neighbours = np.maximum((around < len(triangles)).sum(axis=0), 1)[:, None]
    for _ in range(SHADOW_SMOOTHING):
        faces = np.vstack([visibility[triangles].mean(axis=1), np.zeros((1, LIGHTS), np.float32)])
        visibility = (faces[around].sum(axis=0) / neighbours).astype(np.float32)
    return visibility


def _light_neck(visibility: np.ndarray, canonical: np.ndarray, head: int) -> None:
    """Head and bust intersect under the jaw: there the head gets the visibility of the bust's nearest vertex."""
    inner, outer = canonical[:head], canonical[head:]
    hidden = np.flatnonzero((inner[:, 1] < -62) & (np.hypot(inner[:, 0], inner[:, 2]) < 56))
    exposed = np.flatnonzero(outer[:, 1] < -80)
    gap = np.linalg.norm(inner[hidden, None] - outer[None, exposed], axis=2)
    visibility[hidden] = visibility[head + exposed[gap.argmin(axis=1)]]
