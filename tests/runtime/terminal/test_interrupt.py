"""SIGTERM and Ctrl-C end a command, also one that is in a function of a library that never returns."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from synergy.runtime.processes import programs
from synergy.runtime.terminal.interrupt import ended_by_signals

ROOT = Path(__file__).resolve().parents[3]
SETUP = """
import ctypes, signal, sys, time
from pathlib import Path
from synergy.runtime.terminal import interrupt
from synergy.runtime.directories import staged_directory
from synergy.runtime.processes import programs
interrupt.FINISH_S = 0.3
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
folder = Path(sys.argv[1])
with interrupt.ended_by_signals(), staged_directory(folder / "b", replace=False) as stage:
    (stage / "half").touch()
    print("started", flush=True)
"""
NEVER_RETURNS = """
    programs.start(["sh", "-c", sys.argv[2]])
    mutex = ctypes.create_string_buffer(64)
    libc = ctypes.CDLL(None)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)
"""
PROGRAM_NEVER_ENDS = "    programs.run(['sh', '-c', 'trap : INT TERM; ' + sys.argv[2]])\n"


def processes() -> Iterator[list[str]]:
    """The arguments of every process."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield path.read_bytes().decode(errors="replace").split("\0")[:-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("body", [NEVER_RETURNS, PROGRAM_NEVER_ENDS], ids=["library", "program"])
def test_nothing_is_left(tmp_path: Path, number: signal.Signals, body: str) -> None:
    sleep = f"sleep 300.{os.getpid()}{number}"
    command = [sys.executable, "-c", SETUP + body, str(tmp_path), f"{sleep} & wait; {sleep}"]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout is not None and running.stdout.readline() == "started\n"
    time.sleep(0.3)
    running.send_signal(number)
    _, err = running.communicate(timeout=20)
    assert list(tmp_path.iterdir()) == [], err
    assert (running.returncode, err) == (130, "stopped\n")
    assert sleep.split() not in list(processes())


def test_a_program_and_its_children_are_killed_on_timeout() -> None:
    started = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        programs.run(["sh", "-c", "sleep 60 & wait"], timeout_s=0.2)
    assert time.monotonic() - started < 10


def test_output_of_a_program() -> None:
    done = programs.run(["sh", "-c", "cat; echo $WORD >&2; exit 3"], text="in", environment={"WORD": "out"})
    assert (done.returncode, done.stdout, done.stderr) == (3, "in", "out\n")


def test_signals_are_as_before_afterwards() -> None:
    before, threads = signal.getsignal(signal.SIGTERM), threading.active_count()
    with pytest.raises(KeyboardInterrupt), ended_by_signals():
        assert signal.getsignal(signal.SIGTERM) is not before
        raise KeyboardInterrupt
    assert signal.getsignal(signal.SIGTERM) is before
    end = time.monotonic() + 5
    while threading.active_count() > threads and time.monotonic() < end:
        time.sleep(0.01)
    assert threading.active_count() <= threads


FINISHES = """
import ctypes, os, signal, sys, time
from synergy.runtime.terminal import interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)
interrupt.FINISH_S, interrupt.REACT_S = float(sys.argv[1]), 0.1
libc = ctypes.CDLL(None)
with interrupt.ended_by_signals():
    with interrupt.interruptible() as interrupted:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)  # the current item
        if len(sys.argv) > 2:
            mutex = ctypes.create_string_buffer(64)
            libc.pthread_mutex_lock(mutex), libc.pthread_mutex_lock(mutex)
    time.sleep(0.5)
    print("finished", interrupted.is_set())
    sys.exit(3)
"""


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [(["9"], 3, "finished True\n"), (["0.7", "hangs"], 130, "stopped: the current image or frame took too long\n")],
)
def test_the_current_item_is_finished(arguments: list[str], status: int, text: str) -> None:
    command = [sys.executable, "-c", FINISHES, *arguments]
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (status, text)
