"""Read the fields of a protobuf message in place, without its schema and without copies."""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, GROUP_START, GROUP_END, FIXED32 = 0, 1, 2, 3, 4, 5  # wire types


def fields(data: bytes, position: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type and range of each field; of a VARINT, its value instead of the start.

    Raises EOFError if a field goes beyond the end, or is none.
    """
    while position < end:
        key, position = varint(data, position, end)
        wire, first = key & 7, position
        if wire == VARINT:
            first, position = varint(data, position, end)
        elif wire == BYTES:
            size, first = varint(data, position, end)
            position = first + size
        elif wire in (FIXED32, FIXED64):
            position += 4 if wire == FIXED32 else 8
        elif wire not in (GROUP_START, GROUP_END):  # the fields of a group are looked at as those of its message
            raise EOFError
        if position > end:
            raise EOFError
        yield (key & 0xFFFFFFFF) >> 3, wire, first, position


def varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while position < end and shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise EOFError
