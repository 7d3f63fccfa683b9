"""Known face boxes of images, read from a JSON or text file."""

from __future__ import annotations

import contextlib
import os
import re
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from synergy.runtime.crop import check_boxes
from synergy.runtime.errors import MediaError
from synergy.runtime.formats.file_kinds import HEAD_BYTES, TEXT_FILE, file_kind, mismatch
from synergy.runtime.formats.strict_json import decode
from synergy.runtime.media.inputs import read_bytes

MAX_BOXES = 4096  # of one image; each takes 43 kB as a crop, and more while it is cut out
ANY_IMAGE = ""  # the key of a plain list's boxes
Box = tuple[float, float, float, float]
Row = Annotated[list[float], msgspec.Meta(min_length=4, max_length=5)]  # the fifth is a score, which is ignored
# Of a line with five numbers or more. A name can end with a number, but not after the suffix of its file.
NAME_AND_SCORED_BOX = re.compile(r"(.*?\.\w+)((?:\s+[-+]?[\d.]+(?:[eE][-+]?\d+)?){5,})")


class BoxFile:
    """Known face boxes by image.

    The file is JSON: `{"emma.jpg": [[x1, y1, x2, y2], ...], ...}`, or a plain list of boxes for a single image, or
    the report of `synergy infer --json`, or annotations in COCO's format; or it is text with one `NAME x1 y1 x2 y2` per
    line. A fifth number, a score, is ignored. A name is a file name or a path; if several names match an image, the
    longest is used.
    """

    def __init__(self, path: Path, entries: dict[str, list[Box]]) -> None:
        self.path = path
        self.entries = entries
        self._only_image: str | None = None
        self._by_name: defaultdict[str, set[str]] | None = None

    @classmethod
    def read(cls, path: str | Path, box_format: str = "xyxy") -> BoxFile:
        """Read and check the whole file. Raises MediaError that names the wrong entry or line.

        box_format: "xyxy", or "xywh" for boxes x, y, width, height; reports of `infer` and COCO files state theirs.
        """
        path = Path(path)
        try:
            data = read_bytes(path)
            if file_kind(data[:HEAD_BYTES]) not in (None, TEXT_FILE):
                raise MediaError(f"{path} {mismatch(data[:HEAD_BYTES], 'a box file')}")
            text = data.decode("utf-8-sig").strip()
            entries = _json_boxes(text, box_format) if text.startswith(("{", "[")) else _text_boxes(text, box_format)
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


class _InferReport(msgspec.Struct):
    images: list[_InferImage]


class _CocoImage(msgspec.Struct):
    id: int
    file_name: str


class _CocoAnnotation(msgspec.Struct):
    image_id: int
    bbox: Row


class _CocoFile(msgspec.Struct):
    images: list[_CocoImage]
    annotations: list[_CocoAnnotation]


def _json_boxes(text: str, box_format: str) -> dict[str, list[Box]]:
    if text.startswith("["):
        return {ANY_IMAGE: [_box(row, box_format) for row in msgspec.json.decode(text, type=list[Row])]}
    with contextlib.suppress(msgspec.ValidationError):
        return _coco_boxes(msgspec.json.decode(text, type=_CocoFile))
    with contextlib.suppress(msgspec.ValidationError):
        report = msgspec.json.decode(text, type=_InferReport)
        entries: dict[str, list[Box]] = {}
        for image in report.images:
            if image.path in entries:
                raise ValueError(f"the image {image.path[:200]} occurs twice")
            entries[image.path] = [face.box_xyxy for face in image.faces]
        return entries
    content = decode(text, dict[str, Any])
    images = content.get("images")
    if isinstance(images, list) and images and all(isinstance(image, dict) for image in images):
        msgspec.convert(images, list[_InferImage])  # raises: it is a report with a wrong value
    return {name: _convert_entry(name, boxes, box_format) for name, boxes in content.items()}


def _coco_boxes(file: _CocoFile) -> dict[str, list[Box]]:
    names = {image.id: image.file_name for image in file.images}
    entries: dict[str, list[Box]] = {name: [] for name in names.values()}
    for annotation in file.annotations:
        if annotation.image_id not in names:
            raise ValueError(f"an annotation is for the image {annotation.image_id}, which is not listed")
        entries[names[annotation.image_id]].append(_box(annotation.bbox, "xywh"))
    return entries


def _box(row: list[float], box_format: str) -> Box:
    x1, y1, x2, y2 = row[:4]
    return (x1, y1, x1 + x2, y1 + y2) if box_format == "xywh" else (x1, y1, x2, y2)


def _convert_entry(name: str, boxes: object, box_format: str) -> list[Box]:
    try:
        return [_box(row, box_format) for row in msgspec.convert(boxes, list[Row])]
    except msgspec.ValidationError as error:
        raise ValueError(f"entry {name[:200]}: {error}") from None


def _text_boxes(text: str, box_format: str) -> dict[str, list[Box]]:
    entries: dict[str, list[Box]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        scored = NAME_AND_SCORED_BOX.fullmatch(line.strip())
        name, *numbers = [scored[1], *scored[2].split()] if scored else line.strip().rsplit(maxsplit=4)
        try:
            row = msgspec.convert([float(text) for text in numbers], Row)
            entries.setdefault(name, []).append(_box(row, box_format))
        except ValueError:
            raise ValueError(f"line {number} does not have the form NAME x1 y1 x2 y2") from None
    return entries


def _check_entry(name: str, boxes: list[Box]) -> None:
    if len(boxes) > MAX_BOXES:
        raise ValueError(f"entry {name[:200] or 1}: {len(boxes):,} boxes, over the limit of {MAX_BOXES:,} per image")
    try:
        check_boxes(np.array(boxes, np.float64).reshape(-1, 4))
    except ValueError as error:
        hint = "boxes x, y, width, height need --box-format xywh"
        raise ValueError(f"entry {name[:200] or 1}: {error}; {hint}") from None


def _matches(name: str, image: Path) -> bool:
    """Whether a name in a box file stands for this image: it is the same file, or the end of its path."""
    parts = Path(name).parts
    return os.path.realpath(name) == os.path.realpath(image) or image.absolute().parts[-len(parts) :] == parts
