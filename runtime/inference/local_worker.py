"""A worker of `FacePool` on this machine: a child process that gets crops through shared memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from synergy.runtime.inference.worker import WorkerSetup, open_in_worker, work
from synergy.runtime.processes.child import SPIN_WAIT_S, Child
from synergy.runtime.processes.shared_memory import Place, SharedArrays

if TYPE_CHECKING:
    from synergy.runtime.aligner import FaceAligner
    from synergy.runtime.inference.pictures import PictureJob


@dataclass(frozen=True)
class Crops:
    """Where in the shared memory they are."""

    places: list[Place]


class LocalWorker:
    """Answers as `inference.worker.work`. Crops are written once, into memory that the process reads in place."""

    def __init__(self, setup: WorkerSetup) -> None:
        """Raises as `FaceAligner.load`."""
        self.crops = SharedArrays.create()
        self.child = Child("a worker", __name__, "make_handler", (self.crops.descriptor,), SPIN_WAIT_S)
        try:
            self.child.ask((self.crops.descriptor, setup))
        except BaseException:
            self.close()
            raise

    def ask(self, request: np.ndarray | Sequence[PictureJob]) -> Any:
        """The answer. Raises what the worker raised, ChildDiedError if it died."""
        if not isinstance(request, np.ndarray):
            return self.child.ask(list(request))
        if request.dtype == np.uint8 and request.size:
            return self.child.ask(Crops(self.crops.put([request])))
        return self.child.ask(request)  # nothing, or what `predict` refuses in its own words

    def close(self) -> None:
        """End the process after its request; calling it twice is harmless."""
        self.child.close()
        self.crops.close()

    def kill(self) -> None:
        """End the process at once."""
        self.child.kill()


def make_handler() -> Callable[[Any], Any]:
    """In the worker: the first request says what to open, every later one is work."""
    opened: list[tuple[SharedArrays, FaceAligner]] = []

    def handle(request: Any) -> Any:
        if not opened:
            descriptor, setup = request
            opened.append((SharedArrays(descriptor), open_in_worker(setup)))
            return None
        crops, aligner = opened[0]
        return work(aligner, crops.get(request.places)[0] if isinstance(request, Crops) else request)

    return handle
