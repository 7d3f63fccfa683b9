"""Time of each stage from the bytes of a picture file to faces, JSON and the drawn picture.

Each stage runs on its own, in this process; the samples of the stages are interleaved.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import cv2
import msgspec
import numpy as np

from synergy.benchmarks.sample_crops import PORTRAIT, PORTRAIT_BOX_XYXY
from synergy.benchmarks.speed.interleave import SAMPLE_S, Progress, ignore_progress
from synergy.benchmarks.speed.timing import CLOCK, Clock, time_runs
from synergy.benchmarks.speed.tracking_cost import TrackingCostReport, measure_tracking_cost
from synergy.runtime.aligner import FaceAligner
from synergy.runtime.diagnostics.host import Host, describe_host
from synergy.runtime.engines import Engine
from synergy.runtime.faces import Detection
from synergy.runtime.inference.records import image_record
from synergy.runtime.media.drawing import draw_faces
from synergy.runtime.media.image import decode_image, read_image
from synergy.runtime.specs import DEFAULT_OPTIONS, Device, EngineOptions

SIDES = (512, 1024, 2048, 4096)  # pixels of a square picture with one face
FACES = (1, 4, 16)  # in the picture of FACES_SIDE pixels
FACES_SIDE = 1024
ROUNDS = 7
JPEG_QUALITY = 90

STAGES = ("decode", "detect", "crop", "network", "geometry", "json", "draw", "encode jpeg", "encode png")


class StageRow(msgspec.Struct, frozen=True):
    """Median ms of each stage, for a square picture of `side` x `side` pixels with that many faces."""

    side: int
    faces: int
    ms: dict[str, float]


class StageReport(msgspec.Struct, frozen=True):
    """The JSON of `synergy bench stages`."""

    host: Host
    engine: str
    artifact: str
    threads: int
    rows: tuple[StageRow, ...]
    tracking: TrackingCostReport = msgspec.field(name="following")


def bench_stages(
    folder: str | Path,
    engine: str = "auto",
    threads: int | None = None,
    options: EngineOptions = DEFAULT_OPTIONS,
    progress: Progress = ignore_progress,
) -> StageReport:
    """Measure a bundle. Raises as `FaceAligner.load`."""
    host = describe_host()
    settings = [*((side, 1) for side in SIDES), *((FACES_SIDE, faces) for faces in FACES if faces > 1)]
    with FaceAligner.load(folder, engine, threads=threads, options=options) as aligner:
        rows = []
        for done, (side, faces) in enumerate(settings):
            progress(done / len(settings), f"{side} x {side} pixels, {faces} faces")
            rows.append(measure(aligner, side, faces))
        progress(1.0, "tracking a face in video")
        used = (aligner.engine.label, aligner.artifact.file, aligner.engine.threads)
        return StageReport(host, *used, tuple(rows), measure_tracking_cost(aligner))


def measure(aligner: FaceAligner, side: int, faces: int) -> StageRow:
    """Measure one picture: the portrait, resized, with its face box repeated `faces` times."""
    jpeg, detections = stage_picture(side, faces)
    image = decode_image(jpeg)
    face_crops = aligner.cut(image, detections)
    inputs = {aligner.predictor.input.name: face_crops.crops_bgr}
    found = aligner.align_crops([face_crops])[0]
    canvas = draw_faces(image, found)
    fixed = cast(Engine, _FixedOutputs(aligner.engine.run(inputs), aligner.engine.device))
    geometry = FaceAligner(aligner.bundle, aligner.artifact, fixed)
    stages: dict[str, Callable[[], object]] = {
        "decode": lambda: decode_image(jpeg),
        "detect": lambda: aligner.detect(image),
        "crop": lambda: aligner.cut(image, detections),
        "network": lambda: aligner.engine.run(inputs),
        "geometry": lambda: geometry.align_crops([face_crops]),
        "json": lambda: msgspec.json.encode(image_record("portrait.jpg", (side, side), found)),
        "draw": lambda: draw_faces(image, found),
        "encode jpeg": lambda: cv2.imencode(".jpg", canvas),
        "encode png": lambda: cv2.imencode(".png", canvas),
    }
    medians = median_ms(stages)
    return StageRow(side, faces, {stage: medians[stage] for stage in STAGES})


class _FixedOutputs:
    """Replaces an engine: returns the same outputs without computing."""

    def __init__(self, outputs: dict[str, np.ndarray], device: Device) -> None:
        self.outputs, self.device = outputs, device

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(self.outputs)


def stage_picture(side: int, faces: int) -> tuple[bytes, list[Detection]]:
    portrait = read_image(PORTRAIT)
    image = cv2.resize(portrait, (side, side), interpolation=cv2.INTER_CUBIC)
    box = np.array(PORTRAIT_BOX_XYXY) * side / portrait.shape[0]
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    return data.tobytes(), [Detection(box, 1.0)] * faces


def median_ms(stages: Mapping[str, Callable[[], object]], clock: Clock = CLOCK) -> dict[str, float]:
    """Median over `ROUNDS` of each stage's median in ms. A stage with long runs takes fewer rounds."""
    rounds: dict[str, list[float]] = {name: [] for name in stages}
    for _ in range(ROUNDS):
        for name, run in stages.items():
            if not rounds[name] or sum(rounds[name]) < ROUNDS * SAMPLE_S:
                rounds[name].append(statistics.median(time_runs([run], SAMPLE_S, clock)[0]))
    return {name: 1e3 * statistics.median(times) for name, times in rounds.items()}
