"""One engine in a fresh process, clocked in there.

The parent sees how long it takes from starting a process to the first output, and asks for timed runs later. Those
are timed inside the process, so no pipe is in the figures. `runtime.engines.isolated` times nothing and is meant
for work; this is meant for clocks.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from runtime.engines import Device, Engine, ModelFile, engine_class
from runtime.errors import EngineError

BOOTSTRAP = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from benchmarks.cold_start import serve; serve()"
GRACE_S = 5.0  # how long a child may take to leave before it is killed
LAST_WORDS = 4096  # bytes of a dead child's stderr that are searched for a cause

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


class FreshEngine:
    """The process of one job, from its start to its first output on. Close it, or use it as a context manager.

    cold_start_s: from starting the process to having the first output: interpreter, imports, load, first run.
    rss_mb: the largest resident memory (10^6 bytes) the process had until then, shared libraries included.
    """

    def __init__(self, job: Job) -> None:
        """Raises EngineError with the cause if the engine cannot be opened or run."""
        self.engine = job.engine
        self.stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        command = [sys.executable, "-c", BOOTSTRAP, json.dumps(sys.path)]
        start = time.perf_counter()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.stderr)
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
        for stream in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):  # what a dead child did not read is lost
                stream.close()  # type: ignore[union-attr]
        try:
            self.process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.stderr.close()

    def __enter__(self) -> FreshEngine:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _ask(self, request: Job | float) -> Any:
        try:
            error, answer = self._exchange(request)
        except (OSError, EOFError, pickle.UnpicklingError):
            error = self._obituary()
        except BaseException:  # Ctrl-C: the child must not stay behind
            self.close()
            raise
        if error is not None:
            self.close()
            raise EngineError(error)
        return answer

    def _exchange(self, request: Job | float) -> tuple[str | None, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        pickle.dump(request, self.process.stdin, pickle.HIGHEST_PROTOCOL)
        self.process.stdin.flush()
        return pickle.load(self.process.stdout)

    def _obituary(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE_S)
        code = self.process.returncode
        how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit status {code}"
        last = _last_line(self.stderr)
        return f"the process of the {self.engine} engine died ({how}){': ' + last if last else ''}"


def start_several(job: Job) -> list[FreshEngine]:
    """Start afresh until there are three or two seconds have passed; only the last is still open.

    Raises EngineError as `FreshEngine` does.
    """
    starts = [FreshEngine(job)]
    while len(starts) < COLD_STARTS and sum(each.cold_start_s for each in starts) < COLD_BUDGET_S:
        starts[-1].close()
        starts.append(FreshEngine(job))
    return starts


def serve() -> None:
    """The child: open one engine, run it once, clock turns; leave on the end of the stream or the first error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    requests, replies = sys.stdin.buffer, _claim_stdout()
    try:
        job = pickle.load(requests)
        with engine_class(job.engine)(job.model, job.device, job.threads) as engine:
            engine.run(job.inputs)
            _reply(replies, None, peak_rss_mb())
            while True:
                _reply(replies, None, clock_turn(engine, job.inputs, pickle.load(requests)))
    except EOFError:
        return
    except Exception as error:  # whatever it is, the parent must hear of it
        _reply(replies, str(error) or type(error).__name__, None)


def clock_turn(engine: Engine, inputs: Mapping[str, np.ndarray], seconds: float) -> list[float]:
    """As `FreshEngine.turn`, in this process."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        engine.run(inputs)
        times.append(time.perf_counter() - start)
    come_to_rest()
    return times[1:] or times


def come_to_rest() -> None:
    """Wait until no thread of this process uses the processor. Raises EngineError if that does not happen."""
    quiet, end = 0, time.perf_counter() + REST_LIMIT_S
    while quiet < QUIET_POLLS:
        used, start = time.process_time(), time.perf_counter()
        time.sleep(POLL_S)
        share = (time.process_time() - used) / (time.perf_counter() - start)
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


def _claim_stdout() -> BinaryIO:
    """What engines print must not reach the replies: it goes to stderr."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return replies


def _reply(replies: BinaryIO, error: str | None, answer: Any) -> None:
    pickle.dump((error, answer), replies, pickle.HIGHEST_PROTOCOL)
    replies.flush()


def _last_line(stream: BinaryIO) -> str:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - LAST_WORDS))
    lines = stream.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""
