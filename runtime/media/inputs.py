"""Pictures in and out: reading whatever people have, writing whole files or none."""

from __future__ import annotations

import glob
import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import msgspec
import numpy as np

from synergy.runtime.crop import check_boxes
from synergy.runtime.errors import MediaError
from synergy.runtime.files import write_file
from synergy.runtime.media.image import decode_picture

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
ANY_PICTURE = ""  # the name of a plain list's boxes
Box = tuple[float, float, float, float]


def read_image(path: str | Path) -> np.ndarray:
    """Read a picture as (H,W,3) uint8 BGR; `runtime.media.image.decode_picture` says what becomes of unusual ones.

    Raises MediaError if the file is missing, no picture, damaged or too large.
    """
    return decode_image(path, _read_bytes(Path(path)))


def decode_image(name: str | Path, data: bytes) -> np.ndarray:
    """As `read_image`, from the bytes of the file of that name."""
    try:
        return decode_picture(data)
    except ValueError as error:
        raise MediaError(f"{name} {error}") from None


def write_image(path: str | Path, image_bgr: np.ndarray) -> None:
    """Write a picture in the format of the path's suffix, whole or not at all; makes the folder.

    Raises MediaError for an unknown suffix or if the disk refuses.
    """
    path = Path(path)
    try:
        ok, data = cv2.imencode(path.suffix, image_bgr)
    except cv2.error:
        ok = False
    if not ok:
        raise MediaError(f"cannot write {path}: no such picture format, or too large for it; use a name ending in .png")
    write_file(path, data.tobytes())


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


class BoxFile:
    """Known face boxes, by picture.

    The file is JSON: `{"emma.jpg": [[x1, y1, x2, y2], ...], ...}`, or a plain list of boxes for a single picture, or
    what `synergy infer --json` writes; or it is text, one `NAME x1 y1 x2 y2` per line. A name may be a bare file name
    or a path; of several that fit a picture the longest counts.
    """

    def __init__(self, path: Path, entries: dict[str, list[Box]]) -> None:
        self.path = path
        self.entries = entries
        self._sole_picture: str | None = None
        self._by_name: defaultdict[str, set[str]] | None = None

    @classmethod
    def read(cls, path: str | Path) -> BoxFile:
        """Read and check all of it. Raises MediaError naming the entry or line that is wrong."""
        path = Path(path)
        try:
            text = _read_bytes(path).decode("utf-8-sig").strip()
            entries = _json_boxes(text) if text.startswith(("{", "[")) else _text_boxes(text)
            for name, boxes in entries.items():
                _check_entry(name, boxes)
        except MediaError:
            raise
        except (ValueError, RecursionError) as error:  # msgspec's and Unicode's errors are ValueErrors too
            raise MediaError(f"{path} is no list of boxes: {error}") from None
        return cls(path, entries)

    def boxes_for(self, picture: Path) -> np.ndarray:
        """The picture's boxes (F,4) float64 x1, y1, x2, y2. Raises MediaError if the file does not name it."""
        place = os.path.realpath(picture)
        if ANY_PICTURE in self.entries:
            self._sole_picture = self._sole_picture or place
            if place != self._sole_picture:
                raise MediaError(f"{self.path} is a plain list, for one picture: name the pictures in it")
        names = [name for name in self._candidates(picture, place) if name == ANY_PICTURE or _names(name, picture)]
        if not names:
            raise MediaError(f"{self.path} has no entry for {picture}: add one, with [] if it shows no face")
        boxes = self.entries[max(names, key=lambda name: len(Path(name).parts))]
        return np.array(boxes, np.float64).reshape(-1, 4)

    def _candidates(self, picture: Path, place: str) -> set[str]:
        """Entries by the picture's bare name or its real place: of many thousands, the few that may mean it."""
        if self._by_name is None:
            self._by_name = defaultdict(set)
            for name in self.entries:
                for key in (Path(name).name, os.path.realpath(name)):
                    self._by_name[key].add(name)
        return {
            *self._by_name.get(picture.name, ()),
            *self._by_name.get(place, ()),
            *({ANY_PICTURE} & self.entries.keys()),
        }


class _InferFace(msgspec.Struct):
    box_xyxy: Box


class _InferImage(msgspec.Struct):
    path: str
    faces: list[_InferFace]


def _json_boxes(text: str) -> dict[str, list[Box]]:
    content = msgspec.json.decode(text)
    if isinstance(content, list):
        return {ANY_PICTURE: msgspec.convert(content, list[Box])}
    images = content.get("images")
    if isinstance(images, list) and all(isinstance(image, dict) for image in images):
        report = msgspec.convert(images, list[_InferImage])
        return {image.path: [face.box_xyxy for face in image.faces] for image in report}
    return {name: _convert_entry(name, boxes) for name, boxes in content.items()}


def _convert_entry(name: str, boxes: object) -> list[Box]:
    try:
        return msgspec.convert(boxes, list[Box])
    except msgspec.ValidationError as error:
        raise ValueError(f"entry {name}: {error}") from None


def _text_boxes(text: str) -> dict[str, list[Box]]:
    entries: dict[str, list[Box]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, *numbers = line.strip().rsplit(maxsplit=4)
        try:
            x1, y1, x2, y2 = (float(text) for text in numbers)
        except ValueError:
            raise ValueError(f"line {number} is not NAME x1 y1 x2 y2") from None
        entries.setdefault(name, []).append((x1, y1, x2, y2))
    return entries


def _check_entry(name: str, boxes: list[Box]) -> None:
    try:
        check_boxes(np.array(boxes, np.float64).reshape(-1, 4))
    except ValueError as error:
        raise ValueError(f"entry {name or 1}: {error}") from None


def _names(name: str, picture: Path) -> bool:
    """Whether a name in a box file means this picture: the same file, or the end of its path."""
    parts = Path(name).parts
    return os.path.realpath(name) == os.path.realpath(picture) or picture.absolute().parts[-len(parts) :] == parts


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


def _read_bytes(path: Path) -> bytes:
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
