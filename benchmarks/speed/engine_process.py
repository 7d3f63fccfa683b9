"""Run a session (an engine, a `FaceAligner` or a library's own) in a fresh process: cold start, memory, timed runs.

Times of runs are taken inside the process, so that communication with it is not included.
`runtime.engines.isolated` is the counterpart for work; this one is for measurements.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from synergy.benchmarks.speed.interleave import SAMPLE_S
from synergy.benchmarks.speed.timing import time_runs
from synergy.runtime.engines import engine_class
from synergy.runtime.errors import EngineError
from synergy.runtime.processes.child import Child
from synergy.runtime.specs import DEFAULT_OPTIONS, Device, EngineOptions, ModelFile

CPU = Device()
COLD_STARTS = 3
COLD_BUDGET_S = 2.0  # no further cold start once the sum exceeds this

BARE = " (bare)"  # marks a library's own session in labels
NETWORK, OVERHEAD, ISOLATED, PIPELINE = "network", "overhead", "isolated", "pipeline"


@dataclass(frozen=True)
class Picture:
    """The bytes of a JPEG file, and the box of the face in it: x1, y1, x2, y2 in pixels."""

    jpeg: bytes
    box_xyxy: tuple[float, float, float, float]


@dataclass(frozen=True)
class SessionInputs:
    """What a session runs on: crops (N,size,size,3) uint8 BGR, and a picture for `PIPELINE`."""

    crops: np.ndarray
    picture: Picture | None = None


@dataclass(frozen=True)
class Workload:
    """What to time.

    kind: NETWORK is the session alone; OVERHEAD is `FaceAligner.predict` alternating with the bare session in it;
    ISOLATED is `predict` through a child process, then the bare session; all on the first `batch` crops. PIPELINE is
    from a JPEG and a box to landmarks. seconds: length of a sample, per function that is timed.
    """

    kind: str = NETWORK
    batch: int = 1
    seconds: float = SAMPLE_S


class Session(Protocol):
    """What a process hosts. It is opened by a `SessionSpec.session`, and has run once with the smallest batch."""

    def sample(self, workload: Workload) -> list[list[float]]:
        """Seconds of each run, as `timing.time_runs`: one list, or two if the workload alternates."""


@dataclass(frozen=True)
class SessionSpec:
    """A session to open, on `model`, which is the file `artifact` of the bundle in `folder`.

    session: opens it in the process; a function or class of a module, because it is pickled by reference.
    name: the engine, or for bare sessions the library. batches: batch sizes of the workloads, smallest first.
    precision: compute precision, in the terms of `EngineOptions` for engines and of the library for bare sessions;
    "" for the default. is_bare: a library's own session, used without this package.
    """

    session: Callable[[SessionSpec, SessionInputs], Session]
    name: str
    folder: Path
    artifact: str
    model: ModelFile
    threads: int
    batches: tuple[int, ...]
    precision: str = ""
    is_bare: bool = False
    device: Device = CPU
    options: EngineOptions = DEFAULT_OPTIONS

    @property
    def label(self) -> str:
        """Name and precision, and "(bare)" for a library's own session."""
        precision = "" if self.precision == "fp32" else self.precision
        return " ".join(filter(None, (self.name, precision))) + (BARE if self.is_bare else "")

    @property
    def engine_options(self) -> EngineOptions:
        """`options` with `precision`."""
        return replace(self.options, precision=self.precision or self.options.precision)

    def __str__(self) -> str:
        plural = "" if self.threads == 1 else "s"
        return f"{self.folder.name}/{self.artifact} on {self.label}, {self.threads} thread{plural}"


class SessionProcess:
    """The process of one session, started and run once. Close it, or use it as a context manager.

    cold_start_s: from starting the process to the first output: interpreter, imports, load, first run.
    rss_mb: peak resident memory (10^6 bytes) until then, shared libraries included.
    """

    def __init__(self, spec: SessionSpec, inputs: SessionInputs, now: Callable[[], float] = time.perf_counter) -> None:
        """Raises EngineError with the cause if the session cannot be opened or run."""
        start = now()
        self.child = Child(f"the {spec.label} session", __name__, "make_handler")
        self.rss_mb: float = self._ask((spec, inputs))
        self.cold_start_s = now() - start

    def sample(self, workload: Workload) -> list[list[float]]:
        """As `Session.sample`; the process is idle afterwards. Raises EngineError and ends the process if it fails."""
        return self._ask(workload)

    def close(self) -> None:
        """End the process. Safe to call twice."""
        self.child.close()

    def __enter__(self) -> SessionProcess:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _ask(self, request: Workload | tuple[SessionSpec, SessionInputs]) -> Any:
        try:
            return self.child.ask(request)
        except ValueError as error:  # the inputs are the benchmark's own, so the session is at fault
            self.close()
            raise EngineError(str(error)) from None
        except BaseException:
            self.close()
            raise


def start_repeatedly(spec: SessionSpec, inputs: SessionInputs) -> list[SessionProcess]:
    """Start the process up to `COLD_STARTS` times within about `COLD_BUDGET_S`. All but the last are closed."""
    starts = [SessionProcess(spec, inputs)]
    while len(starts) < COLD_STARTS and sum(each.cold_start_s for each in starts) < COLD_BUDGET_S:
        starts[-1].close()
        starts.append(SessionProcess(spec, inputs))
    return starts


def make_handler() -> Callable[[Any], Any]:
    """In the child process: the first request opens the session, every later one is a workload."""
    opened: list[Session] = []

    def handle(request: Any) -> Any:
        if opened:
            return opened[0].sample(request)
        spec, inputs = request
        opened.append(spec.session(spec, inputs))
        return peak_rss_mb()

    return handle


class EngineSession:
    """`Engine.run` of one engine, without `FaceAligner`."""

    def __init__(self, spec: SessionSpec, inputs: SessionInputs) -> None:
        self.engine = engine_class(spec.name)(spec.model, spec.device, spec.threads, spec.engine_options)
        self.input, self.crops = spec.model.inputs[0].name, inputs.crops
        self.engine.run({self.input: self.crops[: spec.batches[0]]})

    def sample(self, workload: Workload) -> list[list[float]]:
        feed = {self.input: self.crops[: workload.batch]}
        return time_runs([lambda: self.engine.run(feed)], workload.seconds)


def peak_rss_mb() -> float:
    """Peak resident memory of this process in 10^6 bytes.

    Linux: VmHWM, because getrusage keeps the value of the program that ran in the process before `exec`: the parent.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        kib = next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(kib) * 1024 / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
