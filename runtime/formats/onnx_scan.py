"""Find tensors of an ONNX model that lie in other files, without the package onnx and without reading the values.

Engines open such files relative to the current folder, or at any absolute path: they are no part of what was verified.
"""

from __future__ import annotations

from collections.abc import Iterator

MAX_FIELDS = 4_000_000  # that a scan looks at; a large network has about 100,000
VARINT, FIXED64, BYTES, GROUP_START, GROUP_END, FIXED32 = 0, 1, 2, 3, 4, 5  # wire types of protobuf
DAMAGED = "is not an ONNX model, or is damaged or truncated"
TENSOR = "TensorProto"
DATA_LOCATION, EXTERNAL_DATA = 14, 13

# message: field: message of its content; from onnx.proto3. Other fields are skipped.
FIELDS: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: TENSOR, 15: "SparseTensorProto"},
    "SparseTensorProto": {1: TENSOR, 2: TENSOR},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: TENSOR, 6: "GraphProto", 10: TENSOR, 11: "GraphProto", 22: "SparseTensorProto", 23: "SparseTensorProto",
    },
    TENSOR: {},
}  # fmt: skip


class OnnxScanError(ValueError):
    """The model is damaged, too large, or is not a single file."""


class OnnxDamageError(OnnxScanError):
    """The bytes are not an ONNX model, or not all of it: engines cannot read it either."""


def check_self_contained(data: bytes) -> None:
    """Raise OnnxScanError, with a text that continues after the file's name, if weights lie in other files.

    Raises OnnxDamageError for other bytes. A few milliseconds for a model of 100 MB.
    """
    left = MAX_FIELDS
    pending = [("ModelProto", 0, len(data))]
    while pending:
        message, start, end = pending.pop()
        for field, wire, first, last in _fields(data, start, end):
            left -= 1
            if left < 0:
                raise OnnxScanError(f"has more than {MAX_FIELDS:,} parts: it is not a model of this kind")
            if message == TENSOR and (field == EXTERNAL_DATA or (field == DATA_LOCATION and first)):
                raise OnnxScanError("has its weights in other files: save it with save_as_external_data=False")
            if wire == BYTES and field in FIELDS[message]:
                pending.append((FIELDS[message][field], first, last))


def _fields(data: bytes, position: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type and range of each field; of a VARINT, its value instead of the start."""
    while position < end:
        key, position = _varint(data, position, end)
        wire, first = key & 7, position
        if wire == VARINT:
            first, position = _varint(data, position, end)
        elif wire == BYTES:
            size, first = _varint(data, position, end)
            position = first + size
        elif wire in (FIXED32, FIXED64):
            position += 4 if wire == FIXED32 else 8
        elif wire not in (GROUP_START, GROUP_END):  # the fields of a group are looked at as those of its message
            raise OnnxDamageError(DAMAGED)
        if position > end:
            raise OnnxDamageError(DAMAGED)
        yield (key & 0xFFFFFFFF) >> 3, wire, first, position


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while position < end and shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise OnnxDamageError(DAMAGED)
