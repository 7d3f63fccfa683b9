"""Arrays in memory that two processes share."""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from synergy.runtime.errors import EngineError
from synergy.runtime.processes.shared_memory import ALIGNMENT, SharedArrays

Pair = tuple[SharedArrays, SharedArrays]


@pytest.fixture(params=["memfd", "file"])
def pair(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Pair]:
    """Who puts and who gets, as two processes would have them: each its own descriptor and map of one file."""
    if request.param == "file":  # as on macOS
        monkeypatch.delattr(os, "memfd_create", raising=False)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    writer = SharedArrays.create()
    reader = SharedArrays(os.dup(writer.descriptor))
    assert not list(tmp_path.iterdir())  # without a name from the start: a killed process leaves nothing
    yield writer, reader
    writer.close()
    reader.close()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    "arrays",
    [
        [noise(1, 120, 120, 3)],
        [np.arange(3, dtype=np.float32), noise(7), np.arange(4.0)],
        [np.zeros((0, 5), np.float32)],
        [np.zeros((0, 5), np.float32), noise(1)],
        [noise(8, 6)[::2, ::3], np.asfortranarray(noise(3, 4))],
        [np.float64(3.5).reshape(())],
    ],
    ids=["one", "odd sizes", "empty", "empty first", "not contiguous", "no axes"],
)
def test_round_trip(pair: Pair, arrays: list[np.ndarray]) -> None:
    writer, reader = pair
    found = reader.get(writer.put(arrays))
    for array, other in zip(arrays, found, strict=True):
        assert np.array_equal(array, other) and array.dtype == other.dtype and array.shape == other.shape
        assert other.ctypes.data % ALIGNMENT == 0


def test_it_grows_and_is_used_again(pair: Pair) -> None:
    writer, reader = pair
    for count in (1, 16, 2, 64, 65, 1):
        images = noise(count, 120, 120, 3)
        assert np.array_equal(reader.get(writer.put([images]))[0], images)
    assert os.fstat(writer.descriptor).st_size <= 2 * 65 * 120 * 120 * 3


def test_arrays_are_seen_in_place(pair: Pair) -> None:
    """No copy on the reader's side: what is put later shows in what was got before."""
    writer, reader = pair
    (seen,) = reader.get(writer.put([np.zeros(4, np.uint8)]))
    writer.put([np.full(4, 7, np.uint8)])
    assert seen.tolist() == [7] * 4


def test_arrays_outlive_growth(pair: Pair) -> None:
    writer, reader = pair
    (seen,) = reader.get(writer.put([noise(100)]))
    reader.get(writer.put([noise(1_000_000)]))
    assert seen.shape == (100,) and int(seen.sum()) >= 0  # its map is not taken away from under it


def test_short_memory_is_an_error(pair: Pair) -> None:
    """And not a signal when the memory is first touched."""
    writer, reader = pair
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with pytest.raises(EngineError, match=r"not enough memory for 1000000 bytes of arrays: .*smaller batches"):
            writer.put([noise(1_000_000)])
        assert np.array_equal(reader.get(writer.put([noise(100)]))[0], noise(100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_closing(pair: Pair) -> None:
    writer, _ = pair
    writer.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(writer.descriptor)
    writer.close()
