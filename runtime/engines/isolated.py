"""Run any engine in a child process.

Needed for parity checks (MindSpore and Lite cannot be loaded into one process) and for worker pools. A crash in a
native library becomes an EngineError instead of ending the program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from synergy.runtime.engines.base import CPU_HINT, Engine
from synergy.runtime.errors import ChildDiedError, EngineError, EngineUnavailableError
from synergy.runtime.lite.stderr import capture_in_place
from synergy.runtime.processes.child import SPIN_WAIT_S, Child
from synergy.runtime.processes.shared_memory import Place, SharedArrays
from synergy.runtime.specs import DEFAULT_OPTIONS, Availability, Device, EngineOptions, ModelFile


class IsolatedEngine(Engine):
    """The engine `name` in a child process, which ends when this object is closed or this process ends."""

    def __init__(
        self, name: str, model: ModelFile, device: Device, threads: int, options: EngineOptions = DEFAULT_OPTIONS
    ) -> None:
        from synergy.runtime.engines import engine_class

        self.name = name
        self.formats = engine_class(name).formats
        super().__init__(model, device, threads, options)
        self.inputs, self.outputs = SharedArrays.create(), SharedArrays.create()
        shared = (self.inputs.descriptor, self.outputs.descriptor)
        environment = engine_class(name).environment(device)
        self.child = Child(f"the {name} engine", __name__, "make_handler", shared, SPIN_WAIT_S, environment=environment)
        try:
            self.child.ask((shared, name, model, device, threads, options))
        except ChildDiedError as error:
            self.close()
            if device.kind == "cpu":
                raise
            raise EngineUnavailableError(
                f"{error}; a library for {device} ended it: run `synergy doctor` to check the device, or {CPU_HINT}"
            ) from None
        except (EngineError, ValueError):
            self.close()
            raise

    @classmethod
    def available(cls) -> Availability:
        return Availability(True, "child processes can be started")

    @classmethod
    def check(cls, model: ModelFile, device: Device, options: EngineOptions) -> None:
        """The engine checks the request in the child."""

    def _run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        places = self.child.ask(self.inputs.put(arrays))
        return [array.copy() for array in self.outputs.get(places)]

    def _free(self) -> None:
        self.child.close()
        self.inputs.close()
        self.outputs.close()


def make_handler() -> Callable[[Any], Any]:
    """In the child: the first request contains the engine and its model, every later one is a run."""
    capture_in_place()
    session: list[_Session] = []

    def handle(request: Any) -> Any:
        if session:
            return session[0].run(request)
        session.append(_Session(*request))
        return None

    return handle


class _Session:
    """In the child: the engine, with shared memory for inputs and outputs."""

    def __init__(
        self,
        shared: tuple[int, int],
        name: str,
        model: ModelFile,
        device: Device,
        threads: int,
        options: EngineOptions,
    ) -> None:
        from synergy.runtime.engines import engine_class

        self.inputs, self.outputs = map(SharedArrays, shared)
        self.engine = engine_class(name)(model, device, threads, options)

    def run(self, places: Sequence[Place]) -> list[Place]:
        """Run without checks; the parent checks inputs and outputs."""
        return self.outputs.put(self.engine._run(self.inputs.get(places)))
