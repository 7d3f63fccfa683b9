"""A process that holds one session, a peer's or ours, and times it in turns.

It imports nothing heavy before it is told what to open: its start to its first output is one of the figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synergy.benchmarks.peers.sessions import PEERS, PeerModel, Run, bare_run
from synergy.benchmarks.speed.engine_process import come_to_rest, peak_rss_mb
from synergy.benchmarks.speed.interleave import SAMPLE_S
from synergy.runtime.errors import EngineError
from synergy.runtime.processes.child import Child
from synergy.runtime.specs import DEFAULT_OPTIONS, EngineOptions, ModelFile
from synergy.runtime.text import counted

if TYPE_CHECKING:
    from synergy.benchmarks.peers.pipeline import Picture
    from synergy.runtime.aligner import FaceAligner

LEAST_RUNS = 2  # timed in a turn, however long they take: of one alone nothing tells whether it was disturbed
BARE = " (bare)"  # what a peer's own session is marked with
NETWORK, OVERHEAD, ISOLATED, PATH = "network", "overhead", "isolated", "path"


@dataclass(frozen=True)
class SessionSpec:
    """Who sits in a process: engine or peer `name` on `model`, which is `artifact` of the bundle in `folder`.

    precision: what to compute in, in `EngineOptions`' words for ours and in the peer's own for a peer; "" for what
    ours, or it, computes in unless told.
    """

    name: str
    is_ours: bool
    folder: Path
    artifact: str
    model: ModelFile
    threads: int
    batches: tuple[int, ...]
    precision: str = ""

    @property
    def label(self) -> str:
        """As `peer_report.PeerRow.engine`."""
        return " ".join(filter(None, (self.name, self.precision))) + ("" if self.is_ours else BARE)

    def __str__(self) -> str:
        return f"{self.artifact} on {self.label}, {counted(self.threads, 'thread')}"


@dataclass(frozen=True)
class Workload:
    """What to time: the network alone, ours in turn with its bare session (`OVERHEAD`), ours in a child process
    (`ISOLATED`), on the first `batch` crops; or the way from a picture (`PATH`)."""

    what: str
    batch: int = 1


@dataclass(frozen=True)
class SessionInputs:
    """What runs: crops (N,size,size,3) uint8, and a picture."""

    crops: np.ndarray
    picture: Picture


class SessionProcess:
    """The process of one seat, from its start to its first output on. Close it.

    cold_start_s, rss_mb: as of `cold_start.EngineProcess`, with the smallest batch.
    """

    def __init__(self, spec: SessionSpec, load: SessionInputs) -> None:
        """Raises EngineError with the cause if the session cannot be opened or run."""
        start = time.perf_counter()
        self.child = Child(f"{spec.name}'s benchmark", __name__, "make_handler")
        try:
            self.rss_mb: float = self.child.ask((spec, load))
        except ValueError as error:  # a session's refusal: here it is the session that fails
            self.child.close()
            raise EngineError(str(error)) from None
        except BaseException:
            self.child.close()
            raise
        self.cold_start_s = time.perf_counter() - start

    def turn(self, turn: Workload) -> list[list[float]]:
        """The seconds of each run, of each of those that took turns within the turn. Raises EngineError."""
        return self.child.ask(turn)

    def close(self) -> None:
        """End the process; calling it twice is harmless."""
        self.child.close()


def make_handler() -> Callable[[Any], Any]:
    """In the child: the first request is the seat and its load, every later one a turn."""
    seated: list[PackageSession | LibrarySession] = []

    def handle(request: Any) -> Any:
        if seated:
            return seated[0].turn(request)
        spec, load = request
        seated.append(PackageSession(spec, load) if spec.is_ours else LibrarySession(spec, load))
        return peak_rss_mb()

    return handle


class LibrarySession:
    """A peer's session, and a plain script around it."""

    def __init__(self, spec: SessionSpec, load: SessionInputs) -> None:
        self.spec, self.load = spec, load
        model = PeerModel(spec.model, spec.threads, spec.precision, spec.batches)
        self.run: Run = PEERS[spec.name].open(model)
        self.run(load.crops[: spec.batches[0]])

    def turn(self, turn: Workload) -> list[list[float]]:
        if turn.what == NETWORK:
            crops = self.load.crops[: turn.batch]
            return clock([lambda: self.run(crops)])
        from synergy.benchmarks.peers.pipeline import plain_path
        from synergy.runtime.bundle import Bundle

        path = plain_path(self.run, Bundle.open(self.spec.folder))
        return clock([lambda: path(self.load.picture)])


class PackageSession:
    """An opened `FaceAligner`, the session within it, and on request another in a process of its own."""

    def __init__(self, spec: SessionSpec, load: SessionInputs) -> None:
        self.spec, self.load = spec, load
        self.aligner = self._open(isolated=False)
        self.bare = bare_run(self.aligner.engine)
        self.isolated: FaceAligner | None = None
        self.aligner.predict(load.crops[: spec.batches[0]])

    def turn(self, turn: Workload) -> list[list[float]]:
        crops = self.load.crops[: turn.batch]
        if turn.what == OVERHEAD:
            return clock([lambda: self.aligner.predict(crops), lambda: self.bare(crops)])
        if turn.what == ISOLATED:
            return self._isolated(crops)
        from synergy.benchmarks.peers.pipeline import our_path

        path = our_path(self.aligner)
        return clock([lambda: path(self.load.picture)])

    def _isolated(self, crops: np.ndarray) -> list[list[float]]:
        """The engine in its child, then the bare session here: threads of one spin on and would disturb the other."""
        aligner = self.isolated = self.isolated or self._open(isolated=True)
        pid = aligner.engine.child.process.pid  # type: ignore[attr-defined] # of an IsolatedEngine
        away = clock([lambda: aligner.predict(crops)], lambda: time.process_time() + processor_time(pid))
        return away + clock([lambda: self.bare(crops)])

    def _open(self, isolated: bool) -> FaceAligner:
        from synergy.runtime.aligner import FaceAligner

        spec = self.spec
        return FaceAligner.load(
            spec.folder,
            spec.name,
            threads=spec.threads,
            artifact=spec.artifact,
            isolated=isolated,
            options=EngineOptions(spec.precision or DEFAULT_OPTIONS.precision),
        )


def clock(runs: Sequence[Callable[[], object]], used: Callable[[], float] = time.process_time) -> list[list[float]]:
    """Run all in turn for about `SAMPLE_S`, each twice at least; the seconds of each run of each. At rest afterwards.

    The first run of each, which finds the caches full of others' data, is left out. `used` as of `come_to_rest`.
    """
    times: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run()
    end = time.perf_counter() + SAMPLE_S * len(runs)
    while len(times[0]) < LEAST_RUNS or time.perf_counter() < end:
        for run, taken in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            taken.append(time.perf_counter() - start)
    come_to_rest(used)
    return times


def processor_time(pid: int) -> float:
    """Seconds of processor time that another process used; 0 where the system does not tell.

    Linux: clock_getcpuclockid's number for a process, which Python gives for threads only.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0
