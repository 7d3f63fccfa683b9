"""AFLW2000-3D: load the official evaluation layout or raw samples, and build the layout from raw samples.

The layout that the official code of SynergyNet reads (the misspelt names are official):

    ROOT/AFLW2000-3D_crop/*.jpg     crops, 120x120
    ROOT/AFLW2000-3D_crop.list      their names in row order
    ROOT/eval/*.npy                 the labels named below
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from synergy.benchmarks.accuracy.aflw2000_raw import RawSample, pose_counts, read_raw_samples
from synergy.benchmarks.accuracy.data import DataError, EvaluationData, check_finite, check_labels
from synergy.benchmarks.accuracy.imresize import imresize
from synergy.runtime.crop import CROP_SIZE, crop_resize
from synergy.runtime.directories import staged_directory
from synergy.runtime.errors import MediaError
from synergy.runtime.files import read_file
from synergy.runtime.formats.npz import read_npy
from synergy.runtime.media.image import read_image

TITLE = "AFLW2000-3D"
CROPS, LIST, EVAL = "AFLW2000-3D_crop", "AFLW2000-3D_crop.list", "eval"
LABELS = {"original": "AFLW2000-3D.pts68.npy", "reannotated": "AFLW2000-3D-Reannotated.pts68.npy"}
YAW = "AFLW2000-3D.pose.npy"  # degrees; defines the yaw bins, also for the re-annotated landmarks
ROI = "AFLW2000-3D_crop.roi_box.npy"
SKIP = "ALFW2000-3D_pose_3ANG_skip.npy"  # indices of the rows whose pose is not scored
EXCL = "ALFW2000-3D_pose_3ANG_excl.npy"  # pitch, yaw, roll of the other rows, degrees
OFFICIAL_BORDER = 5  # the official benchmark sets the outer 5 pixels of crops to black, the official demos do not
JPEG_QUALITY = 95

Progress = Callable[[float, str], None]


def load_official(
    root: Path, border: int = OFFICIAL_BORDER, labels: str = "original", pictures: bool = True
) -> EvaluationData:
    """Load the official layout. Without the two pose files only landmarks can be scored.

    border: width in pixels of the black border of crops. labels: original or reannotated landmarks. pictures: False
    reads only labels, to score predictions from a file; then crops and their list are not needed.
    Raises DataError naming the file, and the line or row, that is missing or wrong.
    """
    if labels not in LABELS:
        raise ValueError(f"unknown labels {labels!r}: use {' or '.join(LABELS)}")
    truth = _load_landmarks(root, LABELS[labels])
    count = len(truth)
    names = _read_list(root / LIST, count, optional=not pictures)
    yaw, rois = _load(root, YAW, (count,)), _load(root, ROI, (count, 4))
    check_finite(yaw, str(root / EVAL / YAW))
    _check_rois(rois, root / EVAL / ROI)
    pose, scored, missing = _load_pose(root, count)
    crops = _read_crops(root, names) if pictures else np.zeros((0, CROP_SIZE, CROP_SIZE, 3), np.uint8)
    source = f"{count} samples of {root.resolve().name}, {labels} labels"
    data = EvaluationData(TITLE, source, names, crops, truth, yaw, rois, pose, scored, missing)
    return data.with_border(border) if pictures else data


def load_raw(folder: Path, border: int = 0) -> EvaluationData:
    """Load a folder of raw samples: crops are cut by the rule of the published boxes and resized linearly.

    Raises DataError naming the file that is missing or wrong.
    """
    samples = read_raw_samples(folder)
    images = (sample.image_bgr() for sample in samples)
    pairs = [_raw_crop(sample, image) for sample, image in zip(samples, images, strict=True)]
    euler = np.stack([sample.euler_deg for sample in samples])
    data = EvaluationData(
        title=TITLE,
        source=f"{len(samples)} raw samples of {folder.resolve().name}",
        names=tuple(sample.picture.name for sample in samples),
        crops=np.stack([crop for crop, _ in pairs]),
        landmarks=np.stack([sample.landmarks for sample in samples]),
        yaw_deg=euler[:, 0],
        roi_xyxy=np.stack([roi for _, roi in pairs]),
        pose_deg=euler,
        scored=pose_counts(euler),
    )
    return data.with_border(border)


def prepare(raw: Path, out: Path, progress: Progress) -> int:
    """Build the official layout `out` from the raw dataset, completely or not at all; returns the number of samples.

    The re-annotated landmarks are not written: the raw dataset does not have them. `progress` is called with the
    completed fraction, 0 to 1, and a description. Raises DataError for bad data, and if `out` exists.
    """
    if out.exists():
        raise DataError(f"{out} exists: choose another name, or remove it first")
    progress(0.0, "reading labels")
    samples = read_raw_samples(raw)
    with staged_directory(out, replace=False) as stage:
        (stage / CROPS).mkdir()
        (stage / EVAL).mkdir()
        rois = []
        for number, sample in enumerate(samples):
            rois.append(_write_crop(sample, stage / CROPS))
            progress((number + 1) / len(samples), sample.picture.name)
        (stage / LIST).write_text("".join(f"{sample.picture.name}\n" for sample in samples), encoding="utf-8")
        _write_labels(stage / EVAL, samples, np.stack(rois))
    return len(samples)


def matlab_crop(image_bgr: np.ndarray, roi_xyxy: np.ndarray) -> np.ndarray:
    """The official crop: pixels x1..x2, y1..y2, counted from 1, both ends included. Outside the image is black."""
    left, top, right, bottom = (int(edge) for edge in roi_xyxy - [1, 1, 0, 0])
    height, width = image_bgr.shape[:2]
    canvas = np.zeros((bottom - top, right - left, 3), np.uint8)
    rows, columns = slice(max(top, 0), max(bottom, 0)), slice(max(left, 0), max(right, 0))
    inside = image_bgr[rows, columns]
    y, x = min(rows.start, height) - top, min(columns.start, width) - left
    canvas[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    return canvas


def _raw_crop(sample: RawSample, image_bgr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    roi = sample.published_roi(image_bgr)
    return crop_resize(image_bgr, roi), roi


def _write_crop(sample: RawSample, folder: Path) -> np.ndarray:
    """Write the crop of the whole region; returns the region clipped to the image, as published."""
    image = sample.image_bgr()
    crop = imresize(matlab_crop(image, sample.roi_xyxy), CROP_SIZE)
    _, data = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    (folder / sample.picture.name).write_bytes(data.tobytes())
    return sample.published_roi(image)


def _write_labels(folder: Path, samples: list[RawSample], rois: np.ndarray) -> None:
    euler = np.stack([sample.euler_deg for sample in samples]).astype(np.float32)
    counted = pose_counts(euler)
    arrays = {
        LABELS["original"]: np.stack([sample.landmarks for sample in samples]).astype(np.float32),
        YAW: euler[:, 0],
        ROI: rois.astype(np.float32),
        SKIP: np.flatnonzero(~counted),
        EXCL: euler[counted][:, [1, 0, 2]],
    }
    for name, array in arrays.items():
        np.save(folder / name, array)


def _load_landmarks(root: Path, name: str) -> np.ndarray:
    """The landmarks. All other files must have the same number of rows."""
    if not root.is_dir():
        raise DataError(f"{root} is not a folder: `synergy aflw2000 prepare` builds it from the raw data")
    truth = _load(root, name)
    check_labels(truth, str(root / EVAL / name))
    if not len(truth):
        raise DataError(f"{root / EVAL / name} has no rows")
    return truth


def _read_list(path: Path, count: int, optional: bool) -> tuple[str, ...]:
    """The file names in the list, one per row of the labels; blank lines at its end are ignored."""
    try:
        lines = path.read_text(encoding="utf-8").rstrip().splitlines()
    except FileNotFoundError:
        if optional:
            return tuple(f"row-{row:05d}" for row in range(count))
        raise DataError(f"{path} is missing: `synergy aflw2000 prepare` builds the layout from the raw data") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not a text file of picture names") from None
    if len(lines) != count:
        raise DataError(f"{path} has {len(lines)} lines, the labels in {path.parent / EVAL} have {count} rows")
    return tuple(line.strip() for line in lines)


def _read_crops(root: Path, names: tuple[str, ...]) -> np.ndarray:
    return np.stack([_read_crop(root, name, line) for line, name in enumerate(names, start=1)])


def _read_crop(root: Path, name: str, line: int) -> np.ndarray:
    where = f"{root / LIST}, line {line}"
    if not name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise DataError(f"{where}: {name!r} is not a picture inside {CROPS}")
    try:
        image = read_image(root / CROPS / name)
    except MediaError as error:
        raise DataError(f"{where}: {error}") from None
    if image.shape != (CROP_SIZE, CROP_SIZE, 3):
        raise DataError(f"{where}: {name} is {image.shape[1]}x{image.shape[0]}, crops are {CROP_SIZE}x{CROP_SIZE}")
    return image


def _load(root: Path, name: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Load a numeric array; check its shape if `shape` is given."""
    path = root / EVAL / name
    try:
        array = read_npy(read_file(path))
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except (ValueError, OSError) as error:
        raise DataError(f"{path} {error}") from None
    if array.dtype.kind not in "fiu" or (shape is not None and array.shape != shape):
        wanted = "numbers" if shape is None else f"numbers {shape}, a row per sample"
        raise DataError(f"{path} is {array.dtype} {array.shape}: expected {wanted}")
    return array


