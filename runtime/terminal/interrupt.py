"""Ctrl-C and SIGTERM end a command: after the current item where items can be resumed or kept, else at once."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = 130  # the exit status of a program that Ctrl-C ended
SIGNALS = (signal.SIGINT, signal.SIGTERM)
FINISH_S = 6.0  # time to finish the current item
REACT_S = 0.5  # time for the main thread to call its handler; after that it is in a function that may never return

_can_finish = threading.Event()  # `interruptible` is active
_finishes = threading.Event()  # `interruptible` has received a signal
_ending = threading.Lock()


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """In the block SIGINT and SIGTERM end the process, its children and its temporary files, except in `interruptible`.

    The stack is not unwound: an exception in the middle of an import or a compilation of MindSpore would make it print
    errors, write files or abort. Python calls handlers in the main thread only, which may be in a library's function
    that never returns. So a thread waits for the signals too; for it to run, the library must have released Python's
    lock (GIL).
    """
    if os.name != "posix" or threading.current_thread() is not threading.main_thread():
        yield
        return
    _finishes.clear()
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in SIGNALS}
    for number in SIGNALS:
        if before[number] != signal.SIG_IGN:  # as of a job in the background
            signal.signal(number, lambda number, frame: _end("stopped"))
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    earlier = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_end_in_time, args=(reader,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(earlier)
        for number in SIGNALS:
            signal.signal(number, before[number])
        os.close(writer)  # without a signal this ends the thread


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Yield an event that SIGINT or SIGTERM sets, so that the current item can be finished. A second signal ends the
    process at once."""
    event = threading.Event()
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(number: int, frame: object) -> None:
        event.set()
        _finishes.set()
        restore()

    for number in before:
        signal.signal(number, stop)
    _can_finish.set()
    try:
        yield event
    finally:
        _can_finish.clear()
        restore()


def _end_in_time(reader: int) -> None:
    """End the process if it has not ended, or the block, some time after a signal. `reader` gives the signals."""
    count = 0
    while numbers := os.read(reader, 64):
        count += sum(number in SIGNALS for number in numbers)
        finishes = count == 1 and (_can_finish.is_set() or _finishes.is_set())
        if count and not select.select([reader], [], [], FINISH_S if finishes else REACT_S)[0]:
            _end("stopped: the current image or frame took too long" if finishes else "stopped")
    os.close(reader)


def _end(message: str) -> None:
    """End the process and its children, delete its temporary files and print one line."""
    from synergy.runtime.files import delete_temporaries
    from synergy.runtime.processes.programs import kill_all

    if not _ending.acquire(blocking=False):
        time.sleep(60)  # the other thread is about to end the process
    kill_all()
    delete_temporaries()
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    with contextlib.suppress(Exception):
        show_cursor = "\n\x1b[?25h" if sys.stderr.isatty() else ""  # a progress bar hides it
        os.write(2, f"{show_cursor}{message}\n".encode())
    os._exit(INTERRUPTED)
