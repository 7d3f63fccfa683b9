"""Read named arrays from files that users supply: `.npz`, and NumPy pickles, without running code in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from synergy.runtime.files import read_file
from synergy.runtime.formats.npz import NPY_MAGIC, ZIP_MAGIC, read_npy, read_npz
from synergy.synergy_model.checkpoints.torch_pickle import parse_numpy_pickle

NUMPY_SUFFIXES = (".npz", ".npy")
MAX_LIST = 1 << 20  # numbers of a list that stands for an array


class ArrayFileError(ValueError):
    """The file does not hold named arrays of numbers."""


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The named arrays of an `.npz` file or a pickle; other things in a pickle are left out.

    The content decides which of them it is, not the suffix. Lists of numbers in a pickle are arrays, too.
    Raises FileNotFoundError, TorchFileError for a pickle that is refused, ArrayFileError for another kind of file.
    """
    content = read_array_file(path)
    if isinstance(content, np.ndarray):
        raise ArrayFileError(f"{path} is a single array: save it with numpy.savez, under its name")
    return content


def read_array_file(path: Path) -> dict[str, np.ndarray] | np.ndarray:
    """As `read_arrays`, but a file may also hold a single array without a name."""
    try:
        data = read_file(path)
        if data.startswith(NPY_MAGIC):
            return read_npy(data)
        if data.startswith(ZIP_MAGIC) or path.suffix.lower() in NUMPY_SUFFIXES:
            return read_npz(data)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ArrayFileError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise ArrayFileError(f"{path} {error}") from None
    return _from_pickle(parse_numpy_pickle(data, path), path)


def _from_pickle(content: Any, path: Path) -> dict[str, np.ndarray] | np.ndarray:
    if isinstance(content, np.ndarray):
        return content
    if not isinstance(content, Mapping):
        raise ArrayFileError(f"{path} holds a {type(content).__name__}, not arrays by name")
    arrays = {key: _array(value) for key, value in content.items() if isinstance(key, str)}
    return {key: array for key, array in arrays.items() if array is not None}


def _array(value: Any) -> np.ndarray | None:
    """An array, or a list of numbers or of lists of numbers as one; None for other things."""
    if isinstance(value, np.ndarray):
        return value
    if not isinstance(value, (list, tuple)) or not 0 < len(value) <= MAX_LIST:
        return None
    rows = value if isinstance(value[0], (list, tuple)) else [value]
    width = len(rows[0])
    if not all(isinstance(row, (list, tuple)) and len(row) == width for row in rows) or len(rows) * width > MAX_LIST:
        return None
    if not all(type(number) in (int, float) for row in rows for number in row):
        return None
    return np.array(value, np.float64)
