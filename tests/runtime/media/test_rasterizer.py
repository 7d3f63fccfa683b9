"""The z-buffer: coverage, interpolation, depth and facing, on triangles whose answer is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from synergy.runtime.media.rasterizer import SINGLE_THREAD_PRODUCT, TILE_H, TILE_W, product, rasterize

SIZE_WH = (20, 16)
# Counter-clockwise as seen, y down: left bottom, right bottom, top.
NEAR = [(2.0, 13.0, 5.0), (17.0, 13.0, 5.0), (9.0, 1.0, 5.0)]
FAR = [(0.0, 15.0, -3.0), (19.0, 15.0, -3.0), (9.0, 0.0, -3.0)]


def _image(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Index of the visible triangle per pixel, -1 for background."""
    fragments = rasterize(points, triangles, SIZE_WH)
    image = np.full(SIZE_WH[0] * SIZE_WH[1], -1)
    image[fragments.pixel] = fragments.triangle
    return image.reshape(SIZE_WH[1], SIZE_WH[0])


def test_nothing_to_draw() -> None:
    fragments = rasterize(np.array(NEAR), np.zeros((0, 3), dtype=np.int32), SIZE_WH)
    assert fragments.pixel.shape == (0,) and fragments.triangle.shape == (0,) and fragments.weights.shape == (0, 3)


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_the_nearer_triangle_hides_the_farther_whatever_the_order(order: list[int]) -> None:
    points, triangles = np.array(NEAR + FAR), np.array([[0, 1, 2], [3, 4, 5]])
    image = _image(points, triangles[order])
    alone = _image(points, triangles[:1]) == 0
    assert alone.any()
    assert (image[alone] == order.index(0)).all()
    assert (image == order.index(1)).sum() == (_image(points, triangles[1:]) == 0).sum() - alone.sum()


def test_triangles_that_cross_swap_where_their_depths_meet() -> None:
    slope = [(0.0, 15.0, -9.5), (19.0, 15.0, 9.5), (19.0, 0.0, 9.5), (0.0, 0.0, -9.5)]  # z = x - 9.5
    flat = [(x, y, 0.0) for x, y, _ in slope]
    quads = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    image = _image(np.array(slope + flat), quads)
    assert (image[:, :10] >= 2).all() and (image[:, 10:] < 2).all() and (image >= 0).all()


def test_a_triangle_seen_from_behind_is_not_drawn() -> None:
    assert (_image(np.array(NEAR), np.array([[0, 2, 1]])) == -1).all()


def test_weights_interpolate_the_corners_to_the_pixel() -> None:
    points = np.array(NEAR, dtype=np.float64)
    fragments = rasterize(points, np.array([[0, 1, 2]]), SIZE_WH)
    where = fragments.weights @ points[:, :2]
    np.testing.assert_allclose(where[:, 0], fragments.pixel % SIZE_WH[0], atol=1e-4)
    np.testing.assert_allclose(where[:, 1], fragments.pixel // SIZE_WH[0], atol=1e-4)
    np.testing.assert_allclose(fragments.weights.sum(axis=1), 1.0, atol=1e-6)


def test_a_shared_edge_leaves_no_gap_and_coverage_is_the_area() -> None:
    square = np.array([(2.0, 12.0, 0.0), (14.0, 12.0, 0.0), (14.0, 3.0, 0.0), (2.0, 3.0, 0.0)])
    image = _image(square, np.array([[0, 1, 2], [0, 2, 3]]))
    assert (image[3:13, 2:15] >= 0).all()
    assert (image >= 0).sum() == 10 * 13


def test_triangles_are_clipped_at_the_border() -> None:
    wide = np.array([(-50.0, 60.0, 0.0), (80.0, 60.0, 0.0), (10.0, -90.0, 0.0)])
    assert (_image(wide, np.array([[0, 1, 2]])) == 0).all()
    assert (_image(wide + np.array([500.0, 0.0, 0.0]), np.array([[0, 1, 2]])) == -1).all()


@pytest.mark.parametrize("side", [1, TILE_W - 1, TILE_W, TILE_W + 1, 3 * TILE_H + 2])
def test_boxes_of_any_size_are_filled(side: int) -> None:
    """Triangles larger than a tile are drawn tile by tile: every pixel of the square is covered exactly once."""
    far = side - 0.5
    square = np.array([(0.5, far + 1, 0.0), (far + 1, far + 1, 0.0), (far + 1, 0.5, 0.0), (0.5, 0.5, 0.0)])
    pixel = rasterize(square, np.array([[0, 1, 2], [0, 2, 3]]), (40, 40)).pixel
    row, column = np.mgrid[1 : side + 1, 1 : side + 1]
    np.testing.assert_array_equal(pixel, (row * 40 + column).ravel())


@pytest.mark.parametrize("rows", [1, 3, 500, 4099])
def test_products_are_matrix_products(rows: int) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((rows, 40)), rng.standard_normal((40, 8))
    np.testing.assert_allclose(product(first, second), first @ second, atol=1e-4)


def test_products_stay_below_the_multithreading_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    gemm, sizes = cv2.gemm, []

    def measured(first: np.ndarray, second: np.ndarray, *rest: object) -> np.ndarray:
        sizes.append(first.size * second.shape[1])
        return gemm(first, second, *rest)

    monkeypatch.setattr(cv2, "gemm", measured)
    product(np.ones((19_260, 40)), np.ones((40, 8)))
    assert len(sizes) > 1 and max(sizes) <= SINGLE_THREAD_PRODUCT
