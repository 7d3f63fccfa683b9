"""What the network found in one region of a frame: whether it can be a face, and the region to crop next.

The network has no "no face" output. Background is recognised in two ways: its landmarks have shapes that no face has,
and they move with the crop. For the second check the network also runs on a shifted and enlarged crop: the landmarks of
a face stay in place, those of background do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synergy.runtime.crop import MAX_ROI_SIDE
from synergy.runtime.cropping.stability import CHECK_SCALE, instability
from synergy.runtime.faces import Face

# Side of the region over the longer side of the landmarks' box: how the crops of 300W-LP are cut, which SynergyNet and
# 3DDFA_V2 learn from (3DDFA_V2's `parse_roi_box_from_landmark`). Applied repeatedly to eight AFLW2000 photos, from
# regions that were off by 0.3 of their side, it converged in all of 32 cases; the crop rules, which are made for
# detectors' boxes, did not.
ROI_FACTOR = float(np.sqrt(2))

# Limits of what can be a face.
MIN_ASPECT = 0.4  # shorter over longer side of the landmarks' box; the least of the 2000 faces of AFLW2000 is 0.63
MIN_VISIBLE = 0.5  # share of the landmarks inside the image; with fewer, most of the face is extrapolated
MIN_SIDE = 24.0  # px of the region: then most landmarks are less than a pixel apart. 3DDFA_V2 stops at 45

# The stability check, see `runtime.stability`: up to 0.03 on 13 faces in photos, 0.08 on these at 24 px, 0.05 in noise
# (sigma 30); 0.106 or more on 104 pieces of background; 0.26 (median) on covered faces.
MAX_INSTABILITY = 0.1
MAX_SIDE = MAX_ROI_SIDE / CHECK_SCALE  # px of the region: the enlarged crop must not exceed MAX_ROI_SIDE


@dataclass(frozen=True)
class TrackObservation:
    """What the network found in one region.

    next_roi: the region (4,) around the landmarks. offset: largest distance of its corners from the region that was
    cropped, in sides of that region; infinite if this cannot be a face. instability: distance of the landmarks of the
    two crops in face sizes; None where the stability check did not run.
    """

    face: Face
    box_xyxy: np.ndarray
    next_roi: np.ndarray
    offset: float
    instability: float | None

    @classmethod
    def of(cls, face: Face, frame_shape: tuple[int, ...], checked: Face | None = None) -> TrackObservation:
        """`checked`: the same face from the region of `runtime.stability.check_roi`, None for no stability check."""
        box = box_of(face.landmarks)
        roi = roi_around(box)
        if not _can_be_face(face.landmarks, box, _side(roi), frame_shape):
            return cls(face, box, roi, np.inf, None)
        offset = float(np.abs(roi - face.roi_xyxy).max()) / _side(face.roi_xyxy)
        return cls(face, box, roi, offset, None if checked is None else instability(face, checked))

    @property
    def can_be_face(self) -> bool:
        return self.offset < np.inf

    @property
    def side(self) -> float:
        return _side(self.next_roi)

    @property
    def is_stable(self) -> bool:
        return self.instability is not None and self.instability <= MAX_INSTABILITY


def box_of(landmarks: np.ndarray) -> np.ndarray:
    """The box (4,) float64 x1, y1, x2, y2 of landmarks (68,2 or 3)."""
    points = landmarks[:, :2]
    return np.concatenate([points.min(axis=0), points.max(axis=0)]).astype(np.float64)


def roi_around(box_xyxy: np.ndarray) -> np.ndarray:
    """The square region (4,) float64 to crop for a face whose landmarks have that box (4,), both in image px."""
    left, top, right, bottom = box_xyxy.tolist()
    side = ROI_FACTOR * max(right - left, bottom - top)
    return _square((left + right) / 2, (top + bottom) / 2, side)


def _can_be_face(landmarks: np.ndarray, box_xyxy: np.ndarray, side: float, frame_shape: tuple[int, ...]) -> bool:
    """Whether landmarks (68,3) with that box and region can be those of a face in the image."""
    left, top, right, bottom = box_xyxy.tolist()
    shorter, longer = sorted((right - left, bottom - top))
    if not (MIN_SIDE <= side <= MAX_SIDE and shorter >= MIN_ASPECT * longer and np.isfinite(landmarks).all()):
        return False
    if left >= 0 and top >= 0 and right < frame_shape[1] and bottom < frame_shape[0]:
        return True
    points = landmarks[:, :2]
    return bool(((points >= 0) & (points < frame_shape[1::-1])).all(axis=1).mean() >= MIN_VISIBLE)


def _square(x: float, y: float, side: float) -> np.ndarray:
    half = side / 2
    return np.array([x - half, y - half, x + half, y + half])


def _side(roi_xyxy: np.ndarray) -> float:
    return float(roi_xyxy[2] - roi_xyxy[0])
