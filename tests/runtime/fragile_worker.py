"""A worker that dies of certain requests, as native code does of certain pictures. Run in a child by test_pool.py."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np

from runtime import pool


def make_handler() -> Callable[[Any], Any]:
    handle = pool.make_handler()

    def fragile(request: Any) -> Any:
        if isinstance(request, np.ndarray) and len(request) == 13:
            os.kill(os.getpid(), signal.SIGKILL)
        if isinstance(request, list) and any("deadly" in job.path.name for job in request):
            os.kill(os.getpid(), signal.SIGKILL)
        return handle(request)

    return fragile
