"""`FacePool`: pictures or crops through worker processes, each with an engine of its own.

On a CPU, engines with one thread each, one per core, do more than one engine with all: nothing waits for a barrier, and
decoding and detection fill the cores too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.bundle import Bundle
from runtime.engines import DEFAULT_OPTIONS, Device, EngineOptions, default_threads
from runtime.engines.child import Child
from runtime.errors import ChildDiedError
from runtime.records import ImageRecord, failed_record
from runtime.tuning import Wish, tune
from runtime.workers import Worker, WorkerPool

if TYPE_CHECKING:  # they bring OpenCV, which only the workers need
    from runtime.aligner import FaceAligner
    from runtime.faces import Prediction
    from runtime.pictures import PictureJob


@dataclass(frozen=True)
class WorkerSetup:
    """What a worker opens, as plain data: it goes to other processes and other machines.

    engine, device, threads, artifact, options: as for `FaceAligner.load`; detector, detector_model: as for
    `runtime.detection.make_detector`.
    """

    bundle: Path
    engine: str = "auto"
    device: str = "cpu"
    threads: int | None = None
    artifact: str | None = None
    options: EngineOptions = DEFAULT_OPTIONS
    detector: str = "haar"
    detector_model: Path | None = None

    def resolved(self) -> WorkerSetup:
        """With "auto" replaced by what is fastest here, so that it is measured once and not by every worker; and with
        the artifact's file."""
        bundle, device = Bundle.open(self.bundle), Device.parse(self.device)
        if self.engine != "auto":
            found = bundle.artifact(self.artifact) if self.artifact else bundle.artifact_for(self.engine, device)
            return replace(self, artifact=found.file)
        best = tune(bundle, device, Wish(self.threads, self.artifact, self.options))[0]
        return replace(self, engine=best.engine, artifact=best.artifact, threads=best.threads)

    def open(self) -> FaceAligner:
        """The aligner that it describes. Raises as `FaceAligner.load` and `make_detector`."""
        from runtime.aligner import FaceAligner
        from runtime.detection import make_detector

        detector = make_detector(self.detector, self.detector_model)
        return FaceAligner.load(
            self.bundle, self.engine, self.device, self.threads, self.artifact, detector, options=self.options
        )


class FacePool:
    """Workers that all have the same bundle open. Use as a context manager, or call `close`.

    A worker that dies is replaced and what it had in hand is done again, once: a picture by itself.
    """

    def __init__(self, setup: WorkerSetup, start: Callable[[WorkerSetup], Worker], count: int) -> None:
        """`start` gives a worker for `setup`; `FacePool.load` is the usual way."""
        if count < 1:
            raise ValueError(f"a pool has 1 or more workers, not {count}")
        self.setup = setup.resolved()
        self.workers = count
        self._pool: WorkerPool[Any, Any] = WorkerPool(lambda: start(self.setup), count, _single, _dead)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        engine: str = "auto",
        device: str = "cpu",
        workers: int | None = None,
        threads: int = 1,
        artifact: str | None = None,
        options: EngineOptions = DEFAULT_OPTIONS,
    ) -> FacePool:
        """Open the bundle in `folder` in processes of this machine.

        workers: None for as many as `threads` fits into the cores. The rest is as for `FaceAligner.load`, and so are
        the errors raised.
        """
        setup = WorkerSetup(Path(folder), engine, device, threads, artifact, options)
        return cls(setup, start_worker, default_workers(threads) if workers is None else workers)

    def predict(self, batches: Iterable[np.ndarray]) -> Iterator[Prediction]:
        """Run ready crops, batches of (N,120,120,3) uint8 BGR; a prediction each, in order.

        Batches are taken as they are needed. Raises ValueError or EngineError as `FaceAligner.predict` does.
        """
        for results in self._pool.map(batches):
            yield from results

    def infer(self, parts: Iterable[Sequence[PictureJob]]) -> Iterator[ImageRecord]:
        """The record of every picture, in order; the pictures of a part go through the engine together.

        A picture that killed two workers has a record that says so.
        """
        for results in self._pool.map(parts):
            for records in results:
                yield from records

    def close(self) -> None:
        """End the workers, in the middle of what they do; calling it twice is harmless."""
        self._pool.close()

    def __enter__(self) -> FacePool:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def default_workers(threads: int = 1) -> int:
    """As many as fill the cores that this process may use."""
    return max(1, default_threads() // threads)


def start_worker(setup: WorkerSetup) -> Worker:
    """A worker on this machine. Raises as `FaceAligner.load`."""
    child = Child("a worker", __name__, "make_handler")
    try:
        child.ask(setup)
    except BaseException:
        child.close()
        raise
    return child


def make_handler() -> Callable[[Any], Any]:
    """In the worker: the first request says what to open, every later one is work."""
    opened: list[FaceAligner] = []

    def handle(request: Any) -> Any:
        if opened:
            return work(opened[0], request)
        opened.append(_open_in_worker(request))
        return None

    return handle


def work(aligner: FaceAligner, request: np.ndarray | Sequence[PictureJob]) -> Prediction | list[ImageRecord]:
    """Crops -> their prediction, picture jobs -> their records."""
    from runtime.pictures import infer_pictures

    return aligner.predict(request) if isinstance(request, np.ndarray) else list(infer_pictures(aligner, request))


def _open_in_worker(setup: WorkerSetup) -> FaceAligner:
    import cv2

    if setup.threads is not None:
        cv2.setNumThreads(setup.threads)  # its own threads would take the other workers' cores
    return setup.open()


def _single(job: np.ndarray | Sequence[PictureJob]) -> Sequence[Any]:
    """The job again, pictures one by one."""
    return [job] if isinstance(job, np.ndarray) else [[picture] for picture in job]


def _dead(job: np.ndarray | Sequence[PictureJob], death: str) -> list[ImageRecord]:
    if isinstance(job, np.ndarray):
        raise ChildDiedError(f"{death}, and so did its successor on the same crops")
    return [failed_record(str(picture.path), f"{death}, and so did its successor: leave it out") for picture in job]
