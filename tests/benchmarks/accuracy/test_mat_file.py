"""MATLAB level 5 files: real ones against SciPy's reader, hand-made ones against the format's description."""

from __future__ import annotations

import contextlib
import struct
import zlib
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest

from synergy.benchmarks.accuracy.mat_file import HEADER, MatFileError, read_mat

DOUBLE, SINGLE, INT16, CHAR, STRUCT = 6, 7, 10, 1, 2
STORED_DOUBLE, STORED_BYTE, STORED_INT16 = 9, 2, 3


class Write(Protocol):
    def __call__(self, *elements: bytes, head: bytes | None = None) -> Path: ...


def header(order: str = "<", version: int = 0x0100, text: bytes = b"MATLAB 5.0 MAT-file") -> bytes:
    return text.ljust(124, b" ") + struct.pack(f"{order}H", version) + (b"IM" if order == "<" else b"MI")


def element(kind: int, content: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}II", kind, len(content)) + content + b"\0" * (-len(content) % 8)


def small(kind: int, content: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}I", len(content) << 16 | kind) + content.ljust(4, b"\0")


def matrix(
    name: bytes, shape: tuple[int, ...], data: bytes, kind: int = DOUBLE, flags: int = 0, order: str = "<"
) -> bytes:
    dims = struct.pack(f"{order}{len(shape)}i", *shape)
    parts = (
        element(6, struct.pack(f"{order}II", flags | kind, 0), order),
        element(5, dims, order),
        small(1, name, order) if len(name) <= 4 else element(1, name, order),
        data,
    )
    return element(14, b"".join(parts), order)


def compressed(content: bytes, order: str = "<") -> bytes:
    packed = zlib.compress(content)
    return struct.pack(f"{order}II", 15, len(packed)) + packed


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(*elements: bytes, head: bytes | None = None) -> Path:
        path = tmp_path / "made.mat"
        path.write_bytes((header() if head is None else head) + b"".join(elements))
        return path

    return to_file


def test_real_files_as_scipy_reads_them(shared: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io", reason="SciPy comes with scikit-image")
    paths = sorted((shared / "aflw2000" / "raw").glob("*.mat"))
    assert len(paths) == 8
    for path in paths:
        expected = {key: value for key, value in scipy_io.loadmat(path).items() if not key.startswith("__")}
        found = read_mat(path, tuple(expected))
        for key, value in expected.items():
            assert found[key].dtype == value.dtype
            np.testing.assert_array_equal(found[key], value)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packed", [False, True])
def test_column_major_numbers_in_both_byte_orders(write: Write, order: str, packed: bool) -> None:
    content = matrix(
        b"points", (2, 3), element(STORED_DOUBLE, struct.pack(f"{order}6d", 1, 4, 2, 5, 3, 6), order), order=order
    )
    path = write(compressed(content, order) if packed else content, head=header(order))
    np.testing.assert_array_equal(read_mat(path, ["points"])["points"], [[1, 2, 3], [4, 5, 6]])


def test_whole_doubles_are_stored_as_bytes_and_come_back_as_doubles(write: Write) -> None:
    path = write(matrix(b"roi", (1, 3), small(STORED_BYTE, bytes([7, 8, 255]))))
    found = read_mat(path, ["roi"])["roi"]
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [[7, 8, 255]])


def test_other_arrays_are_passed_over_and_empty_ones_kept(write: Write) -> None:
    text = matrix(b"note", (1, 2), small(4, b"h\0i\0"), kind=CHAR)
    whole = matrix(b"a", (1, 1), small(STORED_INT16, struct.pack("<h", -3)), kind=INT16)
    empty = matrix(b"none", (0, 0), element(STORED_DOUBLE, b""))
    found = read_mat(write(text, compressed(whole), compressed(empty), whole), ["a", "none"])
    assert found["a"].dtype == np.int16
    assert found["a"].tolist() == [[-3]]
    assert found["none"].shape == (0, 0)


