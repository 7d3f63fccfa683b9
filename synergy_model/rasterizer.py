"""A z-buffer for many small triangles, in vectorised numpy."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

DEPTH_LEVELS = 2**24  # steps between the farthest and the nearest vertex; float32 resolves no more
MIN_AREA = 1e-6  # square pixels (twice the area): thinner triangles have no stable barycentrics
EDGE_SLACK = 1e-3  # a pixel exactly on a shared edge must belong to a triangle despite rounding


@dataclass(frozen=True)
class Fragments:
    """The visible pixels of a picture: (M,) flat row-major `pixel`, (M,) `triangle`, (M, 3) float32 `weights`."""

    pixel: np.ndarray
    triangle: np.ndarray
    weights: np.ndarray


def product(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N, K) @ (K, M) in float32. OpenCV's, because BLAS wakes a thread per core for products as small as these,
    which on busy cores takes forty times as long as the product.
    """
    left, right = np.ascontiguousarray(first, dtype=np.float32), np.ascontiguousarray(second, dtype=np.float32)
    return np.asarray(cv2.gemm(left, right, 1.0, None, 0.0))


def rasterize(points: np.ndarray, triangles: np.ndarray, size_wh: tuple[int, int]) -> Fragments:
    """Draw `triangles` (T, 3) over `points` (V, 3): x right, y down, both in pixels with centres at whole numbers;
    larger z is nearer. Only triangles facing the viewer are drawn: those that run counter-clockwise as seen
    (in coordinates with y up). Returns what is visible; pixels of the background are absent.
    """
    drawn, corners = _facing(points.astype(np.float32), triangles)
    first, count = _boxes(corners, size_wh)
    owner, x, y = _candidates(first, count)
    weights, depth, inside = _interpolated(_planes(corners, first), owner, x, y)
    owner, x, y = owner[inside], x[inside], y[inside]
    pixel = (first[1][owner] + y) * np.int32(size_wh[0]) + first[0][owner] + x
    winner = _winners(pixel, depth, size_wh[0] * size_wh[1])
    return Fragments(pixel[winner], drawn[owner[winner]], weights[winner])


def _facing(points: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices (D,) of the triangles that face the viewer, and their corners as (3, 3, D): corner, axis, triangle."""
    corners = np.ascontiguousarray(points.T)[:, triangles.T].transpose(1, 0, 2)
    drawn = np.flatnonzero(_twice_area(corners) > MIN_AREA)
    return drawn, corners[:, :, drawn]


def _twice_area(corners: np.ndarray) -> np.ndarray:
    """Positive for triangles that run counter-clockwise as seen; y points down."""
    (x0, y0, _), (x1, y1, _), (x2, y2, _) = corners
    return (x2 - x0) * (y1 - y0) - (x1 - x0) * (y2 - y0)


def _boxes(corners: np.ndarray, size_wh: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """First pixel (2, D) and pixel counts (2, D), x then y, of the triangles' boxes cut to the picture."""
    limit = np.array(size_wh, dtype=np.float32)[:, None] - 1
    flat = corners[:, :2]
    low = np.minimum(np.minimum(flat[0], flat[1]), flat[2])
    high = np.maximum(np.maximum(flat[0], flat[1]), flat[2])
    first = np.ceil(np.clip(low, 0, limit + 1)).astype(np.int32)
    last = np.floor(np.clip(high, -1, limit)).astype(np.int32)
    return first, np.maximum(last - first + 1, 0)


def _planes(corners: np.ndarray, first: np.ndarray) -> np.ndarray:
    """(3, 3, D): slopes in x and y and the value at the box's first pixel, of two weights and of the depth."""
    (x0, y0, z0), (x1, y1, z1), (x2, y2, z2) = corners
    area = -_twice_area(corners)
    a0, b0, a1, b1 = (y1 - y2) / area, (x2 - x1) / area, (y2 - y0) / area, (x0 - x2) / area
    at_x, at_y = first[0] - x2, first[1] - y2
    c0, c1 = a0 * at_x + b0 * at_y, a1 * at_x + b1 * at_y
    dz0, dz1 = z0 - z2, z1 - z2
    depth = (a0 * dz0 + a1 * dz1, b0 * dz0 + b1 * dz1, z2 + c0 * dz0 + c1 * dz1)
    return np.stack([np.stack([a0, b0, c0]), np.stack([a1, b1, c1]), np.stack(depth)])


def _candidates(first: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pixel of every box: its triangle and its place in the box, x and y, all int32."""
    total = count[0] * count[1]
    owner = np.repeat(np.arange(len(total), dtype=np.int32), total)
    start = (np.cumsum(total) - total).astype(np.int32)
    order = np.arange(len(owner), dtype=np.int32) - np.repeat(start, total)
    width = np.repeat(count[0], total)
    row = order // width
    return owner, order - row * width, row


def _interpolated(
    planes: np.ndarray, owner: np.ndarray, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights (M, 3) and depth (M,) of the candidates inside their triangles, and which those are."""
    across, down = x.astype(np.float32), y.astype(np.float32)
    one, two = (_plane_at(plane, owner, across, down) for plane in planes[:2])
    three = 1 - one - two
    inside = np.flatnonzero((one >= -EDGE_SLACK) & (two >= -EDGE_SLACK) & (three >= -EDGE_SLACK))
    weights = np.stack([one[inside], two[inside], three[inside]], axis=1)
    return weights, _plane_at(planes[2], owner[inside], across[inside], down[inside]), inside


def _plane_at(plane: np.ndarray, owner: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    value = plane[0].take(owner, mode="clip")
    value *= across
    slope = plane[1].take(owner, mode="clip")
    slope *= down
    value += slope
    value += plane[2].take(owner, mode="clip")
    return value


def _winners(pixel: np.ndarray, depth: np.ndarray, pixels: int) -> np.ndarray:
    """Indices of the nearest fragment of each covered pixel: depth and index are packed into one integer."""
    if len(pixel) == 0:
        return np.zeros(0, dtype=np.int64)
    span = max(float(depth.max() - depth.min()), 1e-6)
    level = ((depth - depth.min()) * (DEPTH_LEVELS / span)).astype(np.int64)
    buffer = np.full(pixels, -1, dtype=np.int64)
    np.maximum.at(buffer, pixel, (level << 32) | np.arange(len(pixel)))
    return buffer[buffer >= 0] & 0xFFFFFFFF
