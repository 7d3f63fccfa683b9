"""MATLAB's `imresize` with default settings (bicubic, anti-aliased), with which the official crops were made."""

from __future__ import annotations

import numpy as np

SUPPORT = 4.0  # input pixels that the cubic kernel spans at scale 1


def imresize(image: np.ndarray, size: int) -> np.ndarray:
    """Resize (H,W,C) uint8 to (size,size,C). As in MATLAB, each of the two passes rounds to uint8, and the pass that
    shrinks more is first."""
    axes = (0, 1) if image.shape[0] >= image.shape[1] else (1, 0)
    for axis in axes:
        resized = np.tensordot(resize_weights(image.shape[axis], size), image, axes=(1, axis))
        image = np.moveaxis(np.floor(resized + 0.5).clip(0, 255), 0, axis).astype(np.uint8)
    return image


def resize_weights(length: int, size: int) -> np.ndarray:
    """Weights (size, length) of input pixels in output pixels. Pixels beyond the border are mirrored."""
    scale = size / length
    stretch = min(scale, 1.0)  # a wider kernel when shrinking: anti-aliasing
    centre = (np.arange(size) + 0.5) / scale - 0.5
    first = np.floor(centre - SUPPORT / stretch / 2).astype(int)
    taps = first[:, None] + np.arange(int(np.ceil(SUPPORT / stretch)) + 2)
    weights = cubic(stretch * (centre[:, None] - taps))
    weights /= weights.sum(axis=1, keepdims=True)
    mirrored = np.mod(taps, 2 * length)
    mirrored = np.where(mirrored < length, mirrored, 2 * length - 1 - mirrored)
    table = np.zeros((size, length))
    np.add.at(table, (np.arange(size)[:, None], mirrored), weights)
    return table


def cubic(distance: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel with a = -0.5 (IEEE TASSP 1981)."""
    x = np.abs(distance)
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))
