"""Landmark jitter on a static face with camera noise, with and without smoothing."""

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
SETTLED = 10  # frames after which the first one no longer affects the filter
# Noise of a small sensor indoors: read noise, and photon noise, whose variance is proportional to brightness. Together
# a standard deviation of 5 of 255 at mid grey.
READ_SIGMA, PHOTON_GAIN = 2.0, 0.16
SEED = 20120505


class JitterReport(msgspec.Struct, frozen=True):
    """Mean landmark motion between frames, in pixels and in percent of the face size.

    See `runtime.tracking.smoothing.jitter`. noise_sigma: standard deviation of the noise at mid grey, of 255.
    """

    engine: str
    frames: int
    noise_sigma: float
    raw_px: float
    raw_percent: float
    smoothed_px: float
    smoothed_percent: float


class _OneBox:
    """A detector that always returns the same box."""

    def detect(self, image_bgr: np.ndarray) -> list[Detection]:
        return [Detection(np.array(PORTRAIT_BOX_XYXY), 1.0)]


def measure_jitter(aligner: FaceAligner, frames: int = FRAMES) -> JitterReport:
    """Track the bundled portrait with noise, with and without the default smoothing of videos.

    Replaces the aligner's detector. Raises EngineError; ValueError for fewer than 12 frames, or if the tracker loses
    the face.
    """
    if frames < SETTLED + 2:
        raise ValueError(f"jitter is measured after {SETTLED} frames: use {SETTLED + 2} or more, not {frames}")
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
        raise ValueError("the tracker loses a face that does not move: jitter cannot be measured with this network")
    return faces[0].landmarks


def noisy_frames(count: int) -> Iterator[np.ndarray]:
    """The portrait (H,W,3) uint8 BGR, `count` times with different noise."""
    image = read_image(PORTRAIT).astype(np.float32)
    sigma = noise_sigma(image)
    random = np.random.default_rng(SEED)
    for _ in range(count):
        noise = random.standard_normal(image.shape, np.float32)
        yield np.clip(np.rint(image + sigma * noise), 0, 255).astype(np.uint8)


def noise_sigma(level: np.ndarray) -> np.ndarray:
    """Standard deviation of the noise at brightness `level`, 0 to 255."""
    return np.sqrt(READ_SIGMA**2 + PHOTON_GAIN * level)
