"""A worker that dies of certain requests, as native code does of certain pictures. Run in a child by test_pool.py."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np

from synergy.runtime.aligner import FaceAligner
from synergy.runtime.inference.worker import open_in_worker, work


def make_handler() -> Callable[[Any], Any]:
    opened: list[FaceAligner] = []

    def fragile(request: Any) -> Any:
        if isinstance(request, np.ndarray) and len(request) == 13:
            os.kill(os.getpid(), signal.SIGKILL)
        if isinstance(request, list) and any("deadly" in str(job.path) for job in request):
            os.kill(os.getpid(), signal.SIGKILL)
        if opened:
            return work(opened[0], request)
        opened.append(open_in_worker(request))
        return None

    return fragile
