"""Time runs of functions, and wait until a process is idle."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from synergy.benchmarks.speed.interleave import SAMPLE_S
from synergy.runtime.errors import EngineError

MIN_RUNS = 2  # timed in a sample however long they take: a single run may have been disturbed

# Engine threads keep spinning after a run, to start the next one sooner: onnxruntime's for about 25 ms. They would take
# CPU time from the next sample, so a sample ends only when the process is idle.
POLL_S = 0.002
IDLE_POLLS = 5  # in a row: a spinning thread may be off its core for some milliseconds
IDLE_SHARE = 0.1  # of one core; polling itself takes 0.02
IDLE_LIMIT_S = 2.0


@dataclass(frozen=True)
class Clock:
    """Sources of time: `now` and `cpu` (CPU time of the process) in seconds, and `sleep`. Tests replace them."""

    now: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] = time.process_time
    sleep: Callable[[float], None] = time.sleep


CLOCK = Clock()


def time_runs(
    runs: Sequence[Callable[[], object]], seconds: float = SAMPLE_S, clock: Clock = CLOCK
) -> list[list[float]]:
    """Call all `runs` alternately for about `seconds` each, at least `MIN_RUNS` times, then wait until idle.

    Returns the seconds of every call, a list for each of `runs`. A first call of each, with cold caches, is not timed.
    Raises EngineError as `wait_until_idle`.
    """
    times: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run()
    end = clock.now() + seconds * len(runs)
    while len(times[0]) < MIN_RUNS or clock.now() < end:
        for run, taken in zip(runs, times, strict=True):
            start = clock.now()
            run()
            taken.append(clock.now() - start)
    wait_until_idle(clock)
    return times


def wait_until_idle(clock: Clock = CLOCK) -> None:
    """Wait until no thread of the process uses the CPU. Raises EngineError after `IDLE_LIMIT_S`."""
    idle, end = 0, clock.now() + IDLE_LIMIT_S
    while idle < IDLE_POLLS:
        used, start = clock.cpu(), clock.now()
        clock.sleep(POLL_S)
        share = (clock.cpu() - used) / (clock.now() - start)
        idle = idle + 1 if share < IDLE_SHARE else 0
        if clock.now() > end:
            raise EngineError(
                f"threads are still busy {IDLE_LIMIT_S:.0f} s after a run and would disturb the other measurements: "
                "leave this engine out"
            )


def process_cpu_time(pid: int) -> float:
    """CPU time in seconds of another process; 0 where the system does not report it.

    Linux: the clock number of a process as clock_getcpuclockid computes it; Python offers that for threads only.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0
