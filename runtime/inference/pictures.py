"""Find the faces in many pictures; a bad picture gets a record with an error and the others are processed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from synergy.runtime.aligner import FaceAligner
from synergy.runtime.errors import EngineError, MediaError
from synergy.runtime.faces import Face, FaceCrops, detections_from_boxes
from synergy.runtime.inference.records import ImageRecord, failed_record, image_record
from synergy.runtime.media.image import DAMAGE_CURE, decode_with_damage, write_image
from synergy.runtime.media.inputs import output_paths, read_bytes
from synergy.runtime.media.layers import DEFAULT_LAYERS, Layers

if TYPE_CHECKING:
    from synergy.runtime.media.box_file import BoxFile

JPEG_SUFFIXES = (".jpg", ".jpeg", ".jfif")
# Pictures whose faces go through the engine together: large parts fill a batch, and many parts keep all workers busy.
# The size depends only on the number of pictures, so that results do not depend on the number of workers.
MAX_PART_SIZE = 8
MIN_PARTS = 64
MAX_KEPT_PIXELS = 1 << 25  # of pictures that are kept for their overlays: 100 MB


@dataclass(frozen=True)
class PictureJob:
    """One picture to process.

    boxes: (F,4) in image px, None to run the detector. overlay: path of the overlay picture, None for none. mesh: write
    OBJ files beside the overlay. layers: what the overlay shows. error: why the picture cannot be processed. data: the
    file's bytes; `path` is then only its name. confidence: compute the confidence of each face.
    allow_damaged: process a damaged JPEG as far as it can be decoded, with a warning in its record.
    """

    path: Path | str
    boxes: np.ndarray | None = None
    overlay: Path | None = None
    mesh: bool = False
    error: str | None = None
    data: bytes | None = None
    layers: Layers = DEFAULT_LAYERS
    confidence: bool = True
    allow_damaged: bool = False


@dataclass(frozen=True)
class InferOptions:
    """boxes: known boxes instead of the detector. out: folder of the overlays, None for none. mesh: OBJ files there.
    layers: what the overlays show. confidence, allow_damaged: as in `PictureJob`."""

    boxes: BoxFile | None = None
    out: Path | None = None
    mesh: bool = False
    layers: Layers = DEFAULT_LAYERS
    confidence: bool = True
    allow_damaged: bool = False


def picture_jobs(paths: Sequence[Path], options: InferOptions) -> list[PictureJob]:
    """One job per picture, in order; a picture without an entry in the box file becomes a job with an error."""
    overlays = output_paths(paths, options.out, overlay_suffix) if options.out else [None] * len(paths)
    return [_job(path, overlay, options) for path, overlay in zip(paths, overlays, strict=True)]


def overlay_suffix(path: Path) -> str:
    """The overlay of a JPEG is a JPEG: a PNG of 7 megapixels takes 330 ms to encode, a JPEG 30."""
    return ".jpg" if path.suffix.lower() in JPEG_SUFFIXES else ".png"


def parts_of(jobs: Sequence[PictureJob]) -> list[Sequence[PictureJob]]:
    """The jobs in order, in parts whose faces go through the engine together."""
    size = min(MAX_PART_SIZE, max(1, len(jobs) // MIN_PARTS))
    return [jobs[start : start + size] for start in range(0, len(jobs), size)]


def infer_pictures(aligner: FaceAligner, jobs: Iterable[PictureJob]) -> Iterator[ImageRecord]:
    """Yield one record per picture, in order, after its overlay and meshes were written.

    All faces go through the engine together, or in several runs if the pictures kept for overlays need much memory.
    Raises BundleError if meshes are requested and the bundle has none. An error of one picture is in its record.
    """
    waiting: list[_CroppedImage] = []
    for job in jobs:
        if job.mesh:
            aligner.dense_basis()  # checked first; the mesh head needs its triangles too
        if job.overlay is not None and job.layers.need_mesh:
            from synergy.runtime.inference.overlay import mesh_triangles

            mesh_triangles(aligner)
        waiting.append(_crop(aligner, job))
        if sum(each.kept_pixels for each in waiting) > MAX_KEPT_PIXELS:
            yield from _align(aligner, waiting)
            waiting = []
    yield from _align(aligner, waiting)


@dataclass(frozen=True)
class _CroppedImage:
    """A picture after detection: the crops of its faces, or an error. canvas_bgr: its pixels, if it gets an overlay."""

    job: PictureJob
    size_wh: tuple[int, int] | None = None
    cut: FaceCrops | None = None
    canvas_bgr: np.ndarray | None = None
    error: str = ""
    warning: str = ""

    @property
    def kept_pixels(self) -> int:
        return 0 if self.canvas_bgr is None else self.canvas_bgr.size // 3


def _job(path: Path, overlay: Path | None, options: InferOptions) -> PictureJob:
    if not _is_text(str(path)):
        name = os.fsencode(path).decode(errors="backslashreplace")
        return PictureJob(name, error=f"{name}: the name is not UTF-8, which JSON requires: rename the file")
    try:
        boxes = None if options.boxes is None else options.boxes.boxes_for(path)
        return PictureJob(
            path,
            boxes,
            overlay,
            options.mesh,
            layers=options.layers,
            confidence=options.confidence,
            allow_damaged=options.allow_damaged,
        )
    except MediaError as error:
        return PictureJob(path, error=str(error))


def _is_text(name: str) -> bool:
    """False if the name has bytes that are not valid UTF-8, which Python represents as lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _crop(aligner: FaceAligner, job: PictureJob) -> _CroppedImage:
    if job.error is not None:
        return _CroppedImage(job, error=job.error)
    size_wh = None
    try:
        image, damage = decode_with_damage(read_bytes(Path(job.path)) if job.data is None else job.data, job.path)
        size_wh = image.shape[1], image.shape[0]
        if damage and not job.allow_damaged:
            raise MediaError(f"{job.path} {damage}: {DAMAGE_CURE}")
        detections = aligner.detect(image) if job.boxes is None else detections_from_boxes(job.boxes)
        cut = aligner.cut(image, detections, job.confidence)
        return _CroppedImage(job, size_wh, cut, None if job.overlay is None else image, warning=damage)
    except (MediaError, ValueError, OSError) as error:
        return _CroppedImage(job, size_wh, error=str(error))


