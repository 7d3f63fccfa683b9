"""One look at a region of a picture: whether it shows a face, and where to look next.

The network has no "no face here" output. What it makes of a background is told apart by landmarks that no face has,
and by the probe: landmarks of a face hold still while the crop is moved, those of a background move with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synergy.runtime.crop import MAX_ROI_SIDE
from synergy.runtime.faces import Face
from synergy.runtime.tracking.smoothing import face_size

# Side of the region over the longer side of the landmarks' box: how the crops of 300W-LP are cut, which SynergyNet and
# 3DDFA_V2 learn from (3DDFA_V2's `parse_roi_box_from_landmark`). Repeated on eight AFLW2000 photos from regions that
# were off by 0.3 of their side it settled in all of 32 cases; the crop rules, made for detectors' boxes, did not.
ROI_FACTOR = float(np.sqrt(2))

# What can be no face.
MIN_ASPECT = 0.4  # shorter over longer side of the landmarks' box; the least of the 2000 faces of AFLW2000 is 0.63
MIN_VISIBLE = 0.5  # share of the landmarks inside the picture; with fewer, most of the face is the network's guess
MIN_SIDE = 24.0  # px of the region: then most landmarks are less than a pixel apart. 3DDFA_V2 gives up at 45

# The probe: the region moved by PROBE_SHIFT of its side along both axes and PROBE_SCALE times as large. Landmarks then
# move, in parts of the face's size: up to 0.03 on 13 faces in photos, 0.08 on these at 24 px, 0.05 in noise (sigma 30);
# 0.106 or more on 104 pieces of background; 0.26 (median) on faces that were covered.
PROBE_SHIFT, PROBE_SCALE = 0.1, 1.2
MAX_UNSTEADY = 0.1
MAX_SIDE = MAX_ROI_SIDE / PROBE_SCALE  # px of the region: that much can be cropped


@dataclass(frozen=True)
class Look:
    """What was found in one region: next_roi (4,) around the landmarks; offset of that from the region that was
    cropped, in parts of its side, infinite if this can be no face; unsteady: what the probe measured, if it ran."""

    face: Face
    box_xyxy: np.ndarray
    next_roi: np.ndarray
    offset: float
    unsteady: float | None

    @classmethod
    def of(cls, face: Face, frame_shape: tuple[int, ...], probe: Face | None = None) -> Look:
        """`probe`: the same face from the region moved by `probe_roi`."""
        box = box_of(face.landmarks)
        roi = _around(box)
        if not _can_be_face(face.landmarks, box, _side(roi), frame_shape):
            return cls(face, box, roi, np.inf, None)
        offset = float(np.abs(roi - face.roi_xyxy).max()) / _side(face.roi_xyxy)
        return cls(face, box, roi, offset, None if probe is None else _unsteady(face, probe))

    @property
    def can_be_face(self) -> bool:
        return self.offset < np.inf

    @property
    def side(self) -> float:
        return _side(self.next_roi)

    @property
    def is_steady(self) -> bool:
        return self.unsteady is not None and self.unsteady <= MAX_UNSTEADY


def roi_from_landmarks(landmarks: np.ndarray) -> np.ndarray:
    """The square region (4,) float64 to crop around a face's landmarks (68,2 or 3), both in image px."""
    return _around(box_of(landmarks))


def box_of(landmarks: np.ndarray) -> np.ndarray:
    """The box (4,) float64 x1, y1, x2, y2 of landmarks (68,2 or 3)."""
    points = landmarks[:, :2]
    return np.concatenate([points.min(axis=0), points.max(axis=0)]).astype(np.float64)


def probe_roi(roi_xyxy: np.ndarray) -> np.ndarray:
    """The region (4,) as the probe looks at it."""
    left, top, right, bottom = roi_xyxy.tolist()
    side = right - left
    shift = PROBE_SHIFT * side
    return _square((left + right) / 2 + shift, (top + bottom) / 2 + shift, PROBE_SCALE * side)


def _can_be_face(landmarks: np.ndarray, box_xyxy: np.ndarray, side: float, frame_shape: tuple[int, ...]) -> bool:
    """Whether landmarks (68,3) with that box and region can be those of a face in the picture."""
    left, top, right, bottom = box_xyxy.tolist()
    shorter, longer = sorted((right - left, bottom - top))
    if not (MIN_SIDE <= side <= MAX_SIDE and shorter >= MIN_ASPECT * longer and np.isfinite(landmarks).all()):
        return False
    if left >= 0 and top >= 0 and right < frame_shape[1] and bottom < frame_shape[0]:
        return True
    points = landmarks[:, :2]
    return bool(((points >= 0) & (points < frame_shape[1::-1])).all(axis=1).mean() >= MIN_VISIBLE)


def _around(box_xyxy: np.ndarray) -> np.ndarray:
    left, top, right, bottom = box_xyxy.tolist()
    side = ROI_FACTOR * max(right - left, bottom - top)
    return _square((left + right) / 2, (top + bottom) / 2, side)


def _unsteady(face: Face, probe: Face) -> float:
    apart = np.linalg.norm((face.landmarks - probe.landmarks)[:, :2], axis=1).mean()
    return float(apart) / face_size(face.landmarks)


def _square(x: float, y: float, side: float) -> np.ndarray:
    half = side / 2
    return np.array([x - half, y - half, x + half, y + half])


def _side(roi_xyxy: np.ndarray) -> float:
    return float(roi_xyxy[2] - roi_xyxy[0])
