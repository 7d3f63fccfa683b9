"""MindIR version 3 (MindSpore 2.10) -> version 1, the newest that MindSpore Lite 2.0 reads.

Version 3 passes an operator's arguments as constant inputs, version 1 as attributes of its primitive. Each
row of `OPERATORS` was run on Lite 2.0 against the Cell; an operator without a row is refused, because several
unlisted ones load there and silently give wrong numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from mindspore.train.mind_ir_pb2 import AttributeProto, ModelProto, NodeProto, PrimitiveProto, TensorProto

SOURCE_VERSION = 3
MIND_IR_VERSION = 1
IR_VERSION = "0.1.1"
REFERENCE = "REF::"
CONSTANT = "Constant"
TYPE_ID_FLOAT32 = 43  # mindspore's TypeId; the only cast target that Lite was tried with
LAYOUTS = {0: "NCHW", 1: "NHWC"}
PAD_MODES = {0: "PAD", 1: "SAME", 2: "VALID"}


class LoweringError(ValueError):
    """The graph uses something that version 1, or Lite 2.0's reading of it, does not carry faithfully."""


@dataclass(frozen=True)
class Move:
    """One constant input that becomes the attributes `names`; `convert` maps its value."""

    names: tuple[str, ...]
    convert: Callable[[Any], Any] = lambda value: value


@dataclass(frozen=True)
class Rule:
    """How one operator is lowered: `inputs` stay, the constants after them move, `name` is the old spelling."""

    inputs: int
    moves: tuple[Move, ...] = ()
    name: str | None = None
    scalar_to_tensor: bool = False  # version 1 has no operator between a tensor and a bare number
    keeps_type: bool = False  # Cast wants its type as an input too


def _window(size: Sequence[int]) -> tuple[int, ...]:
    return (1, 1, *size)


def _float32_type(type_id: int) -> AttributeProto:
    """Version 1 writes a type as a tensor without data."""
    if type_id != TYPE_ID_FLOAT32:
        raise LoweringError(f"Cast to type {type_id}: only casts to float32 are proved")
    tensor = TensorProto(data_type=TensorProto.FLOAT, name="value0")
    return AttributeProto(type=AttributeProto.TENSORS, tensors=[tensor])


TRANSPOSES = (Move(("transpose_a", "transpose_x1")), Move(("transpose_b", "transpose_x2")))
BATCH_TRANSPOSES = (
    Move(("transpose_a", "transpose_x1", "adj_x1")),
    Move(("transpose_b", "transpose_x2", "adj_x2")),
)
LAYOUT = Move(("format",), LAYOUTS.__getitem__)
SLICE_MASKS = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")

OPERATORS: dict[str, Rule] = {
    "Add": Rule(2),
    "Sub": Rule(2),
    "Mul": Rule(2),
    "Muls": Rule(2, name="Mul", scalar_to_tensor=True),
    "Divs": Rule(2, name="RealDiv", scalar_to_tensor=True),
    "Cast": Rule(1, (Move(("DstT",), _float32_type),), keeps_type=True),
    "Conv2D": Rule(2),
    "BatchNorm": Rule(5, (Move(("is_training",)), Move(("epsilon",)), Move(("momentum",)), LAYOUT)),
    "BiasAdd": Rule(2, (LAYOUT,)),
    "MatMul": Rule(2, TRANSPOSES),
    "MatMulExt": Rule(2, name="MatMul"),
    "BatchMatMul": Rule(2, BATCH_TRANSPOSES),
    "ReLU": Rule(1),
    "ReLU6": Rule(1),
    "PReLU": Rule(2),
    "HSigmoid": Rule(1),
    "HSwish": Rule(1),
    "ReduceMean": Rule(2, (Move(("keep_dims",)),)),
    "ReduceMax": Rule(2, (Move(("keep_dims",)),)),
    "Softmax": Rule(1, (Move(("axis",)),)),
    "Concat": Rule(1, (Move(("axis",)),)),
    "Split": Rule(1, (Move(("axis",)), Move(("output_num", "num_split")))),
    "StridedSlice": Rule(4, tuple(Move((mask,)) for mask in SLICE_MASKS)),
    "Squeeze": Rule(1, (Move(("axis",)),)),
    "Reshape": Rule(2),
    "Transpose": Rule(2),
    "Tile": Rule(2),
    "ExpandDims": Rule(2),
    "Pad": Rule(1),
    "MaxPool": Rule(1),
    "AvgPool": Rule(
        1,
        (
            Move(("kernel_size",), _window),
            Move(("strides",), _window),
            Move(("pad_mode",), PAD_MODES.__getitem__),
            LAYOUT,
        ),
    ),
}

