"""What following a face costs, frame by frame, beside the network's own run on one crop."""

from __future__ import annotations

import time
from collections.abc import Iterator

import cv2
import msgspec
import numpy as np

from synergy.benchmarks.sample_crops import PORTRAIT, PORTRAIT_BOX_XYXY
from synergy.runtime.aligner import FaceAligner
from synergy.runtime.faces import Detection
from synergy.runtime.media.image import read_image
from synergy.runtime.specs import DYNAMIC
from synergy.runtime.tracking.tracker import FaceTracker, TrackOptions

SIZE_WH = (640, 480)
FRAMES = 300
WARM_UP = 20  # frames, while the engine comes to its speed
SWAY_PX, SWAY_FRAMES = 20.0, 60  # how far the face goes to either side, and in how many frames it is back


class TrackingCostReport(msgspec.Struct, frozen=True):
    """Median ms of a frame of SIZE_WH pixels with one face that moves, and of the network alone on a crop, by turns.

    ratio: of both. frame_p95_ms: the 95th percentile, which is of frames that look twice. lost: frames without the
    face.
    """

    frames: int
    frame_ms: float
    frame_p95_ms: float
    network_ms: float
    ratio: float
    lost: int


class Finder:
    """A detector that knows where the face is, at no cost."""

    def __init__(self) -> None:
        self.box_xyxy = np.zeros(4)

    def detect(self, image_bgr: np.ndarray) -> list[Detection]:
        return [Detection(self.box_xyxy, 1.0)]


def measure_tracking_cost(aligner: FaceAligner, frames: int | None = None) -> TrackingCostReport:
    """Follow the bundled portrait's face through so many frames, `FRAMES` unless told. The aligner's detector is
    replaced."""
    frames = FRAMES if frames is None else frames
    finder = aligner.detector = Finder()
    tracker = FaceTracker(aligner, TrackOptions(redetect=frames + WARM_UP + 1))
    batch = 1 if aligner.input.shape[0] == DYNAMIC else aligner.input.shape[0]
    inputs = {aligner.input.name: np.zeros((batch, *aligner.input.shape[1:]), np.uint8)}
    times: list[tuple[float, float]] = []
    lost = 0
    for number, (frame, finder.box_xyxy) in enumerate(swaying(frames + WARM_UP)):
        start = time.perf_counter()
        faces = tracker.track(frame)
        between = time.perf_counter()
        aligner.engine.run(inputs)
        if number >= WARM_UP:
            times.append((between - start, time.perf_counter() - between))
            lost += not faces
    followed, alone = 1e3 * np.array(times).T
    frame_ms, network_ms = float(np.median(followed)), float(np.median(alone))
    p95_ms = float(np.percentile(followed, 95))
    return TrackingCostReport(frames, frame_ms, p95_ms, network_ms, frame_ms / network_ms, lost)


def swaying(count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Frames (480,640,3) uint8 BGR of the portrait, which goes to and fro, each with its face box (4,)."""
    portrait = read_image(PORTRAIT)
    height, width = portrait.shape[:2]
    scale = SIZE_WH[1] / height
    left = (SIZE_WH[0] - scale * width) / 2
    for number in range(count):
        x = left + SWAY_PX * np.sin(2 * np.pi * number / SWAY_FRAMES)
        move = np.array([[scale, 0, x], [0, scale, 0]])
        frame = cv2.warpAffine(portrait, move, SIZE_WH, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        yield frame, np.array(PORTRAIT_BOX_XYXY) * scale + np.array([x, 0, x, 0])
