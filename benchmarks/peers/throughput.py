"""Crops and pictures per second of a pool of worker processes, a plain loop, and single sessions of other libraries."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import cv2
import msgspec
import numpy as np

from synergy.benchmarks.peers.compare import library_specs, session_inputs
from synergy.benchmarks.peers.sessions import FULL_PRECISION, OPENVINO_QUEUE
from synergy.benchmarks.sample_crops import PORTRAIT, PORTRAIT_BOX_XYXY
from synergy.benchmarks.speed.engine_process import NETWORK, SessionInputs, SessionProcess, SessionSpec, Workload
from synergy.benchmarks.speed.interleave import (
    BenchmarkCase,
    Progress,
    ignore_progress,
    ratio_by_round,
    run_interleaved,
)
from synergy.benchmarks.speed.timing import wait_until_idle
from synergy.runtime.aligner import FaceAligner
from synergy.runtime.bundle import Bundle
from synergy.runtime.diagnostics.host import Host, describe_host
from synergy.runtime.engines import default_threads
from synergy.runtime.errors import EngineError
from synergy.runtime.files import TemporaryFolder
from synergy.runtime.inference.face_pool import FacePool
from synergy.runtime.inference.local_worker import LocalWorker
from synergy.runtime.inference.pictures import PictureJob, parts_of
from synergy.runtime.inference.records import image_record
from synergy.runtime.inference.worker import WorkerSetup, default_workers
from synergy.runtime.media.image import read_image, write_image
from synergy.runtime.specs import DYNAMIC, EngineOptions

CROPS, PICTURES, PHOTOS = "crops", "pictures, boxes given", "pictures, with detection"
BATCH = 16
CROP_BATCHES = 32  # in a sample: about half a second, so that start and end of the pool's work do not matter
PICTURE_SIDE = 1024  # pixels: the portrait enlarged twice, a JPEG of 200 kB
PICTURE_COUNT = 64  # in a sample: about half a second
PHOTO_COUNT = 8  # in a sample; detection takes a third of a second each
ROUNDS = {CROPS: 12, PICTURES: 10, PHOTOS: 4}
NO_LIMIT_S = 1e9  # every case takes part in every round
POOL, LOOP, PREDICT = "pool", "loop", "predict"
LIBRARIES = ("onnxruntime", "openvino", OPENVINO_QUEUE)  # without MindSpore, which is ten times slower
FLOAT32 = ("", FULL_PRECISION)  # the libraries' names for it


class ThroughputRow(msgspec.Struct, frozen=True):
    """Crops or pictures per second.

    work: what is processed. method: "onnxruntime (bare)" and the like are single sessions of libraries, "openvino queue
    (bare)" is OpenVINO's throughput mode; "loop" is `FaceAligner` called for one picture after another with all
    threads; "predict" is one call of `FaceAligner.predict` with all crops; "pool" is `FacePool`. ratio: over the
    fastest library, for pictures over the loop; median over the rounds, so above 1 is faster.
    """

    work: str
    method: str = msgspec.field(name="who")
    engine: str
    workers: int
    threads: int
    per_s: float
    ratio: float | None


class ThroughputReport(msgspec.Struct, frozen=True):
    """The JSON of `synergy bench throughput`. notes: libraries that are not compared. failures: what failed."""

    host: Host
    rows: tuple[ThroughputRow, ...]
    notes: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()


def bench_throughput(
    folder: str | Path, options: EngineOptions, progress: Progress = ignore_progress
) -> ThroughputReport:
    """Measure a bundle with the engine that `auto` selects under `options`.

    Raises BundleError for a bad bundle, EngineUnavailableError if no engine can run it.
    """
    host, bundle = describe_host(), Bundle.open(folder)
    failures: list[str] = []
    rows: list[ThroughputRow] = []
    with ExitStack() as stack:
        pictures = _pictures(Path(stack.enter_context(TemporaryFolder())))
        progress(0.0, "starting")
        setup = WorkerSetup(bundle.folder, options=options, threads=1)
        pool = stack.enter_context(FacePool(setup, LocalWorker, default_workers()))
        precision = pool.setup.options.compute_precision
        aligner = stack.enter_context(FaceAligner.load(bundle.folder, options=replace(options, precision=precision)))
        fixed = bundle.manifest.inputs[0].shape[0]
        batch = BATCH if fixed == DYNAMIC else fixed
        inputs = session_inputs(bundle, batch * CROP_BATCHES)
        sessions, notes = _library_cases(bundle, inputs, batch, failures, stack)
        photos = [replace(picture, boxes=None) for picture in pictures[:PHOTO_COUNT]]
        for done, (work, cases) in enumerate(
            {
                CROPS: [*sessions, PredictedCrops(aligner, inputs.crops), PooledCrops(pool, inputs.crops[:batch])],
                PICTURES: [Loop(aligner, pictures), PooledPictures(pool, pictures)],
                PHOTOS: [Loop(aligner, photos), PooledPictures(pool, photos)],
            }.items()
        ):
            progress((1 + done) / 4, f"measuring {work}")
            finished = run_interleaved(cases, ROUNDS[work], failures, ignore_progress, NO_LIMIT_S)
            rows += throughput_rows(work, finished, FLOAT32 if precision == "fp32" else None)
    return ThroughputReport(host, tuple(rows), tuple(notes), tuple(failures))


class ThroughputCase(BenchmarkCase):
    """A method to compare. size: crops or pictures that one timed run of a sample processes. precision: a library's."""

    precision = ""

    def __init__(self, method: str, engine: str, workers: int, threads: int, size: int) -> None:
        super().__init__()
        self.method, self.engine, self.workers, self.threads, self.size = method, engine, workers, threads, size

    def __str__(self) -> str:
        return f"{self.method}, {self.engine}"

    @property
    def per_s(self) -> float:
        """Crops or pictures per second, median over the rounds."""
        return statistics.median(self.size / statistics.median(times) for times in self.samples.values())


