"""Render a face: a 3DMM head with neck, hair and glasses under environment light, with a z-buffer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import cv2
import numpy as np

from synergy.runtime.media.rasterizer import product, rasterize
from synergy.synergy_model.synthetic import texture
from synergy.synergy_model.synthetic.albedo import NOISE_ORIGIN, albedo, hair_depth
from synergy.synergy_model.synthetic.appearance import (
    CLEAR_GLASSES,
    LIGHTS,
    LONG,
    NO_GLASSES,
    Appearance,
    Details,
    GlassesShape,
)
from synergy.synergy_model.synthetic.props import FRAME, Prop, brim, curtain, glasses
from synergy.synergy_model.synthetic.scene import irradiance, scene, vertex_normals

NECK_PIVOT = np.array([0.0, -70.0, 0.0], dtype=np.float32)
NECK_TOP, NECK_LENGTH = -75.0, 65.0  # mm: the neck twists between y = -75 and y = -140
CROWN_CENTRE = np.array([0.0, 30.0, 0.0], dtype=np.float32)  # hair is displaced away from this point
FULL_HAIR = 14.0  # mm inside the hairline at which hair has its full volume
PROP_LIGHT = 0.8  # share of light at props, whose shadows are not computed
SHINE_SHARPNESS = 24


def draw(
    head: np.ndarray, rotation: np.ndarray, camera: np.ndarray, appearance: Appearance, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Render a deformed head. `head` (V, 3) mm; `rotation` (3, 3) from the head's axes to the camera's; `camera`
    (3, 4) takes mm to pixels, y down, larger z nearer.

    Returns flat `pixel` (M,) of a `side` x `side` picture and its linear RGB (3, M) float32.
    """
    grown = _with_beard(_with_hair(head, appearance), appearance)
    vertices = np.concatenate([grown, _turned_bust(rotation, appearance)]).astype(np.float32)
    figure = _figure_of(appearance)
    points = np.concatenate([vertices, *(prop.vertices for prop in figure.props)])
    on_picture = product(points, camera[:, :3].T) + camera[:, 3].astype(np.float32)
    fragments = rasterize(on_picture, figure.triangles, (side, side))
    order = np.argsort(figure.parts.take(fragments.triangle), kind="stable")  # makes each part one slice
    shown = fragments.triangle.take(order)
    corners = figure.triangles.T.take(shown, axis=1)
    attributes = _lit(vertices, figure, shown, appearance)
    mixed = _interpolated(attributes, corners, fragments.weights.T.take(order, axis=1))
    return fragments.pixel.take(order), _shaded(mixed, figure.parts.take(shown), rotation, appearance)


@dataclass(frozen=True)
class _Figure:
    """Head, bust and `props`: (T, 3) triangles over their vertices in this order, and (T,) uint8 parts."""

    props: tuple[Prop, ...]
    triangles: np.ndarray
    parts: np.ndarray


def _figure_of(appearance: Appearance) -> _Figure:
    opening = round(appearance.opening, 1) if appearance.style == LONG else None
    brim_y = appearance.hairline if appearance.details.brim else None
    return _figure(opening, brim_y, appearance.glasses, appearance.details)


@lru_cache(maxsize=32)
def _figure(hair_opening: float | None, brim_y: float | None, kind: int, details: Details) -> _Figure:
    """The figure with or without long hair, a cap's brim and glasses of a kind."""
    props = [] if hair_opening is None else [curtain(hair_opening, details)]
    if brim_y is not None:
        props.append(brim(brim_y))
    if kind != NO_GLASSES:
        props.append(_glasses(kind == CLEAR_GLASSES, details.glasses_shape))
    fixed = scene()
    starts = np.cumsum([len(fixed.canonical), *(len(prop.vertices) for prop in props)])
    moved = [prop.triangles + start for prop, start in zip(props, starts[:-1], strict=True)]
    columns = np.concatenate([fixed.triangles, *moved]).T.astype(np.intp)
    parts = np.concatenate([fixed.parts, *(prop.parts for prop in props)])
    return _Figure(tuple(props), np.ascontiguousarray(columns).T, parts.astype(np.uint8))


def _lit(vertices: np.ndarray, figure: _Figure, shown: np.ndarray, appearance: Appearance) -> np.ndarray:
    """(9, V) canonical positions, normals and irradiance; for head and bust only at the triangles `shown` (M,)."""
    fixed, head = scene(), len(vertices)
    attributes = np.empty((9, head + sum(len(prop.vertices) for prop in figure.props)))
    used = _used(figure.triangles, shown, attributes.shape[1])
    used = used[: np.searchsorted(used, head)]
    normals = vertex_normals(vertices, fixed.triangles, fixed.around.take(used, axis=1))
    diffuse = irradiance(cv2.transpose(normals), fixed.visibility.take(used, axis=0), appearance.light)
    attributes[:3, :head] = fixed.canonical.T
    for row, values in zip(attributes[3:], (*normals, *diffuse.T), strict=True):
        row[used] = values
    for prop in figure.props:
        attributes[:, head : head + len(prop.vertices)] = _lit_prop(prop, appearance).T
        head += len(prop.vertices)
    return attributes


def _used(triangles: np.ndarray, shown: np.ndarray, vertices: int) -> np.ndarray:
    """Indices, ascending, of the vertices of the triangles `shown`."""
    drawn, used = np.zeros(len(triangles), dtype=bool), np.zeros(vertices, dtype=bool)
    drawn[shown] = True
    for column in triangles.T:
        used[column[drawn]] = True
    return np.flatnonzero(used)


