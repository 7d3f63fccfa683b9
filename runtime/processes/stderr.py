"""Redirect stderr, which all threads of a process share, also for C and C++ code."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_STDERR = 2


@dataclass
class _Sharing:
    """The redirection that all `shared_capture` blocks in progress share.

    blocks: how many there are. log: the file that stderr goes to. saved: descriptor of the real stderr. waiting: how
    many threads wait for the end of all blocks. owner: the thread in `exclusive_stderr`.
    """

    lock: threading.Condition = field(default_factory=lambda: threading.Condition(threading.RLock()))
    blocks: int = 0
    log: int | None = None
    saved: int | None = None
    waiting: int = 0
    owner: int | None = None


_SHARING = _Sharing()


@contextmanager
def exclusive_stderr() -> Iterator[None]:
    """No other thread redirects stderr during the block. Waits for the blocks of `shared_capture` in progress."""
    with _SHARING.lock:
        _SHARING.waiting += 1  # new blocks do not begin
        _SHARING.lock.wait_for(lambda: not _SHARING.blocks)
        _SHARING.waiting -= 1
        before, _SHARING.owner = _SHARING.owner, threading.get_ident()
        try:
            yield
        finally:
            _SHARING.owner = before
            _SHARING.lock.notify_all()


@contextmanager
def shared_capture(is_expected: Callable[[str], bool]) -> Iterator[list[str]]:
    """Capture lines of stderr in several threads at once. Yields a list that has them when the block ends.

    A line can come from the block of another thread. Lines that are not `is_expected` are printed afterwards.
    """
    lines: list[str] = []
    start = _join()
    try:
        yield lines
    finally:
        lines += [line for line in _leave(start, is_expected).splitlines() if is_expected(line)]


@contextmanager
def stderr_to(log: int) -> Iterator[None]:
    """Redirect stderr to an open file descriptor during the block. Only within `exclusive_stderr`."""
    saved = _redirect(log)
    try:
        yield
    finally:
        _restore(saved)


def flush_stderr() -> None:
    if sys.stderr is not None:  # None if stderr was closed before Python started
        with suppress(OSError, ValueError):  # closed since
            sys.stderr.flush()


def _redirect(log: int) -> int | None:
    """A copy of the descriptor that stderr had, None if it was closed, as in a daemon."""
    flush_stderr()
    try:
        saved = os.dup(_STDERR)
    except OSError:
        saved = None
    os.dup2(log, _STDERR)
    return saved


def _restore(saved: int | None) -> None:
    flush_stderr()
    if saved is None:
        os.close(_STDERR)
    else:
        os.dup2(saved, _STDERR)
        os.close(saved)


def _join() -> int:
    """Begin a shared block; the place in the log where it begins."""
    with _SHARING.lock:
        if _SHARING.owner != threading.get_ident():
            _SHARING.lock.wait_for(lambda: not _SHARING.waiting)
        if _SHARING.log is None:
            _SHARING.log = _memory_file()
        _SHARING.blocks += 1
        if _SHARING.blocks == 1:
            _SHARING.saved = _redirect(_SHARING.log)
            return 0
        return os.fstat(_SHARING.log).st_size


def _leave(start: int, is_expected: Callable[[str], bool]) -> str:
    """End a shared block; what was logged since `start`. The last block prints the lines that nobody expected."""
    with _SHARING.lock:
        assert _SHARING.log is not None
        flush_stderr()
        size = os.fstat(_SHARING.log).st_size
        logged = os.pread(_SHARING.log, size, 0) if size else b""  # does not move its position
        _SHARING.blocks -= 1
        if not _SHARING.blocks:
            _restore(_SHARING.saved)
            _SHARING.lock.notify_all()
            if logged:
                os.ftruncate(_SHARING.log, 0)
                os.lseek(_SHARING.log, 0, os.SEEK_SET)
                lines = logged.decode(errors="replace").splitlines(keepends=True)
                with suppress(OSError):  # closed
                    os.write(_STDERR, "".join(line for line in lines if not is_expected(line.rstrip("\n"))).encode())
        return logged[start:].decode(errors="replace")


def _memory_file() -> int:
    if hasattr(os, "memfd_create"):  # needs no writable folder
        return os.memfd_create("stderr")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _forked() -> None:
    """In a forked child: other threads, which may hold the lock, do not exist here, and the log is the parent's."""
    if _SHARING.blocks:
        _restore(_SHARING.saved)
    if _SHARING.log is not None:
        os.close(_SHARING.log)
    _SHARING.__init__()  # type: ignore[misc]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
