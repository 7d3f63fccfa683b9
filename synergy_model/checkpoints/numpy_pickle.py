"""NumPy arrays in pickles: what NumPy's names stand for in `PickleMachine`."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from synergy.synergy_model.checkpoints.pickle_machine import Named, PickleError, are_sizes

NUMBER_CODE = re.compile(r"^(f[248]|[iu][1248]|b1)$")  # as NumPy pickles the types of plain numbers
MODULES = ("numpy.core", "numpy._core")  # before and since NumPy 2


class PickledDtype:
    """Stands for `numpy.dtype`; simple numbers only."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str):
            raise PickleError("arrays of structured types are refused: numbers only")
        self.code, self.order = code, "<"

    def set_state(self, state: Any) -> None:
        """Keep the byte order."""
        if not isinstance(state, tuple) or len(state) < 2:
            raise PickleError("a type of an array is damaged")
        self.order = state[1]

    def resolve(self) -> np.dtype:
        """The type. Raises PickleError for other things than numbers."""
        if not (NUMBER_CODE.match(self.code) and self.order in ("<", ">", "|", "=")):
            raise PickleError(f"arrays of type {self.code[:20]!r} are refused: numbers only")
        return np.dtype(self.code).newbyteorder("S" if self.order == ">" else "=")


class PickledArray:
    """Stands for `numpy.ndarray`."""

    def __init__(self) -> None:
        self.raw: Any = None
        self.dtype: Any = None
        self.shape: Any = None
        self.fortran = False

    def set_state(self, state: Any) -> None:
        """Keep shape, type and bytes, as `ndarray.__setstate__` takes them."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise PickleError("the state of an array is damaged")
        _, self.shape, self.dtype, self.fortran, self.raw = state

    def resolve(self) -> np.ndarray:
        """The array. Raises PickleError where its parts do not fit."""
        raw = self.raw.encode("latin1") if isinstance(self.raw, str) else self.raw
        if (
            not are_sizes(self.shape)
            or not isinstance(raw, (bytes, bytearray))
            or not isinstance(self.dtype, PickledDtype)
        ):
            raise PickleError("an array in it is damaged, or holds other things than numbers")
        array = np.frombuffer(raw, self.dtype.resolve())
        return array.reshape(self.shape, order="F" if self.fortran else "C").copy()


class TextEncoder:
    """Stands for `_codecs.encode`, with which old protocols write bytes. `limit`: bytes of all texts together."""

    def __init__(self, limit: int) -> None:
        self.left = limit

    def __call__(self, text: Any, _: Any = None) -> bytes:
        if not isinstance(text, str):
            raise PickleError("it encodes something other than text")
        self.left -= len(text)
        if self.left < 0:
            raise PickleError("it repeats its bytes many times")
        return text.encode("latin1")


def _from_buffer(buffer: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> PickledArray:
    """An array of protocol 5."""
    array = PickledArray()
    array.set_state((1, shape, dtype, order == "F", buffer))
    return array


def _reconstruct(*_: Any) -> PickledArray:
    return PickledArray()


def _skip(*_: Any) -> None:
    """A NumPy scalar, which is no weight."""


ADMITTED_NUMPY: dict[tuple[str, str], Named] = {
    ("numpy", "ndarray"): Named("ndarray"),
    ("numpy", "dtype"): Named("dtype", PickledDtype),
    **{(f"{module}.multiarray", "_reconstruct"): Named("_reconstruct", _reconstruct) for module in MODULES},
    **{(f"{module}.multiarray", "scalar"): Named("scalar", _skip) for module in MODULES},
    **{(f"{module}.numeric", "_frombuffer"): Named("_frombuffer", _from_buffer) for module in MODULES},
}
