"""Checkpoint files are read as MindSpore reads them; damaged ones are refused before a tensor is made of them."""

from __future__ import annotations

import re
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

from synergy.synergy_model.checkpoints.ckpt_file import CkptFileError, parse_ckpt
from tests.hostile_files import mindspore_checkpoint

ENTRIES = {
    "f4": np.arange(12, dtype=np.float32).reshape(3, 4),
    "f2": np.linspace(-1, 1, 5).astype(np.float16),
    "f8": np.array([[1e300]]),
    "i1": np.array([-128, 127], np.int8),
    "u1": np.array([0, 255], np.uint8),
    "i8": np.array([[-(1 << 62)]]),
    "flags": np.array([True, False]),
}
ABOUT = {"arch": "mobilenet_v2", "step": 7, "rate": 0.5, "done": True}


@pytest.mark.parametrize("crc_check", [False, True])
def test_as_mindspore_reads_it(tmp_path: Path, crc_check: bool) -> None:
    path = tmp_path / "a.ckpt"
    saved = [{"name": name, "data": ms.Tensor(array)} for name, array in ENTRIES.items()]
    ms.save_checkpoint(saved, str(path), append_dict=dict(ABOUT), crc_check=crc_check)
    found, theirs = parse_ckpt(path.read_bytes()), ms.load_checkpoint(str(path))
    assert list(found) == list(theirs) == [*ENTRIES, *ABOUT]
    for name, value in found.items():
        if isinstance(value, str):
            assert value == theirs[name] == ABOUT[name]
        else:
            expected = theirs[name].asnumpy()
            assert value.dtype == expected.dtype and np.array_equal(value, expected) and value.shape == expected.shape
    assert all(np.array_equal(found[name], array) for name, array in ENTRIES.items())


def test_a_tensor_in_parts() -> None:
    found = parse_ckpt(mindspore_checkpoint())
    assert {name: np.shape(value) for name, value in found.items()} == {"w": (2, 3), "b": (5,), "arch": (), "step": ()}
    assert found["arch"] == "net"


def tensor(dims: bytes, kind: bytes, content: bytes, tag: bytes = b"w") -> bytes:
    """A checkpoint with one entry. dims: the encoded field."""
    inner = dims + b"\x12" + bytes([len(kind)]) + kind + b"\x1a" + bytes([len(content)]) + content
    value = b"\x0a" + bytes([len(tag)]) + tag + b"\x12" + bytes([len(inner)]) + inner
    return b"\x0a" + bytes([len(value)]) + value


GOOD = tensor(b"\x08\x02", b"Int8", b"ab")


def test_both_encodings_of_dims() -> None:
    packed = tensor(b"\x0a\x02\x02\x01", b"Int8", b"ab")
    assert np.shape(parse_ckpt(GOOD)["w"]) == (2,) and np.shape(parse_ckpt(packed)["w"]) == (2, 1)


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "has no entries"),
        (b"\xff" * 40, "is not a MindSpore checkpoint, or is damaged or truncated"),
        (GOOD[:-1], "is not a MindSpore checkpoint, or is damaged or truncated"),
        (b"\x12" + GOOD[1:], "is not a MindSpore checkpoint, or is damaged or truncated"),
        (tensor(b"\x08\x03", b"Int8", b"ab"), "is damaged: 'w' has 2 bytes, its shape [3] needs others"),
        (tensor(b"\x08\x01", b"Int8", b"ab"), "is damaged: 'w' has 2 bytes, its shape [1] needs others"),
        (tensor(b"\x08" + b"\xff" * 9 + b"\x01", b"Int8", b"ab"), "its shape [18446744073709551615] needs others"),
        (tensor(b"\x08\x01" * 20, b"Int8", b"a"), "is not a MindSpore checkpoint, or is damaged"),
        (tensor(b"\x08\x02", b"Int4", b"ab"), "has 'w' of type 'Int4', which this program does not read"),
        (tensor(b"\x08\x02", b"str", b"\xff\xff\xff\xff"), "is not a MindSpore checkpoint, or is damaged"),
        (tensor(b"\x08\x02", b"Int8", b"ab", b"\xff"), "is not a MindSpore checkpoint, or is damaged"),
        (b"\x0a\x03\x0a\x01w", "has an entry 'w' that is no tensor"),
        (GOOD + tensor(b"\x08\x02", b"Int8", b"ab", b"x") + GOOD, "has two entries 'w'"),
        (b"\x0a\x00" * 100_001, "has an entry '' that is no tensor"),
        (tensor(b"\x08\x00", b"Int8", b"") * 100_001, "has more than 100,000 entries"),
    ],
)
def test_damaged_files(data: bytes, cause: str) -> None:
    with pytest.raises(CkptFileError, match=re.escape(cause)):
        parse_ckpt(data)
