"""Read 3DMM bases from the files of `--morphable`: this program's `.npz`, and 3DDFA_V2's `bfm_noneck_v3.pkl` and
`tri.pkl`."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from synergy.synergy_model.checkpoints.array_files import ArrayFileError, read_array_file

SPARSE_KEYS = ("u_base", "w_shp_base", "w_exp_base")
DENSE_WIDTHS = {"u": 1, "w_shp": 40, "w_exp": 10}  # columns that the network's parameters use
DENSE_KEYS = tuple(DENSE_WIDTHS)
TRIANGLES = "triangles"
UPSTREAM_TRIANGLES = "tri"  # beside `KEYPOINTS`
KEYPOINTS = "keypoints"  # rows of the dense bases that belong to the 68 landmarks
SPARSE_ROWS = 204
NUMBERS = "fiub"  # NumPy's kinds of plain numbers


def read_morphable(paths: Sequence[Path]) -> dict[str, np.ndarray]:
    """The arrays of `SPARSE_KEYS`, `DENSE_KEYS` and `TRIANGLES` that the files hold; bases are float32.

    Where a file has `keypoints` and dense bases, as 3DDFA_V2's, the sparse bases are rows of the dense ones. A file
    that is a single array holds triangles.
    Raises FileNotFoundError, ArrayFileError or TorchFileError, which name the file.
    """
    found: dict[str, np.ndarray] = {}
    for path in paths:
        arrays = _read(path)
        twice = [key for key in arrays if key in found]
        if twice:
            raise ArrayFileError(f"{path} has {', '.join(twice)}, and so has an earlier file: give only one of them")
        found.update(arrays)
    tri, u = found.pop(UPSTREAM_TRIANGLES, None), found.get("u")
    if tri is not None and u is not None and TRIANGLES not in found:
        with contextlib.suppress(ValueError):  # bfm_noneck_v3.pkl has those of a larger mesh: tri.pkl has its own
            found[TRIANGLES] = faces(tri, len(u) // 3)
    return found


def _read(path: Path) -> dict[str, np.ndarray]:
    content = read_array_file(path)
    if isinstance(content, np.ndarray):
        if content.dtype.kind not in NUMBERS or content.ndim != 2 or 3 not in content.shape:
            raise ArrayFileError(f"{path} is a single array {content.shape}: expected named bases, or triangles (T, 3)")
        return {TRIANGLES: content}
    known = {key: content[key] for key in (*SPARSE_KEYS, *DENSE_KEYS, TRIANGLES) if key in content}
    if not known:
        expected = ", ".join((*SPARSE_KEYS, *DENSE_KEYS, TRIANGLES))
        raise ArrayFileError(f"{path} holds none of {expected}: give a file with 3DMM bases")
    arrays = {key: array if key == TRIANGLES else float32(array, key, path) for key, array in known.items()}
    if KEYPOINTS in content and all(key in arrays for key in DENSE_KEYS):
        arrays = {**_upstream_bases(arrays, content[KEYPOINTS], path), **arrays}
        if UPSTREAM_TRIANGLES in content:
            arrays[UPSTREAM_TRIANGLES] = content[UPSTREAM_TRIANGLES]
        arrays.update({key: _columns(arrays[key], width) for key, width in DENSE_WIDTHS.items()})
    return arrays


def _upstream_bases(dense: dict[str, np.ndarray], keypoints: np.ndarray, path: Path) -> dict[str, np.ndarray]:
    """The sparse bases: rows `keypoints` of the dense ones."""
    rows = min(len(np.atleast_1d(dense[key])) for key in DENSE_KEYS)
    indices = keypoints.reshape(-1)
    valid = indices.dtype.kind in "iu" and indices.size == SPARSE_ROWS and indices.min() >= 0 and indices.max() < rows
    if not valid:
        raise ArrayFileError(f"{path}: keypoints must be {SPARSE_ROWS} rows of the bases, which have {rows}")
    return {f"{key}_base": _columns(dense[key], width)[indices] for key, width in DENSE_WIDTHS.items()}


def _columns(array: np.ndarray, width: int) -> np.ndarray:
    """The first `width` columns: upstream's full model has more than the network uses."""
    return array.reshape(-1, 1) if width == 1 else array[..., :width]


def float32(array: np.ndarray, key: str, path: Path) -> np.ndarray:
    """The array as float32. Raises ArrayFileError if it does not hold numbers."""
    if array.dtype.kind not in NUMBERS:
        raise ArrayFileError(f"{path}: {key} holds {array.dtype}, not numbers")
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def faces(triangles: np.ndarray, vertices: int) -> np.ndarray:
    """Triangles (T,3) or (3,T), numbered from 0 or, as MATLAB does, from 1 -> (T,3) int32 from 0.

    They are from 1 if the number of the last vertex occurs and 0 does not.
    Raises ValueError for other shapes and numbers.
    """
    if triangles.ndim == 2 and triangles.shape[0] == 3 and triangles.shape[1] != 3:
        triangles = triangles.T
    numbers = triangles.dtype.kind in NUMBERS and triangles.ndim == 2 and triangles.shape[1] == 3
    first = int(numbers and triangles.size > 0 and triangles.min() >= 1 and triangles.max() == vertices)
    if not (numbers and (triangles == np.clip(np.floor(triangles), first, vertices - 1 + first)).all()):
        raise ValueError(f"triangles must be (T, 3) whole numbers from 0, below {vertices}, not {triangles.shape}")
    return np.ascontiguousarray(triangles.astype(np.int32) - np.int32(first))
