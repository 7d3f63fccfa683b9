"""What is written about faces: the JSON of `synergy infer`, for pictures and for the frames of videos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from synergy.runtime.faces import Face

if TYPE_CHECKING:
    from synergy.runtime.tracking.tracker import TrackedFace


class PoseRecord(msgspec.Struct, frozen=True):
    """Degrees."""

    yaw: float
    pitch: float
    roll: float


class FaceRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One face in image px; landmarks are 68 rows of x, y, z, refined ones where the bundle's head gives them.

    unverified: as in `Face`; only written where it is true."""

    box_xyxy: list[float]
    score: float
    landmarks: list[list[float]]
    pose: PoseRecord
    params: list[float]
    refined_landmarks: list[list[float]] | None = None
    unverified: bool = False


class ImageRecord(msgspec.Struct, frozen=True):
    """One picture; with an `error` it has no faces, and no size if it could not be read."""

    path: str
    width: int | None
    height: int | None
    faces: list[FaceRecord]
    error: str | None = None


class InferReport(msgspec.Struct, frozen=True):
    """The JSON of `synergy infer` on pictures."""

    images: list[ImageRecord]


class TrackedFaceRecord(FaceRecord, frozen=True, omit_defaults=True, kw_only=True):
    """One face in a frame, as in pictures but smoothed, with the number that it keeps from frame to frame."""

    id: int


class FrameRecord(msgspec.Struct, frozen=True):
    """One frame, numbered from 0, and its time since the start: a line of the JSON of a video."""

    frame: int
    time_s: float
    faces: list[TrackedFaceRecord]


def image_record(path: str, size_wh: tuple[int, int], faces: Sequence[Face]) -> ImageRecord:
    """The record of a picture that was read."""
    return ImageRecord(path, *size_wh, [face_record(face) for face in faces])


def failed_record(path: str, error: str, size_wh: tuple[int, int] | None = None) -> ImageRecord:
    """The record of a picture without a result."""
    width, height = size_wh or (None, None)
    return ImageRecord(path, width, height, [], error)


def face_record(face: Face) -> FaceRecord:
    """A face as JSON has it."""
    return FaceRecord(
        box_xyxy=face.box_xyxy.tolist(),
        score=face.score,
        landmarks=face.landmarks.tolist(),
        pose=PoseRecord(face.pose.yaw, face.pose.pitch, face.pose.roll),
        params=face.params.tolist(),
        refined_landmarks=None if face.refined_landmarks is None else face.refined_landmarks.tolist(),
        unverified=face.unverified,
    )


def tracked_record(face: TrackedFace) -> TrackedFaceRecord:
    """A followed face as JSON has it."""
    return TrackedFaceRecord(**msgspec.structs.asdict(face_record(face)), id=face.id)
