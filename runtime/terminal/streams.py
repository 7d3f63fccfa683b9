"""What commands print: a name cannot control the terminal, and a stream that is closed or full does not end a run."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from synergy.runtime.errors import FileWriteError
from synergy.runtime.text import printable

LINE_CONTROLS = "\n\r\t"  # kept in text of several lines


def print_line(text: str, *, error: bool = False, flush: bool = False) -> None:
    """Print one line on stdout, or on stderr if `error`; line ends and control characters in it are escaped."""
    print(printable(text), file=sys.stderr if error else sys.stdout, flush=flush)


@contextmanager
def safe_streams() -> Iterator[None]:
    """In the block stdout and stderr can always be written.

    Characters that their encoding lacks are escaped. If a stream is closed, cannot be written any more or is on a full
    disk, what is written to it is dropped. Warnings of the package's logger are escaped as in `print_line`.
    """
    _open_closed_descriptors()
    before = sys.stdout, sys.stderr
    formatter = logging.lastResort.formatter if logging.lastResort else None
    if logging.lastResort:
        logging.lastResort.setFormatter(_LineFormatter())
    sys.stdout, sys.stderr = (_SafeStream(stream) for stream in before)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before
        if logging.lastResort:
            logging.lastResort.setFormatter(formatter)


def require_stdout() -> None:
    """Raise FileWriteError if the program was started with stdout closed: a report would be lost without an error."""
    if getattr(sys.stdout, "was_closed", False):
        raise FileWriteError("cannot write the report: stdout is closed; redirect it to a file, or give one to --json")


class _LineFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(record.getMessage())


class _SafeStream:
    """A text stream whose `write` and `flush` raise no error."""

    def __init__(self, stream: Any) -> None:
        self.was_closed = stream is None  # at the start of the program
        self._stream: Any = _nowhere() if stream is None else stream
        with contextlib.suppress(AttributeError, OSError, ValueError):
            self._stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        with contextlib.suppress(Exception):
            text = text if self._stream.isatty() else printable(text, keep=LINE_CONTROLS)
        try:
            self._stream.write(text)
        except (OSError, ValueError):
            self._drop()
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._drop()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _drop(self) -> None:
        """Send what is written from now on, and what the stream still holds, nowhere."""
        nowhere = _nowhere()
        with contextlib.suppress(Exception):
            os.dup2(nowhere.fileno(), self._stream.fileno())
        self._stream = nowhere


def _nowhere() -> Any:
    return open(os.devnull, "w")  # noqa: PTH123 - kept open


def _open_closed_descriptors() -> None:
    """Give descriptors 0 to 2 a file if they are closed; otherwise the next file that is opened would be stdout."""
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:
        os.set_inheritable(descriptor, True)
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)
