"""Set the times of the frames in an .mp4 file: OpenCV writes only constant frame rates."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import BinaryIO

CONTAINERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts")
# Where a box has its duration, after the box header: in units of the movie for all but the media header.
DURATION_AT = {b"mvhd": 16, b"tkhd": 20, b"mdhd": 16, b"elst": 8}
TIMESCALE_AT = 12  # of mvhd and mdhd: units per second


def set_frame_times(path: Path, times_s: Sequence[float], last_s: float) -> None:
    """Change the file so that its frames are shown at these times, which increase from 0.

    path: a video without sound that OpenCV's VideoWriter closed: one track, its index behind the frames. last_s: how
    long the last frame is shown. Raises ValueError for a file of another form, which is then unchanged.
    """
    with path.open("r+b") as file:
        start = _find_index(file)
        file.seek(start)
        index = _with_times(file.read(), times_s, last_s)
        file.seek(start)
        file.write(index)
        file.truncate()


def _find_index(file: BinaryIO) -> int:
    """Where the box `moov` begins, which must come behind the frames in `mdat`."""
    at, has_frames = 0, False
    while True:
        file.seek(at)
        size, kind = _header(file.read(16))
        if kind == b"moov" and has_frames:
            return at
        has_frames = has_frames or kind == b"mdat"
        at += size


def _header(data: bytes) -> tuple[int, bytes]:
    """Size and kind of the box that begins there. Raises ValueError at the end of the data."""
    if len(data) < 8:
        raise ValueError("the video file has no index behind its frames")
    size, kind = struct.unpack_from(">I4s", data)
    if size == 1 and len(data) >= 16:  # a long size follows
        (size,) = struct.unpack_from(">Q", data, 8)
    if size < 8:
        raise ValueError("the video file has a box without a size")
    return size, kind


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(data):
        size, kind = _header(data[at : at + 16])
        yield kind, data[at + 8 : at + size]
        at += size


def _with_times(data: bytes, times_s: Sequence[float], last_s: float) -> bytes:
    """The boxes in `data` with other times."""
    scales = {kind: struct.unpack_from(">I", body, TIMESCALE_AT)[0] for kind, body in _headers(data)}
    ends = [*times_s, times_s[-1] + last_s]
    ticks = [round(time * scales[b"mdhd"]) for time in ends]
    runs = [(len(list(group)), ticks_each) for ticks_each, group in groupby(b - a for a, b in pairwise(ticks))]
    table = struct.pack(">II", 0, len(runs)) + b"".join(struct.pack(">II", *run) for run in runs)

    def changed(data: bytes) -> bytes:
        parts = []
        for kind, body in _boxes(data):
            if kind in CONTAINERS:
                body = changed(body)
            elif kind == b"stts":
                body = table
            elif kind in DURATION_AT:
                if body[0]:
                    raise ValueError("the video file has 64-bit times")
                at = DURATION_AT[kind]
                scale = scales[b"mdhd" if kind == b"mdhd" else b"mvhd"]
                body = body[:at] + struct.pack(">I", round(ends[-1] * scale)) + body[at + 4 :]
            parts.append(struct.pack(">I4s", len(body) + 8, kind) + body)
        return b"".join(parts)

    return changed(data)


def _headers(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The movie's and the track's header, which have the timescales."""
    for kind, body in _boxes(data):
        if kind in (b"mvhd", b"mdhd"):
            yield kind, body
        elif kind in CONTAINERS:
            yield from _headers(body)
