"""The JSON records of `synergy infer`: faces in pictures and in the frames of videos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from synergy.runtime.faces import Face

if TYPE_CHECKING:
    from synergy.runtime.tracking.tracker import TrackedFace


MIN_INSIDE = 0.1  # share of the box inside the image; below it the record has a warning


class PoseRecord(msgspec.Struct, frozen=True):
    """Head pose in degrees."""

    yaw: float
    pitch: float
    roll: float


class FaceRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One face in image px.

    landmarks: 68 rows of x, y, z. refined_landmarks: only with a refined head. confidence, unverified: as in `Face`;
    unverified is only written where it is true. warning: only where there is one.
    """

    box_xyxy: list[float]
    score: float
    landmarks: list[list[float]]
    pose: PoseRecord
    params: list[float]
    refined_landmarks: list[list[float]] | None = None
    unverified: bool = False
    confidence: float | None = None
    warning: str | None = None


class ImageRecord(msgspec.Struct, frozen=True):
    """One picture. With an error there are no faces; width and height are None if it could not be read.

    warning: how a picture is damaged that was accepted, only written where there is one.
    """

    path: str
    width: int | None
    height: int | None
    faces: list[FaceRecord]
    error: str | None = None
    warning: str | msgspec.UnsetType = msgspec.UNSET


class InferReport(msgspec.Struct, frozen=True):
    """The JSON of `synergy infer` on pictures."""

    images: list[ImageRecord]


class TrackedFaceRecord(FaceRecord, frozen=True, omit_defaults=True, kw_only=True):
    """One face in a frame, smoothed, with the id that it keeps from frame to frame."""

    id: int


class FrameRecord(msgspec.Struct, frozen=True):
    """One frame, counted from 0, and its time since the start: one line of the JSON file of a video."""

    frame: int
    time_s: float
    faces: list[TrackedFaceRecord]


def image_record(path: str, size_wh: tuple[int, int], faces: Sequence[Face], warning: str = "") -> ImageRecord:
    """The record of a picture that was read."""
    return ImageRecord(path, *size_wh, [face_record(face) for face in faces], warning=warning or msgspec.UNSET)


def failed_record(path: str, error: str, size_wh: tuple[int, int] | None = None) -> ImageRecord:
    """The record of a picture without a result."""
    width, height = size_wh or (None, None)
    return ImageRecord(path, width, height, [], error)


def face_record(face: Face) -> FaceRecord:
    """The record of a face."""
    return FaceRecord(
        box_xyxy=face.box_xyxy.tolist(),
        score=face.score,
        landmarks=face.landmarks.tolist(),
        pose=PoseRecord(face.pose.yaw, face.pose.pitch, face.pose.roll),
        params=face.params.tolist(),
        refined_landmarks=None if face.refined_landmarks is None else face.refined_landmarks.tolist(),
        unverified=face.unverified,
        confidence=face.confidence,
        warning=None if face.inside >= MIN_INSIDE else f"only {face.inside:.1%} of the box is inside the image",
    )


def tracked_record(face: TrackedFace) -> TrackedFaceRecord:
    """The record of a tracked face."""
    return TrackedFaceRecord(**msgspec.structs.asdict(face_record(face)), id=face.id)
