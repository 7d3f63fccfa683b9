"""The operators of MindIR version 3 that MindSpore Lite 2.0 computes faithfully, and the spellings that avoid others.

Every row and every spelling here was run on Lite against the Cell (tests/export/test_lowering.py), in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TYPE_ID_FLOAT32 = 43  # mindspore's TypeId; the only cast target that Lite was tried with
LAYOUTS = {0: "NCHW"}
PAD_MODES = {1: "SAME", 2: "VALID"}


class UnfaithfulError(ValueError):
    """An operator of the table is used in a way that Lite computes wrongly or was not tried with."""


@dataclass(frozen=True)
class TypeName:
    """An argument that names a type, which version 1 writes as a tensor without data."""

    type_id: int


@dataclass(frozen=True)
class Use:
    """How one node uses its operator.

    `rank` is that of its first input; `values` are its inputs that are constants, None for others; None stands for
    unknown in both. `dynamic` says that the batch is open.
    """

    rank: int | None
    values: tuple[Any, ...]
    dynamic: bool


@dataclass(frozen=True)
class Move:
    """One constant input that becomes the attributes `names`; `convert` maps its value, or raises UnfaithfulError."""

    names: tuple[str, ...]
    convert: Callable[[Any], Any] = lambda value: value


@dataclass(frozen=True)
class Rule:
    """How one operator is lowered: `inputs` stay, the constants after them move, `name` is the old spelling.

    `check` raises UnfaithfulError for uses that Lite loads and computes wrongly.
    """

    inputs: int
    moves: tuple[Move, ...] = ()
    name: str | None = None
    scalar_to_tensor: bool = False  # version 1 has no operator between a tensor and a bare number
    keeps_type: bool = False  # Cast wants its type as an input too
    check: Callable[[Use], None] = lambda use: None


def _window(size: Sequence[int]) -> tuple[int, ...]:
    return (1, 1, *size)


def _float32(type_id: int) -> TypeName:
    if type_id != TYPE_ID_FLOAT32:
        raise UnfaithfulError(f"casts to type {type_id}: cast to float32")
    return TypeName(type_id)


def _named(names: Mapping[int, str], what: str) -> Callable[[int], str]:
    def convert(value: int) -> str:
        if value not in names:
            raise UnfaithfulError(f"has {what} {value}: use {' or '.join(names.values())}")
        return names[value]

    return convert


def _axes(use: Use) -> tuple[int, ...]:
    axes = use.values[1]
    return (axes,) if isinstance(axes, int) else axes or ()


def _names_axes(use: Use) -> None:
    """With a dynamic batch, Lite gives another number, and corrupts its memory."""
    if not _axes(use):
        raise UnfaithfulError("reduces all axes: name the axes, without the batch's")


def _names_last_axis(use: Use) -> None:
    """Over other axes Lite starts from the smallest positive number: where all values are negative, that comes out."""
    _names_axes(use)
    last = (-1,) if use.rank is None else (-1, use.rank - 1)
    if len(_axes(use)) != 1 or _axes(use)[0] not in last:
        raise UnfaithfulError("is right over the last axis alone: reshape or transpose the others into it, use -1")


def _names_every_axis(use: Use) -> None:
    """Lite repeats the first axes, MindSpore the last ones."""
    if use.rank is None or use.values[1] is None or len(use.values[1]) != use.rank:
        raise UnfaithfulError("needs as many multiples as the tensor has axes: put ones before them")


def _steps_forward(use: Use) -> None:
    if min(use.values[3] or (0,)) < 1:
        raise UnfaithfulError("steps backwards or by a computed step: reverse the weights that follow")


def _counts_axes_up(use: Use) -> None:
    if min(use.values[1] or (-1,)) < 0:
        raise UnfaithfulError("needs axes that count from 0")


def _softmax_axis(axis: int | tuple[int, ...]) -> int | tuple[int, ...]:
    if min((axis,) if isinstance(axis, int) else axis) < -1:
        raise UnfaithfulError("needs an axis that counts from 0, or -1")
    return axis


def _fixed_batch(use: Use) -> None:
    if use.dynamic:
        raise UnfaithfulError(
            "does not load with a dynamic batch: use ops.relu(x) - slope * ops.relu(x * -1.0), or --batch N"
        )


LAYOUT = Move(("format",), _named(LAYOUTS, "layout"))
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
    "PReLU": Rule(2, check=_fixed_batch),
    "HSigmoid": Rule(1),
    "HSwish": Rule(1),
    "ReduceMean": Rule(2, (Move(("keep_dims",)),), check=_names_axes),
    "ReduceMax": Rule(2, (Move(("keep_dims",)),), check=_names_last_axis),
    "Softmax": Rule(1, (Move(("axis",), _softmax_axis),)),
    "Concat": Rule(1, (Move(("axis",)),)),
    "Split": Rule(1, (Move(("axis",)), Move(("output_num", "num_split")))),
    "StridedSlice": Rule(4, tuple(Move((mask,)) for mask in SLICE_MASKS), check=_steps_forward),
    "Squeeze": Rule(1, (Move(("axis",)),)),
    "Reshape": Rule(2),
    "Transpose": Rule(2, check=_counts_axes_up),
    "Tile": Rule(2, check=_names_every_axis),
    "ExpandDims": Rule(2),
    "Pad": Rule(1),
    "MaxPool": Rule(1),
    "AvgPool": Rule(
        1,
        (
            Move(("kernel_size",), _window),
            Move(("strides",), _window),
            Move(("pad_mode",), _named(PAD_MODES, "padding")),
            LAYOUT,
        ),
    ),
}

# operator that is refused: what to write instead, in operators of the table
SPELLINGS = {
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

# graph structure and the order of side effects: no arithmetic, the same in both versions
STRUCTURE = frozenset({"Load", "UpdateState", "Depend", "MakeTuple", "TupleGetItem"})
