"""Write PyTorch files opcode by opcode, valid and malformed ones, without PyTorch."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

STORAGES = {
    "<f8": "DoubleStorage",
    "<f4": "FloatStorage",
    "<f2": "HalfStorage",
    "<i8": "LongStorage",
    "<i4": "IntStorage",
    "<i2": "ShortStorage",
    "|i1": "CharStorage",
    "|u1": "ByteStorage",
    "|b1": "BoolStorage",
}
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
SYSTEM = {"protocol_version": LEGACY_PROTOCOL, "little_endian": True}


class Code(bytes):
    """Pickle opcodes that leave one value on the stack; goes into the pickle as it is."""


def named(module: str, name: str) -> Code:
    """GLOBAL: look a name up."""
    return Code(b"c" + f"{module}\n{name}\n".encode())


def call(function: Code, *arguments: Any) -> Code:
    """REDUCE: call `function`."""
    return Code(function + encode(arguments) + b"R")


def storage(key: str, kind: str, numel: Any) -> Code:
    """A reference to a storage elsewhere in the file."""
    return Code(encode(("storage", named("torch", kind), key, "cpu", numel)) + b"Q")


def tensor(reference: Any, offset: Any, size: Any, stride: Any) -> Code:
    """A view on a storage, as torch.save writes it."""
    hooks = call(named("collections", "OrderedDict"))
    return call(named("torch._utils", "_rebuild_tensor_v2"), reference, offset, size, stride, False, hooks)


def encode(value: Any) -> Code:
    """One value as opcodes of protocol 2 (bytes: 3)."""
    if isinstance(value, Code):
        return value
    if value is None or isinstance(value, bool):
        return Code({None: b"N", True: b"\x88", False: b"\x89"}[value])
    if isinstance(value, int):
        raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return Code(b"\x8a" + bytes([len(raw)]) + raw)
    if isinstance(value, float):
        return Code(b"G" + struct.pack(">d", value))
    if isinstance(value, str):
        return Code(b"X" + struct.pack("<I", len(value.encode())) + value.encode())
    if isinstance(value, bytes):
        return Code(b"B" + struct.pack("<I", len(value)) + value)
    if isinstance(value, tuple):
        return Code(b"(" + b"".join(map(encode, value)) + b"t")
    if isinstance(value, list):
        return Code(b"](" + b"".join(map(encode, value)) + b"e")
    if isinstance(value, dict):
        return Code(b"}(" + b"".join(encode(item) for pair in value.items() for item in pair) + b"u")
    raise TypeError(f"{type(value)} has no opcodes here")


class TorchFiles:
    """Writes checkpoints as torch.save does (`zip` since 1.6, `legacy` before) and pickles of every kind.

    Give arrays where a sound file is wanted, or a `Code` and the storages' bytes where the file should lie.
    """

    Code, named, call, storage, tensor, encode = Code, *map(staticmethod, (named, call, storage, tensor, encode))

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    def checkpoint(self, name: str, arrays: Mapping[Any, Any], container: str = "zip", wrapped: bool = True) -> Path:
        """A valid file: arrays as tensors, other values as they are, inside {"epoch", "state_dict"} if `wrapped`."""
        state, storages = self.state(arrays)
        content = {"epoch": 80, "state_dict": state} if wrapped else state
        return self.write(name, getattr(self, container)(content, storages))

    def state(self, arrays: Mapping[Any, Any]) -> tuple[Code, dict[str, np.ndarray]]:
        """An OrderedDict of tensors as opcodes, and the storages behind them."""
        items: list[tuple[Any, Any]] = []
        storages: dict[str, np.ndarray] = {}
        for name, value in arrays.items():
            if isinstance(value, np.ndarray):
                storages[str(len(storages))] = flat = np.ascontiguousarray(value).reshape(-1)
                reference = storage(str(len(storages) - 1), STORAGES[flat.dtype.str], flat.size)
                strides = tuple(s // value.itemsize for s in np.ascontiguousarray(value).strides[: value.ndim])
                value = tensor(reference, 0, value.shape, strides)
            items.append((name, value))
        pairs = [list(item) for item in items]
        return call(named("collections", "OrderedDict"), pairs), storages

    def zip(self, content: Any, storages: Mapping[str, Any], root: str = "archive", **changes: Any) -> bytes:
        """The zip format. `changes`: byteorder, compression."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", changes.get("compression", zipfile.ZIP_STORED)) as archive:
            archive.writestr(f"{root}/data.pkl", b"\x80\x02" + encode(content) + b".")
            archive.writestr(f"{root}/byteorder", changes.get("byteorder", b"little"))
            for key, value in storages.items():
                archive.writestr(f"{root}/data/{key}", value if isinstance(value, bytes) else value.tobytes())
            archive.writestr(f"{root}/version", b"3\n")
        return buffer.getvalue()

    def legacy(self, content: Any, storages: Mapping[str, Any], **changes: Any) -> bytes:
        """The sequence of pickles. `changes` replaces one of magic, protocol, system, keys."""
        parts = [LEGACY_MAGIC, LEGACY_PROTOCOL, SYSTEM, content, list(storages)]
        for place, name in enumerate(("magic", "protocol", "system", "content", "keys")):
            parts[place] = changes.get(name, parts[place])
        pickles = b"".join(b"\x80\x02" + encode(part) + b"." for part in parts)
        arrays = (np.asarray(value) for value in storages.values())
        return pickles + b"".join(struct.pack("<q", array.size) + array.tobytes() for array in arrays)

    def numpy_pickle(self, content: Any) -> bytes:
        """A bare pickle, such as whitening files are."""
        return b"\x80\x02" + encode(content) + b"."

    @staticmethod
    def array(value: np.ndarray) -> Code:
        """An array as numpy pickles it."""
        start = call(named("numpy.core.multiarray", "_reconstruct"), named("numpy", "ndarray"), (0,), b"b")
        dtype = call(named("numpy", "dtype"), value.dtype.str[1:], False, True)
        order = encode((3, "<", None, None, None, -1, -1, 0))
        state = encode((1, value.shape, Code(dtype + order + b"b"), False, value.tobytes()))
        return Code(start + state + b"b")


@pytest.fixture
def torch_files(tmp_path: Path) -> TorchFiles:
    """Writes PyTorch files into the test's folder."""
    return TorchFiles(tmp_path)
