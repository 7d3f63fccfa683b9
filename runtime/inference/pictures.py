"""Faces of many pictures, where one bad picture is reported and the rest is done."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synergy.runtime.aligner import FaceAligner, detections_from_boxes
from synergy.runtime.errors import EngineError, MediaError
from synergy.runtime.faces import Face, FaceCrops
from synergy.runtime.inference.records import ImageRecord, failed_record, image_record
from synergy.runtime.media.box_file import BoxFile
from synergy.runtime.media.drawing import draw_faces
from synergy.runtime.media.image import decode_image, read_image, write_image
from synergy.runtime.media.inputs import output_paths
from synergy.runtime.media.obj import write_obj

OVERLAY_SUFFIX = ".png"
# Pictures that go through the engine together: enough to fill a batch, where there are enough pictures to fill several
# workers with such parts. A function of their number alone, so that the results do not depend on who computes.
MOST_TOGETHER = 8
FEWEST_PARTS = 64
MAX_HELD = 1 << 25  # pixels of pictures that wait to be drawn on: 100 MB


@dataclass(frozen=True)
class PictureJob:
    """One picture: its file, boxes (F,4) in image px or None for the detector, where the overlay goes or None, and
    whether meshes go beside it. error: what is wrong with it already. data: the file's bytes, if they are at hand;
    the path is then only its name."""

    path: Path | str
    boxes: np.ndarray | None = None
    overlay: Path | None = None
    mesh: bool = False
    error: str | None = None
    data: bytes | None = None


@dataclass(frozen=True)
class InferOptions:
    """Known boxes instead of the detector; where overlays go, None for nowhere; meshes beside them."""

    boxes: BoxFile | None = None
    out: Path | None = None
    mesh: bool = False


def picture_jobs(paths: Sequence[Path], options: InferOptions) -> list[PictureJob]:
    """One job per picture, in order; a picture that the box file does not name is one with an error."""
    overlays = output_paths(paths, options.out, OVERLAY_SUFFIX) if options.out else [None] * len(paths)
    return [_job(path, overlay, options) for path, overlay in zip(paths, overlays, strict=True)]


def parts_of(jobs: Sequence[PictureJob]) -> list[Sequence[PictureJob]]:
    """The jobs in order, in parts of those that go through the engine together."""
    size = min(MOST_TOGETHER, max(1, len(jobs) // FEWEST_PARTS))
    return [jobs[start : start + size] for start in range(0, len(jobs), size)]


def infer_pictures(aligner: FaceAligner, jobs: Iterable[PictureJob]) -> Iterator[ImageRecord]:
    """Yield one record per picture, in order, after its overlay and meshes are on disk.

    All faces go through the engine together, or fewer where pictures that wait to be drawn on take much memory. Raises
    BundleError if meshes are wanted and the bundle has no dense basis; what is wrong with one picture is in its record.
    """
    held: list[_Opened] = []
    for job in jobs:
        if job.mesh:
            aligner.dense_basis()  # also for the mesh head: it has the triangles
        held.append(_open(aligner, job))
        if sum(each.held_pixels for each in held) > MAX_HELD:
            yield from _finish(aligner, held)
            held = []
    yield from _finish(aligner, held)


@dataclass(frozen=True)
class _Opened:
    """A picture that was read: its faces' crops, or what is wrong; its pixels only where they will be drawn on."""

    job: PictureJob
    size_wh: tuple[int, int] | None = None
    cut: FaceCrops | None = None
    canvas_bgr: np.ndarray | None = None
    error: str = ""

    @property
    def held_pixels(self) -> int:
        return 0 if self.canvas_bgr is None else self.canvas_bgr.size // 3


def _job(path: Path, overlay: Path | None, options: InferOptions) -> PictureJob:
    if not _is_text(str(path)):
        name = os.fsencode(path).decode(errors="backslashreplace")
        return PictureJob(name, error=f"{name}: the name is not UTF-8, so no report can hold it: rename the file")
    try:
        boxes = None if options.boxes is None else options.boxes.boxes_for(path)
        return PictureJob(path, boxes, overlay, options.mesh)
    except MediaError as error:
        return PictureJob(path, error=str(error))


def _is_text(name: str) -> bool:
    """Not if it holds bytes that are no characters, which Python keeps as lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _open(aligner: FaceAligner, job: PictureJob) -> _Opened:
    if job.error is not None:
        return _Opened(job, error=job.error)
    size_wh = None
    try:
        image = read_image(job.path) if job.data is None else decode_image(job.data, job.path)
        size_wh = image.shape[1], image.shape[0]
        detections = aligner.detect(image) if job.boxes is None else detections_from_boxes(job.boxes)
        return _Opened(job, size_wh, aligner.cut(image, detections), None if job.overlay is None else image)
    except (MediaError, ValueError, OSError) as error:
        return _Opened(job, size_wh, error=str(error))


def _finish(aligner: FaceAligner, held: Sequence[_Opened]) -> Iterator[ImageRecord]:
    good = [each for each in held if each.cut is not None]
    try:
        found = iter(aligner.align_crops([each.cut for each in good if each.cut is not None]))
    except EngineError as error:
        if len(held) > 1:  # one picture may be the cause: the others are not lost with it
            for each in held:
                yield from _finish(aligner, [each])
        else:
            yield from (failed_record(str(each.job.path), each.error or str(error), each.size_wh) for each in held)
        return
    for each in held:
        yield _record(aligner, each, [] if each.cut is None else next(found))


def _record(aligner: FaceAligner, opened: _Opened, faces: Sequence[Face]) -> ImageRecord:
    path, size_wh = str(opened.job.path), opened.size_wh
    if size_wh is None or opened.error:
        return failed_record(path, opened.error, size_wh)
    try:
        if opened.canvas_bgr is not None and opened.job.overlay is not None:
            write_image(opened.job.overlay, draw_faces(opened.canvas_bgr, faces))
            _write_meshes(aligner, faces, opened.job)
        return image_record(path, size_wh, faces)
    except (MediaError, OSError) as error:
        return failed_record(path, str(error), size_wh)


def _write_meshes(aligner: FaceAligner, faces: Sequence[Face], job: PictureJob) -> None:
    if not job.mesh or job.overlay is None:
        return
    triangles = aligner.dense_basis().triangles
    for number, face in enumerate(faces):
        write_obj(job.overlay.with_name(f"{job.overlay.stem}_face{number}.obj"), aligner.mesh(face), triangles)
