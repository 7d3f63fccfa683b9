"""Arrays in memory that two processes share: written by one, read in place by the other.

A message through a socket would be copied four times and, beyond what the socket holds, wake both sides several
times. The memory is a file without a name, so it is gone when the last process that holds it is, however that ended.
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

ALIGNMENT = 64  # bytes: a cache line, and what the widest vector instructions like

Place = tuple[int, tuple[int, ...], str]  # where an array begins, its shape and dtype


class SharedArrays:
    """One direction of traffic. `descriptor` names the file to both processes; only one of them may `put`."""

    def __init__(self, descriptor: int) -> None:
        """The file becomes this object's own."""
        self.descriptor = descriptor
        self.close = weakref.finalize(self, os.close, descriptor)
        self._map: mmap.mmap | None = None  # of all the file, as long as it was when last looked at
        self._places: list[Place] = []  # those last used, with the arrays there: most runs have the shapes of the last
        self._arrays: list[np.ndarray] = []

    @classmethod
    def create(cls) -> SharedArrays:
        """Empty; it grows with what is put into it."""
        if hasattr(os, "memfd_create"):
            return cls(os.memfd_create("synergy"))
        with tempfile.TemporaryFile() as file:  # macOS
            return cls(os.dup(file.fileno()))

    def put(self, arrays: Iterable[np.ndarray]) -> list[Place]:
        """Copy arrays in, over those before; what is returned finds them. Raises EngineError if memory is short."""
        arrays = list(arrays)
        places, end = [], 0
        for array in arrays:
            places.append((end, array.shape, array.dtype.str))
            end += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
        if places != self._places:
            self._grow(max(end, ALIGNMENT))  # nothing maps an empty file
        for target, array in zip(self.get(places), arrays, strict=True):
            np.copyto(target, array)
        return places

    def get(self, places: Sequence[Place]) -> list[np.ndarray]:
        """The arrays themselves, not copies: the next `put` of either process overwrites them."""
        if places == self._places:
            return self._arrays
        end = max(offset + prod(shape) * np.dtype(dtype).itemsize for offset, shape, dtype in places)
        if self._map is None or len(self._map) < end:  # the other process has grown it
            self._map = mmap.mmap(self.descriptor, 0)
        self._arrays = [np.ndarray(shape, dtype, self._map, offset) for offset, shape, dtype in places]
        self._places = list(places)
        return self._arrays

    def _grow(self, size: int) -> None:
        """By writing, not by truncation: what cannot be had is an error here, and not a signal when it is touched."""
        if self._map is not None and len(self._map) >= size:
            return
        try:
            with open(self.descriptor, "r+b", closefd=False) as file:
                present = file.seek(0, os.SEEK_END)
                if present < size:
                    file.write(bytes(max(size, 2 * present) - present))
        except OSError as error:
            raise EngineError(f"no memory for {size} bytes of arrays: {error.strerror}; run smaller batches") from None
