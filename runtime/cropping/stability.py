"""How sure it is that a crop shows a face: the landmarks of a face stay in place when the crop moves.

The networks give landmarks for every crop. On background, noise and black they move with the crop, on a face they do
not. So the network runs once more, on a shifted and enlarged crop. Figures of other measures: docs/output.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from synergy.runtime.crop import MAX_ROI_SIDE
from synergy.runtime.faces import Face, FaceCrops, face_size

# The second crop is moved by CHECK_SHIFT of the side along both axes and enlarged by CHECK_SCALE.
CHECK_SHIFT, CHECK_SCALE = 0.1, 1.2
HALF_SURE = 0.12  # face sizes: the instability at which the confidence is 0.5
STEEPNESS = 4  # confidence 0.94 at half of that instability, 0.06 at the double


def check_roi(roi_xyxy: np.ndarray) -> np.ndarray:
    """The shifted and enlarged region (4,)."""
    left, top, right, bottom = roi_xyxy.tolist()
    side = right - left
    half, shift = min(CHECK_SCALE * side, MAX_ROI_SIDE) / 2, CHECK_SHIFT * side
    x, y = (left + right) / 2 + shift, (top + bottom) / 2 + shift
    return np.array([x - half, y - half, x + half, y + half])


def instability(face: Face, checked: Face) -> float:
    """Mean distance of the landmarks of a face from those of its shifted crop, in face sizes."""
    distance = np.linalg.norm((face.landmarks - checked.landmarks)[:, :2], axis=1).mean()
    return float(distance) / max(face_size(face.landmarks), 1e-6)


def confidence(instability: float) -> float:
    """The confidence, 0 to 1, that landmarks of that instability are those of a face."""
    return 1 / (1 + (instability / HALF_SURE) ** STEEPNESS)


def judged(faces: Sequence[Face], cut: FaceCrops) -> list[Face]:
    """The faces of these crops, with the share of the box in the image, and the confidence if it was requested."""
    count = len(cut.inside)
    checked: Sequence[Face | None] = faces[count:] or [None] * count
    return [
        replace(face, inside=float(inside), confidence=None if other is None else confidence(instability(face, other)))
        for face, other, inside in zip(faces[:count], checked, cut.inside, strict=True)
    ]
