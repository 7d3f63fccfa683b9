"""Result types: detections, crops, predictions for crops, and faces in image pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import msgspec
import numpy as np

from synergy.runtime.crop import roi_to_image
from synergy.runtime.decode import PoseRule, dewhiten, euler_deg, rotation, rotation_to_euler_deg


class Detection(msgspec.Struct, frozen=True, eq=False):
    """A face found by a detector.

    Attributes:
        box_xyxy: (4,) float64 x1, y1, x2, y2 in image pixels.
        score: Confidence of the detector, 0 to 1.
        roll_deg: How far the head is tilted, positive clockwise; its crop is turned upright. 0 for a crop as it is.
    """

    box_xyxy: np.ndarray
    score: float
    roll_deg: float = 0.0


@dataclass(frozen=True)
class Pose:
    """Head pose in degrees. The signs are the same for every bundle, unless the official angles were chosen.

    Attributes:
        yaw: Rotation about the vertical axis, -90 to 90; positive: the nose points to the left of the image.
        pitch: Rotation about the axis through the ears, -180 to 180; positive: the face looks up.
        roll: Rotation in the image plane, -180 to 180; positive: the crown tilts to the right of the image.

    >>> Pose(yaw=10.0, pitch=0.0, roll=-5.0)
    Pose(yaw=10.0, pitch=0.0, roll=-5.0)
    """

    yaw: float
    pitch: float
    roll: float


class PoseDecoder(msgspec.Struct, frozen=True, eq=False):
    """Computes head pose from a network's whitened parameters.

    Attributes:
        param_mean: Whitening mean (62,) float32.
        param_std: Whitening standard deviation (62,) float32.
        rule: Which entries of the rotation give the angles.
    """

    param_mean: np.ndarray
    param_std: np.ndarray
    rule: PoseRule

    def euler_deg(self, params: np.ndarray) -> np.ndarray:
        """Whitened parameters (N,62) -> yaw, pitch, roll (N,3) float64 in degrees."""
        return euler_deg(dewhiten(params, self.param_mean, self.param_std), self.rule)


@dataclass(frozen=True, eq=False)
class Prediction:
    """Network outputs for N crops.

    Attributes:
        params: Whitened 3DMM parameters (N,62) float32.
        landmarks: (N,3,68) float32 in crop pixels: x right, y down, z depth in the same scale.
        refined_landmarks: As `landmarks`, (N,3,68), if the bundle's head computes them.
        vertices: Mesh vertices (N,3,V) in crop pixels, if the bundle's head computes them.
        pose: Computes the angles from the parameters.
    """

    params: np.ndarray
    landmarks: np.ndarray
    refined_landmarks: np.ndarray | None = None
    vertices: np.ndarray | None = None
    pose: PoseDecoder = field(kw_only=True, repr=False)

    @cached_property
    def euler_deg(self) -> np.ndarray:
        """Yaw, pitch, roll (N,3) float64 in degrees; computed on first access."""
        return self.pose.euler_deg(self.params)


@dataclass(frozen=True, eq=False)
class Face:
    """One face in image coordinates.

    Attributes:
        landmarks: (68,3) float32 in image pixels: x right, y down, z depth in the same scale.
        pose: Head pose in degrees, computed from `rotation`.
        rotation: (3,3) float64; rows are the image's x, y (up) and z axes in the head's frame.
        box_xyxy: Face box (4,) float64 in image pixels, detected or given by the caller.
        roi_xyxy: The square (4,) float64 in image pixels that was cropped for the network. It was turned upright about
            its centre if the detector found the head tilted; the other fields are those of the image as it is.
        score: Confidence of the detector, 0 to 1; 1.0 for boxes given by the caller.
        params: Whitened 3DMM parameters (62,) float32.
        refined_landmarks: As `landmarks`, (68,3), if the bundle's head computes them.
        vertices: Mesh vertices (V,3) float32 in image pixels, if the bundle's head computes them.
        inside: Share of the box that is inside the image, 0 to 1.
        confidence: How sure it is that this is a face, 0 to 1, if that was requested: the landmarks stay in place when
            the crop moves. Unlike `score` it does not come from the detector.
        unverified: Computed on a GPU or NPU whose results were not compared with the bundle's golden values.
    """

    landmarks: np.ndarray
    pose: Pose
    rotation: np.ndarray
    box_xyxy: np.ndarray
    roi_xyxy: np.ndarray
    score: float
    params: np.ndarray
    refined_landmarks: np.ndarray | None = None
    vertices: np.ndarray | None = None
    unverified: bool = False
    inside: float = 1.0
    confidence: float | None = None


class FaceCrops(msgspec.Struct, frozen=True, eq=False):
    """Face crops of one image. If the confidence is requested, the shifted crops of all faces follow: F is 2N then.

    Attributes:
        crops_bgr: (F,120,120,3) uint8.
        rois_xyxy: The squares (F,4) float64 in image pixels that were cropped.
        detections: The F detections.
        inside: Share (N,) of the box of each face that is inside the image.
    """

    crops_bgr: np.ndarray
    rois_xyxy: np.ndarray
    detections: tuple[Detection, ...]
    inside: np.ndarray


def detections_from_boxes(boxes_xyxy: Sequence[Sequence[float]] | np.ndarray) -> list[Detection]:
    """Known boxes (F,4) in image px, or (F,5) with an ignored score, as detections of score 1. Raises ValueError."""
    boxes = np.asarray(boxes_xyxy, np.float64)
    if boxes.size == 0:
        return []
    if boxes.ndim != 2 or boxes.shape[1] not in (4, 5):
        raise ValueError(f"boxes must be (F, 4) as x1, y1, x2, y2, not {boxes.shape}")
    return [Detection(box, 1.0) for box in boxes[:, :4]]


def make_faces(
    prediction: Prediction, rois_xyxy: np.ndarray, detections: Sequence[Detection], unverified: bool = False
) -> list[Face]:
    """One face in image pixels per crop of the prediction; rois_xyxy (N,4) and the N detections say where it is."""
    decoder = prediction.pose
    landmarks = roi_to_image(prediction.landmarks, rois_xyxy)
    refined, vertices = (_to_image(part, rois_xyxy) for part in (prediction.refined_landmarks, prediction.vertices))
    rotations = rotation(dewhiten(prediction.params, decoder.param_mean, decoder.param_std))
    angles = rotation_to_euler_deg(rotations, decoder.rule).tolist()  # `prediction.euler_deg` would begin anew
    return [
        Face(
            landmarks=landmarks[i].T,
            pose=Pose(*angles[i]),
            rotation=rotations[i],
            box_xyxy=np.array(detection.box_xyxy, np.float64),  # not a view of the caller's boxes
            roi_xyxy=rois_xyxy[i],
            score=float(detection.score),
            params=prediction.params[i],
            refined_landmarks=refined[i],
            vertices=vertices[i],
            unverified=unverified,
        )
        for i, detection in enumerate(detections)
    ]


def face_size(landmarks: np.ndarray) -> float:
    """The square root of the area of the box of landmarks (68,2 or 3), px."""
    (left, top), (right, bottom) = landmarks[:, :2].min(axis=0).tolist(), landmarks[:, :2].max(axis=0).tolist()
    return float(np.sqrt((right - left) * (bottom - top)))


def _to_image(points: np.ndarray | None, rois_xyxy: np.ndarray) -> Sequence[np.ndarray | None]:
    """Points (N,3,P) in crop px -> N times (P,3) in image px; N times None where the head gives none."""
    if points is None:
        return [None] * len(rois_xyxy)
    return [placed.T for placed in roi_to_image(points, rois_xyxy)]
