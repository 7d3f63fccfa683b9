"""Check the structure of a MATLAB file (level 5) before SciPy reads it: SciPy crashes on types that it does not expect.

The format is described in MathWorks' "MAT-File Format". Level 4 files have no such structure.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection

HEADER_BYTES = 128
CONTENT_LIMIT = 1 << 24  # bytes of all variables, unpacked
MI_INT8, MI_INT32, MI_UINT32, MI_MATRIX, MI_COMPRESSED = 1, 5, 6, 14, 15
MI_NUMBERS = {1, 2, 3, 4, 5, 6, 7, 9, 12, 13}
PLAIN_CLASSES = range(1, 16)  # cell, struct, object, char, sparse and the numbers
NUMERIC_CLASSES = range(6, 16)
COMPLEX = 0x0800
MAX_DIMS = 32


class MatDamageError(ValueError):
    """The file does not have the structure of a MATLAB file."""


def check_structure(data: bytes, names: Collection[str]) -> None:
    """Raise MatDamageError unless every variable is complete, and those called `names` have data of numbers.

    Files of level 4 and 7.3 are not checked.
    """
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None or 0 in data[:4] or data[124:126] not in (b"\x00\x01", b"\x01\x00"):
        return
    position, unpacked = HEADER_BYTES, 0
    while position < len(data):
        kind, start, size, _ = _tag(data, position, order)
        content = data[start : start + size]
        position = start + size
        if kind == MI_COMPRESSED:
            inflater = zlib.decompressobj()
            content = inflater.decompress(content, CONTENT_LIMIT - unpacked)
            if inflater.unconsumed_tail:
                raise MatDamageError(f"its variables have more than {CONTENT_LIMIT >> 20} MB")
            kind, start, size, _ = _tag(content, 0, order)
            content = content[start : start + size]
        unpacked += len(content)
        if kind != MI_MATRIX:
            raise MatDamageError(f"an element of type {kind} is no variable")
        _check_variable(content, order, names)


def _check_variable(content: bytes, order: str, names: Collection[str]) -> None:
    flags_kind, start, size, position = _tag(content, 0, order)
    if flags_kind != MI_UINT32 or size != 8:
        raise MatDamageError("a variable has no flags")
    (flags,) = struct.unpack_from(f"{order}I", content, start)
    if flags & 0xFF not in PLAIN_CLASSES:
        raise MatDamageError("a variable is an object or a function: save the arrays alone")
    kind, _, size, position = _tag(content, position, order)
    if kind != MI_INT32 or size % 4 or not 8 <= size <= 4 * MAX_DIMS:
        raise MatDamageError("a variable has no valid size")
    kind, start, size, position = _tag(content, position, order)
    if kind != MI_INT8:
        raise MatDamageError("a variable has no name")
    if content[start : start + size].decode("latin-1") not in names or flags & 0xFF not in NUMERIC_CLASSES:
        return
    for _ in range(2 if flags & COMPLEX else 1):
        kind, _, size, position = _tag(content, position, order)
        if kind not in MI_NUMBERS:
            raise MatDamageError(f"the values of a variable have type {kind}")


def _tag(data: bytes, position: int, order: str) -> tuple[int, int, int, int]:
    """Type, start and size of the content of the element at `position`, and where the next element starts."""
    if position + 8 > len(data):
        raise MatDamageError("it ends inside a variable")
    kind, size = struct.unpack_from(f"{order}II", data, position)
    start = position + 8
    if kind >> 16:  # a small element: its content follows in the tag
        kind, size, start = kind & 0xFFFF, kind >> 16, position + 4
        if size > 4:
            raise MatDamageError("an element is larger than its tag")
        return kind, start, size, position + 8
    if start + size > len(data):
        raise MatDamageError("it ends inside a variable")
    return kind, start, size, start + (size + 7) // 8 * 8
