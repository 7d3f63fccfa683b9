"""Known face boxes of images, read from a JSON or text file."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import msgspec
import numpy as np

from synergy.runtime.crop import check_boxes
from synergy.runtime.errors import MediaError
from synergy.runtime.media.inputs import read_bytes

ANY_IMAGE = ""  # the key of a plain list's boxes
Box = tuple[float, float, float, float]


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
            text = read_bytes(path).decode("utf-8-sig").strip()
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
        if ANY_IMAGE in self.entries:
            self._sole_picture = self._sole_picture or place
            if place != self._sole_picture:
                raise MediaError(f"{self.path} is a plain list, for one picture: name the pictures in it")
        names = [name for name in self._candidates(picture, place) if name == ANY_IMAGE or _names(name, picture)]
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
            *({ANY_IMAGE} & self.entries.keys()),
        }


class _InferFace(msgspec.Struct):
    box_xyxy: Box


class _InferImage(msgspec.Struct):
    path: str
    faces: list[_InferFace]


def _json_boxes(text: str) -> dict[str, list[Box]]:
    content = msgspec.json.decode(text)
    if isinstance(content, list):
        return {ANY_IMAGE: msgspec.convert(content, list[Box])}
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
