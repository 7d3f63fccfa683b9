"""Where the time goes: from the bytes of a picture file to faces, JSON and the drawn picture, stage by stage.

Each stage is run on its own, in this process, in rounds: what disturbs the machine disturbs each of them.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import cv2
import msgspec
import numpy as np

from synergy.benchmarks.sample_crops import PORTRAIT, PORTRAIT_BOX_XYXY
from synergy.benchmarks.speed.interleave import Progress
from synergy.benchmarks.speed.tracking_cost import TrackingCostReport, measure_tracking_cost
from synergy.runtime.aligner import FaceAligner
from synergy.runtime.diagnostics.host import Host, describe_host
from synergy.runtime.engines import DEFAULT_OPTIONS, Engine, EngineOptions
from synergy.runtime.faces import Detection
from synergy.runtime.inference.records import image_record
from synergy.runtime.media.drawing import draw_faces
from synergy.runtime.media.image import decode_image, read_image

SIDES = (512, 1024, 2048, 4096)  # pixels of a square picture with one face
FACES = (1, 4, 16)  # in the picture of MIDDLE pixels
MIDDLE = 1024
ROUNDS = 7
SAMPLE_S = 0.05  # a stage is run again until this is over
JPEG_QUALITY = 90

STAGES = ("decode", "detect", "crop", "network", "geometry", "json", "draw", "encode png")


class StageRow(msgspec.Struct, frozen=True):
    """Median ms of every stage for a square picture of so many pixels a side, with so many faces."""

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
    following: TrackingCostReport


def bench_stages(
    folder: str | Path,
    engine: str = "auto",
    threads: int | None = None,
    options: EngineOptions = DEFAULT_OPTIONS,
    progress: Progress | None = None,
) -> StageReport:
    """Measure a bundle. Raises as `FaceAligner.load`."""
    say = progress or (lambda part, doing: None)
    host = describe_host()
    settings = [*((side, 1) for side in SIDES), *((MIDDLE, faces) for faces in FACES if faces > 1)]
    with FaceAligner.load(folder, engine, threads=threads, options=options) as aligner:
        rows = []
        for done, (side, faces) in enumerate(settings):
            say(done / len(settings), f"{side} x {side} pixels, {faces} faces")
            rows.append(measure(aligner, side, faces))
        say(1.0, "following a face")
        used = (aligner.engine.label, aligner.artifact.file, aligner.engine.threads)
        return StageReport(host, *used, tuple(rows), measure_tracking_cost(aligner))


def measure(aligner: FaceAligner, side: int, faces: int) -> StageRow:
    """One picture: the portrait at that size, its face counted so many times."""
    jpeg, detections = _picture(side, faces)
    image = decode_image(jpeg)
    cut = aligner.cut(image, detections)
    inputs = {aligner.input.name: cut.crops_bgr}
    found = aligner.align_crops([cut])[0]
    canvas = draw_faces(image, found)
    answered = copy.copy(aligner)
    answered.engine = cast(Engine, _Answered(aligner.engine.run(inputs)))
    stages: dict[str, Callable[[], object]] = {
        "decode": lambda: decode_image(jpeg),
        "detect": lambda: aligner.detect(image),
        "crop": lambda: aligner.cut(image, detections),
        "network": lambda: aligner.engine.run(inputs),
        "geometry": lambda: answered.align_crops([cut]),
        "json": lambda: msgspec.json.encode(image_record("portrait.jpg", (side, side), found)),
        "draw": lambda: draw_faces(image, found),
        "encode png": lambda: cv2.imencode(".png", canvas),
    }
    taken = _medians(stages)
    return StageRow(side, faces, {stage: taken[stage] for stage in STAGES})


class _Answered:
    """In an engine's place: the outputs, at no cost."""

    def __init__(self, outputs: dict[str, np.ndarray]) -> None:
        self.outputs = outputs

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(self.outputs)


def _picture(side: int, faces: int) -> tuple[bytes, list[Detection]]:
    portrait = read_image(PORTRAIT)
    image = cv2.resize(portrait, (side, side), interpolation=cv2.INTER_CUBIC)
    box = np.array(PORTRAIT_BOX_XYXY) * side / portrait.shape[0]
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    return data.tobytes(), [Detection(box, 1.0)] * faces


def _medians(stages: dict[str, Callable[[], object]]) -> dict[str, float]:
    """ms. A stage that takes long, as detection does, has fewer rounds."""
    rounds: dict[str, list[float]] = {name: [] for name in stages}
    for _ in range(ROUNDS):
        for name, run in stages.items():
            if not rounds[name] or sum(rounds[name]) < ROUNDS * SAMPLE_S:
                rounds[name].append(_turn(run))
    return {name: 1e3 * statistics.median(times) for name, times in rounds.items()}


def _turn(run: Callable[[], object]) -> float:
    """Seconds of a run, the median of those that fit into a turn; the first finds cold caches and is left out."""
    run()
    times: list[float] = []
    end = time.perf_counter() + SAMPLE_S
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