def _lit_prop(prop: Prop, appearance: Appearance) -> np.ndarray:
    """(V, 9) positions, normals pointing away from the head, irradiance."""
    outward = prop.vertices - np.array([0.0, 20.0, -10.0])
    normals = (outward / np.linalg.norm(outward, axis=1, keepdims=True)).astype(np.float32)
    exposed = np.full((len(normals), LIGHTS), PROP_LIGHT, dtype=np.float32)
    lit = irradiance(normals, exposed, appearance.light)
    return np.concatenate([prop.vertices.astype(np.float32), normals, lit], axis=1)


def _shaded(mixed: np.ndarray, parts: np.ndarray, rotation: np.ndarray, appearance: Appearance) -> np.ndarray:
    """Linear RGB (3, M): diffuse light and the key light's highlight (Blinn-Phong), which is weaker in shadow."""
    canonical, normals, diffuse = mixed[:3], mixed[3:6], mixed[6:]
    colour, gloss = albedo(canonical, parts, appearance)
    half = (appearance.key + np.array([0.0, 0.0, 1.0])) @ rotation
    facing = product(cv2.transpose(normals), half[:, None] / np.linalg.norm(half))[:, 0]
    shine = gloss * np.clip(facing, 0.0, 1.0) ** SHINE_SHARPNESS * np.minimum(diffuse[1], 1.0)
    return colour * diffuse + shine * appearance.key_rgb.astype(np.float32)[:, None]


def _interpolated(attributes: np.ndarray, corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(A, V) attributes of vertices, `corners` (3, M) and their weights -> (A, M) float32 of visible pixels."""
    mixed = np.empty((len(attributes), corners.shape[1]), dtype=np.float32)
    found, part = np.empty(corners.shape[1]), np.empty_like(mixed[0])
    for total, attribute in zip(mixed, attributes, strict=True):
        for number, (corner, weight) in enumerate(zip(corners, weights, strict=True)):
            attribute.take(corner, out=found, mode="wrap")  # the fastest mode; no index is out of range
            np.multiply(found, weight, out=part if number else total, casting="same_kind")
            if number:
                total += part
    return mixed


def _with_hair(head: np.ndarray, appearance: Appearance) -> np.ndarray:
    """The head (V, 3), displaced by the volume of its hair."""
    if appearance.hair_volume == 0:
        return head
    x, y, z = _head_axes()
    depth = np.clip(hair_depth(_head_axes(), appearance) / FULL_HAIR, 0.0, 1.0) * scene().scalp[: scene().head]
    across = x + (appearance.noise_shift[0] + NOISE_ORIGIN)
    tufts = 1 + 0.35 * texture.noise_at(across, y + z + NOISE_ORIGIN, texture.COARSE)
    return head + _hair_growth() * (depth * tufts * appearance.hair_volume)[:, None]


@cache
def _head_axes() -> np.ndarray:
    """(3, V) coordinates of the undeformed head."""
    return np.ascontiguousarray(scene().canonical[: scene().head].T)


@cache
def _hair_growth() -> np.ndarray:
    """(V, 3) unit vectors along which hair displaces the head."""
    outward = scene().canonical[: scene().head] - CROWN_CENTRE
    return np.asarray(outward / np.linalg.norm(outward, axis=1, keepdims=True))


def _turned_bust(rotation: np.ndarray, appearance: Appearance) -> np.ndarray:
    """Bust vertices whose shoulders follow only a share of the head's rotation; the neck twists in between."""
    body = scene().canonical[scene().head :]
    upright = (rotation.T @ _yaw_only(rotation, 1 - appearance.torso_turn)).astype(np.float32)
    share = np.clip((NECK_TOP - body[:, 1]) / NECK_LENGTH, 0.0, 1.0)[:, None]
    share = share * share * (3 - 2 * share)
    away = body - NECK_PIVOT
    return body + share * (product(away, upright.T) - away)


def _yaw_only(rotation: np.ndarray, share: float) -> np.ndarray:
    yaw = share * np.arctan2(rotation[2, 0], rotation[0, 0])
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([[cos, 0.0, -sin], [0.0, 1.0, 0.0], [sin, 0.0, cos]])


def _with_beard(head: np.ndarray, appearance: Appearance) -> np.ndarray:
    """The head (V, 3), displaced by the volume of its beard, most below the chin."""
    if appearance.details.beard_length == 0:
        return head
    return head + _beard_growth() * np.float32(appearance.details.beard_length)


@cache
def _beard_growth() -> np.ndarray:
    """(V, 3) displacement in mm per mm of the beard's length; 0 at the lips and above."""
    x, y, z = _head_axes()
    cover = texture.face_masks()[texture.mask_rows(_head_axes()), texture.BEARD]
    share = cover * np.clip((-52 - y) / 16, 0, 1) * np.clip((z - texture.MASKED_Z) / 30, 0, 1)
    outward = np.stack([x, y + 20, z - 30], axis=1) + np.array([0.0, -30.0, 0.0])
    return np.asarray(share[:, None] * outward / np.linalg.norm(outward, axis=1, keepdims=True))


@cache
def _glasses(clear: bool, shape: GlassesShape) -> Prop:
    whole = glasses(shape)
    shown = whole.parts == FRAME if clear else slice(None)
    return Prop(whole.vertices, whole.triangles[shown], whole.parts[shown])
