"""Arrays in memory shared by two processes: one writes them, the other reads them without a copy.

A socket would copy the data four times. The memory is an anonymous file, so it is freed when the last process that
holds it ends, also after a crash.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from collections.abc import Iterable, Sequence
from math import prod

import numpy as np

from synergy.runtime.errors import EngineError

ALIGNMENT = 64  # bytes: a cache line, and the widest vector register

Place = tuple[int, tuple[int, ...], str]  # offset in bytes, shape and dtype of an array


class SharedArrays:
    """Shared arrays in one direction: one process calls `put`, the other `get`. `descriptor` identifies the file."""

    def __init__(self, descriptor: int) -> None:
        """Use an existing file; it is closed by `close`."""
        self.descriptor = descriptor
        self.close = weakref.finalize(self, os.close, descriptor)
        self._map: mmap.mmap | None = None  # the whole file, with its size at the time of mapping
        self._last_places: list[Place] = []  # the last shapes and arrays are reused, as most runs have the same
        self._last_arrays: list[np.ndarray] = []

    @classmethod
    def create(cls) -> SharedArrays:
        """Create an empty file; `put` enlarges it as needed."""
        if hasattr(os, "memfd_create"):
            return cls(os.memfd_create("synergy"))
        with tempfile.TemporaryFile() as file:  # macOS
            return cls(os.dup(file.fileno()))

    def put(self, arrays: Iterable[np.ndarray]) -> list[Place]:
        """Copy arrays into the memory, over the previous ones, and return where they are.

        Raises EngineError if there is not enough memory.
        """
        arrays = list(arrays)
        places, end = [], 0
        for array in arrays:
            places.append((end, array.shape, array.dtype.str))
            end += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
        if places != self._last_places:
            self._grow(max(end, ALIGNMENT))  # an empty file cannot be mapped
        for target, array in zip(self.get(places), arrays, strict=True):
            np.copyto(target, array)
        return places

    def get(self, places: Sequence[Place]) -> list[np.ndarray]:
        """Views of the arrays, not copies: the next `put` overwrites them."""
        if places == self._last_places:
            return self._last_arrays
        end = max(offset + prod(shape) * np.dtype(dtype).itemsize for offset, shape, dtype in places)
        if self._map is None or len(self._map) < end:  # the other process has enlarged it
            self._map = mmap.mmap(self.descriptor, 0)
        self._last_arrays = [np.ndarray(shape, dtype, self._map, offset) for offset, shape, dtype in places]
        self._last_places = list(places)
        return self._last_arrays

    def _grow(self, size: int) -> None:
        """Enlarge the file by writing: a lack of memory is then an error here, not a SIGBUS at the first access."""
        if self._map is not None and len(self._map) >= size:
            return
        try:
            with open(self.descriptor, "r+b", closefd=False) as file:
                present = file.seek(0, os.SEEK_END)
                if present < size:
                    file.write(bytes(max(size, 2 * present) - present))
        except OSError as error:
            raise EngineError(
                f"not enough memory for {size} bytes of arrays: {error.strerror}; run smaller batches"
            ) from None
