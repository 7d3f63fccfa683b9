"""Keep the records of an unfinished run on disk, so that the same command continues a run that was interrupted.

During a run FILE.partial has one line per picture; FILE is written when all pictures are done.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import msgspec

from synergy.runtime.errors import BUSY, MediaError
from synergy.runtime.files import lock, make_parent, whole_file, write_errors
from synergy.runtime.inference.records import ImageRecord
from synergy.runtime.text import first_line

SUFFIX = ".partial"
LINE_LIMIT = 1 << 26  # bytes; a face has about 4,000
HEADER_START = b'{"key":"'
INDENT = 4  # spaces before a record in the JSON file


class _Header(msgspec.Struct, frozen=True):
    """The first line. key: hash of everything besides the pictures that the records depend on."""

    key: str


class _Line(msgspec.Struct, frozen=True):
    """A picture's record. stamp: its file's modification time (ns since the epoch) and size (bytes) at that time."""

    path: str
    stamp: tuple[int, int]
    record: msgspec.Raw


class _Face(msgspec.Struct, frozen=True):
    """The fields that a face always has. Not a number is null in JSON."""

    box_xyxy: list[float | None]
    score: float | None
    landmarks: list[list[float | None]]
    pose: dict[str, float | None]
    params: list[float | None]


class _Outcome(msgspec.Struct, frozen=True):
    """What every version writes of a record."""

    path: str
    faces: list[_Face]
    error: str | None = None


class Journal:
    """The records of one run. Use as a context manager; records that were added survive a crash.

    done: pictures that an earlier run with the same key finished without an error and whose files have not changed.
    """

    def __init__(self, target: Path, key: str, pictures: Sequence[str | Path], durable: bool = True) -> None:
        """durable: as for `runtime.files.whole_file`.

        Raises MediaError if the folder or the file cannot be written, another run is writing it, or the partial file is
        damaged or is not one.
        """
        self.target = Path(os.path.realpath(target)) if target.is_symlink() else target
        self.partial = self.target.with_name(self.target.name + SUFFIX)
        self._durable = durable
        self._pictures = [str(path) for path in pictures]
        with write_errors(target):
            make_parent(self.target)
            if target.is_dir():
                raise IsADirectoryError(None, "it is a folder")
            self._file = _open_partial(self.partial, target)
        with ExitStack() as on_error, write_errors(target):
            on_error.callback(self._file.close)
            self._offsets, end = _read_partial(self.partial, key)
            self._file.truncate(end)  # drop an incomplete line
            self._file.seek(end)
            if not end:
                self._write(msgspec.json.encode(_Header(key)))
            on_error.pop_all()
        with self.partial.open("rb") as lines:
            self.done = frozenset(path for path in self._pictures if self._is_done(lines, path))

    def add(self, record: ImageRecord) -> None:
        """Write one record. Raises MediaError if it cannot be written."""
        line = _Line(record.path, _stamp(record.path), msgspec.Raw(msgspec.json.encode(record)))
        with write_errors(self.target):
            self._offsets[record.path] = self._file.tell()
            self._write(msgspec.json.encode(line))

    def finish(self) -> None:
        """Write the JSON file of all pictures, in their order, and delete the partial file. Raises MediaError."""
        with write_errors(self.target):
            finished = whole_file(self.target, durable=self._durable)
            with self.partial.open("rb") as lines, finished as temporary, temporary.open("wb") as out:
                _write_report(out, (self._line(lines, path).record for path in self._pictures))
            self.partial.unlink()  # before the lock is released, so that no other run opens it
            self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _write(self, line: bytes) -> None:
        self._file.write(line + b"\n")
        self._file.flush()  # must be on disk if this process is killed

    def _is_done(self, lines: BinaryIO, path: str) -> bool:
        if path not in self._offsets:
            return False
        line = self._line(lines, path)
        return line.stamp == _stamp(path) and msgspec.json.decode(line.record, type=_Outcome).error is None

    def _line(self, lines: BinaryIO, path: str) -> _Line:
        lines.seek(self._offsets[path])
        return msgspec.json.decode(lines.readline(), type=_Line)


def _open_partial(partial: Path, target: Path) -> BinaryIO:
    """Open and lock the partial file; it is created if it does not exist. Raises MediaError."""
    while True:
        if partial.is_symlink() or (partial.exists() and not partial.is_file()):
            raise MediaError(f"{partial} is not a file that an earlier run wrote: remove it, or name another --json")
        stream = os.fdopen(os.open(partial, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666), "r+b")
        if lock(stream.fileno()) is False:
            stream.close()
            raise MediaError(BUSY.format(path=target))
        if partial.exists() and os.path.samestat(partial.stat(), os.fstat(stream.fileno())):
            return stream
        stream.close()  # another run has just ended and removed it


def _read_partial(partial: Path, key: str) -> tuple[dict[str, int], int]:
    """The offset of each picture's last line, and where the complete lines end; ({}, 0) if the key differs.

    Raises MediaError for a complete line that no run wrote.
    """
    offsets: dict[str, int] = {}
    end, number = 0, 1
    with partial.open("rb") as lines:
        header = lines.readline(LINE_LIMIT)
        if not header.endswith(b"\n") and HEADER_START.startswith(header[: len(HEADER_START)]):
            return {}, 0  # the run was killed while it wrote the header
        try:
            if msgspec.json.decode(header, type=_Header).key != key:
                return {}, 0
            end = lines.tell()
            while text := lines.readline(LINE_LIMIT):
                number += 1
                if len(text) == LINE_LIMIT:
                    raise msgspec.ValidationError(f"a line of {LINE_LIMIT:,} bytes")
                if not text.endswith(b"\n"):
                    break
                line = msgspec.json.decode(text, type=_Line)
                if msgspec.json.decode(line.record, type=_Outcome).path != line.path:
                    raise msgspec.ValidationError("the record is about another image")
                offsets[line.path] = end
                end += len(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MediaError(
                f"{partial}, the results of an unfinished run, is damaged in line {number} ({first_line(error)}): "
                "remove it to start again, or name another --json"
            ) from None
    return offsets, end


def _write_report(out: BinaryIO, records: Iterator[msgspec.Raw]) -> None:
    """Write the JSON of a `runtime.inference.records.InferReport` without building it in memory."""
    out.write(b'{\n  "images": [')
    pad = b"\n" + b" " * INDENT
    for number, record in enumerate(records):
        text = msgspec.json.format(record, indent=2)
        out.write((b"," if number else b"") + pad + text.replace(b"\n", pad))
    out.write(b"\n  ]\n}")


def _stamp(path: str) -> tuple[int, int]:
    try:
        status = Path(path).stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size
