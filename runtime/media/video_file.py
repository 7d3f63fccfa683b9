"""Whether a video file is complete, from its bytes: for formats that state no number of frames."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

FLV = b"FLV"
EBML = b"\x1a\x45\xdf\xa3"  # Matroska: .mkv and .webm
SEGMENT = b"\x18\x53\x80\x67"
HEADER_BYTES = 4096
# Formats without a stated end: MPEG program streams and Ogg; their duration is read at the end of the file.
ENDLESS = (b"\x00\x00\x01\xba", b"OggS")
TS_SYNC, TS_PACKETS = 0x47, (188, 192)  # transport streams; the second kind has four more bytes before each packet


def states_more_bytes(path: Path) -> bool | None:
    """Whether the file should be longer than it is. None if its format does not say so, but a number of frames.

    In Matroska and FLV, OpenCV's number of frames is an estimate from the duration of all streams, sound included.
    """
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
        if header.startswith(FLV):
            return not _ends_with_tag(file)
    if header.startswith(EBML):
        end = _segment_end(header)
        return end is not None and end > path.stat().st_size
    is_transport = any(header[size % 188 :: size][:3] == bytes([TS_SYNC] * 3) for size in TS_PACKETS)
    return False if is_transport or header.startswith(ENDLESS) else None


def _ends_with_tag(file: BinaryIO) -> bool:
    """Whether an FLV file ends with a whole tag: each is followed by its size."""
    end = file.seek(-4, os.SEEK_END)
    size = int.from_bytes(file.read(4), "big")
    if not 11 <= size <= end:
        return False
    file.seek(end - size + 1)
    return int.from_bytes(file.read(3), "big") == size - 11


def _segment_end(header: bytes) -> int | None:
    """Where the only segment of a Matroska file ends; None if it is not stated, as in live recordings."""
    at = header.find(SEGMENT) + len(SEGMENT)
    if at < len(SEGMENT) or at >= len(header) or not header[at]:
        return None
    length = 9 - header[at].bit_length()  # of the size: the first 1 in the first byte tells it
    value = int.from_bytes(header[at : at + length], "big") & ((1 << 7 * length) - 1)
    return None if value == (1 << 7 * length) - 1 else at + length + value
