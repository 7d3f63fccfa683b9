"""How much comes through: worker processes beside one picture at a time, and beside one session of each peer.

All take turns, as in `rounds`: what disturbs the machine disturbs each of them.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import cv2
import msgspec
import numpy as np

from synergy.benchmarks.peers.compare import library_specs, session_inputs
from synergy.benchmarks.peers.process import NETWORK, SessionInputs, SessionProcess, SessionSpec, Workload
from synergy.benchmarks.peers.sessions import FULL_PRECISION
from synergy.benchmarks.sample_crops import PORTRAIT, PORTRAIT_BOX_XYXY
from synergy.benchmarks.speed.engine_process import come_to_rest
from synergy.benchmarks.speed.interleave import BenchmarkCase, Progress, ratio_by_round, run_interleaved
from synergy.runtime.aligner import FaceAligner
from synergy.runtime.bundle import Bundle
from synergy.runtime.diagnostics.host import Host, describe_host
from synergy.runtime.engines import default_threads
from synergy.runtime.errors import EngineError
from synergy.runtime.inference.face_pool import FacePool
from synergy.runtime.inference.local_worker import LocalWorker
from synergy.runtime.inference.pictures import PictureJob, parts_of
from synergy.runtime.inference.records import image_record
from synergy.runtime.inference.worker import WorkerSetup, default_workers
from synergy.runtime.media.image import read_image, write_image
from synergy.runtime.specs import DYNAMIC, EngineOptions

CROPS, PICTURES, PHOTOS = "crops", "pictures, box known", "pictures, face sought"
BATCH = 16
CROP_BATCHES = 32  # in a turn: half a second, so that its beginning and end do not count
PICTURE_SIDE = 1024  # pixels: the portrait twice as large, a JPEG of 200 kB
PICTURE_COUNT = 64  # in a turn: half a second
PHOTO_COUNT = 8  # in a turn; the cascades take a third of a second for each
ROUNDS = {CROPS: 16, PICTURES: 10, PHOTOS: 4}
NO_LIMIT_S = 1e9  # every round is played, however long the turns
POOL = "pool"
SESSION_PEERS = ("onnxruntime", "openvino")  # MindSpore's cell is a tenth as fast
EXACT = ("", FULL_PRECISION)  # peers' words for float32


class ThroughputRow(msgspec.Struct, frozen=True):
    """Crops or pictures per second. who: "onnxruntime (bare)" and the like are peers' single sessions; "one at a time"
    is `FaceAligner` in a loop with all threads; "pool" is `FacePool`.

    ratio: over the fastest that is not a pool at the same work, median over the rounds; above 1 is more.
    """

    work: str
    who: str
    engine: str
    workers: int
    threads: int
    per_s: float
    ratio: float | None


class ThroughputReport(msgspec.Struct, frozen=True):
    """All rows; `notes` name peers that are not here, `failures` what was tried in vain."""

    host: Host
    rows: tuple[ThroughputRow, ...]
    notes: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()


def bench_throughput(folder: str | Path, options: EngineOptions, progress: Progress | None = None) -> ThroughputReport:
    """Measure a bundle, computed as `options` say, beside all peers.

    Raises BundleError for a bad bundle, EngineUnavailableError if no engine fits.
    """
    say = progress or (lambda part, doing: None)
    host, bundle = describe_host(), Bundle.open(folder)
    failures: list[str] = []
    rows: list[ThroughputRow] = []
    with ExitStack() as stack:
        pictures = _pictures(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        say(0.0, "starting")
        setup = WorkerSetup(bundle.folder, options=options, threads=1)
        pool = stack.enter_context(FacePool(setup, LocalWorker, default_workers()))
        alike = replace(options, precision=pool.setup.options.compute_precision)
        plain = stack.enter_context(FaceAligner.load(bundle.folder, options=alike))
        fixed = bundle.manifest.inputs[0].shape[0]
        load = session_inputs(bundle, BATCH if fixed == DYNAMIC else fixed)
        sessions, notes = _sessions(bundle, load, failures, stack)
        photos = [replace(picture, boxes=None) for picture in pictures[:PHOTO_COUNT]]
        for done, (work, cases) in enumerate(
            {
                CROPS: [*sessions, PooledCrops(pool, load.crops)],
                PICTURES: [Loop(plain, pictures), PooledPictures(pool, pictures)],
                PHOTOS: [Loop(plain, photos), PooledPictures(pool, photos)],
            }.items()
        ):
            say((1 + done) / 4, f"measuring {work}")
            finished = run_interleaved(cases, ROUNDS[work], failures, lambda part, doing: None, NO_LIMIT_S)
            rows += _rows(work, finished, EXACT if pool.setup.options.compute_precision == "fp32" else None)
    return ThroughputReport(host, tuple(rows), tuple(notes), tuple(failures))


class ThroughputCase(BenchmarkCase):
    """Who takes turns: `size` of crops or pictures are done in what a turn gives as one run. precision: a peer's."""

    precision = ""

    def __init__(self, who: str, engine: str, workers: int, threads: int, size: int) -> None:
        super().__init__()
        self.who, self.engine, self.workers, self.threads, self.size = who, engine, workers, threads, size

    def __str__(self) -> str:
        return f"{self.who}, {self.engine}"

    @property
    def per_s(self) -> float:
        """The median over the rounds."""
        return statistics.median(self.size / statistics.median(times) for times in self.samples.values())


