"""One engine in a fresh process, clocked in there.

The parent sees how long it takes from starting a process to the first output, and asks for timed runs later. Those
are timed inside the process, so the way to it is not in the figures. `runtime.engines.isolated` is its sibling for
work; this one is for clocks.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar

import numpy as np

from synergy.runtime.engines import Engine, engine_class
from synergy.runtime.errors import EngineError
from synergy.runtime.processes.child import Child
from synergy.runtime.specs import DEFAULT_OPTIONS, Device, EngineOptions, ModelFile

COLD_STARTS = 3
COLD_BUDGET_S = 2.0  # an engine that took this long to start is not started again

# Worker threads go on spinning after a run, to be quick at the next: onnxruntime's for about 25 ms. Meanwhile they
# take the cores from whoever runs next, so a turn ends only when the process is at rest.
POLL_S = 0.002
QUIET_POLLS = 5  # in a row, for a spinning thread may be off its core for some milliseconds
QUIET_SHARE = 0.1  # of one core; polling itself takes 0.02
REST_LIMIT_S = 2.0


@dataclass(frozen=True)
class Job:
    """What the process does: load `model` on `engine`, then run `inputs` again and again."""

    engine: str
    model: ModelFile
    device: Device
    threads: int
    inputs: Mapping[str, np.ndarray]
    options: EngineOptions = DEFAULT_OPTIONS


class EngineProcess:
    """The process of one job, from its start to its first output on. Close it, or use it as a context manager.

    cold_start_s: from starting the process to having the first output: interpreter, imports, load, first run.
    rss_mb: the largest resident memory (10^6 bytes) the process had until then, shared libraries included.
    """

    def __init__(self, job: Job) -> None:
        """Raises EngineError with the cause if the engine cannot be opened or run."""
        start = time.perf_counter()
        self.child = Child(f"the {job.engine} engine", __name__, "make_handler")
        self.rss_mb: float = self._ask(job)
        self.cold_start_s = time.perf_counter() - start

    def turn(self, seconds: float) -> list[float]:
        """Run for about `seconds`, at least once; the seconds of each run. The process is at rest afterwards.

        The first run, which finds the caches full of others' data, is left out where there are more.
        Raises EngineError if the engine fails, or is not at rest 2 s after its last run.
        """
        return self._ask(seconds)

    def close(self) -> None:
        """End the process; calling it twice is harmless."""
        self.child.close()

    def __enter__(self) -> EngineProcess:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _ask(self, request: Job | float) -> Any:
        try:
            return self.child.ask(request)
        except ValueError as error:  # an engine's refusal of the inputs: here it is the engine that fails
            self.close()
            raise EngineError(str(error)) from None
        except EngineError:
            self.close()
            raise


class Started(Protocol):
    """A process that was clocked from its start to its first output."""

    cold_start_s: float

    def close(self) -> None: ...


Start = TypeVar("Start", bound=Started)


def start_several(job: Job) -> list[EngineProcess]:
    """`start_repeatedly` with the process of a job. Raises EngineError as `EngineProcess` does."""
    return start_repeatedly(lambda: EngineProcess(job))


def start_repeatedly(start: Callable[[], Start]) -> list[Start]:
    """Start afresh until there are three or two seconds have passed; only the last is still open."""
    starts = [start()]
    while len(starts) < COLD_STARTS and sum(each.cold_start_s for each in starts) < COLD_BUDGET_S:
        starts[-1].close()
        starts.append(start())
    return starts


def make_handler() -> Callable[[Job | float], Any]:
    """In the child: the first request is the job, every later one the length of a turn."""
    opened: list[tuple[Engine, Job]] = []

    def handle(request: Job | float) -> Any:
        if not isinstance(request, Job):
            engine, job = opened[0]
            return clock_turn(engine, job.inputs, request)
        engine = engine_class(request.engine)(request.model, request.device, request.threads, request.options)
        opened.append((engine, request))
        engine.run(request.inputs)
        return peak_rss_mb()

    return handle


def clock_turn(engine: Engine, inputs: Mapping[str, np.ndarray], seconds: float) -> list[float]:
    """As `EngineProcess.turn`, in this process."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        engine.run(inputs)
        times.append(time.perf_counter() - start)
    come_to_rest()
    return times[1:] or times


def come_to_rest(clock: Callable[[], float] = time.process_time) -> None:
    """Wait until no thread of this process uses the processor. Raises EngineError if that does not happen.

    `clock` tells the processor time used so far, of this process unless another is given.
    """
    quiet, end = 0, time.perf_counter() + REST_LIMIT_S
    while quiet < QUIET_POLLS:
        used, start = clock(), time.perf_counter()
        time.sleep(POLL_S)
        share = (clock() - used) / (time.perf_counter() - start)
        quiet = quiet + 1 if share < QUIET_SHARE else 0
        if time.perf_counter() > end:
            raise EngineError(
                f"its threads are still busy {REST_LIMIT_S:.0f} s after a run and slow down the others: leave it out"
            )


def peak_rss_mb() -> float:
    """Largest resident memory of this process so far, in 10^6 bytes.

    Linux: VmHWM, because getrusage keeps the value of the program that ran in the process before `exec`: the parent.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        kib = next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(kib) * 1024 / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
