"""Ctrl-C and SIGTERM: the current item is finished, then the command ends; if it does not end, it is ended by force."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = 130  # the exit status of a program that Ctrl-C ended
SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE_S = 6.0  # from the first signal to the forced end
SECOND_GRACE_S = 1.0  # from the second signal


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """In the block SIGTERM raises KeyboardInterrupt, as Ctrl-C does, and the process ends by force if it has not ended
    `GRACE_S` after a signal.

    Python calls its handlers in the main thread only, which may be in a library's function that never returns. So a
    thread waits for the signals too; for it to run, the library must have released Python's lock (GIL).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    earlier = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread = threading.Thread(target=_end_in_time, args=(reader,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(earlier)
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
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
        restore()

    for number in before:
        signal.signal(number, stop)
    try:
        yield event
    finally:
        restore()


def _end_in_time(reader: int) -> None:
    deadline: float | None = None
    while True:
        wait_s = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([reader], [], [], wait_s)[0]:
            _end_by_force()
        numbers = os.read(reader, 64)
        if not numbers:
            break
        for number in numbers:
            if number in SIGNALS:
                grace_s = GRACE_S if deadline is None else SECOND_GRACE_S
                deadline = min(deadline or float("inf"), time.monotonic() + grace_s)
    os.close(reader)
    if deadline is not None:  # threads may keep the process from ending
        time.sleep(max(0.0, deadline - time.monotonic()))
        _end_by_force()


def _end_by_force() -> None:
    from synergy.runtime.files import delete_temporaries
    from synergy.runtime.processes.programs import kill_all

    kill_all()
    delete_temporaries()
    os.write(2, b"stopped: the command did not end in time, so it was ended by force\n")
    os._exit(INTERRUPTED)