class Session(ThroughputCase):
    """One session of a peer, with all threads."""

    def __init__(self, spec: SessionSpec, load: SessionInputs) -> None:
        super().__init__(spec.label, spec.name, 1, spec.threads, len(load.crops))
        self.process = SessionProcess(spec, load)
        self.precision = spec.precision

    def run_sample(self, number: int) -> list[float]:
        return self.process.turn(Workload(NETWORK, self.size))[0]


class Loop(ThroughputCase):
    """One picture at a time, in this process with all threads."""

    def __init__(self, aligner: FaceAligner, pictures: Sequence[PictureJob]) -> None:
        super().__init__("one at a time", aligner.engine.label, 1, aligner.engine.threads, len(pictures))
        self.aligner, self.pictures = aligner, pictures

    def run_sample(self, number: int) -> list[float]:
        start = time.perf_counter()
        for picture in self.pictures:
            image = read_image(picture.path)
            faces = self.aligner(image) if picture.boxes is None else self.aligner.align(image, picture.boxes)
            image_record(str(picture.path), (image.shape[1], image.shape[0]), faces)
        taken = time.perf_counter() - start
        come_to_rest()
        return [taken]


class PooledCrops(ThroughputCase):
    """Batches of crops through the pool."""

    def __init__(self, pool: FacePool, crops: np.ndarray) -> None:
        super().__init__(POOL, pool.setup.label, pool.workers, pool.setup.threads or 0, len(crops) * CROP_BATCHES)
        self.pool, self.crops = pool, crops

    def run_sample(self, number: int) -> list[float]:
        return [clocked(self.pool.predict(self.crops for _ in range(CROP_BATCHES)))]


class PooledPictures(ThroughputCase):
    """Pictures through the pool, in parts as `synergy infer` makes of so many."""

    def __init__(self, pool: FacePool, pictures: Sequence[PictureJob]) -> None:
        super().__init__(POOL, pool.setup.label, pool.workers, pool.setup.threads or 0, len(pictures))
        self.pool, self.parts = pool, parts_of(pictures)

    def run_sample(self, number: int) -> list[float]:
        return [clocked(self.pool.infer(self.parts))]


def clocked(results: Iterable[object]) -> float:
    """Seconds until all results are there."""
    start = time.perf_counter()
    for _ in results:
        pass
    return time.perf_counter() - start


def _sessions(
    bundle: Bundle, load: SessionInputs, failures: list[str], stack: ExitStack
) -> tuple[list[Session], list[str]]:
    """A session of each peer that is here, in each type that it can compute in, and a line for each that is not."""
    specs, notes = library_specs(bundle, (default_threads(),), (len(load.crops),), SESSION_PEERS)
    sessions = []
    for spec in specs:
        try:
            sessions.append(Session(spec, load))
            stack.callback(sessions[-1].process.close)
        except EngineError as error:
            failures.append(f"{spec}: {error}")
    return sessions, notes


def _pictures(folder: Path) -> list[PictureJob]:
    """The portrait as many files, each with its box."""
    image = cv2.resize(read_image(PORTRAIT), (PICTURE_SIDE, PICTURE_SIDE), interpolation=cv2.INTER_CUBIC)
    box = np.array([PORTRAIT_BOX_XYXY]) * PICTURE_SIDE / read_image(PORTRAIT).shape[0]
    paths = [folder / f"{number:02}.jpg" for number in range(PICTURE_COUNT)]
    for path in paths:
        write_image(path, image)
    return [PictureJob(path, box) for path in paths]


def _rows(work: str, finished: Sequence[ThroughputCase], precisions: tuple[str, ...] | None) -> Iterator[ThroughputRow]:
    """Ratios are over the fastest single one; those that compute in less than float32 count if the pool does."""
    single = [each for each in finished if each.who != POOL]
    alike = [each for each in single if precisions is None or each.precision in precisions]
    base = max(alike, key=lambda each: each.per_s, default=None)
    for each in finished:
        ratio = None if base is None else _ratio(base, each)
        yield ThroughputRow(work, each.who, each.engine, each.workers, each.threads, each.per_s, ratio)


def _ratio(base: ThroughputCase, other: ThroughputCase) -> float:
    """Crops or pictures per second of `other` over those of `base`, median over the rounds."""
    return ratio_by_round(base.samples, other.samples) * other.size / base.size
