"""Raw AFLW2000-3D samples as downloaded: pairs of imageNNNNN.jpg and imageNNNNN.mat."""

from __future__ import annotations

import io
import math
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synergy.benchmarks.accuracy.data import POINTS, DataError, check_labels
from synergy.benchmarks.accuracy.mat_structure import check_structure
from synergy.runtime.errors import MediaError
from synergy.runtime.files import read_file
from synergy.runtime.formats.file_kinds import HEAD_BYTES, file_kind, mismatch
from synergy.runtime.media.image import read_image
from synergy.runtime.text import first_line

LANDMARKS, POSE = "pt3d_68", "Pose_Para"
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")  # the first is taken where a sample has several
ROI_FACTOR = np.sqrt(2)  # side of the crop, relative to the longer side of the landmarks' bounding box
MAX_POSE_DEG = 99.0  # faces with a larger angle are excluded from the pose error (protocol of FSA-Net)
MAX_POSE_RAD = 2 * np.pi  # the published labels reach 6.13; larger values are in degrees
FARTHEST = 8192  # pixels; larger coordinates come from damaged labels and would need huge crops
MATLAB_FILE = "a MATLAB file"
MAT_FILE_LIMIT = 1 << 20  # bytes; the label files of AFLW2000-3D have about 4,000
MAT_NUMBERS = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)} | {"single", "double"}
# errors that SciPy raises for damaged files, beside its own
MAT_DAMAGE = (ValueError, TypeError, LookupError, OverflowError, OSError, UserWarning, struct.error, zlib.error)
MAT_ARRAY_LIMIT = 1 << 16  # values of one array; pt3d_68 has 204


@dataclass(frozen=True)
class RawSample:
    """One photo and its labels: landmarks (3,68) float32 image px, y down; euler_deg (3,) yaw, pitch, roll.

    roi_xyxy (4,) is the crop region by the rule of the published boxes; it may extend beyond the photo.
    """

    picture: Path
    landmarks: np.ndarray
    euler_deg: np.ndarray
    roi_xyxy: np.ndarray

    def image_bgr(self) -> np.ndarray:
        """The photo (H,W,3) uint8. Raises DataError if it cannot be read."""
        try:
            return read_image(self.picture)
        except MediaError as error:
            raise DataError(str(error)) from None

    def published_roi(self, image_bgr: np.ndarray) -> np.ndarray:
        """The region (4,) clipped to 1..width and 1..height (MATLAB's pixel numbers), as in the official file.

        55 of the 2000 regions are clipped and not square. The protocol maps results back by the clipped region.
        """
        height, width = image_bgr.shape[:2]
        clipped = self.roi_xyxy.clip(1, [width, height, width, height])
        if (clipped[2:] <= clipped[:2]).any():
            raise DataError(f"{self.picture}: the landmarks of its .mat file lie outside the {width}x{height} photo")
        return clipped


def read_raw_samples(folder: Path) -> list[RawSample]:
    """Labels of all samples in the folder, sorted by name. Raises DataError naming a wrong or missing file."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: give the one with image*.jpg and image*.mat")
    labels = _by_stem(folder, (".mat",))
    pictures = _by_stem(folder, PICTURE_SUFFIXES)
    for stems, suffix in ((pictures.keys() - labels.keys(), "mat"), (labels.keys() - pictures.keys(), "jpg")):
        if stems:
            more = f" (and {len(stems) - 1} more)" if len(stems) > 1 else ""
            raise DataError(
                f"{folder / min(stems)}.{suffix} is missing{more}: every sample needs a .jpg and a .mat file"
            )
    if not labels:
        raise DataError(f"{folder} has no samples: give the folder with image*.jpg and image*.mat")
    return [read_raw_sample(labels[stem], pictures[stem]) for stem in sorted(labels)]


def _by_stem(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """The files with one of the suffixes, in capitals or not, without hidden files such as macOS's `._image.mat`."""
    files = [path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith(".")]
    found: dict[str, Path] = {}
    for path in sorted(files, key=lambda path: suffixes.index(path.suffix.lower())):
        found.setdefault(path.stem, path)
    return found


