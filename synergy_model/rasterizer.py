"""A z-buffer for many small triangles, in vectorised numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DEPTH_LEVELS = 2**24  # steps between the farthest and the nearest vertex; float32 resolves no more
MIN_AREA = 1e-6  # square pixels (twice the area): thinner triangles have no stable barycentrics


@dataclass(frozen=True)
class Fragments:
    """The visible pixels of a picture: (M,) flat row-major `pixel`, (M,) `triangle`, (M, 3) float32 `weights`."""

    pixel: np.ndarray
    triangle: np.ndarray
    weights: np.ndarray


def rasterize(points: np.ndarray, triangles: np.ndarray, size_wh: tuple[int, int]) -> Fragments:
    """Draw `triangles` (T, 3) over `points` (V, 3): x right, y down, both in pixels with centres at whole numbers;
    larger z is nearer. Only triangles facing the viewer are drawn: those that run counter-clockwise as seen
    (in coordinates with y up). Returns what is visible; pixels of the background are absent.
    """
    corners = points[triangles].astype(np.float32)
    edges, facing = _edge_functions(corners)
    first, count = _boxes(corners, facing, size_wh)
    triangle, x, y = _candidates(first, count)
    return _nearest(corners, edges, triangle, x, y, size_wh)


def _edge_functions(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T, 3, 3) a, b, c of each corner's weight a x + b y + c, and which triangles face the viewer."""
    x, y = corners[:, :, 0], corners[:, :, 1]
    nxt, last = [1, 2, 0], [2, 0, 1]
    a = y[:, nxt] - y[:, last]
    b = x[:, last] - x[:, nxt]
    c = x[:, nxt] * y[:, last] - x[:, last] * y[:, nxt]
    area = c.sum(axis=1)
    facing = area < -MIN_AREA
    scale = np.where(facing, area, 1.0)[:, None]
    return np.stack([a / scale, b / scale, c / scale], axis=2), facing


def _boxes(corners: np.ndarray, facing: np.ndarray, size_wh: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """First pixel (T, 2) and pixel counts (T, 2), x then y, of the triangles' boxes cut to the picture."""
    limit = np.array(size_wh) - 1
    low = np.ceil(np.clip(corners[:, :, :2].min(axis=1), 0, limit + 1)).astype(np.int32)
    high = np.floor(np.clip(corners[:, :, :2].max(axis=1), -1, limit)).astype(np.int32)
    return low, np.maximum(high - low + 1, 0) * facing[:, None]


def _candidates(first: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pixel of every box: its triangle, x and y."""
    total = count[:, 0] * count[:, 1]
    triangle = np.repeat(np.arange(len(total), dtype=np.int32), total)
    start = (np.cumsum(total) - total).astype(np.int32)
    order = np.arange(len(triangle), dtype=np.int32) - np.repeat(start, total)
    width = count[:, 0].astype(np.int32)[triangle]
    row = order // np.maximum(width, 1)
    return triangle, first[triangle, 0] + order - row * width, first[triangle, 1] + row


def _nearest(
    corners: np.ndarray,
    edges: np.ndarray,
    triangle: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    size_wh: tuple[int, int],
) -> Fragments:
    """Keep, of the candidates inside their triangles, the nearest at each pixel."""
    line = edges[triangle]
    weights = line[:, :, 0] * x[:, None].astype(np.float32) + line[:, :, 1] * y[:, None].astype(np.float32)
    weights += line[:, :, 2]
    inside = np.flatnonzero(weights.min(axis=1) >= 0)
    triangle, weights = triangle[inside], weights[inside]
    pixel = y[inside] * size_wh[0] + x[inside]
    depth = np.einsum("ij,ij->i", weights, corners[:, :, 2][triangle])
    winner = _winners(pixel, depth, size_wh[0] * size_wh[1])
    return Fragments(pixel[winner], triangle[winner], weights[winner])


def _winners(pixel: np.ndarray, depth: np.ndarray, pixels: int) -> np.ndarray:
    """Indices of the nearest fragment of each covered pixel: depth and index are packed into one integer."""
    if len(pixel) == 0:
        return np.zeros(0, dtype=np.int64)
    span = max(float(depth.max() - depth.min()), 1e-6)
    level = ((depth - depth.min()) * (DEPTH_LEVELS / span)).astype(np.int64)
    buffer = np.full(pixels, -1, dtype=np.int64)
    np.maximum.at(buffer, pixel, (level << 32) | np.arange(len(pixel)))
    return buffer[buffer >= 0] & 0xFFFFFFFF
