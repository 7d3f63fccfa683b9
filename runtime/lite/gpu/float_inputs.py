"""Change the uint8 inputs of a MindIR to float32, for TensorRT, which has no uint8.

The graph casts these inputs to float32 first, so its results are the same. In the file only one byte per input changes:
its data type. The rest stays the bytes whose hash was verified, and no package that can write MindIR is needed.
"""

from __future__ import annotations

from collections.abc import Iterator

from synergy.runtime.errors import EngineError

# Field numbers and values of MindSpore's mind_ir.proto
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INPUT = 1, 5
_NODE_INPUT, _NODE_OPERATOR = 1, 4
_INPUT_NAME, _INPUT_TENSOR = 1, 2
_TENSOR_TYPE = 2
_FLOAT32, _UINT8 = 1, 2
_CAST = b"REF::Cast:"  # reference to a primitive: the operator's name, then a number
# Wire types of protobuf with the number of bytes of those of fixed size
_VARINT, _LENGTH = 0, 2
_FIXED_SIZES = {1: 8, 5: 4}

_Span = tuple[int, int]  # start and end of a value in the file


def with_float32_inputs(mindir: bytes) -> bytes:
    """A copy of a MindIR whose uint8 inputs are float32; the values to give are the same, 0 to 255.

    Raises EngineError if the file is damaged, or if an input is used by another operator than Cast.
    """
    changed = bytearray(mindir)
    try:
        (graph,) = _all(mindir, (0, len(mindir)), _MODEL_GRAPH)
        nodes = _all(mindir, graph, _GRAPH_NODE)
        for entry in _all(mindir, graph, _GRAPH_INPUT):
            (name,) = _all(mindir, entry, _INPUT_NAME)
            for tensor in _all(mindir, entry, _INPUT_TENSOR):
                for start, end in _all(mindir, tensor, _TENSOR_TYPE):
                    if mindir[start:end] == bytes([_UINT8]):
                        _check_uses(mindir, nodes, mindir[slice(*name)])
                        changed[start] = _FLOAT32
    except (IndexError, ValueError):
        raise EngineError("the MindIR file is damaged: export the bundle again") from None
    return bytes(changed)


def _check_uses(data: bytes, nodes: list[_Span], name: bytes) -> None:
    for node in nodes:
        if name in (data[slice(*value)] for value in _all(data, node, _NODE_INPUT)):
            (operator,) = (data[slice(*value)] for value in _all(data, node, _NODE_OPERATOR))
            if not operator.startswith(_CAST):
                raise EngineError(
                    f"{operator.decode(errors='replace')} reads a uint8 input of the model, which TensorRT cannot: "
                    "export the bundle again, or use the engine onnx"
                )


def _all(data: bytes, message: _Span, number: int) -> list[_Span]:
    """The values of one field of a message, in order."""
    return [value for found, value in _fields(data, message) if found == number]


def _fields(data: bytes, message: _Span) -> Iterator[tuple[int, _Span]]:
    """Number and value of each field. Raises ValueError or IndexError if this is not a message."""
    position, end = message
    while position < end:
        key, start = _varint(data, position)
        kind = key & 7
        if kind == _LENGTH:
            size, start = _varint(data, start)
            position = start + size
        else:
            position = _varint(data, start)[1] if kind == _VARINT else start + _fixed_size(kind)
        if position > end:
            raise ValueError("a field is longer than its message")
        yield key >> 3, (start, position)


def _fixed_size(kind: int) -> int:
    if kind not in _FIXED_SIZES:
        raise ValueError(f"unknown wire type {kind}")
    return _FIXED_SIZES[kind]


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A number in protobuf's variable-length form, and the position after it."""
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
