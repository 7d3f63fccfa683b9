"""How runs are timed, on a fake clock; and the real sources of time."""

from __future__ import annotations

import os
import time

import pytest

from synergy.benchmarks.speed.timing import (
    CLOCK,
    IDLE_LIMIT_S,
    IDLE_POLLS,
    MIN_RUNS,
    POLL_S,
    process_cpu_time,
    time_runs,
    wait_until_idle,
)
from synergy.runtime.errors import EngineError


def test_first_call_is_not_timed(fake_clock) -> None:
    durations = iter([5.0, *[0.01] * 100])
    (times,) = time_runs([lambda: fake_clock.run(next(durations))], 0.095, fake_clock.clock)
    assert times == pytest.approx([0.01] * 10)


def test_several_runs_alternate(fake_clock) -> None:
    calls: list[str] = []

    def run(name: str, seconds: float) -> None:
        calls.append(name)
        fake_clock.run(seconds)

    first, second = time_runs([lambda: run("a", 0.01), lambda: run("b", 0.03)], 0.05, fake_clock.clock)
    assert "".join(calls) == "ab" * (1 + len(first))
    assert first == pytest.approx([0.01] * 3) and second == pytest.approx([0.03] * 3)  # 0.05 s for each of the two


@pytest.mark.parametrize("seconds", [0.0, 0.05])
def test_long_runs_are_timed_at_least_twice(fake_clock, seconds: float) -> None:
    (times,) = time_runs([lambda: fake_clock.run(10.0)], seconds, fake_clock.clock)
    assert times == [10.0] * MIN_RUNS


def test_sample_ends_when_the_process_is_idle(fake_clock) -> None:
    def run() -> None:
        fake_clock.run(0.01)
        fake_clock.busy_until = fake_clock.time + 0.3  # threads that spin after the run

    (times,) = time_runs([run], 0.05, fake_clock.clock)
    assert times == pytest.approx([0.01] * len(times))
    assert fake_clock.time == pytest.approx(fake_clock.busy_until + IDLE_POLLS * POLL_S, abs=1.5 * POLL_S)


def test_idle_process_is_polled_a_few_times(fake_clock) -> None:
    wait_until_idle(fake_clock.clock)
    assert fake_clock.time == pytest.approx(IDLE_POLLS * POLL_S)


def test_process_that_stays_busy_is_an_error(fake_clock) -> None:
    fake_clock.busy_until = 60.0
    with pytest.raises(EngineError, match="still busy 2 s after a run"):
        time_runs([lambda: fake_clock.run(0.01)], 0.0, fake_clock.clock)
    assert IDLE_LIMIT_S < fake_clock.time < IDLE_LIMIT_S + 0.1


def test_real_clock() -> None:
    (times,) = time_runs([lambda: None], 0.001)
    assert len(times) >= MIN_RUNS and all(0 <= taken < 1 for taken in times)
    assert CLOCK.cpu() <= time.process_time()


def test_cpu_time_of_another_process() -> None:
    assert process_cpu_time(os.getpid()) == pytest.approx(time.process_time(), abs=0.5) or not hasattr(os, "fork")
    assert process_cpu_time(1 << 22) == 0.0  # no such process
