"""Draw a face: a 3DMM head with neck, hair and glasses, lit by a whole environment, through a z-buffer."""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np

from synergy_model import face_texture as texture
from synergy_model.face_albedo import NOISE_ORIGIN, albedo, hair_depth
from synergy_model.face_look import CLEAR_GLASSES, LIGHTS, LONG, NO_GLASSES, Look
from synergy_model.face_props import FRAME, Prop, curtain, glasses
from synergy_model.face_scene import irradiance, scene, vertex_normals
from synergy_model.rasterizer import Fragments, product, rasterize

NECK_PIVOT = np.array([0.0, -70.0, 0.0], dtype=np.float32)
NECK_TOP, NECK_LENGTH = -75.0, 65.0  # mm: the neck twists between y = -75 and y = -140
CROWN_CENTRE = np.array([0.0, 30.0, 0.0], dtype=np.float32)  # hair grows away from here
FULL_HAIR = 14.0  # mm inside the hairline at which hair reaches its volume
PROP_LIGHT = 0.8  # props have no shadows computed; this stands for what head and hair take away
SHINE_SHARPNESS = 24


def draw(
    head: np.ndarray, rotation: np.ndarray, camera: np.ndarray, look: Look, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a deformed head. `head` (V, 3) mm; `rotation` (3, 3) turns the head's axes into the camera's; `camera`
    (3, 4) takes mm to pixels, y down, larger z nearer.

    Returns flat `pixel` (M,) of a `side` x `side` picture and its linear RGB (M, 3) float32.
    """
    vertices, normals, glow = _lit_head(head, rotation, look)
    attributes = [np.concatenate([scene().canonical, normals, glow], axis=1)]
    points, triangles, parts = [vertices], [scene().triangles], [scene().parts]
    start = len(vertices)
    for prop in _props(look):
        points.append(prop.vertices)
        triangles.append((prop.triangles + start).astype(np.int32))
        parts.append(prop.parts)
        attributes.append(_lit_prop(prop, look))
        start += len(prop.vertices)
    everywhere = product(np.concatenate(points), camera[:, :3].T) + camera[:, 3].astype(np.float32)
    corners = np.concatenate(triangles)
    fragments = rasterize(everywhere, corners, (side, side))
    mixed = _interpolated(np.concatenate(attributes), corners, fragments)
    return fragments.pixel, _shaded(mixed, np.concatenate(parts)[fragments.triangle], rotation, look)


def _lit_head(head: np.ndarray, rotation: np.ndarray, look: Look) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, normals and irradiance (V, 3) of head, hair and bust."""
    fixed = scene()
    vertices = np.concatenate([_styled(head, look), _turned_bust(rotation, look)]).astype(np.float32)
    normals = vertex_normals(vertices, fixed.triangles, fixed.around)
    return vertices, normals, irradiance(normals, fixed.seen, look.light)


def _lit_prop(prop: Prop, look: Look) -> np.ndarray:
    """(V, 9) positions, normals pointing away from the head, irradiance."""
    outward = prop.vertices - np.array([0.0, 20.0, -10.0])
    normals = (outward / np.linalg.norm(outward, axis=1, keepdims=True)).astype(np.float32)
    open_air = np.full((len(normals), LIGHTS), PROP_LIGHT, dtype=np.float32)
    lit = irradiance(normals, open_air, look.light)
    return np.concatenate([prop.vertices.astype(np.float32), normals, lit], axis=1)


def _shaded(mixed: np.ndarray, parts: np.ndarray, rotation: np.ndarray, look: Look) -> np.ndarray:
    """Linear RGB (M, 3): diffuse light and the key light's shine (Blinn-Phong); what lies in shadow shines less."""
    canonical, normals, glow = mixed[:, :3], mixed[:, 3:6], mixed[:, 6:]
    colour, gloss = albedo(canonical, parts, look)
    half = (look.key + np.array([0.0, 0.0, 1.0])) @ rotation
    lobe = np.clip(product(normals, half[:, None] / np.linalg.norm(half))[:, 0], 0.0, 1.0) ** SHINE_SHARPNESS
    shine = gloss * lobe * np.minimum(glow[:, 1], 1.0)
    return colour * glow + shine[:, None] * look.key_rgb.astype(np.float32)


def _interpolated(attributes: np.ndarray, triangles: np.ndarray, fragments: Fragments) -> np.ndarray:
    """(V, A) attributes of vertices -> (M, A) of visible pixels."""
    corners, weights = triangles[fragments.triangle], fragments.weights
    total = attributes.take(corners[:, 0], axis=0)
    total *= weights[:, :1]
    for k in (1, 2):
        part = attributes.take(corners[:, k], axis=0)
        part *= weights[:, k : k + 1]
        total += part
    return total


def _styled(head: np.ndarray, look: Look) -> np.ndarray:
    """The head with its hair's volume."""
    if look.hair_volume == 0:
        return head
    fixed = scene()
    canonical = fixed.canonical[: fixed.head]
    depth = np.clip(hair_depth(canonical, look) / FULL_HAIR, 0.0, 1.0) * fixed.scalp[: fixed.head]
    outward = canonical - CROWN_CENTRE
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    across = canonical[:, 0] + (look.noise_shift[0] + NOISE_ORIGIN)
    tufts = 1 + 0.35 * texture.noise_at(across, canonical[:, 1] + canonical[:, 2] + NOISE_ORIGIN, texture.COARSE)
    return head + outward * (depth * tufts * look.hair_volume)[:, None]


def _turned_bust(rotation: np.ndarray, look: Look) -> np.ndarray:
    """Shoulders stay behind as the head turns: they lose a share of its rotation, the neck twists between."""
    body = scene().canonical[scene().head :]
    upright = (rotation.T @ _yaw_only(rotation, 1 - look.torso_turn)).astype(np.float32)
    share = np.clip((NECK_TOP - body[:, 1]) / NECK_LENGTH, 0.0, 1.0)[:, None]
    share = share * share * (3 - 2 * share)
    away = body - NECK_PIVOT
    return body + share * (product(away, upright.T) - away)


def _yaw_only(rotation: np.ndarray, share: float) -> np.ndarray:
    yaw = share * np.arctan2(rotation[2, 0], rotation[0, 0])
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([[cos, 0.0, -sin], [0.0, 1.0, 0.0], [sin, 0.0, cos]])


def _props(look: Look) -> list[Prop]:
    props = [_curtain(round(look.opening, 1))] if look.style == LONG else []
    if look.glasses != NO_GLASSES:
        props.append(_glasses(look.glasses == CLEAR_GLASSES))
    return props


@lru_cache(maxsize=16)
def _curtain(opening: float) -> Prop:
    return curtain(opening)


@cache
def _glasses(clear: bool) -> Prop:
    whole = glasses()
    shown = whole.parts == FRAME if clear else slice(None)
    return Prop(whole.vertices, whole.triangles[shown], whole.parts[shown])
