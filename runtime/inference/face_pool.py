"""`FacePool`: pictures or crops through worker processes, each with an engine of its own.

On a CPU, engines with one thread each, one per core, do more than one engine with all: nothing waits for a barrier, and
decoding and detection fill the cores too.
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
from synergy.runtime.processes.worker_pool import Worker, WorkerPool
from synergy.runtime.specs import DEFAULT_OPTIONS, EngineOptions

if TYPE_CHECKING:  # they bring OpenCV, which only the workers need
    from synergy.runtime.faces import Prediction
    from synergy.runtime.inference.pictures import PictureJob


class FacePool:
    """Workers that all have the same bundle open. Use as a context manager, or call `close`.

    A worker that dies is replaced and what it had in hand is done again, once: a picture by itself.
    """

    def __init__(self, setup: WorkerSetup, start: Callable[[WorkerSetup], Worker], count: int) -> None:
        """`start` gives a worker for `setup`; `FacePool.load` is the usual way."""
        if count < 1:
            raise ValueError(f"a pool has 1 or more workers, not {count}")
        self.setup = setup.resolved(POOL_BATCH)
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
        return cls(setup, LocalWorker, default_workers(threads) if workers is None else workers)

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


def _single(job: np.ndarray | Sequence[PictureJob]) -> Sequence[Any]:
    """The job again, pictures one by one."""
    return [job] if isinstance(job, np.ndarray) else [[picture] for picture in job]


def _dead(job: np.ndarray | Sequence[PictureJob], death: str) -> list[ImageRecord]:
    if isinstance(job, np.ndarray):
        raise ChildDiedError(f"{death}, and so did its successor on the same crops")
    return [failed_record(str(picture.path), f"{death}, and so did its successor: leave it out") for picture in job]
