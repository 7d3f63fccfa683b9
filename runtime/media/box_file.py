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
    """Known face boxes by image.

    The file is JSON: `{"emma.jpg": [[x1, y1, x2, y2], ...], ...}`, or a plain list of boxes for a single image, or
    the report of `synergy infer --json`; or it is text with one `NAME x1 y1 x2 y2` per line. A name is a file name or
    a path; if several names match an image, the longest is used.
    """

    def __init__(self, path: Path, entries: dict[str, list[Box]]) -> None:
        self.path = path
        self.entries = entries
        self._only_image: str | None = None
        self._by_name: defaultdict[str, set[str]] | None = None

    @classmethod
    def read(cls, path: str | Path) -> BoxFile:
        """Read and check the whole file. Raises MediaError that names the wrong entry or line."""
        path = Path(path)
        try:
            text = read_bytes(path).decode("utf-8-sig").strip()
            entries = _json_boxes(text) if text.startswith(("{", "[")) else _text_boxes(text)
            for name, boxes in entries.items():
                _check_entry(name, boxes)
        except MediaError:
            raise
        except (ValueError, RecursionError) as error:  # msgspec's and Unicode's errors are ValueErrors too
            raise MediaError(f"{path} is not a box file: {error}") from None
        return cls(path, entries)

    def boxes_for(self, image: Path) -> np.ndarray:
        """The image's boxes (F,4) float64 x1, y1, x2, y2. Raises MediaError if the file has no entry for it."""
        real_path = os.path.realpath(image)
        if ANY_IMAGE in self.entries:
            self._only_image = self._only_image or real_path
            if real_path != self._only_image:
                raise MediaError(f"{self.path} is a plain list, which is for one image: use a file with image names")
        names = [name for name in self._candidates(image, real_path) if name == ANY_IMAGE or _matches(name, image)]
        if not names:
            raise MediaError(f"{self.path} has no entry for {image}: add one, with [] if it shows no face")
        boxes = self.entries[max(names, key=lambda name: len(Path(name).parts))]
        return np.array(boxes, np.float64).reshape(-1, 4)

    def _candidates(self, image: Path, real_path: str) -> set[str]:
        """The entries with this file name or real path, from an index: a file can have many thousands of entries."""
        if self._by_name is None:
            self._by_name = defaultdict(set)
            for name in self.entries:
                for key in (Path(name).name, os.path.realpath(name)):
                    self._by_name[key].add(name)
        return {
            *self._by_name.get(image.name, ()),
            *self._by_name.get(real_path, ()),
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
            raise ValueError(f"line {number} does not have the form NAME x1 y1 x2 y2") from None
        entries.setdefault(name, []).append((x1, y1, x2, y2))
    return entries


def _check_entry(name: str, boxes: list[Box]) -> None:
    try:
        check_boxes(np.array(boxes, np.float64).reshape(-1, 4))
    except ValueError as error:
        raise ValueError(f"entry {name or 1}: {error}") from None


def _matches(name: str, image: Path) -> bool:
    """Whether a name in a box file stands for this image: it is the same file, or the end of its path."""
    parts = Path(name).parts
    return os.path.realpath(name) == os.path.realpath(image) or image.absolute().parts[-len(parts) :] == parts
