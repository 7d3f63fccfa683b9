"""Read MindSpore's checkpoint files (`.ckpt`) into NumPy arrays.

`mindspore.load_checkpoint` does not compare the size of a tensor with its shape: a damaged file makes it write beyond
its memory (MindSpore 2.10).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from synergy.runtime.formats.protobuf import BYTES, VARINT, fields, varint

# checkpoint.proto: Checkpoint.value; Value.tag, .tensor; TensorProto.dims, .tensor_type, .tensor_content
VALUE, TAG, TENSOR, DIMS, TYPE, CONTENT = 1, 1, 2, 1, 2, 3
DTYPES = {
    name: np.dtype(name.lower())
    for bits in (8, 16, 32, 64)
    for name in (f"Int{bits}", f"UInt{bits}", f"Float{bits}")
    if name != "Float8"
} | {"Bool": np.dtype(bool)}
TEXT = "str"  # stored as UTF-32
CRC_MARK, CRC_BYTES = b"crc_num", 10  # at the end of a file saved with crc_check=True
MAX_ENTRIES = 100_000  # a network with its optimiser's state has about 1,000
MAX_DIMS = 16


class CkptFileError(ValueError):
    """The file is not a MindSpore checkpoint, or is damaged; the text continues after its name."""


def parse_ckpt(data: bytes) -> dict[str, np.ndarray | str]:
    """The entries of a checkpoint by name: texts, and read-only arrays that share memory with `data`.

    Raises CkptFileError, also for a dtype other than those of `DTYPES` and for two entries with one name.
    """
    end = len(data)
    if data[end - CRC_BYTES - len(CRC_MARK) : end - CRC_BYTES] == CRC_MARK:
        end -= CRC_BYTES + len(CRC_MARK)
    found: dict[str, np.ndarray | str] = {}
    try:
        for name, parts in _entries(data, end):
            if name in found:
                raise CkptFileError(f"has two entries {name!r}")
            found[name] = _value(name, parts)
    except (EOFError, UnicodeDecodeError):
        raise CkptFileError("is not a MindSpore checkpoint, or is damaged or truncated") from None
    if not found:
        raise CkptFileError("has no entries")
    return found


Part = tuple[tuple[int, ...], str, memoryview]  # shape of the whole tensor, dtype, bytes


def _entries(data: bytes, end: int) -> Iterator[tuple[str, list[Part]]]:
    """Names and parts: tensors of more than 512 MB are stored as several entries with the same name, in order."""
    name, parts = "", list[Part]()
    for number, (field, wire, start, stop) in enumerate(fields(data, 0, end)):
        if number >= MAX_ENTRIES:
            raise CkptFileError(f"has more than {MAX_ENTRIES:,} entries")
        if field != VALUE or wire != BYTES:
            raise EOFError
        tag, part = _part(data, start, stop)
        if tag != name and parts:
            yield name, parts
            parts = []
        name = tag
        parts.append(part)
    if parts:
        yield name, parts


def _part(data: bytes, start: int, stop: int) -> tuple[str, Part]:
    tag = ""
    tensor: tuple[int, int] | None = None
    for field, wire, first, last in fields(data, start, stop):
        if field == TAG and wire == BYTES:
            tag = str(data[first:last], "utf-8")
        elif field == TENSOR and wire == BYTES:
            tensor = first, last
    if tensor is None:
        raise CkptFileError(f"has an entry {tag!r} that is no tensor")
    shape, dtype, content = list[int](), "", memoryview(b"")
    for field, wire, first, last in fields(data, *tensor):
        if field == DIMS:
            shape += _sizes(data, wire, first, last, MAX_DIMS - len(shape))
        elif field == TYPE and wire == BYTES:
            dtype = str(data[first:last], "utf-8")
        elif field == CONTENT and wire == BYTES:
            content = memoryview(data)[first:last]
    return tag, (tuple(shape), dtype, content)


def _sizes(data: bytes, wire: int, first: int, last: int, room: int) -> list[int]:
    """One size, or several packed into bytes; at most `room`."""
    if wire == VARINT:
        sizes = [first]
    else:
        sizes = []
        while first < last and len(sizes) <= room:
            size, first = varint(data, first, last)
            sizes.append(size)
    if len(sizes) > room:
        raise EOFError
    return sizes


def _value(name: str, parts: list[Part]) -> np.ndarray | str:
    shape, kind, content = parts[0]
    if any(part[:2] != (shape, kind) for part in parts):
        raise EOFError
    if len(parts) > 1:
        content = memoryview(b"".join(part[2] for part in parts))
    if kind == TEXT:
        return str(content, "utf-32-le")
    if kind not in DTYPES:
        known = ", ".join(DTYPES)
        raise CkptFileError(f"has {name!r} of type {kind[:40]!r}, which this program does not read: it reads {known}")
    dtype = DTYPES[kind]
    if shape == (0,):  # MindSpore's mark of a scalar
        shape = ()
    if math.prod(shape) * dtype.itemsize != len(content):
        raise CkptFileError(f"is damaged: {name!r} has {len(content)} bytes, its shape {list(shape)} needs others")
    return np.frombuffer(content, dtype).reshape(shape)
