"""Smooth landmarks over time with the One-Euro filter, and measure their jitter.

Casiez, Roussel, Vogel: "1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive Systems",
CHI 2012. A low-pass filter whose cutoff rises with speed: strong on a still face, where jitter is visible, and weak on
a moving one, where lag would be.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synergy.runtime.faces import face_size


@dataclass(frozen=True)
class OneEuro:
    """The filter's constants, named as in the paper. The caller chooses the unit of length that speeds are based on.

    min_cutoff: cutoff at rest in Hz; lower means less jitter. beta: Hz per unit of speed; higher means less lag.
    d_cutoff: cutoff of the speed's own filter in Hz.
    Raises ValueError unless both cutoffs are above 0 and beta is 0 or more.

    The defaults suit faces, with the face's size as the unit for landmarks and the radian for rotations. Measured at
    30 frames per second on a still face in a noisy image: min_cutoff 1 removes four fifths of the jitter; with beta 16
    the output reaches 90 % of a sudden step of a tenth of the face in the third frame.
    """

    min_cutoff: float = 1.0
    beta: float = 16.0
    d_cutoff: float = 1.0

    def __post_init__(self) -> None:
        if not (self.min_cutoff > 0 and self.d_cutoff > 0 and self.beta >= 0):
            raise ValueError("One-Euro filter: min_cutoff and d_cutoff must be above 0 Hz, beta 0 or more")


class OneEuroFilter:
    """Smooths points (P,D) from frame to frame. A point's speed is that of all its coordinates together."""

    def __init__(self, constants: OneEuro) -> None:
        self.constants = constants
        self._time_s = 0.0
        self._points: np.ndarray | None = None
        self._velocity: np.ndarray = np.zeros(())

    def __call__(self, points: np.ndarray, time_s: float, unit: float | np.ndarray = 1.0) -> np.ndarray:
        """The smoothed points (P,D), a new float64 array; the first points are returned unchanged.

        unit: the length that speeds are based on, in the units of the points; one for all points, or (P,1) one for
        each. Raises ValueError unless `time_s` increases.
        """
        if self._points is None:
            self._time_s, self._points, self._velocity = time_s, points.astype(np.float64), np.zeros(points.shape)
            return self._points.copy()
        step_s = time_s - self._time_s
        if not step_s > 0:
            raise ValueError(f"time must increase from frame to frame: {time_s} s comes after {self._time_s} s")
        moved = points - self._points
        # from the smoothed position, as in the authors' own code since 2016
        velocity = self._velocity + _weight(self.constants.d_cutoff, step_s) * (moved / step_s - self._velocity)
        speed = np.sqrt((velocity * velocity).sum(axis=1, keepdims=True)) / unit
        weight = _weight(self.constants.min_cutoff + self.constants.beta * speed, step_s)
        self._time_s, self._points, self._velocity = time_s, self._points + weight * moved, velocity
        return self._points.copy()


def _weight(cutoff_hz: float | np.ndarray, step_s: float) -> float | np.ndarray:
    """The new sample's weight in an exponential filter with that cutoff."""
    angle = 2 * np.pi * cutoff_hz * step_s
    return angle / (angle + 1)


@dataclass(frozen=True)
class Jitter:
    """Mean distance of a landmark from one frame to the next: in pixels, and in percent of the face's size."""

    px: float
    percent: float


def jitter(landmarks: np.ndarray) -> Jitter:
    """The jitter of a face that does not move, from its landmarks (T,68,2 or 3) in T frames, x and y first.

    The face's size is that of NME: the square root of the area of the box of the mean landmarks. Raises ValueError for
    fewer than two frames or another shape.
    """
    points = np.asarray(landmarks, np.float64)
    if points.ndim != 3 or len(points) < 2 or points.shape[2] not in (2, 3):
        raise ValueError(f"jitter needs landmarks (T, 68, 2 or 3) of two frames or more, not {points.shape}")
    points = points[:, :, :2]
    moved = float(np.linalg.norm(np.diff(points, axis=0), axis=2).mean())
    return Jitter(moved, 100.0 * moved / face_size(points.mean(axis=0)))
