"""Files that are not what they should be are named for what they are, with what to do."""

from __future__ import annotations

import io
import re
import struct
import zipfile

import numpy as np
import pytest

from synergy.runtime.formats.file_kinds import file_kind, mismatch


def archive(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        opened.writestr(name, b"content")
    return buffer.getvalue()


def npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


SAFETENSORS = struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(60) + bytes(4)
KINDS = {
    "empty": (b"", "is not a thing but empty: copy or download it again"),
    "page": (b"\n<!DOCTYPE html><html><head><title>Google Drive", "web page .*download the file"),
    "page with a comment": (b"<!-- x --><HTML>", "web page"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS pointer .*git lfs pull"),
    "gzip": (b"\x1f\x8b\x08\x00" + bytes(20), "gzip.*gunzip"),
    "tar": (b"best.pth".ljust(257, b"\0") + b"ustar\x0000" + bytes(500), "tar archive.*tar -xf"),
    "safetensors": (SAFETENSORS, "safetensors.*torch.save"),
    "npy": (npy(), "single NumPy array.*numpy.savez"),
    "npz": (archive("mean.npy"), "a .npz file"),
    "PyTorch": (archive("best/data.pkl"), "PyTorch checkpoint.*synergy convert"),
    "PyTorch before 1.6": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.", "PyTorch checkpoint"),
    "zip": (archive("readme.txt"), "zip archive"),
    "mat": (b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(128) + bytes(8), r"MATLAB file \(.mat\).*numpy.savez"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(20), "HDF5"),
    "ckpt": (b"\n\x9c\x01\n\x16backbone.conv1.weight\x12\x85\x01", "MindSpore checkpoint.*synergy export"),
    "onnx": (b"\x08\x08\x12\x07pytorch:\x10", "ONNX model"),
    "MindIR": (b"\n\x050.3.0\x12\x09MindSpore", "MindIR model"),
    "ms": (b"\x20\0\0\0MSL2" + bytes(20), "MindSpore Lite model"),
    "pickle": (b"\x80\x05}.", "pickle"),
    "text": ("α text\n".encode(), "a text file"),
    "unknown": (bytes(200), "is not a thing, or is damaged"),
}


@pytest.mark.parametrize("name", KINDS)
def test_kinds(name: str) -> None:
    head, message = KINDS[name]
    text = mismatch(head, "a thing")
    assert "\n" not in text
    assert re.search(message, text), text


def test_a_damaged_file_of_the_expected_kind() -> None:
    kind = file_kind(archive("mean.npy"))
    assert kind is not None
    assert mismatch(archive("mean.npy"), kind.name) == f"is not {kind.name}, or is damaged: copy or download it again"


def test_random_bytes_have_a_kind_or_none() -> None:
    random = np.random.default_rng(0)
    for length in range(300):
        assert "\n" not in mismatch(random.bytes(length), "a thing")