NUMBER = element(STORED_DOUBLE, struct.pack("<d", 1.0))
DAMAGED = {
    "not MATLAB": ([], b"nonsense" * 16, "is not a MATLAB level 5 file"),
    "empty": ([], b"", "is not a MATLAB level 5 file"),
    "version 4": ([], header(version=0x0400), "is not a MATLAB level 5 file"),
    "version 7.3": ([], header(text=b"MATLAB 7.3 MAT-file"), "save it with -v6 or -v7"),
    "cut short": ([matrix(b"a", (1, 1), NUMBER)[:-12]], None, "ends early"),
    "cut tag": ([b"\x0e\0\0\0"], None, "made.mat"),
    "impossible short element": ([struct.pack("<II", 9 << 16 | 1, 0)], None, "impossible length"),
    "not zlib": ([element(15, b"12345678")], None, "made.mat"),
    "zlib cut short": ([compressed(matrix(b"a", (1, 1), NUMBER))[:8] + b""], None, "ends early"),
    "dimensions lie": ([matrix(b"a", (2, 3), NUMBER)], None, "should be (2, 3) and has 1 values"),
    "negative dimensions": ([matrix(b"a", (-1, -1), NUMBER)], None, "should be (-1, -1)"),
    "no dimensions": ([matrix(b"a", (), NUMBER)], None, "should be ()"),
    "unknown number type": ([matrix(b"a", (1, 1), element(99, b"12345678"))], None, "unknown type"),
    "half a number": ([matrix(b"a", (1, 1), element(STORED_DOUBLE, b"1234567"))], None, "unknown type or length"),
    "no data": ([matrix(b"a", (1, 1), b"")], None, "unknown type or length"),
    "dimensions that are no whole numbers": (
        [element(14, element(6, struct.pack("<II", DOUBLE, 0)) + small(7, struct.pack("<f", 1.0)) + small(1, b"a"))],
        None,
        "unknown type",
    ),
    "structure": ([matrix(b"a", (1, 1), NUMBER, kind=STRUCT)], None, "a is not an array of real numbers"),
    "complex": ([matrix(b"a", (1, 1), NUMBER, flags=0x0800)], None, "a is not an array of real numbers"),
    "lacks it": ([matrix(b"b", (1, 1), NUMBER)], None, "has no array a"),
    "nothing in the compressed element": ([compressed(b"")], None, "has no array a"),
    "matrix without parts": ([element(14, b"")], None, "has no array a"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damage_is_one_line_that_names_the_file(write: Write, case: str) -> None:
    elements, head, message = DAMAGED[case]
    path = write(*elements, head=head)
    with pytest.raises(MatFileError) as failure:
        read_mat(path, ["a"])
    assert message in str(failure.value)
    assert str(path) in str(failure.value)
    assert "\n" not in str(failure.value)


def test_a_bomb_is_not_inflated(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synergy.benchmarks.accuracy.mat_file.SIZE_LIMIT", 4096)
    with pytest.raises(MatFileError, match="or holds an array of over"):
        read_mat(write(compressed(b"\0" * 100_000)), ["a"])


def test_every_truncation_of_a_real_file_is_an_error(shared: Path, tmp_path: Path) -> None:
    data = (shared / "aflw2000" / "raw" / "image00050.mat").read_bytes()
    path = tmp_path / "cut.mat"
    for length in range(0, len(data), 97):
        path.write_bytes(data[:length])
        with pytest.raises(MatFileError):
            read_mat(path, ("pt3d_68", "Pose_Para", "roi", "pt2d", "Exp_Para"))


def test_flipped_bytes_are_an_error_or_numbers(shared: Path, write: Write) -> None:
    """Behind the compression, where no checksum guards."""
    packed = (shared / "aflw2000" / "raw" / "image00050.mat").read_bytes()[HEADER:]
    plain = bytearray(zlib.decompress(packed[8:]))
    random = np.random.default_rng(0)
    for _ in range(300):
        changed = bytearray(plain)
        for at in random.integers(0, min(len(plain), 64), 2):
            changed[at] = random.integers(0, 256)
        with contextlib.suppress(MatFileError):
            assert read_mat(write(compressed(bytes(changed))), ["pt2d"])["pt2d"].dtype.kind in "fiu"


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_mat(tmp_path / "none.mat", ["a"])
