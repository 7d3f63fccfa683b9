"""Augmentations of the training images, with the matching change of the label's camera parameters.

Two recipes are defined: `WIDE`, with which the built-in network was trained, and `PAPER`, that of SynergyNet's code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from synergy.runtime.decode import CAMERA, SYNERGYNET_FRAME

BLUE_GREEN_RED_TO_GREY = np.array([0.114, 0.587, 0.299], np.float32)  # ITU-R BT.601 luma
NO_RANGE = (1.0, 1.0)
DARKEST = 1e-4  # share of white that is added before gamma, whose slope is infinite at black
LIGHT_GRID, LIGHT_RANGE = 3, (0.2, 3.0)  # cells per side of the uneven light, and its factors
HIDDEN_SIDE_PX = (8.0, 60.0)
HIDDEN_RECTANGLES = 2  # at most
BLUR_KERNEL = (3, 3)
AUGMENT_STREAM = 1  # separates these random numbers from those of the data order


@dataclass(frozen=True)
class AugmentOptions:
    """Ranges are (lowest, highest) of a factor; shares are probabilities, 0 to 1. The defaults are those with which
    the built-in network was trained. Values are drawn uniformly, but the factors `contrast`, `brightness` and `gamma`
    and the enlargement uniformly in their logarithm.

    Geometry, which also changes the label (see `transform_camera`):
    `rotation_deg`: largest rotation in the image plane, either way, of the share `rotated` of the images;
    `scale`: the image is enlarged by exp(-scale) to exp(scale); `shift_px`: largest shift per axis, crop pixels.

    Colour and light, in this order:
    `saturation`, and `grey`, the share of images without colour; `colour_cast`: each channel is multiplied by
    1 +- this; `contrast`; `brightness`; `gamma`: the exponent; `uneven_light`: share of images whose brightness
    varies over the image, smoothly, by exp(N(0, light_std)).

    Camera: `low_resolution`: share of images that are reduced to `resolution` of their side and enlarged again;
    `blurred`: share of images blurred by a 3x3 box; `noise`: largest standard deviation of Gaussian noise, grey
    levels; most images have much less.

    `hidden`: probability that a rectangle is covered by one colour or by a part of another image, drawn twice.

    `jitter` and `blackout` are those of SynergyNet's code: factors of brightness, contrast and saturation 1 +- jitter,
    in random order; probability of keeping only a quarter, a half or the middle of the image.
    """

    rotation_deg: float = 20.0
    rotated: float = 0.6
    scale: float = 0.14
    shift_px: float = 5.0
    saturation: tuple[float, float] = (0.3, 1.5)
    grey: float = 0.08
    colour_cast: float = 0.2
    contrast: tuple[float, float] = (0.6, 1.5)
    brightness: tuple[float, float] = (0.55, 1.5)
    gamma: tuple[float, float] = (0.67, 1.5)
    uneven_light: float = 0.4
    light_std: float = 0.35
    low_resolution: float = 0.33
    resolution: tuple[float, float] = (0.2, 0.75)
    blurred: float = 0.17
    noise: float = 18.0
    hidden: float = 0.25
    jitter: float = 0.0
    blackout: float = 0.0


WIDE = AugmentOptions()
UNCHANGED = AugmentOptions(
    rotation_deg=0.0, scale=0.0, shift_px=0.0, saturation=NO_RANGE, grey=0.0, colour_cast=0.0, contrast=NO_RANGE,
    brightness=NO_RANGE, gamma=NO_RANGE, uneven_light=0.0, low_resolution=0.0, blurred=0.0, noise=0.0, hidden=0.0,
)  # fmt: skip
PAPER = replace(UNCHANGED, jitter=0.4, blackout=0.01)
RECIPES = {"wide": WIDE, "paper": PAPER, "none": UNCHANGED}


def find_recipe(name: str) -> AugmentOptions:
    """The options of `RECIPES`. Raises ValueError with the valid names."""
    if name not in RECIPES:
        raise ValueError(f"unknown augmentation recipe {name!r}: use one of {', '.join(RECIPES)}")
    return RECIPES[name]


def augment_batch(
    images_bgr: np.ndarray, params: np.ndarray, options: AugmentOptions, seed: int, step: int
) -> tuple[np.ndarray, np.ndarray]:
    """Images (N,H,W,3) uint8 BGR and unwhitened parameters (N,62) -> new arrays of the same shapes and types.

    Each image depends on `seed`, `step`, its place in the batch, and through hidden rectangles on the next image.
    """
    images, labels = [], []
    for place, (image, label) in enumerate(zip(images_bgr, params, strict=True)):
        rng = np.random.Generator(np.random.PCG64([seed, step, place, AUGMENT_STREAM]))
        similarity = draw_similarity(image.shape[1], image.shape[0], options, rng)
        other = images_bgr[(place + 1) % len(images_bgr)]
        images.append(augment(warp(image, similarity), other, options, rng))
        labels.append(transform_camera(label, similarity))
    return np.stack(images), np.stack(labels)


def draw_similarity(width: int, height: int, options: AugmentOptions, rng: np.random.Generator) -> np.ndarray:
    """(2,3) float64: a random rotation and scale about the image centre, then a shift, in pixels with y down."""
    rotated, share = rng.random() < options.rotated, rng.uniform(-1.0, 1.0)
    angle = np.radians(options.rotation_deg) * share if rotated else 0.0
    scale = np.exp(rng.uniform(-options.scale, options.scale))
    shift = rng.uniform(-options.shift_px, options.shift_px, 2)
    centre = np.array([width - 1, height - 1]) / 2  # pixel centres are at whole numbers
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.array([[cosine, -sine], [sine, cosine]])
    return np.column_stack([linear, centre - linear @ centre + shift])


def warp(image: np.ndarray, similarity: np.ndarray) -> np.ndarray:
    """Move the content at p to `similarity` (2,3) applied to p: (H,W,3) uint8 -> a new one; new areas are black."""
    height, width = image.shape[:2]
    return np.asarray(cv2.warpAffine(image, similarity, (width, height), flags=cv2.INTER_LINEAR))


def transform_camera(params: np.ndarray, similarity: np.ndarray) -> np.ndarray:
    """Unwhitened parameters (62,) -> new ones, same dtype, whose landmarks are those of `params` after `similarity`.

    `similarity` (2,3) maps crop pixels with y down, without reflection; depth is multiplied by its scale. Shape and
    expression stay. Raises ValueError if `similarity` is not a similarity.
    """
    (cosine, minus_sine, shift_x), (sine, other_cosine, shift_y) = similarity
    if not np.allclose([cosine, sine], [other_cosine, -minus_sine]):
        raise ValueError("similarity must be [[a, -b, x], [b, a, y]]: rotation, scale and shift")
    # y = Y0 - Y, where Y is the model's axis, which points up
    flip = SYNERGYNET_FRAME.y_from
    linear = np.array([[cosine, sine, 0.0], [-sine, cosine, 0.0], [0.0, 0.0, np.hypot(cosine, sine)]])
    with np.errstate(invalid="ignore"):  # labels that are not finite stay so: the training step is then skipped
        camera = linear @ params[CAMERA].reshape(3, 4).astype(np.float64)
    camera[:, 3] += [shift_x - sine * flip, flip - cosine * flip - shift_y, 0.0]
    transformed = params.copy()
    transformed[CAMERA] = camera.ravel()
    return transformed


def augment(
    image_bgr: np.ndarray, other_bgr: np.ndarray, options: AugmentOptions, rng: np.random.Generator
) -> np.ndarray:
    """All augmentations that leave the label as it is: (H,W,3) uint8 BGR -> a new one.

    `other_bgr`, of the same shape, is the image that hidden rectangles may show. The result depends on the arguments
    alone.
    """
    image = image_bgr.astype(np.float32)
    image = _colour(image, options, rng)
    image = _light(image, options, rng)
    image = _camera(image, options, rng)
    image = _hide(image, other_bgr, options, rng)
    if options.jitter:
        image = _jitter(image, options.jitter, rng)
    result = (np.clip(image, 0.0, 255.0) + 0.5).astype(np.uint8)
    return blackout(result, int(rng.integers(len(WINDOWS)))) if rng.random() < options.blackout else result


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """(H,W,3) float32 BGR, 0 to 255, times `factor`."""
    return image * np.float32(factor)


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Distance to the mean grey level times `factor`."""
    mean = np.float32((image @ BLUE_GREEN_RED_TO_GREY).mean())
    return mean + (image - mean) * np.float32(factor)


def saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Distance of each pixel to its grey level times `factor`; 0 gives a grey image."""
    grey = (image @ BLUE_GREEN_RED_TO_GREY)[:, :, None]
    return grey + (image - grey) * np.float32(factor)


def gamma(image: np.ndarray, exponent: float) -> np.ndarray:
    """Values, as shares of 255, to the power `exponent`."""
    shares = np.clip(image, 0.0, 255.0) / np.float32(255) + np.float32(DARKEST)
    return np.asarray(cv2.pow(shares, float(exponent)) * np.float32(255))


def blackout(image: np.ndarray, window: int) -> np.ndarray:
    """Keep one of `WINDOWS` of (H,W,3), the rest is 0."""
    height, width = image.shape[:2]
    top, bottom, left, right = WINDOWS[window]
    rows = slice(int(top * height), int(bottom * height))
    columns = slice(int(left * width), int(right * width))
    kept = np.zeros_like(image)
    kept[rows, columns] = image[rows, columns]
    return kept


def _colour(image: np.ndarray, options: AugmentOptions, rng: np.random.Generator) -> np.ndarray:
    colour = rng.uniform(*options.saturation)
    image = saturation(image, 0.0 if rng.random() < options.grey else colour)
    cast = 1.0 + rng.uniform(-options.colour_cast, options.colour_cast, 3)
    image = contrast(image * cast.astype(np.float32), _log_uniform(options.contrast, rng))
    image = brightness(image, _log_uniform(options.brightness, rng))
    return gamma(image, _log_uniform(options.gamma, rng)) if options.gamma != NO_RANGE else image


def _log_uniform(limits: tuple[float, float], rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(*np.log(limits))))


def _light(image: np.ndarray, options: AugmentOptions, rng: np.random.Generator) -> np.ndarray:
    if rng.random() >= options.uneven_light:
        return image
    grid = np.exp(options.light_std * rng.standard_normal((LIGHT_GRID, LIGHT_GRID))).astype(np.float32)
    height, width = image.shape[:2]
    light = np.clip(cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC), *LIGHT_RANGE)
    return image * light[:, :, None]


def _camera(image: np.ndarray, options: AugmentOptions, rng: np.random.Generator) -> np.ndarray:
    """Low resolution or blur, then noise."""
    height, width = image.shape[:2]
    drawn, share = rng.random(), rng.uniform(*options.resolution)
    if drawn < options.low_resolution:
        small = (max(1, round(width * share)), max(1, round(height * share)))
        reduced = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
        image = np.asarray(cv2.resize(reduced, (width, height), interpolation=cv2.INTER_LINEAR))
    elif drawn < options.low_resolution + options.blurred:
        image = np.asarray(cv2.blur(image, BLUR_KERNEL))
    deviation = options.noise * rng.random() ** 3  # mostly weak
    return image + np.float32(deviation) * rng.standard_normal(image.shape, np.float32) if deviation else image


def _hide(image: np.ndarray, other: np.ndarray, options: AugmentOptions, rng: np.random.Generator) -> np.ndarray:
    hidden = image.copy()
    height, width = image.shape[:2]
    for _ in range(HIDDEN_RECTANGLES):
        if rng.random() >= options.hidden:
            continue
        half = rng.uniform(*HIDDEN_SIDE_PX, 2) / 2
        middle = rng.uniform(0, [width, height])
        left, top = np.maximum(middle - half, 0).astype(int)
        right, bottom = (middle + half).astype(int) + 1
        area = slice(top, bottom), slice(left, right)
        hidden[area] = rng.uniform(0, 255, 3) if rng.random() < 0.5 else other[area]
    return hidden


def _jitter(image: np.ndarray, jitter: float, rng: np.random.Generator) -> np.ndarray:
    for index in rng.permutation(len(ADJUSTMENTS)):
        factor = rng.uniform(max(0.0, 1.0 - jitter), 1.0 + jitter)
        image = np.clip(ADJUSTMENTS[index](image, factor), 0.0, 255.0)
    return image


ADJUSTMENTS: tuple[Callable[[np.ndarray, float], np.ndarray], ...] = (brightness, contrast, saturation)

# top, bottom, left, right as shares of the image: four quarters, two halves, the middle
WINDOWS = (
    (0.0, 0.5, 0.0, 0.5),
    (0.0, 0.5, 0.5, 1.0),
    (0.5, 1.0, 0.0, 0.5),
    (0.5, 1.0, 0.5, 1.0),
    (0.0, 1.0, 0.0, 0.5),
    (0.0, 1.0, 0.5, 1.0),
    (0.25, 0.75, 0.25, 0.75),
)
