"""Draw face meshes over an image: a lit surface, or one coloured by depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synergy.runtime.media.rasterizer import Fragments, rasterize
from synergy.runtime.opencv import cv2

OPACITY = 0.75
SKIN_BGR = np.array([222, 218, 208], np.float32)
LIGHT = np.array([-0.35, 0.45, 0.82], np.float32)  # direction to the light, y up: upper left, in front
AMBIENT, DIFFUSE, SPECULAR, SHARPNESS = 0.3, 0.7, 0.18, 16
DEPTH_COLOURS = cv2.COLORMAP_TURBO  # blue is far, red is near


@dataclass(frozen=True, eq=False)
class Surface:
    """A face mesh: vertices (V,3) in image pixels, x right, y down, larger z nearer; triangles (T,3) of indices from 0.

    The triangles of a mesh all run the same way round, in either direction.
    """

    vertices: np.ndarray
    triangles: np.ndarray


def draw_surface(canvas_bgr: np.ndarray, surface: Surface, is_lit: bool = True, shows_depth: bool = False) -> None:
    """Blend the visible part of a mesh into a canvas (H,W,3) uint8, in place.

    is_lit: shade it as lit from the upper left. shows_depth: colour it from blue (far) to red (near), else grey.
    Raises ValueError if the vertices are not finite.
    """
    points = np.asarray(surface.vertices, np.float32)
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise ValueError(f"vertices of a mesh to draw must be finite, of shape (V, 3), not {points.shape}")
    limits = np.array(canvas_bgr.shape[1::-1])
    low = np.floor(points[:, :2].min(axis=0)).clip(0, limits).astype(int)
    high = (np.ceil(points[:, :2].max(axis=0)) + 1).clip(0, limits).astype(int)
    if (low >= high).any():
        return
    (left, top), (right, bottom) = low.tolist(), high.tolist()
    points = points - np.array([left, top, 0], np.float32)
    columns, normals = _oriented(points, surface.triangles)
    found = rasterize(points, columns.T, (right - left, bottom - top))
    if not len(found.pixel):
        return
    colour = _depth_colour(points, columns, found) if shows_depth else SKIN_BGR
    if is_lit:
        colour = _lit(colour, _interpolated(_vertex_normals(columns, normals, len(points)), columns, found))
    part = canvas_bgr[top:bottom, left:right]
    layer = part.copy()
    layer.reshape(-1, 3)[found.pixel] = np.broadcast_to(colour, (len(found.pixel), 3)).clip(0, 255)
    part[:] = cv2.addWeighted(layer, OPACITY, part, 1 - OPACITY, 0)


def _oriented(points: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners (3,T) and normals (3,T), y up, of the triangles, wound so that the normals point out of the face.

    Bases differ in their winding. A face is convex enough for "out" to be "away from the mean vertex".
    """
    columns = np.ascontiguousarray(triangles.T, np.intp)
    axes = np.ascontiguousarray((points * np.array([1, -1, 1], np.float32)).T)
    first, second, third = (axes.take(column, axis=1) for column in columns)
    (ax, ay, az), (bx, by, bz) = second - first, third - first
    normals = np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])
    if ((first - axes.mean(axis=1, keepdims=True)) * normals).sum() < 0:
        return columns[::-1], -normals
    return columns, normals


def _vertex_normals(columns: np.ndarray, normals: np.ndarray, count: int) -> np.ndarray:
    """(3,V): the sum of the normals of the triangles at each vertex, larger triangles counting more."""
    corners = columns.ravel()
    return np.stack([np.bincount(corners, np.tile(axis, 3), count) for axis in normals]).astype(np.float32)


def _interpolated(values: np.ndarray, columns: np.ndarray, found: Fragments) -> np.ndarray:
    """Values (A,V) of vertices -> (M,A) float32 at the visible pixels."""
    total = np.zeros((len(found.pixel), len(values)), np.float32)
    for column, weight in zip(columns, found.weights.T, strict=True):
        total += values.take(column.take(found.triangle), axis=1).T * weight[:, None].astype(np.float32)
    return total


def _lit(colour: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Shade a colour (3,) or (M,3) by normals (M,3), which need not be unit vectors."""
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), np.float32(1e-12))
    light = LIGHT / np.linalg.norm(LIGHT)
    half = light + np.array([0, 0, 1], np.float32)
    shine = (normals @ (half / np.linalg.norm(half))).clip(0, 1) ** SHARPNESS
    shade = AMBIENT + DIFFUSE * (normals @ light).clip(0, 1)
    return colour * shade[:, None] + (255 * SPECULAR) * shine[:, None]


def _depth_colour(points: np.ndarray, columns: np.ndarray, found: Fragments) -> np.ndarray:
    """(M,3) float32 BGR; the farthest and the nearest visible pixel have the ends of the colour scale."""
    depth = _interpolated(points[None, :, 2], columns, found)[:, 0]
    scaled = cv2.normalize(depth, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U)
    return cv2.applyColorMap(scaled, DEPTH_COLOURS).reshape(-1, 3).astype(np.float32)
