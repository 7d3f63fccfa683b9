"""What the two protobuf formats, MindIR and ONNX, have in common."""

from __future__ import annotations

import struct
from typing import Any

NUMPY_NAMES = {"float": "float32", "double": "float64"}  # of types, where protobuf's differ


def parse(message: Any, data: bytes) -> bool:
    """Fill an empty message; False where `data` is no such message, or a damaged one.

    Protobuf's Python implementation, which some installations use, lets more errors out than the one it documents.
    """
    from google.protobuf.message import DecodeError

    try:
        message.ParseFromString(data)
    except (DecodeError, UnicodeDecodeError, struct.error, IndexError, RecursionError):
        return False
    return _texts_are_text(message)


def _texts_are_text(message: Any) -> bool:
    """Protobuf's Python implementation leaves a text that is no UTF-8 as bytes, in messages of the older syntax."""
    for field, value in message.ListFields():
        single = isinstance(value, (str, bytes)) or hasattr(value, "ListFields")
        values = (value,) if single else value
        if field.type == field.TYPE_STRING and any(isinstance(text, bytes) for text in values):
            return False
        if field.type == field.TYPE_MESSAGE and not all(map(_texts_are_text, values)):
            return False
    return True


def dtype_name(tensor: Any, kind: int) -> str:
    """NumPy's name for type `kind` of `tensor`, a TensorProto or that class: both formats number types themselves."""
    if kind not in tensor.DataType.values():
        return f"type {kind}"
    name = tensor.DataType.Name(kind).lower()
    return NUMPY_NAMES.get(name, name)
