"""What comes out: faces in image pixels, predictions for crops; and what goes in between, crops cut out of images."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import msgspec
import numpy as np

from synergy.runtime.decode import PoseRule, dewhiten, euler_deg


class Detection(msgspec.Struct, frozen=True, eq=False):
    """A face box (4,) float64 x1, y1, x2, y2 in image pixels, and how sure the detector is, 0 to 1."""

    box_xyxy: np.ndarray
    score: float


@dataclass(frozen=True)
class Pose:
    """Head pose in degrees, by the convention of the network that made it (`pose` in the manifest)."""

    yaw: float
    pitch: float
    roll: float


class PoseDecoder(msgspec.Struct, frozen=True, eq=False):
    """From a network's parameters to angles: its whitening (62,) and its convention."""

    param_mean: np.ndarray
    param_std: np.ndarray
    rule: PoseRule

    def euler_deg(self, params: np.ndarray) -> np.ndarray:
        """Whitened parameters (N,62) -> yaw, pitch, roll (N,3) float64 in degrees."""
        return euler_deg(dewhiten(params, self.param_mean, self.param_std), self.rule)


@dataclass(frozen=True, eq=False)
class Prediction:
    """For N crops: params (N,62) float32 whitened; landmarks (N,3,68) float32 crop px, y down, z depth.

    As landmarks, where the bundle's head gives them: refined_landmarks (N,3,68), vertices (N,3,V) of the mesh.
    """

    params: np.ndarray
    landmarks: np.ndarray
    refined_landmarks: np.ndarray | None = None
    vertices: np.ndarray | None = None
    pose: PoseDecoder = field(kw_only=True, repr=False)

    @cached_property
    def euler_deg(self) -> np.ndarray:
        """(N,3) float64 yaw, pitch, roll in degrees. Computed when first asked for."""
        return self.pose.euler_deg(self.params)


@dataclass(frozen=True, eq=False)
class Face:
    """One face in image coordinates.

    landmarks (68,3) float32 px: x right, y down, z in the same scale; pose in degrees; rotation (3,3), rows are
    the image's x, y (up) and z axes in the head's frame; box_xyxy (4,) as detected or given, roi_xyxy (4,) the
    square that was cropped; score of the detector, 1.0 for given boxes; params (62,) whitened. As landmarks, where
    the bundle's head gives them: refined_landmarks (68,3), vertices (V,3). unverified: computed on a card whose answers
    were not compared with the bundle's golden values.
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


class FaceCrops(msgspec.Struct, frozen=True, eq=False):
    """Faces cut out of one image: crops_bgr (F,120,120,3) uint8, their squares rois_xyxy (F,4) float64 in image px,
    and how each was found."""

    crops_bgr: np.ndarray
    rois_xyxy: np.ndarray
    detections: tuple[Detection, ...]
