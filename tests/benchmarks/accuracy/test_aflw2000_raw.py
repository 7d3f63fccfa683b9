"""Reading `.mat` labels: dtypes and shapes as SciPy gives them, and one line for a file that cannot be used."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from synergy.benchmarks.accuracy import aflw2000_raw
from synergy.benchmarks.accuracy.aflw2000_raw import LANDMARKS, POSE, read_mat, read_raw_sample
from synergy.benchmarks.accuracy.data import DataError

NAMES = (LANDMARKS, POSE)


@pytest.fixture
def real(shared: Path) -> Path:
    return shared / "aflw2000" / "raw" / "image00050.mat"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return tmp_path / "made.mat"


def save(path: Path, compress: bool = False, **arrays: object) -> Path:
    pytest.importorskip("scipy.io").savemat(path, arrays, do_compression=compress)
    return path


def test_real_labels(shared: Path) -> None:
    paths = sorted((shared / "aflw2000" / "raw").glob("*.mat"))
    assert len(paths) == 8
    for path in paths:
        found = read_mat(path, NAMES)
        assert found[LANDMARKS].shape == (3, 68) and found[LANDMARKS].dtype == np.float32
        assert found[POSE].shape == (1, 7) and found[POSE].dtype == np.float32


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8"])
def test_shapes_and_dtypes_are_those_of_the_file(made: Path, compress: bool, dtype: str) -> None:
    values = np.arange(6, dtype=dtype).reshape(2, 3)
    found = read_mat(save(made, compress, a=values, none=np.zeros((0, 0)), note="text"), ("a", "none"))
    assert found["a"].dtype == values.dtype and found["none"].shape == (0, 0) and "note" not in found
    np.testing.assert_array_equal(found["a"], values)


WRONG_ARRAYS = {
    "missing": ({"b": np.ones(3)}, "has no array a"),
    "text": ({"a": "text"}, "a is of type char, needed are real numbers"),
    "structure": ({"a": {"x": 1}}, "a is of type struct, needed are real numbers"),
    "too many values": ({"a": np.zeros((300, 300), np.uint8)}, "a label has at most 65,536 values"),
}


@pytest.mark.parametrize("case", WRONG_ARRAYS)
def test_wrong_arrays_name_the_file(made: Path, case: str) -> None:
    arrays, message = WRONG_ARRAYS[case]
    with pytest.raises(DataError, match=message) as failure:
        read_mat(save(made, True, **arrays), ["a"])
    assert str(made) in str(failure.value) and "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a MATLAB file but empty"),
        (b"nonsense" * 16, "is not a MATLAB file but a text file"),
        (b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM", "is a MATLAB 7.3 file: save it with -v6 or -v7"),
    ],
)
def test_other_files_are_named(made: Path, content: bytes, message: str) -> None:
    made.write_bytes(content)
    with pytest.raises(DataError, match=message) as failure:
        read_mat(made, ["a"])
    assert str(made) in str(failure.value) and "\n" not in str(failure.value)


def test_every_truncation_is_an_error(real: Path, made: Path) -> None:
    data = real.read_bytes()
    for length in range(0, len(data), 97):
        made.write_bytes(data[:length])
        with pytest.raises(DataError, match=r"made\.mat"):
            read_mat(made, NAMES)


def test_changed_bytes_are_an_error(real: Path, made: Path) -> None:
    """The arrays are compressed, and the compression has a checksum."""
    data, random = real.read_bytes(), np.random.default_rng(0)
    for _ in range(100):
        changed = bytearray(data)
        changed[random.integers(128, len(data))] ^= 0x55
        made.write_bytes(bytes(changed))
        try:
            assert read_mat(made, NAMES)[LANDMARKS].tolist() == read_mat(real, NAMES)[LANDMARKS].tolist()
        except DataError as error:
            assert "made.mat" in str(error)


def test_large_files_are_not_opened(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aflw2000_raw, "MAT_FILE_LIMIT", 100)
    with pytest.raises(DataError, match=r"made\.mat has [0-9,]+ bytes, over the limit of 100"):
        read_mat(save(made, a=np.ones(3)), ["a"])


def test_large_arrays_are_not_decompressed(made: Path) -> None:
    """A small file may declare, and hold, an array of a gigabyte."""
    save(made, a=np.zeros((1, 3)))
    plain = bytearray(made.read_bytes()[128:])
    plain[32:40] = struct.pack("<ii", 1 << 15, 1 << 15)  # the dimensions
    packed = zlib.compress(bytes(plain))
    made.write_bytes(made.read_bytes()[:128] + struct.pack("<II", 15, len(packed)) + packed)
    with pytest.raises(DataError, match=r"a has shape \(32768, 32768\)"):
        read_mat(made, ["a"])


def test_scipy_is_missing(real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'synergy-mindir\[bench\]'"):
        read_mat(real, NAMES)


def test_a_missing_file(made: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_mat(made, ["a"])


def test_labels_in_degrees_are_refused(made: Path) -> None:
    save(made, **{LANDMARKS: np.random.default_rng(0).uniform(0, 99, (3, 68)), POSE: [[12.0, 30.0, -5.0]]})
    with pytest.raises(DataError, match=r"Pose_Para has 30, beyond 2 pi, so it is in degrees"):
        read_raw_sample(made, made.with_suffix(".jpg"))
