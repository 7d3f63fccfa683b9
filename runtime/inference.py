"""Faces of many pictures, where one bad picture is reported and the rest is done, and of videos."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import msgspec
import numpy as np

from runtime.aligner import Face, FaceAligner
from runtime.drawing import FONT, SHADE, WHITE, draw_faces
from runtime.errors import EngineError, MediaError
from runtime.media import BoxFile, output_paths, read_image, write_image
from runtime.mesh import write_obj
from runtime.tracking import FaceTracker, TrackedFace, TrackOptions
from runtime.video import Camera, VideoReader, VideoWriter, whole_file

OVERLAY_SUFFIX = ".png"
VIDEO_SUFFIX = ".mp4"
ID_SCALE = 0.6


class PoseRecord(msgspec.Struct, frozen=True):
    """Degrees."""

    yaw: float
    pitch: float
    roll: float


class FaceRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One face in image px; landmarks are 68 rows of x, y, z, refined ones where the bundle's head gives them."""

    box_xyxy: list[float]
    score: float
    landmarks: list[list[float]]
    pose: PoseRecord
    params: list[float]
    refined_landmarks: list[list[float]] | None = None


class ImageRecord(msgspec.Struct, frozen=True):
    """One picture; with an `error` it has no faces, and no size if it could not be read."""

    path: str
    width: int | None
    height: int | None
    faces: list[FaceRecord]
    error: str | None = None


class InferReport(msgspec.Struct, frozen=True):
    """The JSON of `synergy infer`."""

    images: list[ImageRecord]


class TrackedFaceRecord(FaceRecord, frozen=True, omit_defaults=True, kw_only=True):
    """One face in a frame, as in pictures but smoothed, with the number that it keeps from frame to frame."""

    id: int


class FrameRecord(msgspec.Struct, frozen=True):
    """One frame, numbered from 0, and its time since the start: a line of the JSON of a video."""

    frame: int
    time_s: float
    faces: list[TrackedFaceRecord]


@dataclass(frozen=True)
class InferOptions:
    """Known boxes instead of the detector; where overlays go, None for nowhere; meshes beside them."""

    boxes: BoxFile | None = None
    out: Path | None = None
    mesh: bool = False


def infer_images(aligner: FaceAligner, paths: Sequence[Path], options: InferOptions) -> Iterator[ImageRecord]:
    """Yield one record per picture, in order, after its overlay and meshes are on disk.

    Raises BundleError at once if meshes are wanted and the bundle has no dense basis; what is wrong with one
    picture is in its record.
    """
    if options.mesh:
        aligner.dense_basis()  # also for the mesh head: it has the triangles
    overlays = output_paths(paths, options.out, OVERLAY_SUFFIX) if options.out else [None] * len(paths)
    for path, overlay in zip(paths, overlays, strict=True):
        image = None
        try:
            image = read_image(path)
            faces = _faces(aligner, path, image, options.boxes)
            if overlay is not None:
                write_image(overlay, draw_faces(image, faces))
                _write_meshes(aligner, faces, overlay, options.mesh)
            yield _record(path, image, faces)
        except (MediaError, EngineError, ValueError, OSError) as error:
            yield _record(path, image, [], error=str(error))


@dataclass(frozen=True)
class VideoOptions:
    """Where the overlay video and the JSON lines go, None for nowhere, and how faces are followed."""

    overlay: Path | None = None
    json_lines: Path | None = None
    tracking: TrackOptions = field(default_factory=TrackOptions)


def video_outputs(sources: Sequence[Path | Camera], folder: Path) -> list[Path]:
    """One overlay video per source, in order, named as `output_paths` does; camera:0 becomes camera-0.mp4."""
    named = [Path(str(source).replace(":", "-")) if isinstance(source, Camera) else source for source in sources]
    return output_paths(named, folder, VIDEO_SUFFIX)


def infer_video(aligner: FaceAligner, reader: VideoReader, options: VideoOptions) -> Generator[FrameRecord, None, None]:
    """Yield one record per frame, in order, after it was written; none is kept.

    The files appear when the iterator ends or is closed, with all frames that it yielded. Raises MediaError at the
    end if the video is incomplete; its files are there all the same. After another error there are none.
    """
    tracker = FaceTracker(aligner, options.tracking)
    with ExitStack() as stack:
        video = lines = None
        if options.overlay:
            video = stack.enter_context(VideoWriter(stack.enter_context(whole_file(options.overlay)), reader.fps))
        if options.json_lines:  # unbuffered: a line is in the file or is not
            place = stack.enter_context(whole_file(options.json_lines))
            lines = stack.enter_context(place.open("wb", buffering=0))
        for frame in reader.frames():
            faces = tracker.track(frame.image_bgr, frame.time_s)
            record = FrameRecord(frame.index, frame.time_s, [_tracked_record(face) for face in faces])
            if video:
                video.write(_draw_ids(draw_faces(frame.image_bgr, faces), faces))
            if lines:
                lines.write(msgspec.json.encode(record) + b"\n")
            yield record
    reader.check_end()


def _faces(aligner: FaceAligner, path: Path, image: np.ndarray, boxes: BoxFile | None) -> list[Face]:
    return aligner(image) if boxes is None else aligner.align(image, boxes.boxes_for(path))


def _write_meshes(aligner: FaceAligner, faces: Sequence[Face], overlay: Path, mesh: bool) -> None:
    if not mesh:
        return
    triangles = aligner.dense_basis().triangles
    for number, face in enumerate(faces):
        write_obj(overlay.with_name(f"{overlay.stem}_face{number}.obj"), aligner.mesh(face), triangles)


def _record(path: Path, image: np.ndarray | None, faces: Sequence[Face], error: str | None = None) -> ImageRecord:
    height, width = (None, None) if image is None else image.shape[:2]
    return ImageRecord(str(path), width, height, [_face_record(face) for face in faces], error)


def _face_record(face: Face) -> FaceRecord:
    return FaceRecord(
        box_xyxy=face.box_xyxy.tolist(),
        score=face.score,
        landmarks=face.landmarks.tolist(),
        pose=PoseRecord(face.pose.yaw, face.pose.pitch, face.pose.roll),
        params=face.params.tolist(),
        refined_landmarks=None if face.refined_landmarks is None else face.refined_landmarks.tolist(),
    )


def _tracked_record(face: TrackedFace) -> TrackedFaceRecord:
    return TrackedFaceRecord(**msgspec.structs.asdict(_face_record(face)), id=face.id)


def _draw_ids(canvas_bgr: np.ndarray, faces: Sequence[TrackedFace]) -> np.ndarray:
    """The canvas itself, with each face's number on a dark tag under its box."""
    for face in faces:
        text = str(face.id)
        (width, height), below = cv2.getTextSize(text, FONT, ID_SCALE, 1)
        left, top = (int(corner) for corner in face.box_xyxy[[0, 3]].clip(0, canvas_bgr.shape[1::-1]))
        cv2.rectangle(canvas_bgr, (left, top), (left + width + 8, top + height + below + 4), SHADE, cv2.FILLED)
        cv2.putText(canvas_bgr, text, (left + 4, top + height + 4), FONT, ID_SCALE, WHITE, 1, cv2.LINE_AA)
    return canvas_bgr