REDUCTIONS = ("ReduceMean", "ReduceMax")
PRODUCTS = ("MatMul", "BatchMatMul")

# graph structure and the order of side effects: no arithmetic, the same in both versions
STRUCTURE = frozenset({"Load", "UpdateState", "Depend", "MakeTuple", "TupleGetItem"})


def lower_mindir(source: Path, target: Path) -> None:
    """Write `source`, a version 3 MindIR, as version 1. Raises LoweringError naming operator and layer."""
    model = ModelProto()
    try:
        model.ParseFromString(source.read_bytes())
    except DecodeError as error:
        raise LoweringError(f"{source} is not a MindIR file ({error})") from None
    target.write_bytes(lower_model(model).SerializeToString())


def lower_model(model: ModelProto) -> ModelProto:
    """A version 1 copy of a parsed version 3 MindIR."""
    if model.mind_ir_version != SOURCE_VERSION:
        raise LoweringError(f"the MindIR has version {model.mind_ir_version}: the table was proved on {SOURCE_VERSION}")
    if len(model.functions):
        raise LoweringError("the graph has sub-graphs (control flow): only straight graphs can be lowered")
    lowered = ModelProto()
    lowered.CopyFrom(model)
    del lowered.primitives[:], lowered.graph.node[:]
    _Lowering(model, lowered).run()
    lowered.mind_ir_version = MIND_IR_VERSION
    lowered.ir_version = IR_VERSION
    return lowered


def operator_names(model: ModelProto) -> list[str]:
    """Operators of a parsed MindIR in graph order, structure left out."""
    names = _operator_types(model)
    return [name for name in names if name != CONSTANT and name not in STRUCTURE]


