"""Which files a command reads and writes: files, folders and patterns -> paths."""

from __future__ import annotations

import glob
import os
import stat
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path

from synergy.runtime.errors import MediaError

# What folders are searched for; a file that is named is tried whatever its suffix.
PICTURE_SUFFIXES = (
    ".avif",
    ".bmp",
    ".gif",
    ".jfif",
    ".jp2",
    ".jpeg",
    ".jpg",
    ".pgm",
    ".png",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)
MAX_BYTES = 1 << 30  # of the file itself


def write_file(path: Path, data: bytes) -> None:
    """Write bytes whole or not at all: a temporary file beside the target is renamed to it; makes the folder."""
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise MediaError(f"cannot write {path}: {error.strerror or error}") from None


def expand_inputs(paths: Iterable[str | Path]) -> list[Path]:
    """Files, folders and patterns -> files, in the order given, each once.

    A folder gives its own pictures by name, not those of folders in it; a pattern such as `photos/**/*.jpg` does as
    the shell would. A file that does not exist is kept, so that reading it reports it alone. Raises MediaError if
    a folder or pattern gives nothing, or nothing was asked for.
    """
    unique: dict[str, Path] = {}
    for path in paths:
        for file in _expand(str(path)):
            unique.setdefault(os.path.realpath(file), file)
    if not unique:
        raise MediaError("no pictures were given: name files, folders or patterns such as photos/*.jpg")
    return list(unique.values())


def output_paths(inputs: Sequence[Path], folder: Path, suffix: str) -> list[Path]:
    """One output per input, in order: `folder/STEM` + suffix, with -2, -3 ... where a stem comes again.

    No output meets another, also where the file system ignores case, and none overwrites an input.
    """
    taken = {_place(path) for path in inputs}
    outputs = []
    for path in inputs:
        names = (folder / f"{path.stem}{number}{suffix}" for number in _numbers())
        output = next(name for name in names if _place(name) not in taken)
        taken.add(_place(output))
        outputs.append(output)
    return outputs


def read_bytes(path: Path) -> bytes:
    """The content of an ordinary file of at most `MAX_BYTES`. Raises MediaError, also if it is empty."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise MediaError(f"{path} is a folder, not a picture")
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            raise MediaError(f"{path} is no ordinary file of at most {MAX_BYTES >> 20} MB")
        data = path.read_bytes()
    except FileNotFoundError:
        raise MediaError(f"{path} does not exist") from None
    except OSError as error:
        raise MediaError(f"cannot read {path}: {error.strerror or error}") from None
    if not data:
        raise MediaError(f"{path} is empty: copy it again")
    return data


def _numbers() -> Iterable[str]:
    yield ""
    number = 2
    while True:
        yield f"-{number}"
        number += 1


def _place(path: Path) -> str:
    return os.path.realpath(path).casefold()


def _expand(text: str) -> list[Path]:
    path = Path(text)
    try:
        if path.is_dir():
            return _pictures_in(path)
        if path.exists() or not glob.has_magic(text):
            return [path]
        matches = map(Path, glob.glob(text, recursive=True))  # noqa: PTH207  Path.glob refuses absolute patterns
        files = sorted(file for file in matches if file.is_file())
    except OSError as error:
        raise MediaError(f"cannot look into {text}: {error.strerror or error}") from None
    if not files:
        raise MediaError(f"no file fits the pattern {text}")
    return files


def _pictures_in(folder: Path) -> list[Path]:
    """The folder's own pictures by name, without hidden files."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file())
    shown = [path for path in files if not path.name.startswith(".")]
    if not shown:
        raise MediaError(f"{folder} has no pictures: name another folder, or a pattern such as {folder}/**/*.jpg")
    return shown
