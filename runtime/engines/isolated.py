"""Any engine in a child process of the same interpreter.

For parity beside the Cell (MindSpore and Lite cannot share a process), for pools, and so that a crash in a
native library is an error instead of the end. The child is started with `-c`, not through multiprocessing,
because that would import the caller's main module again.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, BinaryIO

import numpy as np

from runtime.engines.base import Availability, Device, Engine, ModelFile
from runtime.errors import EngineError, EngineUnavailableError

BOOTSTRAP = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); from runtime.engines.isolated import serve; serve()"
)
GRACE_S = 5.0  # how long a child may take to leave before it is killed
LAST_WORDS = 4096  # bytes of a dead child's stderr that are searched for a cause

# what the child reports by name and the parent raises again
ERRORS: dict[str, type[Exception]] = {
    "EngineUnavailableError": EngineUnavailableError,
    "EngineError": EngineError,
    "ValueError": ValueError,
}


class IsolatedEngine(Engine):
    """The engine `name`, one process away. The child ends when this object or its process does."""

    def __init__(self, name: str, model: ModelFile, device: Device, threads: int) -> None:
        from runtime.engines import engine_class

        self.name = name
        self.formats = engine_class(name).formats
        super().__init__(model, device, threads)
        self.stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        self.process, self.connection = _start_child(self.stderr)
        self._stop = weakref.finalize(self, _stop_child, self.process, self.connection, self.stderr)
        try:
            self._ask(("open", name, model, device, threads))
        except (EngineError, ValueError):
            self.close()
            raise

    @classmethod
    def available(cls) -> Availability:
        return Availability(True, "child processes can be started")

    def _run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        return self._ask(("run", list(arrays)))

    def close(self) -> None:
        self._stop()

    def _ask(self, request: tuple) -> Any:
        if not self._stop.alive:
            raise EngineError(f"this {self.name} engine is closed")
        try:
            self.connection.send(request)
            error, answer = self.connection.recv()
        except (EOFError, OSError):
            raise EngineError(self._obituary()) from None
        if error is not None:
            raise ERRORS.get(error, EngineError)(answer)
        return answer

    def _obituary(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE_S)
        code = self.process.returncode
        how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit status {code}"
        last = _last_line(self.stderr)
        self.close()
        return f"the process of the {self.name} engine died ({how}){': ' + last if last else ''}"


def serve() -> None:
    """The child: open one engine, answer runs, leave when the other end of the socket is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    engine: Engine | None = None
    with Connection(int(sys.argv[1])) as connection:
        while True:
            try:
                request = connection.recv()
            except EOFError:
                break
            try:
                if request[0] == "open":
                    engine, answer = _open(*request[1:]), None
                else:
                    assert engine is not None
                    answer = engine._run(request[1])
            except Exception as error:  # whatever it is, the parent must hear of it
                connection.send((_reported_name(error), f"{error}"))
            else:
                connection.send((None, answer))


def _open(name: str, model: ModelFile, device: Device, threads: int) -> Engine:
    from runtime.engines import engine_class

    return engine_class(name)(model, device, threads)


def _reported_name(error: Exception) -> str:
    for name, kind in ERRORS.items():
        if isinstance(error, kind):
            return name
    return "EngineError"


def _start_child(stderr: BinaryIO) -> tuple[subprocess.Popen[bytes], Connection]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-c", BOOTSTRAP, str(theirs.fileno()), json.dumps(sys.path)]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, pass_fds=[theirs.fileno()]
        )
        return process, Connection(ours.detach())


def _stop_child(process: subprocess.Popen[bytes], connection: Connection, stderr: BinaryIO) -> None:
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
    stream.seek(max(0, size - LAST_WORDS))
    lines = stream.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""
