"""NME and pose MAE as AFLW2000-3D reports them (Zhu et al., CVPR 2016; FSA-Net's pose protocol)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synergy.runtime.decode import COMMON_POSE, dewhiten, euler_deg

YAW_BINS = ((0, 30), (30, 60), (60, 90))
MAX_POSE_DEG = 99.0  # samples with a larger angle are left out of the pose error, as the protocol does


@dataclass(frozen=True)
class NmeBin:
    """Faces with |yaw| in `range_deg`: how many, mean and population standard deviation of NME in percent.

    `mean` and `std` are NaN where the bin is empty.
    """

    range_deg: tuple[int, int]
    count: int
    mean: float
    std: float


@dataclass(frozen=True)
class Accuracy:
    """NME in percent: three bins, then mean and population std of the filled bins' means.

    Pose MAE in degrees: `mae_deg` (yaw, pitch, roll), `mae` their mean; `nme_per_image` (N,) percent.
    """

    bins: tuple[NmeBin, ...]
    nme: float
    nme_std: float
    mae_deg: tuple[float, float, float]
    mae: float
    nme_per_image: np.ndarray


def nme_percent(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Landmarks (N,2 or 3,68) in the same pixels -> (N,) mean 2-D distance / sqrt(w h) of the truth's box, percent."""
    if predicted.ndim != 3 or truth.ndim != 3 or predicted.shape[0::2] != truth.shape[0::2]:
        raise ValueError(f"landmarks are {predicted.shape} and {truth.shape}: give both as (N, 2 or 3, points)")
    predicted, truth = predicted[:, :2].astype(np.float64), truth[:, :2].astype(np.float64)
    width, height = np.ptp(truth, axis=2).T
    distance = np.linalg.norm(predicted - truth, axis=1).mean(axis=1)
    return 100.0 * distance / np.sqrt(width * height)


def label_euler_deg(params: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Whitened parameters (N,62) -> yaw, pitch, roll (N,3) in degrees, with the signs of AFLW2000-3D's labels."""
    return euler_deg(dewhiten(params, mean, std), COMMON_POSE)


def measure(
    landmarks: np.ndarray, euler_deg: np.ndarray, true_landmarks: np.ndarray, true_euler_deg: np.ndarray
) -> Accuracy:
    """Score predictions: landmarks (N,2 or 3,68) px, Euler angles (N,3) yaw, pitch, roll in degrees."""
    nme = nme_percent(landmarks, true_landmarks)
    bins = tuple(_bin(nme, np.abs(true_euler_deg[:, 0]), limits) for limits in YAW_BINS)
    means = np.array([entry.mean for entry in bins if entry.count])
    kept = (np.abs(true_euler_deg) <= MAX_POSE_DEG).all(axis=1)
    error = np.abs(euler_deg - true_euler_deg)[kept].mean(axis=0)
    yaw, pitch, roll = (float(value) for value in error)
    return Accuracy(bins, float(means.mean()), float(means.std()), (yaw, pitch, roll), float(error.mean()), nme)


def _bin(nme: np.ndarray, yaw: np.ndarray, limits: tuple[int, int]) -> NmeBin:
    low, high = limits
    inside = yaw <= high if low == 0 else yaw > low
    if low > 0 and high < YAW_BINS[-1][1]:
        inside &= yaw <= high
    chosen = nme[inside]
    if not chosen.size:
        return NmeBin(limits, 0, float("nan"), float("nan"))
    return NmeBin(limits, int(chosen.size), float(chosen.mean()), float(chosen.std()))
