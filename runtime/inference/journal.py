"""Keep the records of an unfinished run on disk, so that the same command continues a run that was interrupted.

During a run FILE.partial has one line per picture; FILE is written when all pictures are done.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from synergy.runtime.files import whole_file, write_errors
from synergy.runtime.inference.records import ImageRecord

SUFFIX = ".partial"
LINE_LIMIT = 1 << 26  # bytes; a face has about 4,000
INDENT = 4  # spaces before a record in the JSON file


class _Header(msgspec.Struct, frozen=True):
    """The first line. key: hash of everything besides the pictures that the records depend on."""

    key: str


class _Line(msgspec.Struct, frozen=True):
    """A picture's record. stamp: its file's modification time (ns since the epoch) and size (bytes) at that time."""

    path: str
    stamp: tuple[int, int]
    record: msgspec.Raw


class _Outcome(msgspec.Struct, frozen=True):
    """The only field of a record that is decoded here."""

    error: str | None = None


class Journal:
    """The records of one run. Use as a context manager; records that were added survive a crash.

    done: pictures that an earlier run with the same key finished without an error and whose files have not changed.
    """

    def __init__(self, target: Path, key: str, pictures: Sequence[str | Path]) -> None:
        """Raises MediaError if the folder or the file cannot be written."""
        self.target = target
        self.partial = target.with_name(target.name + SUFFIX)
        self._pictures = [str(path) for path in pictures]
        with write_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir():
                raise IsADirectoryError(None, "it is a folder")
            self._offsets, end = _read_partial(self.partial, key)
            self._file = self.partial.open("r+b" if end else "wb")
            self._file.truncate(end)  # drop an incomplete line
            self._file.seek(end)
            if not end:
                self._write(msgspec.json.encode(_Header(key)))
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
            with self.partial.open("rb") as lines, whole_file(self.target) as temporary, temporary.open("wb") as out:
                _write_report(out, (self._line(lines, path).record for path in self._pictures))
            self._file.close()
            self.partial.unlink()

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


def _read_partial(partial: Path, key: str) -> tuple[dict[str, int], int]:
    """The offset of each picture's last line, and where the complete lines end; ({}, 0) if the key differs."""
    if not partial.is_file():
        return {}, 0
    offsets: dict[str, int] = {}
    end = 0
    with partial.open("rb") as lines:
        try:
            if msgspec.json.decode(lines.readline(LINE_LIMIT), type=_Header).key != key:
                return {}, 0
            end = lines.tell()
            while (text := lines.readline(LINE_LIMIT)).endswith(b"\n"):
                line = msgspec.json.decode(text, type=_Line)
                msgspec.json.decode(line.record, type=_Outcome)
                offsets[line.path] = end
                end += len(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # damaged from here on
            pass
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