class LibraryCase(ThroughputCase):
    """One session of a library, with all threads, on its largest batch."""

    def __init__(self, spec: SessionSpec, inputs: SessionInputs) -> None:
        super().__init__(spec.label, spec.name, 1, spec.threads, spec.batches[-1])
        self.process = SessionProcess(spec, inputs)
        self.precision = spec.precision

    def run_sample(self, number: int) -> list[float]:
        return self.process.sample(Workload(NETWORK, self.size))[0]


class Loop(ThroughputCase):
    """One picture after another, in this process with all threads."""

    def __init__(self, aligner: FaceAligner, pictures: Sequence[PictureJob]) -> None:
        super().__init__(LOOP, aligner.engine.label, 1, aligner.engine.threads, len(pictures))
        self.aligner, self.pictures = aligner, pictures

    def run_sample(self, number: int) -> list[float]:
        start = time.perf_counter()
        for picture in self.pictures:
            image = read_image(picture.path)
            faces = self.aligner(image) if picture.boxes is None else self.aligner.align(image, picture.boxes)
            image_record(str(picture.path), (image.shape[1], image.shape[0]), faces)
        taken = time.perf_counter() - start
        wait_until_idle()
        return [taken]


class PredictedCrops(ThroughputCase):
    """All crops in one call of `FaceAligner.predict`, in this process with all threads."""

    def __init__(self, aligner: FaceAligner, crops: np.ndarray) -> None:
        super().__init__(PREDICT, aligner.engine.label, 1, aligner.engine.threads, len(crops))
        self.aligner, self.crops = aligner, crops

    def run_sample(self, number: int) -> list[float]:
        start = time.perf_counter()
        self.aligner.predict(self.crops)
        taken = time.perf_counter() - start
        wait_until_idle()
        return [taken]


class PooledCrops(ThroughputCase):
    """Batches of crops through the pool."""

    def __init__(self, pool: FacePool, crops: np.ndarray) -> None:
        super().__init__(POOL, pool.setup.label, pool.workers, pool.setup.threads or 0, len(crops) * CROP_BATCHES)
        self.pool, self.crops = pool, crops

    def run_sample(self, number: int) -> list[float]:
        return [seconds_until_done(self.pool.predict(self.crops for _ in range(CROP_BATCHES)))]


class PooledPictures(ThroughputCase):
    """Pictures through the pool, in the same parts as `synergy infer` uses."""

    def __init__(self, pool: FacePool, pictures: Sequence[PictureJob]) -> None:
        super().__init__(POOL, pool.setup.label, pool.workers, pool.setup.threads or 0, len(pictures))
        self.pool, self.parts = pool, parts_of(pictures)

    def run_sample(self, number: int) -> list[float]:
        return [seconds_until_done(self.pool.infer(self.parts))]


def seconds_until_done(results: Iterable[object]) -> float:
    """Seconds until the iterable is exhausted."""
    start = time.perf_counter()
    for _ in results:
        pass
    return time.perf_counter() - start


def _library_cases(
    bundle: Bundle, inputs: SessionInputs, batch: int, failures: list[str], stack: ExitStack
) -> tuple[list[LibraryCase], list[str]]:
    """A case for each installed library in each of its precisions, and a line for each library that is missing.

    A sample is one run of `batch` crops; for OpenVINO's queue it is all crops, which it divides itself.
    """
    specs, notes = library_specs(bundle, (default_threads(),), (batch,), LIBRARIES)
    cases = []
    for spec in specs:
        if spec.name == OPENVINO_QUEUE:
            spec = replace(spec, batches=(len(inputs.crops),))
        try:
            cases.append(LibraryCase(spec, inputs))
            stack.callback(cases[-1].process.close)
        except EngineError as error:
            failures.append(f"{spec}: {error}")
    return cases, notes


def _pictures(folder: Path) -> list[PictureJob]:
    """`PICTURE_COUNT` files of the portrait, each with its box."""
    image = cv2.resize(read_image(PORTRAIT), (PICTURE_SIDE, PICTURE_SIDE), interpolation=cv2.INTER_CUBIC)
    box = np.array([PORTRAIT_BOX_XYXY]) * PICTURE_SIDE / read_image(PORTRAIT).shape[0]
    paths = [folder / f"{number:02}.jpg" for number in range(PICTURE_COUNT)]
    for path in paths:
        write_image(path, image)
    return [PictureJob(path, box, confidence=False) for path in paths]  # the libraries compute none


def throughput_rows(
    work: str, cases: Sequence[ThroughputCase], precisions: tuple[str, ...] | None
) -> Iterator[ThroughputRow]:
    """The baseline is the fastest library or the loop; `precisions` are those that it may have, None for any."""
    compared = [case for case in cases if case.method not in (POOL, PREDICT)]
    eligible = [case for case in compared if precisions is None or case.precision in precisions]
    baseline = max(eligible, key=lambda case: case.per_s, default=None)
    for case in cases:
        yield ThroughputRow(
            work=work,
            method=case.method,
            engine=case.engine,
            workers=case.workers,
            threads=case.threads,
            per_s=case.per_s,
            ratio=None if baseline is None else _ratio(baseline, case),
        )


def _ratio(baseline: ThroughputCase, case: ThroughputCase) -> float:
    """Crops or pictures per second of `case` over those of `baseline`, median over the rounds."""
    return ratio_by_round(baseline.samples, case.samples) * case.size / baseline.size
