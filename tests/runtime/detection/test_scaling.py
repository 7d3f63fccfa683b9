"""The image that a detector sees."""

from __future__ import annotations

import numpy as np
import pytest

from synergy.runtime.detection.scaling import shrink


@pytest.mark.parametrize(
    "size_wh", [(640, 480), (641, 30), (1279, 700), (1281, 1281), (4001, 2999), (6000, 7), (3, 5000)]
)
def test_places_keep_their_coordinates(size_wh: tuple[int, int]) -> None:
    width, height = size_wh
    image = np.zeros((height, width), np.uint8)
    x, y, side = width // 2, height // 2, max(1, max(size_wh) // 20)
    image[y : y + side, x : x + side] = 200
    small, scale = shrink(image, 640)
    assert max(small.shape) == 640 and min(small.shape) >= 1
    assert scale == pytest.approx(640 / max(size_wh), rel=2e-3)
    if min(small.shape) > 40:
        rows, columns = np.nonzero(small > 100)
        edges = [columns.min(), columns.max() + 1, rows.min(), rows.max() + 1]
        np.testing.assert_allclose(np.array(edges) / scale, [x, x + side, y, y + side], atol=1.1 / scale)
