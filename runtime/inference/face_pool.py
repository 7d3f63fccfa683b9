"""`FacePool`: process pictures or crops in worker processes, each with its own engine.

On a CPU one single-threaded engine per core has a higher throughput than one engine with all cores: no thread waits for
another, and decoding and detection run in parallel too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from synergy.runtime.errors import ChildDiedError
from synergy.runtime.inference.local_worker import LocalWorker
from synergy.runtime.inference.records import ImageRecord, failed_record
from synergy.runtime.inference.worker import POOL_BATCH, WorkerSetup, default_workers
from synergy.runtime.processes.sharing import ProcessBound
from synergy.runtime.processes.worker_pool import Worker, WorkerPool
from synergy.runtime.specs import DEFAULT_OPTIONS, EngineOptions, check_core_count

if TYPE_CHECKING:  # these import OpenCV, which only the workers need
    from synergy.runtime.faces import Prediction
    from synergy.runtime.inference.pictures import PictureJob


class FacePool(ProcessBound):
    """Worker processes that all have the same bundle open. Use it as a context manager, or call `close`.

    A worker process that crashes is replaced and its batch is repeated once; images are then repeated one by one. If
    another bundle is in the folder by then, this call raises BundleError and later ones EngineError.

    Safe to share between threads: each call of `predict` or `infer` has its own results, in order. `close` ends the
    calls in progress with EngineError, as later ones end and every call in a forked child process.

    Example:
        >>> batches = (np.zeros((4, 120, 120, 3), np.uint8) for _ in range(3))
        >>> with FacePool.load(bundle, engine="onnx", workers=1) as pool:
        ...     [prediction.landmarks.shape for prediction in pool.predict(batches)]
        [(4, 3, 68), (4, 3, 68), (4, 3, 68)]
    """

    def __init__(self, setup: WorkerSetup, start: Callable[[WorkerSetup], Worker], count: int) -> None:
        """start: starts a worker for a setup. `FacePool.load` starts local processes."""
        if count < 1:
            raise ValueError(f"a pool needs 1 or more workers, not {count}")
        self.setup = setup.resolved(POOL_BATCH)
        self.workers = count
        self.process_pool: WorkerPool[Any, Any] = WorkerPool(
            lambda: start(self.setup), count, _split_request, _failed_request
        )

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
        angles: str = "common",
        min_score: float | None = None,
        max_faces: int | None = None,
    ) -> FacePool:
        """Open the bundle in `folder` in worker processes on this machine.

        Args:
            folder: Folder that `synergy export` made.
            engine: As for `FaceAligner.load`.
            device: As for `FaceAligner.load`.
            workers: Number of processes, at most one per core; None for the number of cores divided by `threads`.
            threads: CPU threads of each engine.
            artifact: As for `FaceAligner.load`.
            options: As for `FaceAligner.load`.
            angles: As for `FaceAligner.load`.
            min_score: As for `FaceAligner.load`.
            max_faces: As for `FaceAligner.load`.

        Returns:
            An open pool.

        Raises:
            ValueError: `workers` is less than 1 or more than the number of cores, or as for `FaceAligner.load`.
            BundleError, EngineUnavailableError, EngineError: As for `FaceAligner.load`.
        """
        limits = min_score, max_faces
        setup = WorkerSetup(
            Path(folder), engine, device, threads, artifact, options, "auto", None, None, angles, *limits
        )
        if workers is not None:
            check_core_count(workers, "workers")
        return cls(setup, LocalWorker, default_workers(threads) if workers is None else workers)

    def predict(self, batches: Iterable[np.ndarray]) -> Iterator[Prediction]:
        """Run the network on batches of face crops.

        Args:
            batches: Arrays (N,120,120,3) uint8, BGR. They are read from the iterable as they are needed.

        Yields:
            One prediction per batch, in the same order.

        Raises:
            ValueError, EngineError: As for `FaceAligner.predict`.
        """
        return _flattened(self.process_pool.map(batches))

    def infer(self, parts: Iterable[Sequence[PictureJob]]) -> Iterator[ImageRecord]:
        """Yield the result of every image, in order. The images of a part are one engine batch.

        If an image makes two workers crash, its record contains the error.
        """
        return _flattened(_flattened(self.process_pool.map(parts)))

    def close(self) -> None:
        """Stop the workers at once, also in the middle of a batch. Safe to call twice."""
        self.process_pool.close()

    def __enter__(self) -> FacePool:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _flattened(parts: Iterable[Iterable[Any]]) -> Iterator[Any]:
    for part in parts:
        yield from part


def _split_request(job: np.ndarray | Sequence[PictureJob]) -> Sequence[Any]:
    """The requests with which a failed one is repeated: one per picture, or the same crops."""
    return [job] if isinstance(job, np.ndarray) else [[picture] for picture in job]


def _failed_request(job: np.ndarray | Sequence[PictureJob], death: str) -> list[ImageRecord]:
    if isinstance(job, np.ndarray):
        raise ChildDiedError(f"{death}, and its replacement died on the same crops too")
    error = f"{death}, and its replacement died on this picture too: remove it"
    return [failed_record(str(picture.path), error) for picture in job]
