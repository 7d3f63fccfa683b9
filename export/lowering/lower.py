"""MindIR version 3 (MindSpore 2.10) -> version 1, the newest that MindSpore Lite 2.0 reads.

Version 3 passes an operator's arguments as constant inputs, version 1 as attributes of its primitive. Operators that
are not in `export.lowering.operators` are refused with the name of the layer: Lite loads several of them and computes
wrong values without an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mindspore.train.mind_ir_pb2 import AttributeProto, GraphProto, ModelProto, NodeProto, PrimitiveProto, TensorProto

from synergy.export.lowering.constants import (
    attribute_of,
    float32_type,
    layer_name,
    output_tensor,
    scalar_tensor,
    value_of,
)
from synergy.export.lowering.operators import (
    OPERATORS,
    REPLACEMENTS,
    STRUCTURE,
    Move,
    Rule,
    TypeName,
    UnsupportedUseError,
    Use,
)
from synergy.export.protobuf import dtype_name, parse

SOURCE_VERSION = 3
MIND_IR_VERSION = 1
IR_VERSION = "0.1.1"
REFERENCE = "REF::"
CONSTANT = "Constant"
BRANCH = "Switch"
PRODUCTS = ("MatMul", "BatchMatMul")
# Lite reads inputs of other types as float32 or int32 without an error
INPUT_TYPES = (TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT32, TensorProto.BOOL)


class LoweringError(ValueError):
    """The graph cannot be expressed in version 1, or Lite 2.0 would compute it wrongly."""


def lower_mindir(source: Path, target: Path) -> None:
    """Write `source`, a version 3 MindIR, as version 1. Raises LoweringError naming operator and layer."""
    model = ModelProto()
    if not parse(model, source.read_bytes()):
        raise LoweringError(f"{source} is not a MindIR model, or is damaged, truncated or encrypted")
    target.write_bytes(lower_model(model).SerializeToString())


def lower_model(model: ModelProto) -> ModelProto:
    """A version 1 copy of a parsed version 3 MindIR."""
    if model.mind_ir_version != SOURCE_VERSION:
        raise LoweringError(
            f"the MindIR has version {model.mind_ir_version}: only version {SOURCE_VERSION} can be lowered"
        )
    _refuse_sub_graphs(model)
    lowered = ModelProto()
    lowered.CopyFrom(model)
    del lowered.primitives[:], lowered.graph.node[:]
    _Lowering(model, lowered).run()
    lowered.mind_ir_version = MIND_IR_VERSION
    lowered.ir_version = IR_VERSION
    return lowered


def operator_names(model: ModelProto) -> list[str]:
    """Operators of a parsed MindIR in graph order, sub-graphs last, without those of `STRUCTURE`."""
    return [name for node, name in _operators(model) if name not in STRUCTURE]


def _operators(model: ModelProto) -> Iterator[tuple[NodeProto, str]]:
    """Every node, except constants and calls of sub-graphs, with its operator."""
    types = {REFERENCE + primitive.name: primitive.op_type for primitive in model.primitives}
    for graph in (model.graph, *model.functions):
        for node in graph.node:
            name = types.get(node.op_type, node.op_type)
            if name != CONSTANT and not name.startswith(REFERENCE):
                yield node, name


def _refuse_sub_graphs(model: ModelProto) -> None:
    branching = dict.fromkeys(layer_name(node) for node, name in _operators(model) if name == BRANCH)
    if branching:
        raise LoweringError(
            f"control flow (if or while on a tensor) in {', '.join(branching)}: branches cannot be lowered, "
            "so make conditions Python values; conditions on shapes are constant with a fixed batch (--batch N)"
        )
    if len(model.functions):
        inside = {node.name for function in model.functions for node in function.node}
        layers = dict.fromkeys(layer_name(node) for node, _ in _operators(model) if node.name in inside)
        raise LoweringError(
            f"sub-graphs with {', '.join(layers)}: sub-graphs cannot be lowered, so remove @lazy_inline"
        )


class _Lowering:
    """One pass over the nodes of `source` that appends their lowered form to `target`."""

    def __init__(self, source: ModelProto, target: ModelProto) -> None:
        self.source, self.target = source, target
        self.primitives = {REFERENCE + primitive.name: primitive for primitive in source.primitives}
        self.constants = {node.output[0]: node for node in source.graph.node if node.op_type == CONSTANT}
        self.copied: set[str] = set()
        self.loads = {node.output[0]: node.input[0] for node in source.graph.node if self._type(node) == "Load"}
        self.weights = {parameter.name for parameter in source.graph.parameter} | set(self.constants)
        self.layouts: dict[str, tuple[int, ...]] = {}
        self.ranks = _ranks(source.graph)
        self.dynamic = any(dim < 0 for _, tensor in _inputs(source.graph) for dim in tensor.dims[:1])

    def _type(self, node: NodeProto) -> str:
        primitive = self.primitives.get(node.op_type)
        return primitive.op_type if primitive else node.op_type

    def run(self) -> None:
        self._refuse_unknown()
        self._refuse_inputs()
        for node in self.source.graph.node:
            if node.op_type != CONSTANT:
                self._lower(node)

    def _refuse_unknown(self) -> None:
        unknown: dict[str, str] = {}
        for node, name in _operators(self.source):
            if name not in OPERATORS and name not in STRUCTURE:
                unknown.setdefault(name, layer_name(node))
        if unknown:
            listed = (f"{name} in {layer}{_instead(name)}" for name, layer in unknown.items())
            raise LoweringError(f"no tested lowering for operator {'; '.join(listed)}")

    def _refuse_inputs(self) -> None:
        for name, tensor in _inputs(self.source.graph):
            if tensor.data_type not in INPUT_TYPES:
                found = f"input {name.rpartition(':')[2]} is {dtype_name(tensor, tensor.data_type)}"
                raise LoweringError(f"{found}, a type that Lite misreads: use float32 or uint8")

    def _lower(self, node: NodeProto) -> None:
        primitive = self.primitives.get(node.op_type)
        if primitive is None:
            raise LoweringError(f"{layer_name(node)} uses {node.op_type}, which is not defined: the file is damaged")
        rule = OPERATORS.get(primitive.op_type, Rule(inputs=len(node.input)))
        arguments = node.input[rule.inputs :]
        if len(node.input) != rule.inputs + len(rule.moves):
            found = f"{primitive.op_type} in {layer_name(node)} takes {len(node.input)} inputs"
            raise LoweringError(f"{found}, not the {rule.inputs + len(rule.moves)} that were tested")
        own = PrimitiveProto()
        own.CopyFrom(primitive)
        own.op_type = rule.name or primitive.op_type
        own.name = f"{own.op_type}:{len(self.target.primitives)}"  # one primitive per node: the moved values differ
        try:
            rule.check(self._use(node, rule))
            for move, argument in zip(rule.moves, arguments, strict=True):
                _move(own, move, self._argument(argument))
            self._refuse_mixed_transpose(own, node)
            _refuse_other_types(primitive, node)
        except UnsupportedUseError as error:
            raise LoweringError(f"{primitive.op_type} in {layer_name(node)} {error}") from None
        inputs = [self._input(name, rule) for name in node.input[: rule.inputs]]
        if rule.keeps_type:
            inputs.append(self._constant(arguments[0] + ":type", float32_type()))
        self.target.primitives.append(own)
        lowered = self.target.graph.node.add()
        lowered.CopyFrom(node)
        lowered.op_type = REFERENCE + own.name
        lowered.input[:] = inputs

    def _use(self, node: NodeProto, rule: Rule) -> Use:
        values = tuple(self._value(name) for name in node.input[: rule.inputs])
        return Use(self.ranks.get(node.input[0]), values, self.dynamic)

    def _refuse_mixed_transpose(self, primitive: PrimitiveProto, node: NodeProto) -> None:
        """Lite transposes a weight in place for its first product: another layout in a second one is wrong."""
        if primitive.op_type not in PRODUCTS:
            return
        flags = {attribute.name: attribute.i for attribute in primitive.attribute}
        for position, side in enumerate(("transpose_a", "transpose_b")):
            weight = self.loads.get(node.input[position], node.input[position])
            layout = (position, flags.get(side, 0))
            if weight in self.weights and self.layouts.setdefault(weight, layout) != layout:
                raise UnsupportedUseError(
                    "shares a weight with a product that transposes it differently: give each its own weight"
                )

    def _value(self, name: str) -> Any:
        return value_of(self.constants[name].attribute[0]) if name in self.constants else None

    def _argument(self, name: str) -> Any:
        value = self._value(name)
        if value is None:
            raise UnsupportedUseError("computes an argument that must be a constant in version 1: write it as a number")
        return value

    def _input(self, name: str, rule: Rule) -> str:
        """The name of an input; constants are copied on first use, as tensors if the old operator takes no scalars."""
        if name not in self.constants:
            return name
        attribute = self.constants[name].attribute[0]
        if rule.scalar_to_tensor and attribute.type in (AttributeProto.FLOAT, AttributeProto.INT64):
            return self._constant(name + ":tensor", scalar_tensor(value_of(attribute)))
        return self._constant(name, attribute)

    def _constant(self, name: str, attribute: AttributeProto) -> str:
        if name not in self.copied:
            self.copied.add(name)
            node = self.target.graph.node.add(op_type=CONSTANT, output=[name])
            node.attribute.add().CopyFrom(attribute)
            node.attribute[0].name = "value"
        return name


def _move(primitive: PrimitiveProto, move: Move, value: Any) -> None:
    converted = move.convert(value)
    for name in move.names:
        attribute = float32_type() if isinstance(converted, TypeName) else attribute_of(converted)
        attribute.name = name
        kept = [old for old in primitive.attribute if old.name != name]
        del primitive.attribute[:]
        primitive.attribute.extend([*kept, attribute])


def _refuse_other_types(primitive: PrimitiveProto, node: NodeProto) -> None:
    tensor = output_tensor(node)
    if primitive.op_type in OPERATORS and tensor is not None and tensor.data_type != TensorProto.FLOAT:
        found = dtype_name(tensor, tensor.data_type)
        raise UnsupportedUseError(f"gives {found}: only float32 was tested, so cast to it first")


def _ranks(graph: GraphProto) -> dict[str, int]:
    """Number of axes by tensor name, where the file gives it."""
    ranks = {name: len(tensor.dims) for name, tensor in _inputs(graph)}
    for node in graph.node:
        tensor = output_tensor(node)
        if tensor is not None:
            ranks[node.output[0]] = len(tensor.dims)
    return ranks


def _inputs(graph: GraphProto) -> Iterator[tuple[str, TensorProto]]:
    return ((entry.name, tensor) for entry in graph.input for tensor in entry.tensor[:1])


def _instead(operator: str) -> str:
    return f" (use {REPLACEMENTS[operator]})" if operator in REPLACEMENTS else ""