class _Lowering:
    """Walks the nodes of `source` once and appends their lowered form to `target`."""

    def __init__(self, source: ModelProto, target: ModelProto) -> None:
        self.source, self.target = source, target
        self.primitives = {primitive.name: primitive for primitive in source.primitives}
        self.constants = {node.output[0]: node for node in source.graph.node if node.op_type == CONSTANT}
        self.copied: set[str] = set()
        self.loads = {node.output[0]: node.input[0] for node in source.graph.node if self._type(node) == "Load"}
        self.weights = {parameter.name for parameter in source.graph.parameter} | set(self.constants)
        self.readings: dict[str, tuple[int, ...]] = {}

    def _type(self, node: NodeProto) -> str:
        primitive = self.primitives.get(node.op_type.removeprefix(REFERENCE))
        return primitive.op_type if primitive else node.op_type

    def run(self) -> None:
        self._refuse_unknown()
        for node in self.source.graph.node:
            if node.op_type != CONSTANT:
                self._lower(node)

    def _refuse_unknown(self) -> None:
        unknown: dict[str, str] = {}
        for node, name in zip(self.source.graph.node, _operator_types(self.source), strict=True):
            if name != CONSTANT and name not in OPERATORS and name not in STRUCTURE:
                unknown.setdefault(name, node.domain)
        if unknown:
            listed = "; ".join(f"{name}, used by {layer}" for name, layer in unknown.items())
            raise LoweringError(f"no proved lowering for operator {listed}")

    def _lower(self, node: NodeProto) -> None:
        primitive = self.primitives[node.op_type.removeprefix(REFERENCE)]
        rule = OPERATORS.get(primitive.op_type, Rule(inputs=len(node.input)))
        arguments = node.input[rule.inputs :]
        if len(node.input) != rule.inputs + len(rule.moves):
            raise LoweringError(f"{primitive.op_type} in {node.domain} takes {len(node.input)} inputs, not as proved")
        own = PrimitiveProto()
        own.CopyFrom(primitive)
        own.op_type = rule.name or primitive.op_type
        own.name = f"{own.op_type}:{len(self.target.primitives)}"  # its own: the moved values differ per node
        for move, argument in zip(rule.moves, arguments, strict=True):
            self._move(own, move, self._argument(argument, primitive.op_type, node.domain))
        self._refuse_known_faults(own, node)
        inputs = [self._input(name, rule) for name in node.input[: rule.inputs]]
        if rule.keeps_type:
            inputs.append(self._type_constant(arguments[0]))
        self.target.primitives.append(own)
        lowered = self.target.graph.node.add()
        lowered.CopyFrom(node)
        lowered.op_type = REFERENCE + own.name
        lowered.input[:] = inputs

    def _refuse_known_faults(self, primitive: PrimitiveProto, node: NodeProto) -> None:
        """What Lite 2.0 loads and computes wrongly."""
        if primitive.op_type in REDUCTIONS and self._is_empty(node.input[1]):
            raise LoweringError(f"{primitive.op_type} over all axes in {node.domain}: name the axes")
        if primitive.op_type in PRODUCTS:
            flags = {attribute.name: attribute.i for attribute in primitive.attribute}
            for position, side in enumerate(("transpose_a", "transpose_b")):
                self._read_weight(primitive, node, position, flags.get(side, 0))

    def _read_weight(self, primitive: PrimitiveProto, node: NodeProto, position: int, transposed: int) -> None:
        """Lite turns a weight in place for its first product, and gives a second that reads it otherwise wrong ones."""
        weight = self.loads.get(node.input[position], node.input[position])
        reading = (position, transposed)
        if weight in self.weights and self.readings.setdefault(weight, reading) != reading:
            raise LoweringError(f"{primitive.op_type} in {node.domain} shares a weight that another reads otherwise")

    def _is_empty(self, name: str) -> bool:
        return name in self.constants and not self.constants[name].attribute[0].values

    def _argument(self, name: str, operator: str, layer: str) -> Any:
        if name not in self.constants:
            raise LoweringError(f"{operator} in {layer} computes an argument that version 1 wants as a constant")
        return _value(self.constants[name].attribute[0])

    def _move(self, primitive: PrimitiveProto, move: Move, value: Any) -> None:
        for name in move.names:
            attribute = _attribute(move.convert(value))
            attribute.name = name
            kept = [old for old in primitive.attribute if old.name != name]
            del primitive.attribute[:]
            primitive.attribute.extend([*kept, attribute])

    def _input(self, name: str, rule: Rule) -> str:
        """Constants are copied when first used, as tensors where the old operator takes no scalars."""
        if name not in self.constants:
            return name
        attribute = self.constants[name].attribute[0]
        if rule.scalar_to_tensor and attribute.type in (AttributeProto.FLOAT, AttributeProto.INT64):
            return self._constant(name + ":tensor", _scalar_tensor(_value(attribute)))
        return self._constant(name, attribute)

    def _type_constant(self, name: str) -> str:
        return self._constant(name + ":type", _float32_type(TYPE_ID_FLOAT32))

    def _constant(self, name: str, attribute: AttributeProto) -> str:
        if name not in self.copied:
            self.copied.add(name)
            node = self.target.graph.node.add(op_type=CONSTANT, output=[name])
            node.attribute.add().CopyFrom(attribute)
            node.attribute[0].name = "value"
        return name


def _operator_types(model: ModelProto) -> list[str]:
    types = {REFERENCE + primitive.name: primitive.op_type for primitive in model.primitives}
    return [types.get(node.op_type, node.op_type) for node in model.graph.node]


def _value(attribute: AttributeProto) -> Any:
    """A constant as Python sees it; of tuples, those of whole numbers."""
    if attribute.type == AttributeProto.FLOAT:
        return attribute.f
    if attribute.type == AttributeProto.BOOL:
        return bool(attribute.i)
    if attribute.type == AttributeProto.INT64:
        return attribute.i
    if attribute.type == AttributeProto.TUPLE and all(item.type == AttributeProto.INT64 for item in attribute.values):
        return tuple(item.ints[0] for item in attribute.values)  # a tuple's items are lists of one
    raise LoweringError(f"an argument of type {AttributeProto.AttributeType.Name(attribute.type)} has no lowering")


def _attribute(value: Any) -> AttributeProto:
    if isinstance(value, AttributeProto):
        return value
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


def _scalar_tensor(value: float) -> AttributeProto:
    tensor = TensorProto(data_type=TensorProto.FLOAT, name="value0", raw_data=np.float32(value).tobytes())
    return AttributeProto(type=AttributeProto.TENSORS, tensors=[tensor])
