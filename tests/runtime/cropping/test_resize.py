"""The portable resize gives the pixels of OpenCV on x86-64; on other processors it replaces OpenCV."""

from __future__ import annotations

import platform

import cv2
import numpy as np
import pytest

from synergy.runtime import crop
from synergy.runtime.crop import crop_resize
from synergy.runtime.cropping.resize import OPENCV_ROUNDS_DIFFERENTLY, resize_linear

on_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="compares with OpenCV on x86-64")


@on_x86
@pytest.mark.parametrize("width", [1, 2, 59, 60, 119, 120, 121, 177, 239, 240, 333, 480, 701])
@pytest.mark.parametrize("height", [1, 97, 120, 333])
def test_equal_to_opencv_bit_for_bit(width: int, height: int) -> None:
    image = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    expected = cv2.resize(image, (120, 120), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(resize_linear(image, 120), expected)


@on_x86
def test_a_crop_is_the_same_with_it(portrait_bgr: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    roi = np.array([150.2, -40.0, 390.7, 200.5])
    expected = crop_resize(portrait_bgr, roi)
    monkeypatch.setattr(crop, "OPENCV_ROUNDS_DIFFERENTLY", True)
    np.testing.assert_array_equal(crop_resize(portrait_bgr, roi), expected)


def test_it_is_used_on_arm_only() -> None:
    assert (platform.machine().lower() in ("aarch64", "arm64")) == OPENCV_ROUNDS_DIFFERENTLY
