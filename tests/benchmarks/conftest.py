"""A clock for timing rules."""

from __future__ import annotations

import pytest

from synergy.benchmarks.speed.timing import Clock


class FakeClock:
    """Time in seconds that passes only in `run` and `sleep`. The CPU is busy until `busy_until`."""

    def __init__(self) -> None:
        self.time = 0.0
        self.busy_until = 0.0
        self.clock = Clock(now=lambda: self.time, cpu=lambda: min(self.time, self.busy_until), sleep=self.run)

    def run(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture
def fake_clock() -> FakeClock:
    return FakeClock()
