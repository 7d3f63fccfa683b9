"""Run other programs so that they, and the programs that they start, end with this process."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.util
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

_running: set[subprocess.Popen] = set()


def start(command: Sequence[str], **options: Any) -> subprocess.Popen:
    """Start a program in a session of its own, so that Ctrl-C reaches only this process. `options` as for `Popen`."""
    process = subprocess.Popen(command, start_new_session=True, **options)
    _running.add(process)
    return process


def has_ended(process: subprocess.Popen) -> None:
    """Call after the program was waited for."""
    _running.discard(process)


def kill(process: subprocess.Popen) -> None:
    """Kill a program and the programs that it started, for example a compiler's passes."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def kill_all() -> None:
    """Kill every program that was started here and has not ended, and the processes of `multiprocessing`."""
    for process in list(_running):
        if process.returncode is None:
            kill(process)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)
    for child in multiprocessing.active_children():
        child.kill()
        child.join(1)
    with contextlib.suppress(Exception):
        multiprocessing.util._exit_function()  # type: ignore[attr-defined]  # removes their semaphores; otherwise a warning is printed


def run(
    command: Sequence[str],
    *,
    text: str | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return its exit status and output; it is killed on Ctrl-C.

    Args:
        command: The program and its arguments.
        text: What it reads from stdin.
        environment: Environment variables that differ from this process's.
        timeout_s: After this time it is killed and TimeoutExpired is raised.
    """
    process = start(
        command,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL if text is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    with process:
        try:
            out, err = process.communicate(text, timeout_s)
        except BaseException:
            kill(process)
            raise
        finally:
            has_ended(process)
    return subprocess.CompletedProcess(command, process.returncode, out, err)
