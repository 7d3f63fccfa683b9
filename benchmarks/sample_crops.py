"""Crops to compare engines on: a real face, framed in several ways, and noise."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from synergy.runtime.crop import crop_resize
from synergy.runtime.media.image import read_image
from synergy.runtime.media.inputs import expand_inputs

# Eileen Collins by NASA, 1999: public domain, the picture scikit-image ships as `astronaut`
PORTRAIT = Path(__file__).with_name("assets") / "astronaut.jpg"
PORTRAIT_BOX_XYXY = (180.0, 72.0, 270.0, 184.0)  # the face, hairline to chin

# x, y shift of the square's centre and its side, in units of the face box's height
FRAMINGS = ((0.0, 0.0, 1.2), (0.0, 0.0, 1.6), (0.15, 0.1, 1.3), (-0.2, -0.05, 1.1), (0.0, 0.3, 2.2))
NOISE_CROPS = 3
NOISE_SEED = 20211201
FEWEST_CROPS = 16  # to calibrate with: fewer tell little of the range of a network's activations


def real_crops(size: int = 120) -> np.ndarray:
    """Crops (10,size,size,3) uint8 BGR of one face: five framings, each also mirrored."""
    image = read_image(PORTRAIT)
    crops = [crop_resize(image, _framed(*framing), size, "linear") for framing in FRAMINGS]
    return np.stack([*crops, *(crop[:, ::-1] for crop in crops)])


def noise_crops(size: int = 120) -> np.ndarray:
    """Crops (3,size,size,3) uint8 of uniform noise: far outside what a network was trained on."""
    return np.random.default_rng(NOISE_SEED).integers(0, 256, (NOISE_CROPS, size, size, 3), np.uint8)


def _framed(dx: float, dy: float, side: float) -> np.ndarray:
    x1, y1, x2, y2 = PORTRAIT_BOX_XYXY
    height = y2 - y1
    cx, cy, half = (x1 + x2) / 2 + dx * height, (y1 + y2) / 2 + dy * height, side * height / 2
    return np.array([cx - half, cy - half, cx + half, cy + half])


def read_crops(folder: Path, size: int = 120) -> np.ndarray:
    """All pictures of a folder as crops (N,size,size,3) uint8 BGR: each shows one face, framed as for the network.

    Raises ValueError where they are fewer than `FEWEST_CROPS`, MediaError for one that cannot be read.
    """
    paths = expand_inputs([str(folder)])
    if len(paths) < FEWEST_CROPS:
        raise ValueError(f"{folder} has {len(paths)} pictures: calibration needs {FEWEST_CROPS} or more")
    return np.stack([cv2.resize(read_image(path), (size, size), interpolation=cv2.INTER_AREA) for path in paths])
