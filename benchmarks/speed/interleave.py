"""Interleave the samples of several cases, so that load drift of the machine affects all of them alike.

One case runs at a time while the others are idle. Ratios are formed within a round and then summarised by the median.
"""

from __future__ import annotations

import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from synergy.runtime.errors import EngineError

SAMPLE_S = 0.05  # long enough for several runs, short enough for many rounds
ROUND_SHARE_S = 0.1  # time budget of a case per round; a case with long runs that has used up the sum takes no more
MIN_ROUNDS = 3  # samples that every case takes, whatever its budget

Progress = Callable[[float, str], None]


class BenchmarkCase(ABC):
    """Something to measure; `str` of it names it in progress and failures.

    samples: seconds of each run, by round. spent_s: time used so far, with everything around the runs.
    """

    def __init__(self) -> None:
        self.samples: dict[int, list[float]] = {}
        self.spent_s = 0.0

    @abstractmethod
    def run_sample(self, number: int) -> list[float]:
        """Run for about `SAMPLE_S` in round `number`, then be idle. Returns seconds of each run. Raises EngineError."""

    def take_sample(self, number: int) -> None:
        """Run and store the sample of round `number`. Raises EngineError."""
        start = time.perf_counter()
        self.samples[number] = self.run_sample(number)
        self.spent_s += time.perf_counter() - start

    def done(self, rounds: int, share_s: float = ROUND_SHARE_S) -> float:
        """Completed fraction, 1 where the case has all its samples or has used up its time budget."""
        by_samples, by_time = len(self.samples) / rounds, self.spent_s / (rounds * share_s)
        return max(by_samples, min(by_time, len(self.samples) / MIN_ROUNDS))

    @property
    def times_s(self) -> list[float]:
        """Seconds of each run, of all rounds."""
        return [run for runs in self.samples.values() for run in runs]

    @property
    def median_s(self) -> float:
        """Median of `times_s`."""
        return statistics.median(self.times_s)


Case = TypeVar("Case", bound=BenchmarkCase)


def run_interleaved(
    cases: Sequence[Case], rounds: int, failures: list[str], progress: Progress, share_s: float = ROUND_SHARE_S
) -> list[Case]:
    """Take a sample of every case, round after round. Returns the cases that did not fail.

    progress: called with the completed fraction, 0.5 to 1, and a description. share_s: time budget of a case per round;
    a case takes `MIN_ROUNDS` samples at least. A failed case adds a line to `failures`.
    """
    running = list(cases)
    for number in range(rounds):
        pending = [case for case in running if case.done(rounds, share_s) < 1]
        first = number % max(len(pending), 1)  # rotate: no case always follows the same one
        for case in pending[first:] + pending[:first]:
            fraction = statistics.fmean(each.done(rounds, share_s) for each in running)
            progress(0.5 + fraction / 2, f"measuring {case}")
            try:
                case.take_sample(number)
            except EngineError as error:
                failures.append(f"{case}: {error}")
                running.remove(case)
    return running


def ratio_by_round(samples: Mapping[int, Sequence[float]], baseline: Mapping[int, Sequence[float]]) -> float:
    """Median over the common rounds of the ratio of median times, so that what slows down a whole round cancels out."""
    common = samples.keys() & baseline.keys()
    return statistics.median(statistics.median(samples[n]) / statistics.median(baseline[n]) for n in common)


def ignore_progress(fraction: float, description: str) -> None:
    """A `Progress` that does nothing."""
