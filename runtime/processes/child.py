"""A child process of the same interpreter that answers requests over a socket.

It is started with `python -c`, not with multiprocessing, which would import the caller's main module again. It exits
when the other end of the socket is closed, also if the parent was killed.
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
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, BinaryIO

from synergy.runtime.errors import BundleError, ChildDiedError, EngineError, EngineUnavailableError
from synergy.runtime.processes import programs
from synergy.runtime.processes.sharing import call_after_fork
from synergy.runtime.text import last_line

BOOTSTRAP = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); from {module} import {function}; "
    "from synergy.runtime.processes.child import serve; serve(int(sys.argv[1]), {function}, {spin_wait_s})"
)
GRACE_S = 5.0  # time for a child to exit before it is killed
# How long an engine's process polls for the next request before it sleeps. Waking up a sleeping process and the threads
# of its engine costs up to a quarter of a run of 2 ms.
SPIN_WAIT_S = 0.0005
STDERR_TAIL_BYTES = 4096  # how much of a dead child's stderr is searched for its last line

# errors that the child reports by name and the parent raises again
ERRORS: dict[str, type[Exception]] = {
    "EngineUnavailableError": EngineUnavailableError,
    "EngineError": EngineError,
    "BundleError": BundleError,
    "ValueError": ValueError,
}


class Child:
    """A child process. It calls `function()` of `module`, which returns the handler of all requests."""

    def __init__(
        self,
        title: str,
        module: str,
        function: str,
        descriptors: Sequence[int] = (),
        spin_wait_s: float = 0.0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start the process.

        Args:
            title: What the process is, for error messages.
            module: Full name of the module with `function`.
            function: Name of a function without arguments that returns the request handler.
            descriptors: File descriptors that the child inherits under the same numbers.
            spin_wait_s: For how long after an answer the child polls for the next request before it sleeps.
            environment: Environment variables of the child that differ from this process's.
        """
        self.title = title
        self.stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        code = BOOTSTRAP.format(module=module, function=function, spin_wait_s=spin_wait_s)
        self.process, self.connection = _start(code, self.stderr, descriptors, environment or {})
        self._stop = weakref.finalize(self, _end, self.process, self.connection, self.stderr)
        call_after_fork(self)

    def ask(self, request: Any) -> Any:
        """Send a request and return the answer.

        Raises the errors in `ERRORS` as the child raised them, all others as EngineError, and ChildDiedError if the
        process ended before it answered.
        """
        if not self._stop.alive:
            raise EngineError(f"{self.title} is closed")
        try:
            self.connection.send(request)
            error, value = self.connection.recv()
        except (EOFError, OSError):
            raise ChildDiedError(self._exit_message()) from None
        except BaseException:  # e.g. Ctrl-C: the pending answer would be taken for that of the next request
            self.kill()  # it may be busy for ever
            self.close()
            raise
        return result(error, value)

    def close(self) -> None:
        """End the process. Safe to call twice."""
        self._stop()

    def kill(self) -> None:
        """Kill the process, even during a request."""
        programs.kill(self.process)

    def after_fork(self) -> None:
        """In a forked child: the process stays the parent's, and ends when all copies of the connection are closed."""
        if self._stop.detach() is not None:
            self.connection.close()

    def _exit_message(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE_S)
        code = self.process.returncode
        how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit status {code}"
        last = _last_line(self.stderr)
        self.close()
        return f"the process of {self.title} died ({how}){': ' + last if last else ''}"


def serve(descriptor: int, make_handler: Callable[[], Callable[[Any], Any]], spin_wait_s: float) -> None:
    """Main function of the child: answer requests until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the parent
    threading.Thread(target=_end_with_parent, args=(descriptor,), daemon=True).start()
    handle = make_handler()
    with Connection(descriptor) as connection:
        while True:
            try:
                request = connection.recv()
            except EOFError:
                return
            connection.send(answer(handle, request))
            spin_wait(descriptor, spin_wait_s)


def _end_with_parent(descriptor: int) -> None:
    """End this process if the other end is closed during a request that does not return."""
    if hasattr(select, "POLLRDHUP"):  # Linux
        poller = select.poll()
        poller.register(descriptor, select.POLLRDHUP)
        poller.poll()
        time.sleep(GRACE_S)
        os._exit(1)


def spin_wait(descriptor: int, seconds: float) -> None:
    """Poll for input without sleeping; `sched_yield` gives the core to other threads that need it."""
    end = time.perf_counter() + seconds
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    while time.perf_counter() < end and not poller.poll(0):
        os.sched_yield()


def answer(handle: Callable[[Any], Any], request: Any) -> tuple[str | None, Any]:
    """The answer to a request: the error's name and text, or None and the result."""
    try:
        return None, handle(request)
    except Exception as error:  # every error is reported to the parent
        kind = next((name for name, kind in ERRORS.items() if isinstance(error, kind)), "EngineError")
        return kind, str(error) or type(error).__name__


def result(error: str | None, value: Any) -> Any:
    """The value of an answer; raises the error that it reports."""
    if error is not None:
        raise ERRORS.get(error, EngineError)(value)
    return value


def _start(
    code: str, stderr: BinaryIO, descriptors: Sequence[int], environment: Mapping[str, str]
) -> tuple[subprocess.Popen[bytes], Connection]:
    """Start the process. Its stdout and stderr both go to `stderr`, so that libraries do not print to the terminal."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-I", "-c", code, str(theirs.fileno()), json.dumps(sys.path)]
        process = programs.start(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            pass_fds=[theirs.fileno(), *descriptors],
        )
        return process, Connection(ours.detach())


def _end(process: subprocess.Popen[bytes], connection: Connection, stderr: BinaryIO) -> None:
    """Close the connection, which ends the child; kill it if it does not exit. Leaves no zombie."""
    connection.close()
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        programs.kill(process)
        process.wait()
    programs.has_ended(process)
    stderr.close()


def _last_line(stream: BinaryIO) -> str:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - STDERR_TAIL_BYTES))
    return last_line(stream.read().decode(errors="replace"))
