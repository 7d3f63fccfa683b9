"""Operators of MindIR version 3 that MindSpore Lite 2.0 computes correctly, and replacements for those it does not.

Tests run every row and every replacement on Lite and compare it with the Cell in float32
(tests/export/lowering/test_lower.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TYPE_ID_FLOAT32 = 43  # mindspore's TypeId; the only cast target that was tested on Lite
LAYOUTS = {0: "NCHW"}
PAD_MODES = {1: "SAME", 2: "VALID"}


class UnsupportedUseError(ValueError):
    """An operator of the table is used in a way that Lite computes wrongly, or that was not tested."""


@dataclass(frozen=True)
class TypeName:
    """An argument that is a type; version 1 stores it as a tensor without data."""

    type_id: int


@dataclass(frozen=True)
class Use:
    """How one node uses its operator.

    rank: of its first input, None if unknown. values: of its inputs, None for those that are not constants.
    dynamic: whether the batch is dynamic.
    """

    rank: int | None
    values: tuple[Any, ...]
    dynamic: bool


@dataclass(frozen=True)
class Move:
    """One constant input that becomes the attributes `names`; `convert` maps the value (UnsupportedUseError)."""

    names: tuple[str, ...]
    convert: Callable[[Any], Any] = lambda value: value


@dataclass(frozen=True)
class Rule:
    """How one operator is lowered: the first `inputs` stay, the constants after them become attributes.

    `name` is the operator's name in version 1, None if it is the same. `check` raises UnsupportedUseError for uses that
    Lite loads but computes wrongly.
    """

    inputs: int
    moves: tuple[Move, ...] = ()
    name: str | None = None
    scalar_to_tensor: bool = False  # version 1 has no operators of a tensor and a scalar
    keeps_type: bool = False  # Cast needs its type as an input too
    check: Callable[[Use], None] = lambda use: None


def _window(size: Sequence[int]) -> tuple[int, ...]:
    return (1, 1, *size)


def _float32(type_id: int) -> TypeName:
    if type_id != TYPE_ID_FLOAT32:
        raise UnsupportedUseError(f"casts to type {type_id}: cast to float32")
    return TypeName(type_id)


def _lookup(names: Mapping[int, str], what: str) -> Callable[[int], str]:
    def convert(value: int) -> str:
        if value not in names:
            raise UnsupportedUseError(f"has {what} {value}: use {' or '.join(names.values())}")
        return names[value]

    return convert


def _axes(use: Use) -> tuple[int, ...]:
    axes = use.values[1]
    return (axes,) if isinstance(axes, int) else axes or ()


def _requires_axes(use: Use) -> None:
    """Without axes and with a dynamic batch, Lite computes a wrong value and corrupts its memory."""
    if not _axes(use):
        raise UnsupportedUseError("reduces all axes: name the axes, without the batch's")


def _requires_last_axis(use: Use) -> None:
    """Over other axes Lite starts from the smallest positive number, which is the result if all values are negative."""
    _requires_axes(use)
    last = (-1,) if use.rank is None else (-1, use.rank - 1)
    if len(_axes(use)) != 1 or _axes(use)[0] not in last:
        raise UnsupportedUseError(
            "is correct over the last axis only: move the other axes into it by reshape or transpose, and use -1"
        )


def _requires_all_multiples(use: Use) -> None:
    """With fewer multiples than axes, Lite repeats the first axes, MindSpore the last ones."""
    if use.rank is None or use.values[1] is None or len(use.values[1]) != use.rank:
        raise UnsupportedUseError("needs as many multiples as the tensor has axes: prepend ones")


def _requires_positive_steps(use: Use) -> None:
    if min(use.values[3] or (0,)) < 1:
        raise UnsupportedUseError("has a negative or computed step: reverse the weights that follow")


def _requires_nonnegative_axes(use: Use) -> None:
    if min(use.values[1] or (-1,)) < 0:
        raise UnsupportedUseError("needs axes that count from 0")


def _softmax_axis(axis: int | tuple[int, ...]) -> int | tuple[int, ...]:
    if min((axis,) if isinstance(axis, int) else axis) < -1:
        raise UnsupportedUseError("needs an axis that counts from 0, or -1")
    return axis


def _requires_fixed_batch(use: Use) -> None:
    if use.dynamic:
        raise UnsupportedUseError(
            "does not load with a dynamic batch: use ops.relu(x) - slope * ops.relu(x * -1.0), or --batch N"
        )


LAYOUT = Move(("format",), _lookup(LAYOUTS, "layout"))
TRANSPOSES = (Move(("transpose_a", "transpose_x1")), Move(("transpose_b", "transpose_x2")))
BATCH_TRANSPOSES = (
    Move(("transpose_a", "transpose_x1", "adj_x1")),
    Move(("transpose_b", "transpose_x2", "adj_x2")),
)
SLICE_MASKS = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")

OPERATORS: dict[str, Rule] = {
    "Add": Rule(2),
    "Sub": Rule(2),
    "Mul": Rule(2),
    "Muls": Rule(2, name="Mul", scalar_to_tensor=True),
    "Divs": Rule(2, name="RealDiv", scalar_to_tensor=True),
    "Cast": Rule(1, (Move(("DstT",), _float32),), keeps_type=True),
    "Conv2D": Rule(2),
    "BatchNorm": Rule(5, (Move(("is_training",)), Move(("epsilon",)), Move(("momentum",)), LAYOUT)),
    "BiasAdd": Rule(2, (LAYOUT,)),
    "MatMul": Rule(2, TRANSPOSES),
    "MatMulExt": Rule(2, name="MatMul"),
    "BatchMatMul": Rule(2, BATCH_TRANSPOSES),
    "ReLU": Rule(1),
    "ReLU6": Rule(1),
    "PReLU": Rule(2, check=_requires_fixed_batch),
    "HSigmoid": Rule(1),
    "HSwish": Rule(1),
    "ReduceMean": Rule(2, (Move(("keep_dims",)),), check=_requires_axes),
    "ReduceMax": Rule(2, (Move(("keep_dims",)),), check=_requires_last_axis),
    "Softmax": Rule(1, (Move(("axis",), _softmax_axis),)),
    "Concat": Rule(1, (Move(("axis",)),)),
    "Split": Rule(1, (Move(("axis",)), Move(("output_num", "num_split")))),
    "StridedSlice": Rule(4, tuple(Move((mask,)) for mask in SLICE_MASKS), check=_requires_positive_steps),
    "Squeeze": Rule(1, (Move(("axis",)),)),
    "Reshape": Rule(2),
    "Transpose": Rule(2, check=_requires_nonnegative_axes),
    "Tile": Rule(2, check=_requires_all_multiples),
    "ExpandDims": Rule(2),
    "Pad": Rule(1),
    "MaxPool": Rule(1),
    "AvgPool": Rule(
        1,
        (
            Move(("kernel_size",), _window),
            Move(("strides",), _window),
            Move(("pad_mode",), _lookup(PAD_MODES, "padding")),
            LAYOUT,
        ),
    ),
}

# refused operators: what to write instead, in operators of the table
REPLACEMENTS = {
    "AdaptiveAvgPool2D": "ops.mean(x, (2, 3), True)",
    "MaxPoolWithArgmaxV2": "nn.MaxPool2d; for padding, nn.Pad before it, where x is not negative",
    "MaxPool3DWithArgmax": "nn.MaxPool2d without padding; nn.Pad before it, where x is not negative",
    "AvgPool3D": "nn.AvgPool2d without padding, or a depthwise nn.Conv2d of equal weights",
    "PadV3": "nn.Pad(((0, 0), (0, 0), (top, bottom), (left, right)))",
    "Flatten": "ops.reshape(x, (-1, size))",
    "Shape": "ops.reshape with -1 for the batch",
    "Neg": "x * -1.0",
    "SumExt": "ops.mean(x, axes) * count",
    "Div": "x * (1 / constant)",
    "Maximum": "ops.relu(x - y) + y; for a leaky ReLU, ops.relu(x) - slope * ops.relu(x * -1.0)",
    "Stack": "ops.concat of tensors with ops.expand_dims",
}

# graph structure and order of side effects, without arithmetic: the same in both versions
STRUCTURE = frozenset({"Load", "UpdateState", "Depend", "MakeTuple", "TupleGetItem"})
