"""Parsing that MindIR and ONNX share: both are protobuf formats."""

from __future__ import annotations

import struct
from typing import Any

NUMPY_NAMES = {"float": "float32", "double": "float64"}  # of types that protobuf names differently


def parse(message: Any, data: bytes) -> bool:
    """Parse `data` into an empty message; False if it is not such a message or is damaged.

    The pure Python implementation of protobuf, which some installations use, raises more than the documented error.
    """
    from google.protobuf.message import DecodeError

    try:
        message.ParseFromString(data)
    except (DecodeError, UnicodeDecodeError, struct.error, IndexError, RecursionError):
        return False
    return _texts_are_text(message)


def _texts_are_text(message: Any) -> bool:
    """The pure Python implementation returns text that is not UTF-8 as bytes, in messages of the proto2 syntax."""
    for field, value in message.ListFields():
        single = isinstance(value, (str, bytes)) or hasattr(value, "ListFields")
        values = (value,) if single else value
        if field.type == field.TYPE_STRING and any(isinstance(text, bytes) for text in values):
            return False
        if field.type == field.TYPE_MESSAGE and not all(map(_texts_are_text, values)):
            return False
    return True


def dtype_name(tensor: Any, kind: int) -> str:
    """NumPy's name of type number `kind`. `tensor` is a TensorProto or its class; each format has its own numbers."""
    if kind not in tensor.DataType.values():
        return f"type {kind}"
    name = tensor.DataType.Name(kind).lower()
    return NUMPY_NAMES.get(name, name)
