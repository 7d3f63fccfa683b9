"""Stderr is redirected for one block, or for blocks of several threads together."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from synergy.runtime.processes.stderr import exclusive_stderr, shared_capture

ROOT = Path(__file__).resolve().parents[3]


def is_expected(line: str) -> bool:
    return line.startswith("expected")


def test_expected_lines_are_captured_and_others_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with shared_capture(is_expected) as lines:
        os.write(2, b"expected 1\n")
        os.write(2, b"other\n")
        assert capfd.readouterr().err == ""
    assert lines == ["expected 1"] and capfd.readouterr().err == "other\n"


def test_blocks_of_two_threads_share_one_redirection(capfd: pytest.CaptureFixture[str]) -> None:
    entered, left = threading.Event(), threading.Event()
    of_other: list[str] = []

    def other() -> None:
        with shared_capture(is_expected) as lines:
            entered.set()
            left.wait(10)
            os.write(2, b"expected 2\nother 2\n")
        of_other.extend(lines)

    thread = threading.Thread(target=other)
    with shared_capture(is_expected) as lines:
        os.write(2, b"expected 1\n")
        thread.start()
        entered.wait(10)
    left.set()
    thread.join(10)
    with exclusive_stderr():  # possible again
        os.write(2, b"after\n")
    assert (lines, of_other) == (["expected 1"], ["expected 2"]) and capfd.readouterr().err == "other 2\nafter\n"


def test_an_exclusive_block_is_not_kept_waiting_by_many_shared_ones() -> None:
    done = threading.Event()

    def share() -> None:
        while not done.is_set():
            with shared_capture(is_expected):
                done.wait(0.002)

    def take() -> None:
        for _ in range(20):
            with exclusive_stderr(), shared_capture(is_expected):
                pass

    sharing, taking = ([threading.Thread(target=run) for _ in range(4)] for run in (share, take))
    for thread in [*sharing, *taking]:
        thread.start()
    for thread in taking:
        thread.join(20)
    done.set()
    assert not any(thread.is_alive() for thread in taking)
    for thread in sharing:
        thread.join(20)
    assert not any(thread.is_alive() for thread in sharing)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_that_is_forked_during_a_block_has_its_stderr() -> None:
    code = (
        "import os, threading\n"
        "from synergy.runtime.processes.stderr import shared_capture\n"
        "def hold():\n"
        "    with shared_capture(lambda line: line == 'x'):\n"
        "        held.set(); done.wait(10)\n"
        "held, done = threading.Event(), threading.Event()\n"
        "threading.Thread(target=hold).start(); held.wait(10)\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    os.write(2, b'child\\n')\n"
        "    with shared_capture(lambda line: line == 'x') as lines: os.write(2, b'x\\n')\n"
        "    os._exit(lines != ['x'])\n"
        "status = os.waitpid(child, 0)[1]; done.set(); raise SystemExit(status)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"child\n")
    closed = (
        "from synergy.runtime.processes.stderr import *\nwith shared_capture(bool) as l: os.write(2, b'x')\nprint(l)"
    )
    command = f'"{sys.executable}" -c "{closed}" 2>&-'
    assert (
        subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, timeout=60, check=False).stdout == b"['x']\n"
    )
