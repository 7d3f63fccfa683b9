"""Crop geometry: face box -> square region of interest (ROI) -> network input, and points back to image pixels.

The ROI has fractional corners. They are rounded only when the pixels are cut out, as in the official code.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from synergy.runtime.cropping.resize import OPENCV_ROUNDS_DIFFERENTLY, resize_linear

CROP_SIZE = 120  # pixels; the input size of all supported networks
PIXEL_MEAN = 127.5  # the graph normalises crops itself: (pixel - 127.5) / 128, channels in BGR order
PIXEL_SCALE = 128.0
MAX_ROI_SIDE = 16384  # pixels; a larger padded region would need more than 800 MB
INTERPOLATIONS = {"linear": "INTER_LINEAR", "lanczos4": "INTER_LANCZOS4"}  # OpenCV's names


class CropRule(msgspec.Struct, frozen=True):
    """How a tight face box becomes the square ROI. SynergyNet and 3DDFA_V2 use different rules.

    Attributes:
        side_of: The base length: the height of the box, or the mean of its width and height.
        scale: The side of the ROI is `scale * base` ...
        round_to: ... rounded down to a multiple of this many pixels.
        shift_y: The centre of the ROI is `shift_y * base` below the centre of the box.
        interpolation: How the ROI is resized to the crop.

    >>> box = np.array([10.0, 20.0, 110.0, 145.0])
    >>> roi_from_box(box, SYNERGYNET_CROP).tolist()  # side: 1.2 * 125 = 150
    [-15.0, 7.5, 135.0, 157.5]

    Raises:
        ValueError: A value is unknown or out of range.
    """

    side_of: Literal["height", "mean"]
    scale: float
    round_to: int
    shift_y: float
    interpolation: Literal["linear", "lanczos4"] = "linear"

    def __post_init__(self) -> None:
        if self.side_of not in ("height", "mean") or self.interpolation not in INTERPOLATIONS:
            raise ValueError("a crop rule has side_of height or mean, interpolation linear or lanczos4")
        if not (0 < self.scale < 100 and abs(self.shift_y) < 100 and self.round_to >= 1):
            raise ValueError("a crop rule has a scale in (0, 100), |shift_y| below 100 and round_to of 1 or more")


# A square of half side `height * 1.2 // 2`. The demo resizes linearly, the official API with Lanczos4.
SYNERGYNET_CROP = CropRule(side_of="height", scale=1.2, round_to=2, shift_y=0.0)
DDFA_V2_CROP = CropRule(side_of="mean", scale=1.58, round_to=1, shift_y=0.14)
CROP_RULES = {"synergynet": SYNERGYNET_CROP, "3ddfa_v2": DDFA_V2_CROP, "3ddfa": DDFA_V2_CROP}  # by convention


def roi_from_box(box_xyxy: np.ndarray, rule: CropRule) -> np.ndarray:
    """The square ROI (..., 4) float64 of tight face boxes (..., 4), both x1, y1, x2, y2 in image pixels.

    The ROI can extend beyond the image. Raises ValueError for a box that is not finite, is empty or inverted, or is
    so small that its ROI has no pixel.
    """
    boxes = check_boxes(box_xyxy)
    size = boxes[..., 2:] - boxes[..., :2]
    base = size[..., 1] if rule.side_of == "height" else size.mean(axis=-1)
    side = np.floor_divide(rule.scale * base, rule.round_to) * rule.round_to
    if (side < 1).any():
        raise ValueError("a box is smaller than one pixel: boxes are x1, y1, x2, y2 in image pixels")
    centre = boxes[..., 2:] - size / 2
    centre[..., 1] += rule.shift_y * base
    corner = centre - side[..., None] / 2
    return np.concatenate([corner, corner + side[..., None]], axis=-1)


def check_boxes(box_xyxy: np.ndarray) -> np.ndarray:
    """The boxes as a new float64 array (..., 4). Raises ValueError unless all are finite with x1 < x2, y1 < y2."""
    boxes = np.array(box_xyxy, np.float64)
    if boxes.ndim == 0 or boxes.shape[-1] != 4:
        raise ValueError(f"boxes must be (..., 4) as x1, y1, x2, y2, not {boxes.shape}")
    good = np.isfinite(boxes).all(axis=-1) & (boxes[..., 2:] > boxes[..., :2]).all(axis=-1)
    if not good.all():
        first = boxes[~good].reshape(-1, 4)[0].tolist()
        raise ValueError(f"box {first} is not finite with x1 < x2 and y1 < y2")
    return boxes


def check_inside(boxes_xyxy: np.ndarray, image_shape: tuple[int, ...]) -> np.ndarray:
    """The share (N,) of each box (N,4) that is inside the image. Raises ValueError for one that is entirely outside."""
    inside = boxes_xyxy.clip(0, np.tile(image_shape[1::-1], 2))
    shares = (inside[:, 2:] - inside[:, :2]).prod(axis=1) / (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1)
    if not shares.all():
        height, width = image_shape[:2]
        box = boxes_xyxy[shares == 0][0].tolist()
        raise ValueError(f"box {box} is outside the image of {width}x{height} pixels: boxes are x1, y1, x2, y2 in it")
    return shares


def check_image(image_bgr: np.ndarray) -> None:
    """Raises ValueError unless the image is a non-empty (H,W,3) uint8 array."""
    if image_bgr is None:
        cause = "cv2.imread gives None for a file that is missing or that it cannot read"
        raise ValueError(f"the image must be a (H, W, 3) uint8 array, not None: {cause}")
    if not isinstance(image_bgr, np.ndarray) or image_bgr.dtype != np.uint8 or image_bgr.ndim != 3:
        raise ValueError("the image must be a (H, W, 3) uint8 array in BGR order, as cv2.imread gives")
    if image_bgr.shape[2] != 3 or 0 in image_bgr.shape:
        raise ValueError(f"the image must be (H, W, 3) with H and W above 0, not {image_bgr.shape}")


def crop_resize(
    image_bgr: np.ndarray, roi_xyxy: np.ndarray, size: int = CROP_SIZE, interpolation: str = "linear"
) -> np.ndarray:
    """Cut one ROI (4,) out of an image (H,W,3) uint8 and resize it: (size,size,3) uint8, a new array.

    The ROI's corners are rounded half to even, as in the official code. Pixels outside the image are black. Raises
    ValueError for an empty or non-finite ROI, one larger than `MAX_ROI_SIDE`, or an unknown interpolation.
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"unknown interpolation {interpolation!r}: use {' or '.join(INTERPOLATIONS)}")
    from synergy.runtime.opencv import cv2  # not at the top: processes that only read the rules do not load OpenCV

    region = _cut(image_bgr, rounded_roi(roi_xyxy))
    if region is None:
        return np.zeros((size, size, image_bgr.shape[2]), image_bgr.dtype)
    if OPENCV_ROUNDS_DIFFERENTLY and interpolation == "linear":
        return resize_linear(region, size)
    return cv2.resize(region, (size, size), interpolation=getattr(cv2, INTERPOLATIONS[interpolation]))


