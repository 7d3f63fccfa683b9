"""Any engine in a child process.

For parity beside the Cell (MindSpore and Lite cannot share a process), for pools, and so that a crash in a
native library is an error instead of the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from runtime.engines.base import DEFAULT_OPTIONS, Availability, Device, Engine, EngineOptions, ModelFile
from runtime.engines.child import Child
from runtime.errors import EngineError


class IsolatedEngine(Engine):
    """The engine `name`, one process away. The child ends when this object or its process does."""

    def __init__(
        self, name: str, model: ModelFile, device: Device, threads: int, options: EngineOptions = DEFAULT_OPTIONS
    ) -> None:
        from runtime.engines import engine_class

        self.name = name
        self.formats = engine_class(name).formats
        super().__init__(model, device, threads, options)
        self.child = Child(f"the {name} engine", __name__, "make_handler")
        try:
            self.child.ask((name, model, device, threads, options))
        except (EngineError, ValueError):
            self.close()
            raise

    @classmethod
    def available(cls) -> Availability:
        return Availability(True, "child processes can be started")

    @classmethod
    def check(cls, model: ModelFile, device: Device, options: EngineOptions) -> None:
        """Left to the engine itself, in the child."""

    def _run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        return self.child.ask(list(arrays))

    def close(self) -> None:
        self.child.close()


def make_handler() -> Callable[[Any], Any]:
    """In the child: the first request names the engine and its model, every later one is a run."""
    engine: list[Engine] = []

    def handle(request: Any) -> Any:
        if engine:
            return engine[0]._run(request)
        engine.append(_open(*request))
        return None

    return handle


def _open(name: str, model: ModelFile, device: Device, threads: int, options: EngineOptions) -> Engine:
    from runtime.engines import engine_class

    return engine_class(name)(model, device, threads, options)
