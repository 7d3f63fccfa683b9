"""Expand files, folders and patterns to input paths, and choose output paths."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from synergy.runtime.errors import MediaError
from synergy.runtime.text import is_url

# Files with these suffixes are read from folders; a file that is named itself may have any suffix.
IMAGE_SUFFIXES = (
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
# Pictures that OpenCV cannot read. They are taken from folders too, so that each is reported.
UNREADABLE_SUFFIXES = (
    ".arw",
    ".cr2",
    ".cr3",
    ".dng",
    ".heic",
    ".heif",
    ".hif",
    ".jxl",
    ".nef",
    ".orf",
    ".psd",
    ".raf",
    ".rw2",
    ".tga",
)
MAX_BYTES = 1 << 30  # largest input file


def expand_inputs(paths: Iterable[str | Path]) -> list[Path]:
    """Files, folders and patterns -> files, in the order given, each once.

    A folder stands for the images directly in it, sorted by name; a pattern such as `photos/**/*.jpg` is expanded as by
    a shell. A file that does not exist is kept, so that reading it reports that file only, and so are pictures of a
    folder with one of `UNREADABLE_SUFFIXES`.
    Raises MediaError if a folder or pattern matches nothing, or `paths` is empty.
    """
    unique: dict[str, Path] = {}
    for path in paths:
        for file in _expand(str(path)):
            unique.setdefault(os.path.realpath(file), file)
    if not unique:
        raise MediaError("no images were given: name files, folders or patterns such as photos/*.jpg")
    return list(unique.values())


def output_paths(inputs: Sequence[Path], folder: Path, suffix: str | Callable[[Path], str]) -> list[Path]:
    """One output path per input, in order: `folder/STEM` + suffix, with -2, -3 ... where a stem repeats.

    suffix: of all outputs, or a function of the input. The stems of all outputs differ, also on file systems that
    ignore case, and no output is an input.
    """
    taken = {_real_name(path) for path in inputs}
    outputs = []
    for path in inputs:
        end = suffix if isinstance(suffix, str) else suffix(path)
        names = (folder / f"{path.stem}{number}" for number in _numbers())
        stem = next(name for name in names if taken.isdisjoint((_real_name(name), _real_name(f"{name}{end}"))))
        taken.add(_real_name(stem))
        outputs.append(Path(f"{stem}{end}"))
    return outputs


def read_bytes(path: Path) -> bytes:
    """The content of a regular file of at most `MAX_BYTES`. Raises MediaError otherwise, and if it is empty."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise MediaError(f"{path} is a folder, not a file")
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            raise MediaError(f"{path} is not a regular file of at most {MAX_BYTES >> 20} MB")
        data = path.read_bytes()
    except FileNotFoundError:
        raise MediaError(f"{path} {'is a URL: download it first' if is_url(str(path)) else 'does not exist'}") from None
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


def _real_name(path: Path | str) -> str:
    return os.path.realpath(path).casefold()


def _expand(text: str) -> list[Path]:
    path = Path(text)
    try:
        if path.is_dir():
            return _images_in(path)
        if path.exists() or not glob.has_magic(text):
            return [path]
        matches = map(Path, glob.glob(text, recursive=True))  # noqa: PTH207  Path.glob refuses absolute patterns
        files = sorted(file for file in matches if file.is_file())
    except OSError as error:
        raise MediaError(f"cannot list {text}: {error.strerror or error}") from None
    if not files:
        raise MediaError(f"no file matches the pattern {text}: correct it, or name files")
    return files


def _images_in(folder: Path) -> list[Path]:
    """The images directly in the folder, sorted by name, without hidden files."""
    suffixes = (*IMAGE_SUFFIXES, *UNREADABLE_SUFFIXES)
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes and path.is_file())
    shown = [path for path in files if not path.name.startswith(".")]
    if not shown:
        raise MediaError(f"{folder} has no images: name another folder, or a pattern such as {folder}/**/*.jpg")
    return shown
