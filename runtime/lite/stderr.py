"""Capture what MindSpore Lite prints to stderr, and extract the cause of an error from it.

Lite's API returns only general error codes; the causes are in its log.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from synergy.runtime.processes.stderr import exclusive_stderr, flush_stderr, stderr_to

LOG_LEVEL = "2"  # warnings; at 3 the loader's "libcudnn.so.8: cannot open" is hidden, at 4 everything
_LEVEL_VARIABLE = "GLOG_v"
_STDERR = 2
_LOG_LINE = re.compile(r"^\[(?P<level>[A-Z]+)\] [A-Z_]+\(\d+[,:][^\[]*\[[^\]]+\](?: [^\]]+\])? ?(?P<text>.*)$")
_MISSING_LIBRARY = re.compile(r"\S+\.so[.\d]*: cannot open shared object file")
_NO_DRIVER = "No nvidia GPU driver"  # logged as a warning
_OPEN_FAILED = "DLSoOpen failed"  # logged without the reason, which is in a warning before it
_OPEN_REASON = re.compile(r"dlopen \S+ failed, error: (?:\S+\.so\S*: )?(.+)")
_IR_VERSION = re.compile(r"maximum mind ir version: (\d+).*?mind ir version: (\d+)")
# Lines of level ERROR that are not the cause: the second is also logged where everything works on a GPU.
_GENERIC_ERRORS = ("Runtime error for null exception handler", "Get real path of libmsplugin-ge-litert")
_EXCEPTION_PREFIX = re.compile(r"^Catch exception: ")


@dataclass
class CapturedText:
    """The captured text; set when the `capture_stderr` block ends."""

    text: str = ""


@dataclass
class _Mode:
    in_place: bool = False


_MODE = _Mode()


def capture_in_place() -> None:
    """Let `capture_stderr` leave all text in stderr, which must be a file opened for reading and writing.

    For child processes: if a library ends the process, its last words are then in the file that the parent reads.
    """
    _MODE.in_place = True


@contextmanager
def capture_stderr() -> Iterator[CapturedText]:
    """Capture stderr during the block, including output of C++ code.

    Lines that are not part of MindSpore's log are printed afterwards. If GLOG_v is 0 or 1, everything is printed.
    """
    result = CapturedText()
    with (
        exclusive_stderr(),
        _log_level() as show_log,
        _read_in_place(result) if _MODE.in_place else _redirected(result, show_log),
    ):
        yield result


def extract_cause(text: str, status: str) -> str:
    """The line of Lite's log `text` with the cause of an error; `status`, the API's message, if there is none."""
    missing = _MISSING_LIBRARY.search(text)
    if missing:
        return missing.group()
    versions = _IR_VERSION.search(text)
    if versions:
        return f"maximum mind ir version: {versions.group(1)}, the model has {versions.group(2)}"
    errors = [match["text"] for match in map(_LOG_LINE.match, text.splitlines()) if match and match["level"] == "ERROR"]
    causes = [line for line in errors if line and not line.startswith(_GENERIC_ERRORS)]
    if _NO_DRIVER in text:
        return _NO_DRIVER
    reason = _OPEN_REASON.search(text)
    if causes and causes[0].startswith(_OPEN_FAILED) and reason:
        return reason.group(1)
    return _EXCEPTION_PREFIX.sub("", causes[0]).strip(" .:") if causes else status.strip(" .:")


def non_lite_lines(text: str) -> str:
    """`text` without Lite's log lines and without the call stacks after its errors."""
    kept, after_error = [], False
    for line in text.splitlines(keepends=True):
        match = _LOG_LINE.match(line)
        after_error = after_error or (match is not None and match["level"] == "ERROR")
        if match is None and not after_error:
            kept.append(line)
    return "".join(kept)


@contextmanager
def _read_in_place(result: CapturedText) -> Iterator[None]:
    flush_stderr()
    start = os.fstat(_STDERR).st_size
    try:
        yield
    finally:
        flush_stderr()
        length = os.fstat(_STDERR).st_size - start
        result.text = os.pread(_STDERR, length, start).decode(errors="replace")  # does not move the file's position


@contextmanager
def _redirected(result: CapturedText, show_log: bool) -> Iterator[None]:
    with tempfile.TemporaryFile() as log:
        try:
            with stderr_to(log.fileno()):
                yield
        finally:
            log.seek(0)
            result.text = log.read().decode(errors="replace")
            if sys.stderr is not None:
                sys.stderr.write(result.text if show_log else non_lite_lines(result.text))


@contextmanager
def _log_level() -> Iterator[bool]:
    """Set the log level at which Lite prints causes, and restore it. Yields whether the user enabled the log."""
    before = os.environ.get(_LEVEL_VARIABLE)
    show_log = before in ("0", "1")
    if not show_log:
        os.environ[_LEVEL_VARIABLE] = LOG_LEVEL
    try:
        yield show_log
    finally:
        if before is None:
            os.environ.pop(_LEVEL_VARIABLE, None)
        else:
            os.environ[_LEVEL_VARIABLE] = before
