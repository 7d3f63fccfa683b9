"""A child process of the same interpreter that answers requests over a socket.

It is started with `-c`, not through multiprocessing, because that would import the caller's main module again. It
leaves when the other end of the socket is gone, however that came about: no orphans.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, BinaryIO

from synergy.runtime.errors import ChildDiedError, EngineError, EngineUnavailableError
from synergy.runtime.text import last_line

BOOTSTRAP = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); from {module} import {function}; "
    "from synergy.runtime.processes.child import serve; serve(int(sys.argv[1]), {function}, {awake_s})"
)
GRACE_S = 5.0  # how long a child may take to leave before it is killed
# Runs often follow each other closely: waking a process that has gone to sleep, and the threads of its engine, costs up
# to a quarter of a run of 2 ms.
SPIN_WAIT_S = 0.0005
STDERR_TAIL_BYTES = 4096  # bytes of a dead child's stderr that are searched for a cause

# what the child reports by name and the parent raises again
ERRORS: dict[str, type[Exception]] = {
    "EngineUnavailableError": EngineUnavailableError,
    "EngineError": EngineError,
    "ValueError": ValueError,
}


class Child:
    """A process that runs `function()` of `module` and hands every request to what that returns."""

    def __init__(
        self, title: str, module: str, function: str, descriptors: Sequence[int] = (), awake_s: float = 0.0
    ) -> None:
        """descriptors: open files that the process gets too, under the same numbers; awake_s: for how long after an
        answer it looks for the next request before it sleeps, which takes a core if nobody else wants it."""
        self.title = title
        self.stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        code = BOOTSTRAP.format(module=module, function=function, awake_s=awake_s)
        self.process, self.connection = _start(code, self.stderr, descriptors)
        self._stop = weakref.finalize(self, _end, self.process, self.connection, self.stderr)

    def ask(self, request: Any) -> Any:
        """The answer. Raises what the child raised (other errors as EngineError), ChildDiedError if it died."""
        if not self._stop.alive:
            raise EngineError(f"{self.title} is closed")
        try:
            self.connection.send(request)
            error, value = self.connection.recv()
        except (EOFError, OSError):
            raise ChildDiedError(self._obituary()) from None
        except BaseException:  # Ctrl-C in between: the next answer would belong to this request
            self.close()
            raise
        return result(error, value)

    def close(self) -> None:
        """End the process; calling it twice is harmless."""
        self._stop()

    def kill(self) -> None:
        """End the process at once, also in the middle of a request."""
        self.process.kill()

    def _obituary(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE_S)
        code = self.process.returncode
        how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit status {code}"
        last = _last_line(self.stderr)
        self.close()
        return f"the process of {self.title} died ({how}){': ' + last if last else ''}"


def serve(descriptor: int, make_handler: Callable[[], Callable[[Any], Any]], awake_s: float) -> None:
    """The child's main: answer until the other end is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    handle = make_handler()
    with Connection(descriptor) as connection:
        while True:
            try:
                request = connection.recv()
            except EOFError:
                return
            connection.send(answer(handle, request))
            _await(descriptor, awake_s)


def _await(descriptor: int, seconds: float) -> None:
    """Look for something to read without sleeping; `sched_yield` lets others have the core."""
    end = time.perf_counter() + seconds
    look = select.poll()
    look.register(descriptor, select.POLLIN)
    while time.perf_counter() < end and not look.poll(0):
        os.sched_yield()


def answer(handle: Callable[[Any], Any], request: Any) -> tuple[str | None, Any]:
    """What goes back: the name of an error, if any, and its text or the result."""
    try:
        return None, handle(request)
    except Exception as error:  # whatever it is, the parent must hear of it
        kind = next((name for name, kind in ERRORS.items() if isinstance(error, kind)), "EngineError")
        return kind, str(error) or type(error).__name__


def result(error: str | None, value: Any) -> Any:
    """What came back: the value, or the error raised again."""
    if error is not None:
        raise ERRORS.get(error, EngineError)(value)
    return value


def _start(code: str, stderr: BinaryIO, descriptors: Sequence[int]) -> tuple[subprocess.Popen[bytes], Connection]:
    """What libraries print goes to `stderr`, stdout included: the caller's output is its own."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-I", "-c", code, str(theirs.fileno()), json.dumps(sys.path)]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            pass_fds=[theirs.fileno(), *descriptors],
            start_new_session=True,  # Ctrl-C is for the parent, also before the child can say that it does not care
        )
        return process, Connection(ours.detach())


def _end(process: subprocess.Popen[bytes], connection: Connection, stderr: BinaryIO) -> None:
    """The child leaves on the end of the stream; one that does not is killed. Never leaves a zombie."""
    connection.close()
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    stderr.close()


def _last_line(stream: BinaryIO) -> str:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - STDERR_TAIL_BYTES))
    return last_line(stream.read().decode(errors="replace"))
