"""Predictions for crops, by an exported bundle or from a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synergy.benchmarks.accuracy.data import POINTS, DataError, check_finite
from synergy.runtime.aligner import FaceAligner
from synergy.runtime.decode import LANDMARK_FRAMES, PARAMS, dewhiten, vertices
from synergy.synergy_model.checkpoints.array_files import ArrayFileError, read_arrays
from synergy.synergy_model.checkpoints.morphable_files import read_morphable
from synergy.synergy_model.checkpoints.torch_pickle import TorchFileError
from synergy.synergy_model.metrics import label_euler_deg

BASES = {"u_base": (3 * POINTS, 1), "w_shp_base": (3 * POINTS, 40), "w_exp_base": (3 * POINTS, 10)}
WHITENING_KEYS = (("param_mean", "param_std"), ("mean", "std"))


@dataclass(frozen=True)
class Predictions:
    """Predictions for N crops: landmarks (N,2 or 3,68) crop px, y down; euler_deg (N,3) yaw, pitch, roll in degrees.

    The angles have the signs of the AFLW2000-3D labels, which are the common ones, for every network. They are None if
    the pose is unknown; pose_missing: the reason.
    """

    landmarks: np.ndarray
    euler_deg: np.ndarray | None
    pose_missing: str | None = None


Predictor = Callable[[np.ndarray], Predictions]


def bundle_predictor(aligner: FaceAligner) -> Predictor:
    """A function from crops (N,120,120,3) uint8 BGR to Predictions, by an open bundle: exactly what it delivers."""

    def predict(crops_bgr_u8: np.ndarray) -> Predictions:
        found = aligner.predict(crops_bgr_u8)
        return Predictions(found.landmarks, found.euler_deg)

    return predict


def predictions_from_npz(
    path: Path,
    count: int,
    whitening: Path | None = None,
    morphable: Path | None = None,
    convention: str | None = None,
) -> Predictions:
    """Read predictions for `count` crops, in the order of the rows, from an .npz file.

    The file has `landmarks` (count, 2 or 3, 68) in crop px, y down, or `params` (count, 62), whitened. If it has both,
    landmarks are scored for NME and parameters for pose. Parameters need `whitening` (.npz or .pkl with param_mean and
    param_std, or mean and std); without landmarks they also need `morphable` (.npz with u_base, w_shp_base,
    w_exp_base) and `convention` (synergynet, 3ddfa_v2 or 3ddfa): the networks differ in the origin of crop pixels.
    Raises DataError naming the file and the missing or wrong array.
    """
    if convention is not None and convention not in LANDMARK_FRAMES:
        raise ValueError(f"unknown convention {convention!r}: use {' or '.join(LANDMARK_FRAMES)}")
    content = _read(path)
    if "params" not in content:
        landmarks = _landmarks(content, path, count)
        return Predictions(landmarks, None, f"{path} has landmarks only: pose needs params (N, {PARAMS})")
    params = _checked(content["params"], (count, PARAMS), f"{path}: params").astype(np.float64)
    if whitening is None:
        raise DataError(f"{path} has whitened params: give --whitening FILE with param_mean and param_std")
    mean, std = read_whitening(whitening)
    euler = label_euler_deg(params, mean, std)
    if "landmarks" in content:
        return Predictions(_landmarks(content, path, count), euler)
    if morphable is None:
        raise DataError(f"{path} has params and no landmarks: give --morphable FILE.npz with {', '.join(BASES)}")
    if convention is None:
        raise DataError(f"{path} has params of an unknown network: give --convention {' or '.join(LANDMARK_FRAMES)}")
    bases = read_bases(morphable)
    return Predictions(vertices(dewhiten(params, mean, std), *bases, LANDMARK_FRAMES[convention]), euler)


def read_whitening(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """param_mean and param_std (62,) from an .npz or .pkl file; no code in a pickle is executed."""
    content = _read(path)
    for keys in WHITENING_KEYS:
        if all(key in content for key in keys):
            mean, std = (_checked(np.ravel(content[key]), (PARAMS,), f"{path}: {key}") for key in keys)
            return mean, std
    raise DataError(f"{path} has neither param_mean and param_std nor mean and std")


def read_bases(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """u_base (204,1), w_shp_base (204,40), w_exp_base (204,10) from a file that `read_morphable` takes."""
    content = _without_damage(path, lambda: read_morphable([path]))
    missing = [key for key in BASES if key not in content]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}")
    u, shape, expression = (_checked(content[key], size, f"{path}: {key}") for key, size in BASES.items())
    return u, shape, expression


def _landmarks(content: dict[str, np.ndarray], path: Path, count: int) -> np.ndarray:
    if "landmarks" not in content:
        raise DataError(f"{path} has neither landmarks (N, 2 or 3, {POINTS}) nor params (N, {PARAMS})")
    landmarks = content["landmarks"]
    rows = landmarks.shape[1] if landmarks.ndim == 3 and landmarks.shape[1] in (2, 3) else 3
    return _checked(landmarks, (count, rows, POINTS), f"{path}: landmarks")


def _checked(array: np.ndarray, shape: tuple[int, ...], source: str) -> np.ndarray:
    if array.shape != shape or array.dtype.kind not in "fiu":
        raise DataError(f"{source} is {array.dtype} {array.shape}, expected numbers {shape}")
    check_finite(array, source)
    return array


def _read(path: Path) -> dict[str, np.ndarray]:
    return _without_damage(path, lambda: read_arrays(path))


def _without_damage(path: Path, read: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    try:
        return read()
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except (ArrayFileError, TorchFileError) as error:
        raise DataError(str(error)) from None
