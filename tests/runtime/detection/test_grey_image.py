"""Views of a picture and the way back from them."""

from __future__ import annotations

import numpy as np
import pytest

from synergy.runtime.detection.grey_image import GreyPicture, mirrored


def blob(height: int, width: int, centre: np.ndarray, sigma: float) -> np.ndarray:
    """A bright spot; its centre counts from the picture's edge."""
    y, x = np.mgrid[:height, :width] + 0.5
    return np.rint(250 * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * sigma**2))).astype(np.uint8)


def middle(view: np.ndarray) -> np.ndarray:
    """Where the spot is."""
    y, x = np.mgrid[: view.shape[0], : view.shape[1]] + 0.5
    weights = view / view.sum(dtype=np.float64)
    return np.array([(x * weights).sum(), (y * weights).sum(), 1.0])


@pytest.mark.parametrize("degrees", [0, 25, -25])
@pytest.mark.parametrize("side", [24.0, 64, 100, 130, 300, 700])
def test_what_is_in_a_square_is_in_the_middle_of_its_window(side: float, degrees: int) -> None:
    centre = np.array([801.3, 622.8])
    picture = GreyPicture(blob(1301, 1703, centre, side / 10))  # odd: no half is exactly half
    window, back, inside = picture.window(centre, side, degrees)
    assert window.shape == (round(2 * inside),) * 2 and inside == min(side, 64)
    assert np.abs(middle(window)[:2] - window.shape[0] / 2).max() < 0.1
    for view, to_picture in ((window, back), mirrored(window, back)):
        assert np.abs(to_picture @ middle(view) - centre).max() < 0.003 * side
    assert np.array_equal(mirrored(window, back)[0], window[:, ::-1])


def test_a_window_is_turned_as_asked() -> None:
    """Counter-clockwise: what is to the right of the centre comes above it."""
    centre = np.array([300.0, 300.0])
    spot = blob(600, 600, centre + np.array([50, 0]), 8)
    window, _, inside = GreyPicture(spot).window(centre, 128, 90)
    x, y, _ = middle(window)
    assert (x, y) == pytest.approx((64, 64 - 50 * inside / 128), abs=0.2)


@pytest.mark.parametrize("degrees", [0, 25, -25])
@pytest.mark.parametrize("long_side", [2000, 800, 640, 427, 213, 53])
def test_the_whole_picture(long_side: int, degrees: int) -> None:
    centre = np.array([620.6, 231.2])
    picture = GreyPicture(blob(601, 803, centre, 30))
    for _ in range(2):  # the second time from what is kept
        view, back = picture.turned(long_side, degrees)
        assert np.abs(back @ middle(view) - centre).max() < 0.1 * max(803 / long_side, 1)
    assert degrees or max(view.shape) == min(long_side, 803)
