"""A worker of `FacePool` on this machine: a child process that receives crops through shared memory."""

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
    """Crops in shared memory."""

    places: list[Place]


class LocalWorker:
    """Runs `inference.worker.work` in a child process. Crops are copied once, into memory that the child reads."""

    def __init__(self, setup: WorkerSetup) -> None:
        """Raises the errors of `FaceAligner.load`."""
        self.crops = SharedArrays.create()
        self.child = Child("a worker", __name__, "make_handler", (self.crops.descriptor,), SPIN_WAIT_S)
        try:
            self.child.ask((self.crops.descriptor, setup))
        except BaseException:
            self.close()
            raise

    def ask(self, request: np.ndarray | Sequence[PictureJob]) -> Any:
        """The result of the request. Raises the worker's error, or ChildDiedError if it died."""
        if not isinstance(request, np.ndarray):
            return self.child.ask(list(request))
        if request.dtype == np.uint8 and request.size:
            return self.child.ask(Crops(self.crops.put([request])))
        return self.child.ask(request)  # empty, or of a dtype that `predict` refuses

    def close(self) -> None:
        """Stop the process after its current request. Safe to call twice."""
        self.child.close()
        self.crops.close()

    def kill(self) -> None:
        """Stop the process at once."""
        self.child.kill()


def make_handler() -> Callable[[Any], Any]:
    """Runs in the worker: the first request is the setup, every later one is work."""
    opened: list[tuple[SharedArrays, FaceAligner]] = []

    def handle(request: Any) -> Any:
        if not opened:
            descriptor, setup = request
            opened.append((SharedArrays(descriptor), open_in_worker(setup)))
            return None
        crops, aligner = opened[0]
        return work(aligner, crops.get(request.places)[0] if isinstance(request, Crops) else request)

    return handle
