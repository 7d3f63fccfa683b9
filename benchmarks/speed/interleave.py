"""Contenders take turns in rounds, so that a machine that gets slower or faster does so for all of them.

One runs at a time while the others are at rest. Ratios are formed within a round and only then summarised.
"""

from __future__ import annotations

import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from synergy.runtime.errors import EngineError

SAMPLE_S = 0.05  # long enough for several runs, short enough for many rounds
# A contender whose runs are long leaves the rounds when it has used this much for each of them,
ROUND_SHARE_S = 0.1
MIN_ROUNDS = 3  # but not before these

Progress = Callable[[float, str], None]


class BenchmarkCase(ABC):
    """Who takes turns. `samples` are run times in seconds by round; `str` of it names it in progress and failures."""

    def __init__(self) -> None:
        self.samples: dict[int, list[float]] = {}
        self.spent_s = 0.0

    @abstractmethod
    def run_sample(self, number: int) -> list[float]:
        """Run for about `SAMPLE_S` in round `number`, then be at rest; the seconds of each run. Raises EngineError."""

    def take_sample(self, number: int) -> None:
        """Run for a while in round `number`. Raises EngineError."""
        start = time.perf_counter()
        self.samples[number] = self.run_sample(number)
        self.spent_s += time.perf_counter() - start

    def done(self, rounds: int, share_s: float = ROUND_SHARE_S) -> float:
        """The part of its turns, or of its time if that ends earlier, that it has had: 1 is all."""
        in_turns, in_time = len(self.samples) / rounds, self.spent_s / (rounds * share_s)
        return max(in_turns, min(in_time, len(self.samples) / MIN_ROUNDS))


Player = TypeVar("Player", bound=BenchmarkCase)


def run_interleaved(
    cases: Sequence[Player], rounds: int, failures: list[str], say: Progress, share_s: float = ROUND_SHARE_S
) -> list[Player]:
    """Turns for all, round after round; returns those that did not fail. `say` hears of parts from 0.5 to 1.

    share_s: who has used that much time for each of the rounds leaves them, after `MIN_ROUNDS`.
    """
    playing = list(cases)
    for number in range(rounds):
        waiting = [each for each in playing if each.done(rounds, share_s) < 1]
        first = number % max(len(waiting), 1)  # nobody always runs after the same neighbour's heat
        for each in waiting[first:] + waiting[:first]:
            part = statistics.fmean(other.done(rounds, share_s) for other in playing)
            say(0.5 + part / 2, f"measuring {each}")
            try:
                each.take_sample(number)
            except EngineError as error:
                failures.append(f"{each}: {error}")
                playing.remove(each)
    return playing


def ratio_by_round(samples: Mapping[int, Sequence[float]], baseline: Mapping[int, Sequence[float]]) -> float:
    """Median over the common rounds of the ratio of median times: what slows down both in a round cancels."""
    common = samples.keys() & baseline.keys()
    return statistics.median(statistics.median(samples[n]) / statistics.median(baseline[n]) for n in common)
