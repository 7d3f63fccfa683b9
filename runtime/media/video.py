"""Videos and cameras: frames in, a video and lines of JSON out, whole also when stopped in the middle."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from synergy.runtime.errors import MediaError
from synergy.runtime.media.inputs import expand_inputs

VIDEO_SUFFIXES = (".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".webm", ".wmv")
CAMERA_PREFIX = "camera:"  # a file of that name can still be given as ./camera:0
CODEC = "mp4v"  # MPEG-4 part 2: what OpenCV writes everywhere, without the libraries that H.264 needs
UNKNOWN_FPS = 30.0
MAX_FPS = 240.0  # more is no frame rate: WebM of browsers says 1000, for its clock counts milliseconds
WHOLE = 0.9  # of the frames that a file says it has; of some formats that number is an estimate

# FFmpeg's own reports on a damaged file would stand beside our one line. Read once, when OpenCV first needs FFmpeg.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


@dataclass(frozen=True)
class Camera:
    """A camera by its number on this machine, from 0."""

    index: int

    def __str__(self) -> str:
        return f"{CAMERA_PREFIX}{self.index}"


@dataclass(frozen=True)
class Frame:
    """A frame (H,W,3) uint8 BGR, its number from 0, and its time since the start; times go on."""

    index: int
    time_s: float
    image_bgr: np.ndarray


def split_inputs(inputs: Iterable[str | Path]) -> tuple[list[Path], list[Path | Camera]]:
    """Files, folders, patterns and camera:N -> pictures, and videos by their suffix, each in the order given.

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

    fps: frames per second as the source says, 30 where it does not; frame_count: as it says, None of a camera.
    """

    def __init__(self, source: Path | Camera) -> None:
        """Raises MediaError if the file is missing, no video or without frames, or there is no such camera."""
        self.source = source
        self._capture = _open(source)
        self._ahead = self._read()
        if self._ahead is None:
            self.close()
            raise MediaError(f"{source} has no frame that can be read: {_cure(source)}")
        self._frames_read = 0
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps <= MAX_FPS else UNKNOWN_FPS
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.frame_count = count if count > 0 and isinstance(source, Path) else None

    def frames(self) -> Iterator[Frame]:
        """The frames to the source's end, upright as its rotation tag says; once only."""
        start_s, now_s = time.monotonic(), -1.0 / self.fps
        while self._ahead is not None:
            clock_s = self._clock_s(start_s)
            now_s = clock_s if clock_s > now_s else now_s + 1.0 / self.fps
            yield Frame(self._frames_read, now_s, self._ahead)
            self._frames_read += 1
            self._ahead = self._read()

    def check_end(self) -> None:
        """After the last frame: raises MediaError if the file ends long before it should, or it is a camera's last."""
        read, promised = self._frames_read, self.frame_count
        if isinstance(self.source, Camera):
            raise MediaError(f"{self.source} stopped after {read} frames: {_cure(self.source)}")
        if promised is not None and read < WHOLE * promised:
            raise MediaError(f"{self.source} ends after {read} of {promised} frames: copy it again")

    def close(self) -> None:
        """Let go of the file or camera; calling it twice is harmless."""
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

    def _clock_s(self, start_s: float) -> float:
        """A camera's frames have the time they came at, a file's the time they are shown at."""
        if isinstance(self.source, Camera):
            return time.monotonic() - start_s
        return float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000


class VideoWriter:
    """An .mp4 file without sound. Use as a context manager; the first frame fixes the size of all."""

    def __init__(self, path: Path, fps: float) -> None:
        self.path = path
        self.fps = fps
        self._writer: cv2.VideoWriter | None = None
        self._shape: tuple[int, ...] = ()
        self._written = 0

    def write(self, image_bgr: np.ndarray) -> None:
        """Append a frame (H,W,3) uint8. Raises MediaError if it differs in size or cannot be written.

        Of an odd width or height the last column or row is left out: the format has even ones only.
        """
        if self._writer is None:
            self._writer, self._shape = self._open(image_bgr), image_bgr.shape
        if image_bgr.shape != self._shape:
            raise MediaError(f"cannot write {self.path}: the pictures change their size in the middle of the video")
        self._writer.write(image_bgr)
        self._written += 1

    def close(self) -> None:
        """Finish the file. Raises MediaError if it does not hold all frames."""
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        found = _quiet_capture(str(self.path)).get(cv2.CAP_PROP_FRAME_COUNT)  # OpenCV does not tell of a full disk
        if found != self._written:
            raise MediaError(f"the video could not be written whole into {self.path.parent}: is the disk full?")

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _open(self, image_bgr: np.ndarray) -> cv2.VideoWriter:
        height, width = image_bgr.shape[:2]
        writer = cv2.VideoWriter(str(self.path), cv2.VideoWriter.fourcc(*CODEC), self.fps, (width, height))
        if not writer.isOpened():
            raise MediaError(f"cannot write a video of {width}x{height} pixels into {self.path.parent}")
        return writer


def _camera(text: str) -> Camera:
    number = text.removeprefix(CAMERA_PREFIX)
    if not (number.isascii() and number.isdigit() and len(number) < 4):
        raise MediaError(f"{text} is no camera: say camera:0 for the first one, or ./{text} for a file")
    return Camera(int(number))


def _open(source: Path | Camera) -> cv2.VideoCapture:
    if isinstance(source, Path) and not source.is_file():
        raise MediaError(f"{source} " + ("is no ordinary file" if source.exists() else "does not exist"))
    capture = _quiet_capture(source.index if isinstance(source, Camera) else str(source))
    if not capture.isOpened():
        what = "is not there" if isinstance(source, Camera) else "is no video that OpenCV can read, or is damaged"
        raise MediaError(f"{source} {what}: {_cure(source)}")
    return capture


def _cure(source: Path | Camera) -> str:
    if isinstance(source, Camera):
        return "plug it in, and end other programs that use it"
    return "copy it again, or convert it to .mp4"


def _quiet_capture(source: str | int) -> cv2.VideoCapture:
    """Without OpenCV's warnings on stderr."""
    log = cv2.utils.logging
    level = log.setLogLevel(log.LOG_LEVEL_SILENT)
    try:
        return cv2.VideoCapture(source)
    finally:
        log.setLogLevel(level)
