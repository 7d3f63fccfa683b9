"""Faces of many pictures: one bad picture is reported and the rest is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from runtime.aligner import Face, FaceAligner
from runtime.drawing import draw_faces
from runtime.errors import EngineError, MediaError
from runtime.media import BoxFile, output_paths, read_image, write_image
from runtime.mesh import write_obj

OVERLAY_SUFFIX = ".png"


class PoseRecord(msgspec.Struct, frozen=True):
    """Degrees."""

    yaw: float
    pitch: float
    roll: float


class FaceRecord(msgspec.Struct, frozen=True):
    """One face in image px; landmarks are 68 rows of x, y, z."""

    box_xyxy: list[float]
    score: float
    landmarks: list[list[float]]
    pose: PoseRecord
    params: list[float]


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
        aligner.dense_basis()
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
    )