def _align(aligner: FaceAligner, waiting: Sequence[_CroppedImage]) -> Iterator[ImageRecord]:
    good = [each for each in waiting if each.cut is not None]
    try:
        found = iter(aligner.align_crops([each.cut for each in good if each.cut is not None]))
    except EngineError as error:
        if len(waiting) > 1:  # one picture may be the cause, so each is tried by itself
            for each in waiting:
                yield from _align(aligner, [each])
        else:
            yield from (failed_record(str(each.job.path), each.error or str(error), each.size_wh) for each in waiting)
        return
    for each in waiting:
        yield _record(aligner, each, [] if each.cut is None else next(found))


def _record(aligner: FaceAligner, cropped: _CroppedImage, faces: Sequence[Face]) -> ImageRecord:
    path, size_wh = str(cropped.job.path), cropped.size_wh
    if size_wh is None or cropped.error:
        return failed_record(path, cropped.error, size_wh)
    try:
        if cropped.canvas_bgr is not None and cropped.job.overlay is not None:
            from synergy.runtime.inference.overlay import draw_overlay  # not imported unless something is drawn

            write_image(cropped.job.overlay, draw_overlay(aligner, cropped.canvas_bgr, faces, cropped.job.layers))
            _write_meshes(aligner, faces, cropped.job)
        return image_record(path, size_wh, faces, cropped.warning)
    except (MediaError, OSError) as error:
        return failed_record(path, str(error), size_wh)


def _write_meshes(aligner: FaceAligner, faces: Sequence[Face], job: PictureJob) -> None:
    if not job.mesh or job.overlay is None:
        return
    from synergy.runtime.media.obj import write_obj

    triangles = aligner.dense_basis().triangles
    for number, face in enumerate(faces):
        write_obj(job.overlay.with_name(f"{job.overlay.stem}_face{number}.obj"), aligner.mesh(face), triangles)
