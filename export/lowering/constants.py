"""Conversion between constants of a MindIR and Python values, and names of layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from mindspore.train.mind_ir_pb2 import AttributeProto, NodeProto, TensorProto


def value_of(attribute: AttributeProto) -> Any:
    """A constant as a Python number, bool or tuple of integers; None for other types."""
    if attribute.type == AttributeProto.FLOAT:
        return attribute.f
    if attribute.type == AttributeProto.BOOL:
        return bool(attribute.i)
    if attribute.type == AttributeProto.INT64:
        return attribute.i
    if attribute.type == AttributeProto.TUPLE and all(item.type == AttributeProto.INT64 for item in attribute.values):
        return tuple(item.ints[0] for item in attribute.values)  # each item of a tuple is a list of one number
    return None


def attribute_of(value: Any) -> AttributeProto:
    """A bool, int, float, string or tuple of ints as an attribute without a name."""
    if isinstance(value, bool):
        return AttributeProto(type=AttributeProto.BOOL, i=int(value))
    if isinstance(value, int):
        return AttributeProto(type=AttributeProto.INT64, i=value)
    if isinstance(value, float):
        return AttributeProto(type=AttributeProto.FLOAT, f=value)
    if isinstance(value, str):
        return AttributeProto(type=AttributeProto.STRING, s=value.encode())
    items = [AttributeProto(type=AttributeProto.INT64, ints=[item]) for item in value]
    return AttributeProto(type=AttributeProto.TUPLE, values=items)


def scalar_tensor(value: float) -> AttributeProto:
    """A float32 tensor without axes."""
    tensor = TensorProto(data_type=TensorProto.FLOAT, name="value0", raw_data=np.float32(value).tobytes())
    return AttributeProto(type=AttributeProto.TENSORS, tensors=[tensor])


def float32_type() -> AttributeProto:
    """The type float32 in the form of version 1: a tensor without data."""
    tensor = TensorProto(data_type=TensorProto.FLOAT, name="value0")
    return AttributeProto(type=AttributeProto.TENSORS, tensors=[tensor])


def output_tensor(node: NodeProto) -> TensorProto | None:
    """Shape and type of a node's output; None if there are several, or if the value of a constant is not a tensor."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.TENSORS and len(attribute.tensors) == 1:
            return attribute.tensors[0]
    return None


def layer_name(node: NodeProto) -> str:
    """ "Default/backbone-MobileNetV2/3-ConvBlock/ReLU6-op0" -> "backbone.3 (ConvBlock)": attributes, then the class."""
    cells = [part.rsplit("-", 1) for part in node.domain.split("/")[1:-1]]
    if not cells:
        return "the outermost Cell"
    return f"{'.'.join(cell[0] for cell in cells)} ({cells[-1][-1]})"
