"""Cut the crops of faces out of an image: by detections or known regions, tilted heads upright."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synergy.runtime.crop import check_boxes, check_image, check_inside, crop_resize, roi_from_box
from synergy.runtime.cropping.levelling import crop_levelled
from synergy.runtime.cropping.stability import check_roi
from synergy.runtime.faces import Detection, FaceCrops
from synergy.runtime.manifest import Manifest


def cut_faces(
    image_bgr: np.ndarray, detections: Sequence[Detection], manifest: Manifest, confidence: bool = False
) -> FaceCrops:
    """The crops of detected faces by the crop rule of the bundle; if `confidence`, also the shifted ones.

    Raises ValueError for an unfit image, and for a box that is empty, not finite or entirely outside the image.
    """
    check_image(image_bgr)
    boxes = np.array([detection.box_xyxy for detection in detections], np.float64).reshape(-1, 4)
    rois = roi_from_box(boxes, manifest.crop)
    inside = check_inside(boxes, image_bgr.shape)
    if confidence and len(rois):
        rois, detections = np.concatenate([rois, [check_roi(roi) for roi in rois]]), [*detections, *detections]
    return _cut(image_bgr, rois, detections, inside, manifest)


def cut_regions(
    image_bgr: np.ndarray, rois_xyxy: Sequence[Sequence[float]] | np.ndarray, manifest: Manifest
) -> FaceCrops:
    """The crops of known regions (F,4). Raises ValueError as `cut_faces`."""
    check_image(image_bgr)
    rois = np.array(rois_xyxy, np.float64)
    if rois.size == 0:
        rois = rois.reshape(0, 4)
    if rois.ndim != 2:
        raise ValueError(f"regions must be (F, 4) as x1, y1, x2, y2, not {rois.shape}")
    rois = check_boxes(rois)
    inside = check_inside(rois, image_bgr.shape)
    return _cut(image_bgr, rois, [Detection(roi, 1.0) for roi in rois], inside, manifest)


def _cut(
    image_bgr: np.ndarray, rois: np.ndarray, detections: Sequence[Detection], inside: np.ndarray, manifest: Manifest
) -> FaceCrops:
    size, interpolation = manifest.preprocessing.size, manifest.crop.interpolation
    crops = np.empty((len(rois), size, size, 3), np.uint8)
    for crop, roi, detection in zip(crops, rois, detections, strict=True):
        if detection.roll_deg:
            crop[:] = crop_levelled(image_bgr, roi, detection.roll_deg, size, interpolation)
        else:
            crop[:] = crop_resize(image_bgr, roi, size, interpolation)
    return FaceCrops(crops, rois, tuple(detections), inside)
