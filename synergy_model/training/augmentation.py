"""The official training augmentations: colour jitter, and rarely a mostly black image. Labels do not change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

BLUE_GREEN_RED_TO_GREY = np.array([0.114, 0.587, 0.299], np.float32)  # ITU-R BT.601 luma


@dataclass(frozen=True)
class AugmentOptions:
    """`jitter`: brightness, contrast and saturation factors are drawn from 1 +- this; `blackout`: probability
    of keeping only a quarter, a half or the middle of the image.
    """

    jitter: float = 0.4
    blackout: float = 0.01


def augment(image_bgr: np.ndarray, options: AugmentOptions, rng: np.random.Generator) -> np.ndarray:
    """(H,W,3) uint8 BGR -> a new (H,W,3) uint8 BGR, depending on `rng` alone."""
    picture = image_bgr.astype(np.float32)
    for index in rng.permutation(len(ADJUSTMENTS)):
        factor = np.float32(rng.uniform(max(0.0, 1.0 - options.jitter), 1.0 + options.jitter))
        picture = np.clip(ADJUSTMENTS[index](picture, factor), 0.0, 255.0)
    result = (picture + 0.5).astype(np.uint8)
    return blackout(result, int(rng.integers(len(WINDOWS)))) if rng.random() < options.blackout else result


def blackout(image: np.ndarray, window: int) -> np.ndarray:
    """Keep one of `WINDOWS` of (H,W,3), the rest is 0."""
    height, width = image.shape[:2]
    top, bottom, left, right = WINDOWS[window]
    rows = slice(int(top * height), int(bottom * height))
    columns = slice(int(left * width), int(right * width))
    kept = np.zeros_like(image)
    kept[rows, columns] = image[rows, columns]
    return kept


def _brightness(picture: np.ndarray, factor: np.float32) -> np.ndarray:
    return picture * factor


def _contrast(picture: np.ndarray, factor: np.float32) -> np.ndarray:
    mean = np.float32((picture @ BLUE_GREEN_RED_TO_GREY).mean())
    return mean + (picture - mean) * factor


def _saturation(picture: np.ndarray, factor: np.float32) -> np.ndarray:
    grey = (picture @ BLUE_GREEN_RED_TO_GREY)[:, :, None]
    return grey + (picture - grey) * factor


ADJUSTMENTS: tuple[Callable[[np.ndarray, np.float32], np.ndarray], ...] = (_brightness, _contrast, _saturation)

# top, bottom, left, right as shares of the picture: four quarters, two halves, the middle
WINDOWS = (
    (0.0, 0.5, 0.0, 0.5),
    (0.0, 0.5, 0.5, 1.0),
    (0.5, 1.0, 0.0, 0.5),
    (0.5, 1.0, 0.5, 1.0),
    (0.0, 1.0, 0.0, 0.5),
    (0.0, 1.0, 0.5, 1.0),
    (0.25, 0.75, 0.25, 0.75),
)
