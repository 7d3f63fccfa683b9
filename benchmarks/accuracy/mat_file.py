"""Numeric arrays of MATLAB level 5 files (MathWorks, "MAT-File Format"), such as the labels of AFLW2000-3D.

Only what labels need: full real numeric arrays, compressed or not. Everything else in a file is passed over, and
asking for it by name is an error. Every length is checked before it is believed.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

HEADER = 128  # bytes: text, version, byte order
VERSION = 0x0100
BYTE_ORDERS = {b"IM": "<", b"MI": ">"}
INT32, MATRIX, COMPRESSED = 5, 14, 15
STORED_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
COMPLEX = 0x0800
SIZE_LIMIT = 1 << 26  # bytes of one array once inflated; a label file has a few thousand


class MatFileError(ValueError):
    """A file is no MATLAB level 5 file, is damaged, or lacks an array."""


def read_mat(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays `names` of the file, each in its own class and shape, native byte order.

    Raises OSError if it cannot be read, MatFileError saying what is wrong with it or which arrays it lacks.
    """
    try:
        arrays = dict(_wanted(path.read_bytes(), frozenset(names)))
    except (MatFileError, struct.error, zlib.error) as error:
        raise MatFileError(f"{path}: {error}") from None
    missing = [name for name in names if name not in arrays]
    if missing:
        raise MatFileError(f"{path} has no array {', '.join(missing)}")
    return arrays


def _wanted(data: bytes, names: frozenset[str]) -> Iterator[tuple[str, np.ndarray]]:
    order = _byte_order(data)
    for kind, payload in _elements(data[HEADER:], order, padded=False):
        if kind == COMPRESSED:
            kind, payload = next(_elements(_inflate(payload), order), (0, b""))
        if kind == MATRIX:
            yield from _matrix(payload, order, names)


def _byte_order(data: bytes) -> str:
    if data[:10] == b"MATLAB 7.3":
        raise MatFileError("is a MATLAB 7.3 file, only level 5 can be read: save it with -v6 or -v7")
    order = BYTE_ORDERS.get(data[126:HEADER])
    if order is None or struct.unpack_from(f"{order}H", data, 124) != (VERSION,):
        raise MatFileError("is not a MATLAB level 5 file")
    return order


def _elements(data: bytes, order: str, padded: bool = True) -> Iterator[tuple[int, bytes]]:
    """Type and content of each data element. Inside a matrix, and for matrices, contents fill up to 8 bytes."""
    at = 0
    while at < len(data):
        (word,) = struct.unpack_from(f"{order}I", data, at)
        small = word >> 16  # a short content shares the 8 bytes of the tag
        if small > 4:
            raise MatFileError("is damaged: an element has an impossible length")
        kind, size = (word & 0xFFFF, small) if small else struct.unpack_from(f"{order}II", data, at)
        start = at + (4 if small else 8)
        if start + size > len(data):
            raise MatFileError("ends early: copy it again")
        yield kind, data[start : start + size]
        at = at + 8 if small else start + (size if kind == COMPRESSED and not padded else -(-size // 8) * 8)


def _inflate(payload: bytes) -> bytes:
    stream = zlib.decompressobj()
    data = stream.decompress(payload, SIZE_LIMIT)
    if not stream.eof:
        raise MatFileError(f"is damaged, or holds an array of over {SIZE_LIMIT >> 20} MB")
    return data


def _matrix(payload: bytes, order: str, names: frozenset[str]) -> Iterator[tuple[str, np.ndarray]]:
    """The matrix if its name is wanted."""
    parts = _elements(payload, order)
    (_, flags), (dims_kind, dims), (_, name) = (next(parts, (0, b"")) for _ in range(3))
    text = name.decode("ascii", errors="replace")
    if text not in names:
        return
    (word,) = struct.unpack_from(f"{order}I", flags)
    dtype = CLASSES.get(word & 0xFF)
    if dtype is None or word & COMPLEX:
        raise MatFileError(f"{text} is not an array of real numbers")
    shape = tuple(_numbers(dims_kind if dims_kind == INT32 else 0, dims, order).tolist())
    values = _numbers(*next(parts, (0, b"")), order)
    if min(shape, default=-1) < 0 or math.prod(shape) != values.size:
        raise MatFileError(f"is damaged: {text} should be {shape} and has {values.size} values")
    yield text, values.astype(dtype).reshape(shape, order="F")


def _numbers(kind: int, content: bytes, order: str) -> np.ndarray:
    stored = STORED_TYPES.get(kind)
    if stored is None or len(content) % int(stored[1]):
        raise MatFileError("is damaged: numbers of an unknown type or length")
    return np.frombuffer(content, f"{order}{stored}")
