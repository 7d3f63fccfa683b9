"""Lite reports causes only on stderr: catch them there, and keep them off the user's terminal."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

LOG_LEVEL = "2"  # warnings: the loader's "libcudnn.so.8: cannot open" is one; 3 hides it, 4 hides all
_LEVEL_VARIABLE = "GLOG_v"
_STDERR = 2
_LOCK = threading.RLock()  # one stderr, one environment
_LOG_LINE = re.compile(r"^\[(?P<level>[A-Z]+)\] [A-Z_]+\(\d+[,:][^\[]*\[[^\]]+\](?: [^\]]+\])? ?(?P<text>.*)$")
_MISSING_LIBRARY = re.compile(r"\S+\.so[.\d]*: cannot open shared object file")
_IR_VERSION = re.compile(r"maximum mind ir version: (\d+).*?mind ir version: (\d+)")
_SAYS_NOTHING = ("Runtime error for null exception handler",)
_EXCEPTION_PREFIX = re.compile(r"^Catch exception: ")


@dataclass
class Captured:
    """What was printed; filled when the `captured` block ends."""

    text: str = ""


@contextmanager
def captured() -> Iterator[Captured]:
    """Collect stderr of this block, from C++ too. Lines that are not MindSpore's are passed on afterwards.

    A user who sets GLOG_v to 0 or 1 wants the log and gets all of it.
    """
    result = Captured()
    with _LOCK, tempfile.TemporaryFile() as log, _log_level() as wants_log:
        try:
            with _redirected(log):
                yield result
        finally:
            log.seek(0)
            result.text = log.read().decode(errors="replace")
            if sys.stderr is not None:
                sys.stderr.write(result.text if wants_log else foreign_lines(result.text))


def cause(text: str, status: str) -> str:
    """The one line of Lite's log that tells most; `status` (Lite's own message) if the log tells nothing."""
    missing = _MISSING_LIBRARY.search(text)
    if missing:
        return missing.group()
    versions = _IR_VERSION.search(text)
    if versions:
        return f"maximum mind ir version: {versions.group(1)}, the model has {versions.group(2)}"
    errors = [match["text"] for match in map(_LOG_LINE.match, text.splitlines()) if match and match["level"] == "ERROR"]
    telling = [line for line in errors if line and not line.startswith(_SAYS_NOTHING)]
    return _EXCEPTION_PREFIX.sub("", telling[0]).strip(" .:") if telling else status.strip(" .:")


def foreign_lines(text: str) -> str:
    """What others printed: all but Lite's log lines and what follows its errors (call stacks)."""
    kept, after_error = [], False
    for line in text.splitlines(keepends=True):
        match = _LOG_LINE.match(line)
        after_error = after_error or (match is not None and match["level"] == "ERROR")
        if match is None and not after_error:
            kept.append(line)
    return "".join(kept)


@contextmanager
def _redirected(log: IO[bytes]) -> Iterator[None]:
    _flush()
    try:
        saved = os.dup(_STDERR)
    except OSError:  # a daemon may have closed it
        saved = None
    os.dup2(log.fileno(), _STDERR)
    try:
        yield
    finally:
        _flush()
        if saved is None:
            os.close(_STDERR)
        else:
            os.dup2(saved, _STDERR)
            os.close(saved)


def _flush() -> None:
    if sys.stderr is not None:  # it is None where stderr was closed before Python started
        sys.stderr.flush()


@contextmanager
def _log_level() -> Iterator[bool]:
    """Let Lite print causes; the environment is the user's again afterwards. Yields whether he wants the log."""
    before = os.environ.get(_LEVEL_VARIABLE)
    wants_log = before in ("0", "1")
    if not wants_log:
        os.environ[_LEVEL_VARIABLE] = LOG_LEVEL
    try:
        yield wants_log
    finally:
        if before is None:
            os.environ.pop(_LEVEL_VARIABLE, None)
        else:
            os.environ[_LEVEL_VARIABLE] = before
