"""Golden values: known inputs with the Cell's outputs for them, in a bundle's `golden.npz`.

With them any device can repeat the comparison with the Cell and its task accuracy, without MindSpore and without the
checkpoint.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from synergy.runtime.bundle import Bundle
from synergy.runtime.crop import CROP_SIZE
from synergy.runtime.errors import BundleError
from synergy.runtime.formats.npz import read_npz
from synergy.runtime.verification.reference import Reference

GOLDEN_NAME = "golden.npz"
GOLDEN_LIMIT = 1 << 21  # bytes of the file
CONTENT_LIMIT = 1 << 26  # bytes of all arrays in it
OUTPUT_PREFIX, POINTS_PREFIX = "output_", "points_"
OUTPUT_NAMES = ("params", "landmarks", "refined_landmarks", "vertices")


@dataclass(frozen=True)
class GoldenPicture:
    """A whole picture with one face, and what the reference pipeline gives for it.

    image_bgr (H,W,3) uint8; box_xyxy (4,) px; landmarks (68,3) image px; euler_deg (3,) yaw, pitch, roll in degrees,
    in the bundle's own convention.
    """

    image_bgr: np.ndarray
    box_xyxy: np.ndarray
    landmarks: np.ndarray
    euler_deg: np.ndarray


@dataclass(frozen=True)
class Golden:
    """All golden values of a bundle.

    reference: crops of F faces, then noise, with the Cell's outputs. Labels of the F faces: landmarks (F,2 or 3,68) in
    crop px, y down; yaw_deg (F,), whose absolute value selects the yaw bin; euler_deg (F,3) yaw, pitch, roll in degrees
    with the signs of AFLW2000-3D's labels, NaN where the pose is not scored.
    """

    reference: Reference
    picture: GoldenPicture
    landmarks: np.ndarray
    yaw_deg: np.ndarray
    euler_deg: np.ndarray


def encode_golden(golden: Golden) -> bytes:
    """The content of `golden.npz`. Raises ValueError if it exceeds 2 MB."""
    reference, picture = golden.reference, golden.picture
    arrays: dict[str, Any] = {
        "crops": reference.crops,
        "faces": np.array(reference.faces),
        **{OUTPUT_PREFIX + name: values for name, values in reference.outputs.items()},
        **{POINTS_PREFIX + name: indices for name, indices in reference.points.items()},
        "label_landmarks": golden.landmarks,
        "label_yaw_deg": golden.yaw_deg.astype(np.float64),
        "label_euler_deg": golden.euler_deg,
        "picture": picture.image_bgr,
        "picture_box_xyxy": picture.box_xyxy,
        "picture_landmarks": picture.landmarks,
        "picture_euler_deg": picture.euler_deg,
    }
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    data = stream.getvalue()
    if len(data) > GOLDEN_LIMIT:
        raise ValueError(f"golden values take {len(data)} bytes, the limit is {GOLDEN_LIMIT}: use fewer faces")
    return data


def read_golden(bundle: Bundle) -> Golden | None:
    """The golden values of a bundle; None if it has none (schema 1 and 2).

    Raises BundleError for a file that was altered or does not hold what it must.
    """
    entry = bundle.manifest.golden
    if entry is None:
        return None
    data = bundle.read(entry)
    try:
        return _golden(read_npz(data, CONTENT_LIMIT))
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{entry.file} does not hold golden values: {error}. Export the bundle again") from None


def _golden(arrays: dict[str, np.ndarray]) -> Golden:
    faces, count = int(arrays["faces"]), len(arrays["crops"])
    if not 1 <= faces <= count:
        raise ValueError(f"it has {count} crops, {faces} of them faces")
    outputs = {
        name: _numbers(arrays, OUTPUT_PREFIX + name, (count, None) if name == "params" else (count, 3, None))
        for name in OUTPUT_NAMES
        if OUTPUT_PREFIX + name in arrays
    }
    points = {name: arrays[POINTS_PREFIX + name] for name in outputs if POINTS_PREFIX + name in arrays}
    for name, indices in points.items():
        if indices.dtype.kind not in "iu" or indices.shape != outputs[name].shape[2:] or indices.min(initial=0) < 0:
            raise ValueError(f"{POINTS_PREFIX}{name} does not fit")
    crops = _pixels(arrays, "crops", (count, CROP_SIZE, CROP_SIZE, 3))
    picture = GoldenPicture(
        _pixels(arrays, "picture", (None, None, 3)),
        _numbers(arrays, "picture_box_xyxy", (4,)),
        _numbers(arrays, "picture_landmarks", (68, 3)),
        _numbers(arrays, "picture_euler_deg", (3,)),
    )
    landmarks = _numbers(arrays, "label_landmarks", (faces, None, 68))
    euler_deg = _numbers(arrays, "label_euler_deg", (faces, 3), finite=False)
    yaw_deg = _numbers(arrays, "label_yaw_deg", (faces,))
    return Golden(Reference(crops, faces, outputs, points), picture, landmarks, yaw_deg, euler_deg)


def _pixels(arrays: dict[str, np.ndarray], name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    array = arrays[name]
    if array.dtype != np.uint8 or not _fits(array.shape, shape):
        raise ValueError(f"{name} is {array.dtype} {array.shape}")
    return array


def _numbers(
    arrays: dict[str, np.ndarray], name: str, shape: tuple[int | None, ...], finite: bool = True
) -> np.ndarray:
    array = arrays[name]
    if array.dtype.kind != "f" or not _fits(array.shape, shape) or (finite and not np.isfinite(array).all()):
        raise ValueError(f"{name} is {array.dtype} {array.shape}, or not finite")
    return array


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        size > 0 and expected in (None, size) for size, expected in zip(shape, wanted, strict=True)
    )