def roi_to_image(points: np.ndarray, roi_xyxy: np.ndarray, size: int = CROP_SIZE) -> np.ndarray:
    """Map points (N,3,P) from crop pixels to image pixels with the unrounded ROIs (N,4): (N,3,P) float.

    z is scaled by the mean of the x and y scales. Raises ValueError if an ROI is not a valid box or the numbers of
    points and ROIs differ.
    """
    rois = check_boxes(roi_xyxy)
    if points.ndim != 3 or points.shape[1] != 3 or rois.shape != (len(points), 4):
        raise ValueError(f"points (N, 3, P) and ROIs (N, 4) do not match: {points.shape} and {rois.shape}")
    scale_xy = (rois[:, 2:] - rois[:, :2]) / size
    placed = points * np.concatenate([scale_xy, scale_xy.mean(axis=1, keepdims=True)], axis=1)[:, :, None]
    placed[:, :2] += rois[:, :2, None]
    return placed.astype(np.result_type(points.dtype, np.float32))


def rounded_roi(roi_xyxy: np.ndarray) -> tuple[int, int, int, int]:
    """The corners of an ROI (4,) as pixels, rounded half to even. Raises ValueError as `crop_resize`."""
    roi = check_boxes(roi_xyxy)
    if roi.shape != (4,):
        raise ValueError(f"one ROI is x1, y1, x2, y2, not an array of shape {roi.shape}")
    left, top, right, bottom = (int(edge) for edge in np.rint(roi))
    width, height = right - left, bottom - top
    if min(width, height) < 1:
        raise ValueError(f"the region {roi.tolist()} has no pixel: boxes are x1, y1, x2, y2 in image pixels")
    if max(width, height) > MAX_ROI_SIDE:
        raise ValueError(f"a region of {width}x{height} pixels is over {MAX_ROI_SIDE}: is the box in image pixels?")
    return left, top, right, bottom


def _cut(image_bgr: np.ndarray, roi_xyxy: tuple[int, int, int, int]) -> np.ndarray | None:
    """The region: a view if it is inside the image, else a zero-padded copy; None if it is entirely outside."""
    left, top, right, bottom = roi_xyxy
    height, width = image_bgr.shape[:2]
    inside = image_bgr[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if inside.size == 0:
        return None
    missing = max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0)
    if not any(missing):
        return inside
    from synergy.runtime.opencv import cv2  # see `crop_resize`

    return cv2.copyMakeBorder(inside, *missing, cv2.BORDER_CONSTANT, value=0)
