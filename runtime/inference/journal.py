"""The records of a run on their way to its JSON file: kept on disk, not in memory, and found again by the next run.

While a run goes on, FILE.partial has one line per picture; FILE appears whole when all are done. The same command after
a run that was stopped or killed goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from synergy.runtime.files import whole_file, write_errors
from synergy.runtime.inference.records import ImageRecord

SUFFIX = ".partial"
INDENT = 4  # of a record in the JSON file


class _Header(msgspec.Struct, frozen=True):
    """The first line: what the records depend on besides the picture."""

    key: str


class _Line(msgspec.Struct, frozen=True):
    """A picture's record, and the state of its file then (ns since the epoch, bytes)."""

    path: str
    stamp: tuple[int, int]
    record: msgspec.Raw


class _Outcome(msgspec.Struct, frozen=True):
    """Of a record, whether it failed: the rest need not be understood."""

    error: str | None = None


class Journal:
    """Use as a context manager; what was added is on disk however the run ends.

    `done` are pictures that an earlier run under the same key finished without an error and that have not changed.
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
            self._places, end = _known(self.partial, key)
            self._file = self.partial.open("r+b" if end else "wb")
            self._file.truncate(end)  # a line that was cut off
            self._file.seek(end)
            if not end:
                self._write(msgspec.json.encode(_Header(key)))
        with self.partial.open("rb") as lines:
            self.done = frozenset(path for path in self._pictures if self._is_done(lines, path))

    def add(self, record: ImageRecord) -> None:
        """Keep one record. Raises MediaError if the disk refuses."""
        line = _Line(record.path, _stamp(record.path), msgspec.Raw(msgspec.json.encode(record)))
        with write_errors(self.target):
            self._places[record.path] = self._file.tell()
            self._write(msgspec.json.encode(line))

    def finish(self) -> None:
        """Make the JSON file of all pictures, in their order; the lines are then gone. Raises MediaError."""
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
        self._file.flush()  # the next run must find it, though this one be killed

    def _is_done(self, lines: BinaryIO, path: str) -> bool:
        if path not in self._places:
            return False
        line = self._line(lines, path)
        return line.stamp == _stamp(path) and msgspec.json.decode(line.record, type=_Outcome).error is None

    def _line(self, lines: BinaryIO, path: str) -> _Line:
        lines.seek(self._places[path])
        return msgspec.json.decode(lines.readline(), type=_Line)


def _known(partial: Path, key: str) -> tuple[dict[str, int], int]:
    """Where each picture's last line starts, and where the whole lines end; nothing of another run."""
    if not partial.is_file():
        return {}, 0
    places: dict[str, int] = {}
    end = 0
    with partial.open("rb") as lines:
        try:
            if msgspec.json.decode(lines.readline(), type=_Header).key != key:
                return {}, 0
            end = lines.tell()
            for text in lines:
                if not text.endswith(b"\n"):
                    break
                places[msgspec.json.decode(text, type=_Line).path] = end
                end += len(text)
        except (msgspec.DecodeError, UnicodeDecodeError):  # what follows is not ours
            pass
    return places, end


def _write_report(out: BinaryIO, records: Iterator[msgspec.Raw]) -> None:
    """As `runtime.inference.records.InferReport` is formatted, without holding it."""
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
