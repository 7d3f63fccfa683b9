"""How much the landmarks of a face that stands still tremble, as a noisy camera shows it: raw and smoothed."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np

from synergy.benchmarks.sample_crops import PORTRAIT, PORTRAIT_BOX_XYXY
from synergy.runtime.aligner import FaceAligner
from synergy.runtime.faces import Detection
from synergy.runtime.media.image import read_image
from synergy.runtime.tracking.smoothing import OneEuro, jitter
from synergy.runtime.tracking.tracker import FaceTracker, TrackOptions

FRAMES = 60  # at 30 per second
SETTLED = 10  # frames, until the filter has forgotten the first
# Of a small sensor indoors: what reading adds, and photons, whose variance grows with the light. 5 of 255 at mid grey.
READ_SIGMA, PHOTON_GAIN = 2.0, 0.16
SEED = 20120505


class JitterReport(msgspec.Struct, frozen=True):
    """Mean motion of a landmark from frame to frame on `engine`, in pixels and in percent of the face's size
    (`runtime.tracking.smoothing.jitter`), over `frames` frames; noise_sigma is the noise's at mid grey, of 255."""

    engine: str
    frames: int
    noise_sigma: float
    raw_px: float
    raw_percent: float
    smoothed_px: float
    smoothed_percent: float


class _OneBox:
    """A detector that always finds the portrait's face in the same place."""

    def detect(self, image_bgr: np.ndarray) -> list[Detection]:
        return [Detection(np.array(PORTRAIT_BOX_XYXY), 1.0)]


def measure_jitter(aligner: FaceAligner, frames: int = FRAMES) -> JitterReport:
    """Track the bundled portrait in noise, with and without the smoothing that videos get by default.

    The aligner's detector is replaced. Raises EngineError, ValueError for fewer than 12 frames or a network that is
    too bad to follow a face.
    """
    if frames < SETTLED + 2:
        raise ValueError(f"trembling shows after {SETTLED} frames: use {SETTLED + 2} or more, not {frames}")
    aligner.detector = _OneBox()
    raw, smoothed = (FaceTracker(aligner, TrackOptions(frames + 1, each)) for each in (None, OneEuro()))
    seen = [[_landmarks(tracker, frame) for tracker in (raw, smoothed)] for frame in noisy_frames(frames)]
    points = np.array(seen[SETTLED:])  # (T,2,68,3)
    before, after = jitter(points[:, 0]), jitter(points[:, 1])
    return JitterReport(
        engine=aligner.engine.name,
        frames=frames,
        noise_sigma=float(noise_sigma(np.array(127.5))),
        raw_px=before.px,
        raw_percent=before.percent,
        smoothed_px=after.px,
        smoothed_percent=after.percent,
    )


def _landmarks(tracker: FaceTracker, frame_bgr: np.ndarray) -> np.ndarray:
    faces = tracker.track(frame_bgr)
    if not faces:
        raise ValueError("this network loses a face that stands still: how it trembles is not known")
    return faces[0].landmarks


def noisy_frames(count: int) -> Iterator[np.ndarray]:
    """The portrait (H,W,3) uint8 BGR as a still camera sees it `count` times."""
    image = read_image(PORTRAIT).astype(np.float32)
    sigma = noise_sigma(image)
    random = np.random.default_rng(SEED)
    for _ in range(count):
        noise = random.standard_normal(image.shape, np.float32)
        yield np.clip(np.rint(image + sigma * noise), 0, 255).astype(np.uint8)


def noise_sigma(level: np.ndarray) -> np.ndarray:
    """Standard deviation of the noise where the light is `level`, 0 to 255."""
    return np.sqrt(READ_SIGMA**2 + PHOTON_GAIN * level)
