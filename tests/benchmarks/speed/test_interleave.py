"""The order of samples, when cases end or fail, and ratios by round."""

from __future__ import annotations

import pytest

from synergy.benchmarks.speed.interleave import MIN_ROUNDS, BenchmarkCase, ratio_by_round, run_interleaved
from synergy.runtime.errors import EngineError


class FakeCase(BenchmarkCase):
    """Logs its samples; fails in round `fails_in`; a sample counts as `takes_s` of time."""

    def __init__(self, name: str, log: list[str], fails_in: int = -1, takes_s: float = 0.0) -> None:
        super().__init__()
        self.name, self.log, self.fails_in, self.takes_s = name, log, fails_in, takes_s

    def __str__(self) -> str:
        return self.name

    def run_sample(self, number: int) -> list[float]:
        self.log.append(self.name)
        if number == self.fails_in:
            raise EngineError("out of memory")
        self.spent_s += self.takes_s
        return [1.0]


def test_every_round_starts_with_another_case() -> None:
    log: list[str] = []
    cases = [FakeCase(name, log) for name in "abc"]
    assert run_interleaved(cases, 3, [], lambda part, doing: None) == cases
    assert "".join(log) == "abcbcacab"
    assert all(list(case.samples) == [0, 1, 2] for case in cases)


def test_no_cases() -> None:
    assert run_interleaved([], 3, [], lambda part, doing: None) == []


def test_case_that_fails_is_reported_and_ends() -> None:
    log: list[str] = []
    failures: list[str] = []
    cases = [FakeCase("a", log), FakeCase("b", log, fails_in=1)]
    assert run_interleaved(cases, 3, failures, lambda part, doing: None) == cases[:1]
    assert failures == ["b: out of memory"] and log.count("b") == 2 and log.count("a") == 3


def test_long_samples_are_fewer_but_at_least_the_minimum() -> None:
    log: list[str] = []
    cases = [FakeCase("short", log), FakeCase("long", log, takes_s=5.0), FakeCase("middle", log, takes_s=0.2)]
    run_interleaved(cases, 10, [], lambda part, doing: None, share_s=0.1)
    assert [log.count(name) for name in ("short", "long", "middle")] == [10, MIN_ROUNDS, 5]


def test_progress_is_from_half_to_one() -> None:
    heard: list[tuple[float, str]] = []
    run_interleaved([FakeCase("a", [])], 4, [], lambda *news: heard.append(news))
    assert heard == [(0.5 + part / 8, "measuring a") for part in range(4)]


def test_ratio_cancels_what_slows_down_a_whole_round() -> None:
    machine = [1.0, 5.0, 2.0, 40.0]
    baseline = {number: [0.9 * load, load, 1.1 * load] for number, load in enumerate(machine)}
    ours = {number: [1.5 * load, 99 * load, 1.2 * load] for number, load in enumerate(machine)}
    assert ratio_by_round(ours, baseline) == pytest.approx(1.5)
    del ours[3], baseline[0]  # only common rounds are compared
    assert ratio_by_round(ours, baseline) == pytest.approx(1.5)
