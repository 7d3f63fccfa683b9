"""Evaluation data: crops with their true landmarks and head poses, from any source."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from synergy.runtime.crop import CROP_SIZE
from synergy.synergy_model.synthetic.faces import SyntheticFaces

POINTS = 68
HELD_OUT_SEED = 1_000_000_007  # of the synthetic faces; training and validation use small seeds
HELD_OUT_FACES = 512
SYNTHETIC_TITLE = "synthetic faces"  # title of procedural faces; drift limits depend on it


class DataError(ValueError):
    """Labels or pictures are missing or wrong; the message names the file and the line or row."""


@dataclass(frozen=True)
class EvaluationData:
    """N faces.

    title: name of the data set, for headings. source: one line on its origin and preparation. names: one per face.
    crops: (N,120,120,3) uint8 BGR, the network's input, or (0,120,120,3) if only labels were read.
    landmarks: (N,2 or 3,68) original image px, y down. yaw_deg: (N,), its absolute value selects the yaw bin.
    roi_xyxy: (N,4), the image region of each crop. pose_deg: (N,3) yaw, pitch, roll in degrees. scored: (N,) bool,
    whether the pose of a face is scored. Both are None without true poses; pose_missing: the reason.
    """

    title: str
    source: str
    names: tuple[str, ...]
    crops: np.ndarray
    landmarks: np.ndarray
    yaw_deg: np.ndarray
    roi_xyxy: np.ndarray
    pose_deg: np.ndarray | None
    scored: np.ndarray | None
    pose_missing: str | None = None

    def __len__(self) -> int:
        return len(self.names)

    def with_border(self, width: int) -> EvaluationData:
        """A copy whose crops have a black border of `width` pixels; the official benchmark uses 5."""
        if not 0 <= width < CROP_SIZE // 2:
            raise ValueError(f"the border is {width} pixels: give 0 to {CROP_SIZE // 2 - 1}")
        said = f"{width}-pixel black border" if width else "no black border"
        return replace(self, crops=blacken_border(self.crops, width), source=f"{self.source}, {said}")


def blacken_border(crops: np.ndarray, width: int) -> np.ndarray:
    """A copy of crops (N,H,W,3) with the outer `width` pixels set to 0."""
    inner = slice(width, -width or None)
    framed = np.zeros_like(crops)
    framed[:, inner, inner] = crops[:, inner, inner]
    return framed


def to_image_px(landmarks: np.ndarray, roi_xyxy: np.ndarray) -> np.ndarray:
    """Crop px (N,2 or 3,P) -> image px (N,2,P) float64, by regions (N,4) x1, y1, x2, y2."""
    corner, scale = _corner_and_scale(roi_xyxy)
    return landmarks[:, :2] * scale + corner


def to_crop_px(landmarks: np.ndarray, roi_xyxy: np.ndarray) -> np.ndarray:
    """The inverse of `to_image_px`."""
    corner, scale = _corner_and_scale(roi_xyxy)
    return (landmarks[:, :2] - corner) / scale


def check_labels(landmarks: np.ndarray, source: str, place: str = ", row {}") -> None:
    """Raise DataError unless landmarks (N,2 or 3,68) are finite and not on one line.

    `place` formats the index of a wrong row for the message.
    """
    if landmarks.ndim != 3 or landmarks.shape[1] not in (2, 3) or landmarks.shape[2] != POINTS:
        raise DataError(f"{source} has shape {landmarks.shape}: landmarks are (N, 2 or 3, {POINTS})")
    check_finite(landmarks, source, place)
    flat = (np.ptp(landmarks[:, :2], axis=2) <= 0).any(axis=1)
    if flat.any():
        raise DataError(f"{source}{place.format(int(flat.argmax()))}: all landmarks lie on one line")


def check_finite(values: np.ndarray, source: str, place: str = ", row {}") -> None:
    """Raise DataError naming the first row (counted from 0) with a value that is NaN or infinite."""
    bad = ~np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
    if bad.any():
        more = f" (and {int(bad.sum()) - 1} more)" if bad.sum() > 1 else ""
        raise DataError(f"{source}{place.format(int(bad.argmax()))}{more}: a value is NaN or infinite")


def synthetic_data(count: int = HELD_OUT_FACES, seed: int = HELD_OUT_SEED) -> EvaluationData:
    """Synthetic faces that are not used in training, with exact labels; about 100 faces per second."""
    if count < 1:
        raise ValueError(f"the number of synthetic faces is {count}: use at least one")
    batch = SyntheticFaces(seed).batch(range(count))
    return EvaluationData(
        title=SYNTHETIC_TITLE,
        source=f"{count} held-out synthetic faces (seed {seed})",
        names=tuple(f"synthetic-{index:05d}" for index in range(count)),
        crops=batch.images,
        landmarks=batch.landmarks,
        yaw_deg=batch.euler_deg[:, 0],
        roi_xyxy=np.tile(np.array([0.0, 0.0, CROP_SIZE, CROP_SIZE]), (count, 1)),
        pose_deg=batch.euler_deg.astype(np.float64),
        scored=np.ones(count, bool),
    )


def _corner_and_scale(roi_xyxy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rois = roi_xyxy.astype(np.float64)
    return rois[:, :2, None], ((rois[:, 2:] - rois[:, :2]) / CROP_SIZE)[:, :, None]
