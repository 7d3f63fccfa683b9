"""Read frames from videos and cameras, and write videos; a file is complete also if the run was stopped early."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from synergy.runtime.errors import MediaError
from synergy.runtime.formats.file_kinds import HEAD_BYTES, file_kind, mismatch
from synergy.runtime.media.inputs import expand_inputs
from synergy.runtime.media.mp4_times import set_frame_times
from synergy.runtime.media.video_file import states_more_bytes
from synergy.runtime.opencv import cv2

VIDEO_SUFFIXES = tuple(
    f".{name}"
    for name in "3gp avi flv m2ts m4v mkv mov mp4 mpeg mpg mts ogv ts webm wmv".split()  # noqa: SIM905
)
CAMERA_PREFIX = "camera:"  # a file with such a name can be given as ./camera:0
CODEC = "mp4v"  # MPEG-4 part 2: OpenCV writes it on every system; H.264 needs further libraries
DEFAULT_FPS = 30.0
MAX_FPS = 240.0  # larger values are not frame rates: WebM files of browsers state 1000, the clock rate
MIN_COMPLETE = 0.9  # share of the stated number of frames, or of the stated duration where the rate is variable
MIN_JITTER = 0.1  # in frames: frame times that differ more from a constant rate are written to the video

# Silence FFmpeg's messages about damaged files: the error message is ours. OpenCV reads this when it loads FFmpeg.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


@dataclass(frozen=True)
class Camera:
    """A camera by its index on this machine, from 0."""

    index: int

    def __str__(self) -> str:
        return f"{CAMERA_PREFIX}{self.index}"


@dataclass(frozen=True)
class Frame:
    """A frame (H,W,3) uint8 BGR, its index from 0, and its time since the start in seconds, which increases."""

    index: int
    time_s: float
    image_bgr: np.ndarray


def split_inputs(inputs: Iterable[str | Path]) -> tuple[list[Path], list[Path | Camera]]:
    """Files, folders, patterns and camera:N -> images, and videos and cameras; each in the order given.

    Files with one of `VIDEO_SUFFIXES` are videos.
    Raises MediaError as `runtime.media.inputs.expand_inputs`, and for camera:N without a number.
    """
    texts = [str(text) for text in inputs]
    cameras: list[Path | Camera] = [_camera(text) for text in texts if text.startswith(CAMERA_PREFIX)]
    files = [text for text in texts if not text.startswith(CAMERA_PREFIX)]
    paths = expand_inputs(files) if files or not cameras else []
    videos = [path for path in paths if path.suffix.lower() in VIDEO_SUFFIXES]
    return [path for path in paths if path not in videos], [*videos, *dict.fromkeys(cameras)]


class VideoReader:
    """An open video file or camera. Use as a context manager, or call `close`.

    fps: frames per second as the source states, 30 if it does not. frame_count: as the file states, None of a camera.
    """

    def __init__(self, source: Path | Camera) -> None:
        """Raises MediaError if the file is missing, is not a video or has no frames, or there is no such camera."""
        self.source = source
        self._capture = open_capture(source)
        self._next_image = self._read()
        if self._next_image is None:
            self.close()
            raise MediaError(f"{source} has no frame that can be read: {_cure(source)}")
        self._frames_read = 0
        self._end_s = 0.0
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps <= MAX_FPS else DEFAULT_FPS
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.frame_count = count if count > 0 and isinstance(source, Path) else None

    def frames(self) -> Iterator[Frame]:
        """The frames to the end of the source, rotated upright by its rotation tag. Can be iterated once."""
        start_s, now_s = time.monotonic(), -1.0 / self.fps
        while self._next_image is not None:
            clock_s = self.capture_clock_s(start_s)
            now_s = clock_s if clock_s > now_s else now_s + 1.0 / self.fps
            self._end_s = self._position_s() + 1.0 / self.fps
            yield Frame(self._frames_read, now_s, self._next_image)
            self._frames_read += 1
            self._next_image = self._read()

    def check_end(self) -> None:
        """Call after the last frame. Raises MediaError if the file is incomplete, or the source is a camera."""
        read, stated = self._frames_read, self.frame_count
        if isinstance(self.source, Camera):
            raise MediaError(f"{self.source} stopped after {read} frames: {_cure(self.source)}")
        cut = states_more_bytes(self.source)
        if cut:
            raise MediaError(f"{self.source} is incomplete and ends after {read} frames: copy it again")
        # Of a variable rate the number of frames is the duration times the highest rate.
        share = 1.0 if stated is None or cut is False else max(read, self._end_s * self.fps) / stated
        if share < MIN_COMPLETE:
            raise MediaError(f"{self.source} ends after {read} of {stated} frames: copy it again")

    def close(self) -> None:
        """Release the file or camera. Safe to call twice."""
        self._capture.release()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _read(self) -> np.ndarray | None:
        try:
            ok, image = self._capture.read()
        except cv2.error:
            return None
        return image if ok else None

    def _position_s(self) -> float:
        """The time of the frame in the file, whose first frame can be late: the stated duration includes that."""
        if isinstance(self.source, Camera):
            return 0.0
        stamp = self._capture.get(getattr(cv2, "CAP_PROP_PTS", -1)) / self.fps  # in frames; OpenCV 4.11 and later
        return max(stamp, float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000)

    def capture_clock_s(self, start_s: float) -> float:
        """The time of the frame: when it arrived from a camera, or its timestamp in a file."""
        if isinstance(self.source, Camera):
            return time.monotonic() - start_s
        return float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000


class VideoWriter:
    """Writes an .mp4 file without sound. Use as a context manager. All frames must have the size of the first.

    fps: frame rate where `write` gets no times.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path = path
        self.fps = fps
        self._writer: cv2.VideoWriter | None = None
        self._shape: tuple[int, ...] = ()
        self._written = 0
        self._times_s: list[float] = []

    def write(self, image_bgr: np.ndarray, time_s: float | None = None) -> None:
        """Append a frame (H,W,3) uint8 BGR. Raises MediaError if its size differs or it cannot be written.

        time_s: the frame's time, which must increase; None for one frame after the last. The first is taken as 0.

        The format has even sizes only: the last column or row of an odd size is dropped.
        """
        if self._writer is None:
            self._writer, self._shape = self.open_capture(image_bgr), image_bgr.shape
        if image_bgr.shape != self._shape:
            raise MediaError(f"cannot write {self.path}: the frame size changes within the video: split it there")
        self._writer.write(image_bgr)
        self._written += 1
        self._times_s.append(self._times_s[-1] + 1 / self.fps if time_s is None and self._times_s else time_s or 0.0)

    def close(self) -> None:
        """Finish the file. Raises MediaError if it does not contain all frames."""
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        times_s = [time - self._times_s[0] for time in self._times_s]
        if any(abs(time - i / self.fps) > MIN_JITTER / self.fps for i, time in enumerate(times_s)):
            with suppress(OSError, ValueError, KeyError, struct.error):  # an incomplete file is reported below
                set_frame_times(self.path, times_s, 1 / self.fps)
        found = _quiet_capture(str(self.path)).get(cv2.CAP_PROP_FRAME_COUNT)  # OpenCV does not report a full disk
        if found != self._written:
            raise MediaError(f"the video in {self.path.parent} is incomplete: is the disk full?")

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def open_capture(self, image_bgr: np.ndarray) -> cv2.VideoWriter:
        height, width = image_bgr.shape[:2]
        writer = cv2.VideoWriter(str(self.path), cv2.VideoWriter.fourcc(*CODEC), self.fps, (width, height))
        if not writer.isOpened():
            raise MediaError(f"cannot write a video of {width}x{height} pixels into {self.path.parent}")
        return writer


