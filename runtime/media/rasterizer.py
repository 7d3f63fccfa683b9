"""A z-buffer for many small triangles, vectorised with NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from synergy.runtime.opencv import cv2

DEPTH_LEVELS = 2**24  # steps between the farthest and the nearest vertex; float32 resolves no more
MIN_AREA = 1e-6  # square pixels (twice the area): thinner triangles have no stable barycentrics
EDGE_SLACK = 1e-3  # so that rounding leaves no gap along a shared edge
TILE_W, TILE_H = 4, 4  # pixels: most triangles' boxes fit one tile, and few tile sizes occur
KINDS = (TILE_W + 1) * (TILE_H + 1)
SINGLE_THREAD_PRODUCT = 2**18  # multiply-adds up to which OpenBLAS, called by OpenCV, uses one thread


@dataclass(frozen=True)
class Fragments:
    """The visible pixels of a picture: (M,) flat row-major `pixel`, ascending, (M,) `triangle`, and (M, 3) barycentric
    `weights` in double precision.
    """

    pixel: np.ndarray
    triangle: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class _Tiles:
    """Tiles of the triangles' bounding boxes, each array (N,): `owner` is the index of the box, `x` and `y` the tile's
    offset in it in pixels, `kind` = height * (TILE_W + 1) + width its size; sorted by `kind`.
    """

    owner: np.ndarray
    x: np.ndarray
    y: np.ndarray
    kind: np.ndarray


def product(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N, K) @ (K, M) in float32 on one thread.

    BLAS would split a larger product over all cores; where each core runs a renderer, that is many times slower.
    """
    left, right = np.ascontiguousarray(first, dtype=np.float32), np.ascontiguousarray(second, dtype=np.float32)
    parts = -(-len(left) * right.size // SINGLE_THREAD_PRODUCT)
    if parts == 1:
        return np.asarray(cv2.gemm(left, right, 1.0, None, 0.0))
    return np.concatenate([cv2.gemm(rows, right, 1.0, None, 0.0) for rows in np.array_split(left, parts)])


def rasterize(points: np.ndarray, triangles: np.ndarray, size_wh: tuple[int, int]) -> Fragments:
    """Draw `triangles` (T, 3) over `points` (V, 3): x right, y down, both in pixels with centres at whole numbers;
    larger z is nearer. Only triangles facing the viewer are drawn: those that run counter-clockwise as seen
    (in coordinates with y up). Returns what is visible; pixels of the background are absent.
    """
    drawn, corners = _facing(points.astype(np.float32), triangles)
    first, count = _boxes(corners, size_wh)
    planes = _planes(corners, first)
    start = first[1] * size_wh[0] + first[0]
    pixel, owner, depth = _covered(planes, start, _tiles(count), size_wh[0])
    pixel, owner = _nearest(pixel, owner, depth, size_wh[0] * size_wh[1])
    return Fragments(pixel, drawn[owner], _weights(planes, owner, pixel - start[owner], size_wh[0]).T)


def _facing(points: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices (D,) of the triangles that face the viewer, and their corners as (3, 3, D): corner, axis, triangle."""
    axes = np.ascontiguousarray(points.T)
    columns = np.ascontiguousarray(triangles.T, dtype=np.intp)
    flat = np.stack([axes[:2].take(column, axis=1) for column in columns])
    drawn = np.flatnonzero(_twice_area(flat) > MIN_AREA)
    corners = np.empty((3, 3, len(drawn)), dtype=np.float32)
    for corner, place, column in zip(corners, flat, columns, strict=True):
        corner[:2], corner[2] = place.take(drawn, axis=1), axes[2].take(column.take(drawn))
    return drawn, corners


def _twice_area(corners: np.ndarray) -> np.ndarray:
    """Positive for triangles that run counter-clockwise as seen; y points down."""
    (x0, y0), (x1, y1), (x2, y2) = corners[:, :2]
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
    """(9, D): slopes in x and y and the value at the box's first pixel, of two weights and of the depth."""
    (x0, y0, z0), (x1, y1, z1), (x2, y2, z2) = corners
    area = -_twice_area(corners)
    a0, b0, a1, b1 = (y1 - y2) / area, (x2 - x1) / area, (y2 - y0) / area, (x0 - x2) / area
    at_x, at_y = first[0] - x2, first[1] - y2
    c0, c1 = a0 * at_x + b0 * at_y, a1 * at_x + b1 * at_y
    dz0, dz1 = z0 - z2, z1 - z2
    depth = (a0 * dz0 + a1 * dz1, b0 * dz0 + b1 * dz1, z2 + c0 * dz0 + c1 * dz1)
    return np.stack([a0, b0, c0, a1, b1, c1, *depth])


def _tiles(count: np.ndarray) -> _Tiles:
    """Boxes of `count` (2, D) pixels cut into tiles, so that NumPy handles all tiles of one size at once."""
    across, down = -(-count[0] // TILE_W), -(-count[1] // TILE_H)
    pieces = across * down
    owner = np.repeat(np.arange(len(pieces)), pieces)
    place = np.arange(len(owner), dtype=np.int32) - (np.cumsum(pieces, dtype=np.int32) - pieces).take(owner)
    row = place // across.take(owner)
    x, y = (place - row * across.take(owner)) * TILE_W, row * TILE_H
    width = np.minimum(count[0].take(owner) - x, TILE_W)
    height = np.minimum(count[1].take(owner) - y, TILE_H)
    kind = (height * (TILE_W + 1) + width).astype(np.uint8)
    order = np.argsort(kind, kind="stable")
    return _Tiles(owner.take(order), x.take(order), y.take(order), kind.take(order))


def _covered(
    planes: np.ndarray, start: np.ndarray, tiles: _Tiles, picture_w: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixel, box and depth (F,) of every pixel of a box inside its triangle; `start` (D,): first pixel of each box."""
    if not len(tiles.owner):
        return tiles.owner, tiles.owner, np.zeros(0)
    planes = planes.take(tiles.owner, axis=1)
    planes[2::3] += planes[::3] * tiles.x.astype(np.float64) + planes[1::3] * tiles.y.astype(np.float64)
    edges = np.searchsorted(tiles.kind, np.arange(KINDS + 1)).tolist()
    found = []
    for kind in np.flatnonzero(np.diff(edges)).tolist():
        across, down, offset = _grid(kind, picture_w)
        here = slice(edges[kind], edges[kind + 1])
        place, tile, depth = _inside(planes[:, here], across, down)
        found.append((offset.take(place), tile + edges[kind], depth))
    offsets, tile, depth = (np.concatenate(part) for part in zip(*found, strict=True))
    corner = start.take(tiles.owner) + tiles.y * picture_w + tiles.x
    return corner.take(tile) + offsets, tiles.owner.take(tile), depth


@lru_cache(maxsize=4 * KINDS)
def _grid(kind: int, picture_w: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns (W, 1) and rows (H, 1, 1) of a tile, and (H * W,) offsets of its pixels from the first."""
    height, width = divmod(kind, TILE_W + 1)
    across, down = np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)
    offset = np.arange(height)[:, None] * picture_w + np.arange(width)
    return across[:, None], down[:, None, None], offset.ravel()


def _inside(planes: np.ndarray, across: np.ndarray, down: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Place in the tile, tile and depth (F,) of every pixel of N equal tiles inside the tile's triangle."""
    one, two, depth = (a * across + (b * down + c) for a, b, c in planes.reshape(3, 3, -1))
    inside = (one >= -EDGE_SLACK) & (two >= -EDGE_SLACK)
    one += two
    inside &= one <= 1 + EDGE_SLACK
    covered = np.flatnonzero(inside)
    place = covered // planes.shape[1]
    return place, covered - place * planes.shape[1], depth.ravel().take(covered)


def _nearest(pixel: np.ndarray, owner: np.ndarray, depth: np.ndarray, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Each covered pixel once, with its nearest owner: depth and owner are packed into one integer."""
    if len(pixel) == 0:
        return pixel, owner
    span = max(float(depth.max() - depth.min()), 1e-6)
    level = ((depth - depth.min()) * (DEPTH_LEVELS / span)).astype(np.int64)
    buffer = np.full(pixels, -1, dtype=np.int64)
    np.maximum.at(buffer, pixel, (level << 32) | owner)
    covered = np.flatnonzero(buffer >= 0)
    return covered, buffer.take(covered) & 0xFFFFFFFF


def _weights(planes: np.ndarray, owner: np.ndarray, place: np.ndarray, picture_w: int) -> np.ndarray:
    """(3, M) barycentric weights of pixels at offset `place` from the first pixel of their triangles' boxes."""
    row = place // picture_w
    across, down = (place - row * picture_w).astype(np.float64), row.astype(np.float64)
    weights = np.empty((3, len(owner)))
    for weight, k in ((weights[0], 0), (weights[1], 3)):
        np.multiply(planes[k].take(owner), across, out=weight)
        weight += planes[k + 1].take(owner) * down
        weight += planes[k + 2].take(owner)
    np.subtract(1 - weights[0], weights[1], out=weights[2])
    return weights