def read_raw_sample(path: Path, picture: Path) -> RawSample:
    """The labels of one .mat file, for this picture. Raises DataError if they are incomplete or not finite."""
    arrays = read_mat(path, (LANDMARKS, POSE))
    landmarks, pose = arrays[LANDMARKS], arrays[POSE].reshape(-1)[:3]
    if landmarks.shape != (3, POINTS) or pose.size != 3:
        raise DataError(f"{path}: needs {LANDMARKS} (3, {POINTS}) and {POSE} (1, 3 or more), not {landmarks.shape}")
    if not np.isfinite(pose).all():
        raise DataError(f"{path}: {POSE} has a value that is NaN or infinite")
    if np.abs(pose).max() > MAX_POSE_RAD:
        raise DataError(
            f"{path}: {POSE} has {np.abs(pose).max():g}, beyond 2 pi, so it is in degrees: convert it to radians"
        )
    check_labels(landmarks[None], f"{path}: {LANDMARKS}", place="")
    if np.abs(landmarks).max() > FARTHEST:
        raise DataError(f"{path}: {LANDMARKS} reach beyond {FARTHEST} pixels")
    pitch, yaw, roll = np.degrees(pose)
    roi = roi_of_landmarks(landmarks)
    return RawSample(picture, landmarks, np.array([yaw, pitch, roll]), roi)


def read_mat(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The numeric arrays `names` of a MATLAB file (level 4 or 5), with the dtype and shape that the file gives them.

    Raises DataError, naming the file, if it is not such a file, is damaged or too large, or lacks an array;
    ModuleNotFoundError without SciPy.
    """
    try:
        from scipy.io import loadmat, whosmat
        from scipy.io.matlab import MatReadError
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("reading .mat labels needs SciPy: pip install 'synergy-mindir[bench]'") from error
    damage = (MatReadError, *MAT_DAMAGE)
    data = _read_labels(path)
    try:
        check_structure(data, names)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # SciPy's, of data that may be corrupt
            listed = {name: (shape, kind) for name, shape, kind in whosmat(io.BytesIO(data))}  # without the values
            _check_arrays(path, listed, names)
            arrays = loadmat(io.BytesIO(data), variable_names=list(names))
    except DataError:
        raise
    except NotImplementedError:
        raise DataError(f"{path} is a MATLAB 7.3 file: save it with -v6 or -v7") from None
    except damage as error:
        kind = file_kind(data[:HEAD_BYTES])
        if kind is not None and not kind.name.startswith(MATLAB_FILE):
            raise DataError(f"{path} {mismatch(data[:HEAD_BYTES], MATLAB_FILE)}") from None
        reason = first_line(error)[:200]
        raise DataError(f"{path} is not a MATLAB file, or is damaged ({reason}): download it again") from None
    return {name: arrays[name] for name in names}


def _read_labels(path: Path) -> bytes:
    try:
        return read_file(path, MAT_FILE_LIMIT)
    except ValueError as error:
        raise DataError(f"{path} {error}") from None


def _check_arrays(path: Path, listed: dict[str, tuple[tuple[int, ...], str]], names: Sequence[str]) -> None:
    """Raise DataError unless every array is in the file, numeric, and of a size that labels may have."""
    missing = [name for name in names if name not in listed]
    if missing:
        raise DataError(f"{path} has no array {', '.join(missing)}")
    for name in names:
        shape, kind = listed[name]
        if kind not in MAT_NUMBERS:
            raise DataError(f"{path}: {name} is of type {kind}, needed are real numbers")
        if math.prod(shape) > MAT_ARRAY_LIMIT:
            raise DataError(f"{path}: {name} has shape {shape}, a label has at most {MAT_ARRAY_LIMIT:,} values")


def roi_of_landmarks(landmarks: np.ndarray) -> np.ndarray:
    """Landmarks (2 or 3,68) image px -> square crop region (4,) x1, y1, x2, y2 in whole pixels.

    Clipped, it equals the published box for each of the 2000 samples. x2, y2 are computed from the rounded x1, y1.
    """
    points = landmarks[:2].astype(np.float64)
    low, high = points.min(axis=1), points.max(axis=1)
    side = ROI_FACTOR * (high - low).max()
    corner = _round_half_away((low + high) / 2 - side / 2)
    return np.concatenate([corner, _round_half_away(corner + side)])


def pose_counts(euler_deg: np.ndarray) -> np.ndarray:
    """Angles (N,3) in degrees -> (N,) bool: whether the pose of a face is scored."""
    return (np.abs(euler_deg) <= MAX_POSE_DEG).all(axis=1)


def _round_half_away(values: np.ndarray) -> np.ndarray:
    """Round like MATLAB: halves away from zero. NumPy rounds halves to even."""
    return np.copysign(np.floor(np.abs(values) + 0.5), values)
