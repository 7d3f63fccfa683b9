"""Crops of tilted heads: the crop is taken upright, and the results are turned back to the image.

The networks are trained on heads that are tilted little, so their error grows with the roll of the head. All angles are
in degrees, positive clockwise as seen in the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from synergy.runtime.crop import crop_resize, rounded_roi
from synergy.runtime.decode import CAMERA, dewhiten
from synergy.runtime.faces import Detection, Prediction
from synergy.runtime.manifest import Manifest

LEVEL_FROM_DEG = 10.0  # of the detector, whose roll is too small by up to a half (docs/output.md)
# Eyes, nose tip and corners of the mouth of an upright face seen from the front, in the order of YuNet's points. From
# the alignment of ArcFace (Deng et al., CVPR 2019). Only their directions from the centre matter here.
FIVE_POINTS = np.array([[38.3, 51.7], [73.5, 51.5], [56.0, 71.7], [41.5, 92.4], [70.7, 92.2]])


def roll_of(points: np.ndarray) -> float:
    """The roll of a head from the five points (5,2) of a detector: the best turn of the upright face onto them.

    Unlike the line through the eyes, it is also defined for a head seen from the side.
    """
    upright, tilted = FIVE_POINTS - FIVE_POINTS.mean(axis=0), points - points.mean(axis=0)
    cross = (upright[:, 0] * tilted[:, 1] - upright[:, 1] * tilted[:, 0]).sum()
    return float(np.degrees(np.arctan2(cross, (upright * tilted).sum())))


def crop_levelled(
    image_bgr: np.ndarray, roi_xyxy: np.ndarray, roll_deg: float, size: int, interpolation: str
) -> np.ndarray:
    """As `runtime.crop.crop_resize`, with the image turned by -`roll_deg` about the centre of the ROI."""
    from synergy.runtime.opencv import cv2  # as in `runtime.crop`

    left, top, right, bottom = rounded_roi(roi_xyxy)
    width, height = right - left, bottom - top
    matrix = cv2.getRotationMatrix2D(((left + right - 1) / 2, (top + bottom - 1) / 2), roll_deg, 1.0)
    matrix[:, 2] -= left, top
    region = cv2.warpAffine(image_bgr, matrix, (width, height))
    return crop_resize(region, np.array([0, 0, width, height]), size, interpolation)


def turn_back(prediction: Prediction, detections: Sequence[Detection], manifest: Manifest) -> Prediction:
    """What the network would give for the upright image: points and camera turned by the roll of the N detections.

    manifest: of the bundle, for its landmark frame and the size of the crops. Crops of roll 0 are not changed.
    """
    rolls = np.array([detection.roll_deg for detection in detections])
    tilted = np.flatnonzero(rolls)
    if not len(tilted):
        return prediction
    mean, std = prediction.pose.param_mean.reshape(-1), prediction.pose.param_std.reshape(-1)
    frame, size = manifest.landmark_frame, manifest.preprocessing.size
    cosine, sine = np.cos(np.radians(rolls[tilted])), np.sin(np.radians(rolls[tilted]))
    turn = np.tile(np.eye(3), (len(tilted), 1, 1))  # in the crop: x right, y down
    turn[:, 0, 0], turn[:, 0, 1], turn[:, 1, 0], turn[:, 1, 1] = cosine, -sine, sine, cosine
    centre = np.array([[(size - 1) / 2], [(size - 1) / 2], [0]])

    def turned(points: np.ndarray) -> np.ndarray:
        points = points.copy()
        points[tilted] = turn @ (points[tilted] - centre) + centre
        return points

    params = prediction.params.copy()
    physical = dewhiten(params[tilted].astype(np.float64), mean, std)
    camera = physical[:, CAMERA].reshape(-1, 3, 4)
    flip = np.diag([1.0, -1.0, 1.0])  # the model has y up: a point of the crop is flip @ model point + origin
    origin = np.array([[frame.x_shift], [frame.y_from], [0]])
    camera = flip @ turn @ flip @ camera
    camera[:, :, 3:] += flip @ (turn - np.eye(3)) @ (origin - centre)
    physical[:, CAMERA] = camera.reshape(-1, 12)
    params[tilted] = (physical - mean) / std
    return replace(
        prediction,
        params=params,
        landmarks=turned(prediction.landmarks),
        refined_landmarks=None if prediction.refined_landmarks is None else turned(prediction.refined_landmarks),
        vertices=None if prediction.vertices is None else turned(prediction.vertices),
    )
