"""Run the parts of a large batch at the same time, each on one CPU thread."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import numpy as np

from synergy.runtime.engines import Engine
from synergy.runtime.processes.sharing import ProcessBound

Arrays = dict[str, np.ndarray]


class ParallelRuns(ProcessBound):
    """Sessions with one thread each, for the model of an open engine; together they use as many threads as it does.

    The threads of one session wait for each other at every operator. Parts that run side by side do not, and a part of
    16 crops fits better into the caches than a batch of 64.
    """

    def __init__(self, engine: Engine) -> None:
        """Raises the errors of opening the engine."""
        self.threads = engine.threads
        self._sessions = [engine.reopened(threads=1) for _ in range(1 if engine.parallel_runs else engine.threads)]

    def run(self, parts: Sequence[Arrays]) -> list[Arrays]:
        """The outputs of `Engine.run` for each part, in order. Raises its errors."""
        free: SimpleQueue[Engine] = SimpleQueue()
        for number in range(self.threads):
            free.put(self._sessions[number % len(self._sessions)])

        def run(part: Arrays) -> Arrays:
            session = free.get()
            try:
                return session.run(part)
            finally:
                free.put(session)

        with ThreadPoolExecutor(self.threads) as pool:  # starting threads takes 0.1 ms, and none are left for a fork
            return list(pool.map(run, parts))

    def close(self) -> None:
        """Close the sessions, after the runs in progress. Safe to call twice."""
        for session in self._sessions:
            session.close()