def _camera(text: str) -> Camera:
    number = text.removeprefix(CAMERA_PREFIX)
    if not (number.isascii() and number.isdigit() and len(number) < 4):
        raise MediaError(f"{text} is not a camera: use camera:0 for the first one, or ./{text} for a file")
    return Camera(int(number))


def open_capture(source: Path | Camera) -> cv2.VideoCapture:
    if isinstance(source, Path) and not source.is_file():
        raise MediaError(f"{source} " + ("is not a regular file" if source.exists() else "does not exist"))
    capture = _quiet_capture(source.index if isinstance(source, Camera) else str(source))
    if capture.isOpened():
        return capture
    if isinstance(source, Camera):
        raise MediaError(f"{source} was not found: {_cure(source)}")
    raise MediaError(f"{source} {_mismatch(source)}")


def _mismatch(source: Path) -> str:
    """What to say, after the path, of a file that cannot be opened as a video."""
    with suppress(OSError), source.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
        if file_kind(head):
            return mismatch(head, "a video")
    return f"is not a video that OpenCV can read, or is damaged: {_cure(source)}"


def _cure(source: Path | Camera) -> str:
    if isinstance(source, Camera):
        return "connect it, and close other programs that use it"
    return "copy it again, or convert it to .mp4"


def _quiet_capture(source: str | int) -> cv2.VideoCapture:
    """Open a video or camera without OpenCV's warnings on stderr."""
    log = cv2.utils.logging
    level = log.setLogLevel(log.LOG_LEVEL_SILENT)
    try:
        return cv2.VideoCapture(source)
    finally:
        log.setLogLevel(level)
