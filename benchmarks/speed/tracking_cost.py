"""Time per video frame of tracking a face, compared with one run of the network on a crop."""

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
WARM_UP_FRAMES = 20  # not timed
SWAY_PX, SWAY_FRAMES = 20.0, 60  # amplitude and period of the face's motion


class TrackingCostReport(msgspec.Struct, frozen=True):
    """Median ms per frame of SIZE_WH pixels with one moving face, and of the network alone on a crop, alternating.

    frame_p95_ms: 95th percentile; frames in which the tracker runs the network twice. ratio: frame_ms / network_ms.
    lost: number of frames in which the face was not found.
    """

    frames: int
    frame_ms: float
    frame_p95_ms: float
    network_ms: float
    ratio: float
    lost: int


class FixedDetector:
    """Returns the given box without computing."""

    def __init__(self) -> None:
        self.box_xyxy = np.zeros(4)

    def detect(self, image_bgr: np.ndarray) -> list[Detection]:
        return [Detection(self.box_xyxy, 1.0)]


def measure_tracking_cost(aligner: FaceAligner, frames: int | None = None) -> TrackingCostReport:
    """Track the face of the bundled portrait through `frames` frames, by default `FRAMES`. Replaces the aligner's
    detector."""
    frames = FRAMES if frames is None else frames
    detector = aligner.detector = FixedDetector()
    tracker = FaceTracker(aligner, TrackOptions(redetect=frames + WARM_UP_FRAMES + 1))
    batch = 1 if aligner.predictor.input.shape[0] == DYNAMIC else aligner.predictor.input.shape[0]
    inputs = {aligner.predictor.input.name: np.zeros((batch, *aligner.predictor.input.shape[1:]), np.uint8)}
    times: list[tuple[float, float]] = []
    lost = 0
    for number, (frame, detector.box_xyxy) in enumerate(moving_portrait(frames + WARM_UP_FRAMES)):
        start = time.perf_counter()
        faces = tracker.track(frame)
        between = time.perf_counter()
        aligner.engine.run(inputs)
        if number >= WARM_UP_FRAMES:
            times.append((between - start, time.perf_counter() - between))
            lost += not faces
    tracked, network = 1e3 * np.array(times).T
    frame_ms, network_ms = float(np.median(tracked)), float(np.median(network))
    p95_ms = float(np.percentile(tracked, 95))
    return TrackingCostReport(frames, frame_ms, p95_ms, network_ms, frame_ms / network_ms, lost)


def moving_portrait(count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Frames (480,640,3) uint8 BGR of the portrait moving left and right, each with its face box (4,) XYXY."""
    portrait = read_image(PORTRAIT)
    height, width = portrait.shape[:2]
    scale = SIZE_WH[1] / height
    left = (SIZE_WH[0] - scale * width) / 2
    for number in range(count):
        x = left + SWAY_PX * np.sin(2 * np.pi * number / SWAY_FRAMES)
        move = np.array([[scale, 0, x], [0, scale, 0]])
        frame = cv2.warpAffine(portrait, move, SIZE_WH, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        yield frame, np.array(PORTRAIT_BOX_XYXY) * scale + np.array([x, 0, x, 0])
