"""Views of a picture and the way back from them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from runtime.grey_picture import GreyPicture, mirrored


class TestWindows:
    """What is in the middle of a square is in the middle of its window, and the way back is exact."""

    @pytest.mark.parametrize("degrees", [0, 25, -25])
    @pytest.mark.parametrize("side", [24.0, 64, 100, 300, 700])
    def test_there_and_back(self, side: float, degrees: int) -> None:
        centre = np.array([801.0, 622.0])
        image = np.zeros((1300, 1700), np.uint8)
        radius = side / 8
        y, x = np.mgrid[:1300, :1700]
        image[np.hypot(x - centre[0], y - centre[1]) < radius] = 255
        window, to_image, inside = GreyPicture(image).window(centre, side, degrees)
        assert window.shape == (round(2 * inside),) * 2
        assert inside == min(side, 64)
        rows, columns = np.nonzero(window > 127)
        for view, back, places in (
            (window, to_image, columns),
            (*mirrored(window, to_image), window.shape[1] - 1 - columns),
        ):
            assert np.array_equal(np.sort(np.nonzero(view > 127)[1]), np.sort(places))
            found = back @ (places.mean(), rows.mean(), 1.0)
            shift = (view is not window) * side / inside  # a mirrored square is turned by its edges, not its pixels
            assert np.abs(found - centre).max() < 0.02 * side + shift

    @pytest.mark.parametrize("degrees", [0, 25, -25])
    def test_the_whole_picture(self, degrees: int) -> None:
        image = np.zeros((600, 800), np.uint8)
        cv2.circle(image, (650, 130), 20, 255, -1)
        view, to_image = GreyPicture(image).turned(400, degrees)
        rows, columns = np.nonzero(view > 127)
        assert np.abs(to_image @ (columns.mean(), rows.mean(), 1.0) - (650, 130)).max() < 2