def _check_rois(rois: np.ndarray, path: Path) -> None:
    check_finite(rois, str(path))
    empty = (rois[:, 2:] <= rois[:, :2]).any(axis=1)
    if empty.any():
        raise DataError(f"{path}, row {int(empty.argmax())}: a box is x1, y1, x2, y2 with x1 < x2 and y1 < y2")


def _load_pose(root: Path, count: int) -> tuple[np.ndarray | None, np.ndarray | None, str | None]:
    """Angles (N,3) yaw, pitch, roll, NaN where not scored; scored rows (N,) bool; names of missing files, if any."""
    missing = [str(root / EVAL / name) for name in (EXCL, SKIP) if not (root / EVAL / name).is_file()]
    if missing:
        return None, None, f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
    skip = _load(root, SKIP)
    if skip.ndim != 1 or len(set(skip.tolist()) & set(range(count))) != len(skip):
        raise DataError(f"{root / EVAL / SKIP} must list different rows from 0 to {count - 1}")
    scored = np.ones(count, bool)
    scored[skip.astype(np.int64)] = False
    angles = _load(root, EXCL, (int(scored.sum()), 3))
    check_finite(angles, str(root / EVAL / EXCL))
    pose = np.full((count, 3), np.nan)
    pose[scored] = angles[:, [1, 0, 2]]
    return pose, scored, None
