"""Benchmark cases of sessions in their own processes."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import numpy as np

from synergy.benchmarks.speed.engine_process import (
    ISOLATED,
    PIPELINE,
    SessionInputs,
    SessionProcess,
    SessionSpec,
    Workload,
    start_repeatedly,
)
from synergy.benchmarks.speed.interleave import BenchmarkCase, Progress
from synergy.runtime.errors import EngineError


class SessionCase(BenchmarkCase):
    """One workload of one session.

    starts: its processes, of which the last is open. bare_samples: runs of the bare session that alternated with the
    runs in `samples`; empty if the workload does not alternate.
    """

    def __init__(self, spec: SessionSpec, starts: Sequence[SessionProcess], workload: Workload) -> None:
        super().__init__()
        self.spec, self.starts, self.workload = spec, starts, workload
        self.bare_samples: dict[int, list[float]] = {}

    def __str__(self) -> str:
        what = "picture to landmarks" if self.workload.kind == PIPELINE else f"batch {self.workload.batch}"
        return f"{self.spec}{' in a child process' if self.workload.kind == ISOLATED else ''}, {what}"

    def run_sample(self, number: int) -> list[float]:
        times, *bare = self.starts[-1].sample(self.workload)
        if bare:
            self.bare_samples[number] = bare[0]
        return times

    @property
    def p95_s(self) -> float:
        """95th percentile of `times_s`."""
        return float(np.percentile(self.times_s, 95))

    @property
    def cold_start_s(self) -> float:
        """Median of the starts."""
        return statistics.median(start.cold_start_s for start in self.starts)

    @property
    def rss_mb(self) -> float:
        """Median of the starts."""
        return statistics.median(start.rss_mb for start in self.starts)


def start_cases(
    planned: Sequence[tuple[SessionSpec, SessionInputs, Sequence[Workload]]],
    failures: list[str],
    progress: Progress,
    stack: ExitStack,
) -> Iterator[SessionCase]:
    """Start each session and warm up each of its workloads. Yields a case per workload.

    progress: called with the completed fraction, 0 to 0.5, and a description. A session that fails adds a line to
    `failures` and has no case. `stack` closes the processes.
    """
    for done, (spec, inputs, workloads) in enumerate(planned):
        name = f"{spec}, batch {', '.join(map(str, spec.batches))}"
        progress(done / len(planned) / 2, f"starting {name}")
        try:
            starts = start_repeatedly(spec, inputs)
            stack.callback(starts[-1].close)
            cases = [SessionCase(spec, starts, workload) for workload in workloads]
            for case in cases:
                case.run_sample(-1)
                case.bare_samples.clear()
        except EngineError as error:
            failures.append(f"{name}: {' '.join(str(error).split())}")
        else:
            yield from cases
