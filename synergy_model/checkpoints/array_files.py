"""Read named arrays from files that users supply: `.npz`, and NumPy pickles, without running code in them."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from synergy.synergy_model.checkpoints.torch_pickle import read_numpy_pickle


class ArrayFileError(ValueError):
    """The file does not hold named arrays of numbers."""


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The named arrays of a `.npz` file or a pickle; other things in a pickle are left out.

    Raises FileNotFoundError, TorchFileError for a pickle that is refused, ArrayFileError for another kind of file.
    """
    content = read_array_file(path)
    if isinstance(content, np.ndarray):
        raise ArrayFileError(f"{path} is a single array: save it with numpy.savez, under its name")
    return content


def read_array_file(path: Path) -> dict[str, np.ndarray] | np.ndarray:
    """As `read_arrays`, but a file may also hold a single array without a name."""
    content = _read_npz(path) if path.suffix in (".npz", ".npy") else _read_pickle(path)
    if isinstance(content, np.ndarray):
        return content
    return {key: value for key, value in content.items() if isinstance(value, np.ndarray)}


def _read_npz(path: Path) -> Mapping[str, np.ndarray] | np.ndarray:
    try:
        content = np.load(path, allow_pickle=False)
        if not isinstance(content, np.lib.npyio.NpzFile):
            return content
        with content:
            return {key: content[key] for key in content.files}
    except FileNotFoundError:
        raise
    except (ValueError, OSError, EOFError, RuntimeError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ArrayFileError(f"{path} is not a .npz file of plain arrays, or is damaged ({error})") from None


def _read_pickle(path: Path) -> Mapping[str, np.ndarray] | np.ndarray:
    content = read_numpy_pickle(path)
    if not isinstance(content, (Mapping, np.ndarray)):
        raise ArrayFileError(f"{path} holds a {type(content).__name__}, not arrays by name")
    return content
