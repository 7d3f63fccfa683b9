"""Paths given to a command: `~` is expanded, and an output that would damage a file is refused."""

from __future__ import annotations

import errno
import hashlib
import inspect
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, get_args

from synergy.runtime.errors import BUSY, MediaError

STDOUT = Path("-")  # as the value of --json
HEAD_BYTES = 4096  # read of an existing output to see what it is
STDOUT_NAMES = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
RESULT_SUFFIXES = (
    "",
    ".csv",
    ".html",
    ".json",
    ".jsonl",
    ".svg",
)  # may be written again in a folder of inputs


class PathUse(Enum):
    """What a command does with a path. Put it into the `Annotated` of the parameter; a `Path` without it is read."""

    READ = "read"  # for parameters of type str
    WRITE_JSON = "a JSON file"
    WRITE_TEXT = "a text file"
    WRITE_FILE = "a file"
    WRITE_FOLDER = "a folder"


def prepare_paths(signature: inspect.Signature, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a command with `~` expanded in every path.

    Raises MediaError if an output is an input or one of a bundle's files, would replace a file in an input folder, is
    of the wrong kind, or is below a file.
    """
    expanded, reads, writes = dict(arguments), list[Path](), list[tuple[Path, PathUse]]()
    for name, parameter in signature.parameters.items():
        value = expanded.get(name)
        values: list[Any] = list(value) if isinstance(value, (list, tuple)) else [value]
        use = next((each for each in get_args(parameter.annotation) if isinstance(each, PathUse)), None)
        if value is None or (use is None and not any(isinstance(each, Path) for each in values)):
            continue
        values = [_expanded(each) for each in values]
        if name == "json_file" and str(values[0]) in STDOUT_NAMES:
            values = [STDOUT]
        expanded[name] = values if isinstance(value, (list, tuple)) else values[0]
        if use is None or use is PathUse.READ:
            reads += [Path(path) for path in values]
        else:
            writes += [(path, use) for path in values if path != STDOUT]
    for number, (path, use) in enumerate(writes):
        _refuse_wrong_kind(path, use)
        if use is not PathUse.WRITE_FOLDER:
            refuse_inputs([path], [*reads, *(other for other, _ in writes[:number])])
            _refuse_files_of_folders(path, reads)
            _refuse_bundle_file(path)
            _refuse_other_content(path, use)
        elif (path / "manifest.json").is_file():
            _refuse_reads_inside(path, reads)
    return expanded


def refuse_inputs(outputs: Iterable[Path | None], inputs: Iterable[Path]) -> None:
    """Raise MediaError if an output is an input, also under another name."""
    names = {os.path.realpath(path): path for path in inputs}
    for output in outputs:
        if output is not None and output != STDOUT and not is_device(output):
            found = names.get(os.path.realpath(output)) or next(_same_files(output, names.values()), None)
            if found is not None:
                also = "" if str(found) == str(output) else f", which is {found}"
                raise MediaError(f"{output}{also} is given twice and would be overwritten: name another output")


@contextmanager
def only_writer(path: Path | None) -> Iterator[None]:
    """Raise MediaError if another command on this machine is writing the same report.

    The lock is a socket without a file, which the system removes when the process ends; Linux only.
    """
    if path is None or path == STDOUT or is_device(path) or not sys.platform.startswith("linux"):
        yield
        return
    import socket  # a report on stdout needs no lock

    name = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()
    with socket.socket(socket.AF_UNIX) as lock:
        try:
            lock.bind(f"\0synergy-{name}")
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise MediaError(BUSY.format(path=path)) from None
        yield


def _expanded(value: Any) -> Any:
    return type(value)(os.path.expanduser(value))  # noqa: PTH111 - keeps the names of unknown users


def _same_files(output: Path, inputs: Iterable[Path]) -> Iterator[Path]:
    return (path for path in inputs if output.exists() and path.is_file() and output.samefile(path))


def is_device(path: Path) -> bool:
    """Whether `path` exists and is neither a file nor a folder, but for example a pipe."""
    return path.exists() and not (path.is_file() or path.is_dir())


def _refuse_wrong_kind(path: Path, use: PathUse) -> None:
    if use is not PathUse.WRITE_FOLDER and path.is_dir():
        raise MediaError(f"{path} is a folder: name a file, for example {path / 'result'}")
    if use is PathUse.WRITE_FOLDER and os.path.lexists(path) and not path.is_dir():
        raise MediaError(f"{path} is not a folder: name a folder for the output")
    for parent in path.parents:
        if os.path.lexists(parent) and not parent.is_dir():
            raise MediaError(f"cannot write {path}: {parent} is a file, not a folder")


def _refuse_files_of_folders(path: Path, reads: Iterable[Path]) -> None:
    """An existing file in an input folder may be replaced only if its name is that of a result."""
    if not path.is_file() or path.suffix.lower() in RESULT_SUFFIXES:
        return
    real = Path(os.path.realpath(path))
    for folder in reads:
        if (
            folder.is_dir()
            and not (folder / "manifest.json").is_file()
            and real.is_relative_to(os.path.realpath(folder))
        ):
            raise MediaError(f"{path} exists in the folder {folder}, which is read: name another output")


def _refuse_other_content(path: Path, use: PathUse) -> None:
    """A result replaces an earlier result, but no picture: `--json photo.jpg` is a `--json` whose file is missing."""
    if use is PathUse.WRITE_FILE or not path.is_file():
        return
    with path.open("rb") as stream:
        start = stream.read(HEAD_BYTES).lstrip()
    is_json = start[:1] in (b"", b"{", b"[")
    if b"\0" in start or (use is PathUse.WRITE_JSON and not is_json):
        raise MediaError(f"{path} exists and is not {use.value}: it will not be replaced, name another output")


def _refuse_bundle_file(path: Path) -> None:
    from synergy.runtime.errors import BundleError
    from synergy.runtime.manifest import MANIFEST_NAME, read_manifest

    real = Path(os.path.realpath(path))
    if not path.is_file() or not (real.parent / MANIFEST_NAME).is_file():
        return
    try:
        names = {MANIFEST_NAME, *(entry.file for entry in read_manifest(real.parent).files)}
    except BundleError:
        names = {MANIFEST_NAME}
    if real.name in names:
        raise MediaError(f"{path} is a file of the bundle {real.parent}: name another output")


def _refuse_reads_inside(folder: Path, reads: Iterable[Path]) -> None:
    real = os.path.realpath(folder)
    for path in reads:
        if Path(os.path.realpath(path)).is_relative_to(real):
            raise MediaError(f"{path} is read and is in {folder}, which is written: move it, or name another output")
