"""Each row of the lowering table, and each replacement it recommends, runs on MindSpore Lite and is compared with the
Cell; other operators are refused by name.

All Cells are exported in this process and run on Lite in another one. Lite crashes on some files instead of refusing
them: then a new process continues with the next file.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, lazy_inline, nn, ops
from mindspore.train.mind_ir_pb2 import ModelProto

from synergy.export.lowering.lower import (
    IR_VERSION,
    MIND_IR_VERSION,
    LoweringError,
    lower_mindir,
    lower_model,
    operator_names,
)
from synergy.export.lowering.operators import OPERATORS, REPLACEMENTS

SHAPE = (2, 3, 8, 8)
RTOL = 1e-5  # of the largest value: float32 sums of up to 192 terms, in another order

RUN_ON_LITE = """
import sys
from pathlib import Path
import numpy as np
from synergy.runtime.specs import Device
from synergy.runtime.lite.binding import LiteModel

def run(path):
    images = np.load(path.with_name(f"input.{path.name.split('.')[-2]}.npy"))
    model = LiteModel(path.read_bytes(), "mindir", Device.parse("cpu"), 1)
    batches = [images] + ([images[1:]] if model.inputs[0].shape[0] == -1 else [])
    results = {str(len(batch)): model.run([batch])[0] for batch in batches}
    np.savez(path.with_suffix(".npz"), **results)

for path in sorted(Path(sys.argv[1]).glob("*.lowered")):
    tried = path.with_suffix(".tried")
    if not tried.exists():
        tried.touch()
        try:
            run(path)
        except Exception as error:
            path.with_suffix(".error").write_text(str(error))
"""


def tensor(*shape: int) -> Tensor:
    return Tensor(np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32))


class Unary(nn.Cell):
    """`function` of a convolution's output: with a dynamic batch, Lite 2.0 chooses layouts by the convolutions."""

    def __init__(self, function: Callable | nn.Cell, *constants: Tensor) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1, weight_init=tensor(3, 3, 1, 1))
        self.function = function
        self.constants = constants

    def construct(self, x: Tensor) -> Tensor:
        return self.function(self.conv(x), *self.constants)


class Direct(nn.Cell):
    """`function` of the input itself."""

    def __init__(self, function: Callable) -> None:
        super().__init__()
        self.function = function

    def construct(self, x: Tensor) -> Tensor:
        return self.function(x)


def _scaled(x: Tensor) -> Tensor:
    return x * 0.05


def _scaled_from_the_left(x: Tensor) -> Tensor:
    return 3 * x


def _halved(x: Tensor) -> Tensor:
    return x / 2


def _shifted(x: Tensor) -> Tensor:
    return x + 3


def _lowered(x: Tensor) -> Tensor:
    return x - 127.5


def _shared_constants(x: Tensor) -> Tensor:
    """2 as a scalar of two operators, and in a tuple."""
    return ops.tile(x * 2, (1, 2, 1, 2)) / 2


def _as_float(x: Tensor) -> Tensor:
    return ops.cast(x, ms.float32)


def _pairs(x: Tensor) -> Tensor:
    left, right = ops.split(x, 4, 2)
    return left * 2.0 + right


def _pairs_of_channels(x: Tensor) -> Tensor:
    first, second, third = ops.split(x, 1, 1)
    return first + second * third


def _corner(x: Tensor) -> Tensor:
    return x[:, 1:, 2:7:2, -3:]


def _one_channel(x: Tensor) -> Tensor:
    return x[:, 0]


def _last(x: Tensor) -> Tensor:
    return x[..., -1]


def _new_axis(x: Tensor) -> Tensor:
    return x[:, None, :, :-1, 1]


def _joined(x: Tensor) -> Tensor:
    return ops.concat((x, x * 2.0, x), 1)


def _joined_last(x: Tensor) -> Tensor:
    return ops.concat((x, x), -1)


def _squeezed(x: Tensor) -> Tensor:
    return ops.squeeze(ops.mean(x, (2,), True), 2)


def _weights_of_pairs(x: Tensor) -> Tensor:
    left, right = ops.split(x, 4, 2)
    return ops.softmax(ops.transpose(left + right, (0, 2, 3, 1)), -1)


def _greatest_of_channels(x: Tensor) -> Tensor:
    return ops.amax(ops.transpose(x, (0, 2, 3, 1)), 3)


def _greatest_of_planes(x: Tensor) -> Tensor:
    return ops.amax(ops.reshape(x, (-1, 3, 64)), 2)


def _points_times_bases(x: Tensor) -> Tensor:
    points = ops.reshape(x, (-1, 3, 64))
    return ops.bmm(points, ops.transpose(points, (0, 2, 1)))


def _means(x: Tensor) -> Tensor:
    return ops.mean(x, (2, 3))


class Products(nn.Cell):
    """Every combination of transposed arguments."""

    def __init__(self, operator: type) -> None:
        super().__init__()
        self.left, self.right = operator(transpose_a=True), operator(transpose_b=True)
        self.both, self.none = operator(transpose_a=True, transpose_b=True), operator()

    def construct(self, a: Tensor, b: Tensor) -> Tensor:
        return self.left(a, b) + 2.0 * self.right(a, b) + 3.0 * self.both(a, b) + 4.0 * self.none(a, b)


class SquareProducts(nn.Cell):
    """The same for matrices (8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.products = Products(ops.MatMul)

    def construct(self, x: Tensor) -> Tensor:
        return self.products(ops.reshape(x[:1, 0], (8, 8)), ops.reshape(x[:1, 1], (8, 8)))


class OneWeightTwice(nn.Cell):
    """A weight (8, 8) in two products."""

    def __init__(self, first: nn.Cell, second: nn.Cell, kind: type, from_left: bool = False) -> None:
        super().__init__()
        self.first, self.second, self.from_left = first, second, from_left
        self.weight = kind(tensor(8, 8), name="weight") if kind is Parameter else tensor(8, 8)

    def construct(self, x: Tensor) -> Tensor:
        x = ops.reshape(x[:1, 0], (8, 8))
        y = self.second(self.weight, x) if self.from_left else self.second(x, self.weight)
        return self.first(x, self.weight) + 2.0 * y


class BatchProducts(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.products = Products(ops.BatchMatMul)

    def construct(self, x: Tensor) -> Tensor:
        return self.products(x, x * 0.5)


class OnPooled(nn.Cell):
    """`cell` after a global mean: (N,3)."""

    def __init__(self, cell: nn.Cell) -> None:
        super().__init__()
        self.cell = cell

    def construct(self, x: Tensor) -> Tensor:
        return self.cell(ops.mean(x, (2, 3)))


def _batch_norm() -> nn.Cell:
    cell = nn.BatchNorm2d(3, eps=1e-3)
    for number, param in enumerate(cell.get_parameters()):
        param.set_data(Tensor(np.float32([0.3, 1.5, 0.8]) + number))
    return cell


def _prelu() -> nn.Cell:
    return nn.PReLU(3, Tensor(np.float32([0.1, 0.5, -0.2])))


def conv(*arguments: int, **options: object) -> nn.Cell:
    return nn.Conv2d(3, *arguments, weight_init=tensor(arguments[0], 3 // options.get("group", 1), 3, 3), **options)


# operator of the table: Cells that use it
CASES: dict[str, dict[str, Callable[[], nn.Cell]]] = {
    "Add": {
        "scalar": lambda: Unary(_shifted),
        "tensor": lambda: Unary(ops.add, tensor(3, 1, 1)),
    },
    "Sub": {"scalar": lambda: Unary(_lowered), "tensor": lambda: Unary(ops.sub, tensor(3, 1, 8))},
    "Mul": {"tensor": lambda: Unary(ops.mul, tensor(3, 8, 1))},
    "Muls": {"scalar": lambda: Unary(_scaled), "left": lambda: Unary(_scaled_from_the_left)},
    "Divs": {"scalar": lambda: Unary(_halved), "shared": lambda: Unary(_shared_constants)},
    "Cast": {dtype: lambda: Direct(_as_float) for dtype in ("uint8", "int32", "bool")},
    "Conv2D": {
        "padded": lambda: conv(4, 3, 2, pad_mode="pad", padding=1),
        "uneven": lambda: conv(4, 3, (1, 2), pad_mode="pad", padding=(0, 1, 2, 1)),
        "same": lambda: conv(4, 3, 2, pad_mode="same"),
        "dilated": lambda: conv(4, 3, pad_mode="valid", dilation=2),
        "depthwise": lambda: conv(3, 3, group=3, pad_mode="pad", padding=1),
        "grouped": lambda: conv(6, 3, group=3),
    },
    "BatchNorm": {"2d": lambda: Unary(_batch_norm()), "2d alone": _batch_norm},
    "BiasAdd": {
        "conv": lambda: conv(4, 3, has_bias=True, bias_init=tensor(4)),
        "dense": lambda: Unary(OnPooled(nn.Dense(3, 5, bias_init=tensor(5)))),
    },
    "MatMul": {
        "dense": lambda: Unary(OnPooled(nn.Dense(3, 5))),
        "dense of 4-d": lambda: Unary(nn.Dense(8, 5)),
        "transposed": lambda: Unary(SquareProducts()),
        "shared weight": lambda: Unary(OneWeightTwice(ops.MatMul(), ops.MatMul(transpose_a=True), Parameter)),
        "shared constant": lambda: Unary(
            OneWeightTwice(ops.MatMul(transpose_b=True), ops.MatMul(transpose_b=True), Tensor)
        ),
    },
    "MatMulExt": {"tensor": lambda: Unary(ops.matmul, tensor(8, 5))},
    "BatchMatMul": {"transposed": lambda: Unary(BatchProducts()), "points": lambda: Unary(_points_times_bases)},
    "ReLU": {"plain": lambda: Unary(ops.relu)},
    "ReLU6": {"plain": lambda: Unary(ops.relu6)},
    "PReLU": {"per channel": lambda: Unary(_prelu())},
    "HSigmoid": {"plain": lambda: Unary(nn.HSigmoid())},
    "HSwish": {"plain": lambda: Unary(nn.HSwish())},
    "ReduceMean": {
        "two axes": lambda: Unary(_means),
        "kept": lambda: Unary(ops.mean, (2, 3), True),
        "last": lambda: Unary(ops.mean, -1),
    },
    "ReduceMax": {
        "kept": lambda: Unary(ops.amax, (3,), True),
        "dropped": lambda: Unary(ops.amax, -1),
        "channels": lambda: Unary(_greatest_of_channels),
        "planes": lambda: Unary(_greatest_of_planes),
    },
    "Softmax": {"channels": lambda: Unary(ops.softmax, 1), "last": lambda: Unary(ops.softmax, -1)},
    "Concat": {"channels": lambda: Unary(_joined), "last": lambda: Unary(_joined_last)},
    "Split": {
        "halves": lambda: Unary(_pairs),
        "channels": lambda: Unary(_pairs_of_channels),
        "softmax": lambda: Unary(_weights_of_pairs),
    },
    "StridedSlice": {
        "corner": lambda: Unary(_corner),
        "shrunk": lambda: Unary(_one_channel),
        "ellipsis": lambda: Unary(_last),
        "new axis": lambda: Unary(_new_axis),
    },
    "Squeeze": {"axis": lambda: Unary(_squeezed)},
    "Reshape": {"flat": lambda: Unary(ops.reshape, (-1, 192)), "points": lambda: Unary(ops.reshape, (-1, 3, 64))},
    "Transpose": {
        "nhwc": lambda: Unary(ops.transpose, (0, 2, 3, 1)),
        "swap": lambda: Unary(ops.transpose, (0, 1, 3, 2)),
    },
    "Tile": {"plain": lambda: Unary(ops.tile, (1, 2, 1, 3))},
    "ExpandDims": {"inside": lambda: Unary(ops.expand_dims, 3), "last": lambda: Unary(ops.expand_dims, -1)},
    "Pad": {"plain": lambda: Unary(nn.Pad(((0, 0), (0, 0), (1, 2), (0, 1))))},
    "MaxPool": {
        "valid": lambda: Unary(nn.MaxPool2d(3, 2)),
        "same": lambda: Unary(nn.MaxPool2d(3, 2, pad_mode="same")),
    },
    "AvgPool": {
        "valid": lambda: Unary(nn.AvgPool2d(3, (2, 1))),
        "same": lambda: Unary(nn.AvgPool2d(3, 2, pad_mode="same")),
    },
}
FIXED_BATCH = ("PReLU",)  # the lowerer refuses it with a dynamic one


def _twice(x: Tensor) -> Tensor:
    return ops.concat((ops.expand_dims(x, 1), ops.expand_dims(x * 2.0, 1)), 1)


def _stacked(x: Tensor) -> Tensor:
    return ops.stack((x, x * 2.0), 1)


def _padded_pool(x: Tensor) -> Tensor:
    return ops.max_pool2d(ops.relu(x), 3, 2, 1)


def _flat_by_shape(x: Tensor) -> Tensor:
    return ops.reshape(x, (x.shape[0], -1))


def _negative(x: Tensor) -> Tensor:
    return -x


def _less(x: Tensor) -> Tensor:
    return x * -1.0


def _sums(x: Tensor) -> Tensor:
    return ops.sum(x, (2, 3))


def _means_times_count(x: Tensor) -> Tensor:
    return ops.mean(x, (2, 3)) * 64.0


def _divided(x: Tensor, y: Tensor) -> Tensor:
    return x / y


def _times(x: Tensor, y: Tensor) -> Tensor:
    return x * y


def _greater(x: Tensor) -> Tensor:
    return ops.maximum(x, x * 0.5 + 1.0)


def _greater_by_relu(x: Tensor) -> Tensor:
    y = x * 0.5 + 1.0
    return ops.relu(x - y) + y


def _leaky(x: Tensor) -> Tensor:
    return ops.relu(x) - 0.2 * ops.relu(x * -1.0)


EDGE = ((0, 0), (0, 0), (1, 1), (1, 1))


def means_by_convolution(channels: int = 3) -> nn.Cell:
    weights = Tensor(np.full((channels, 1, 3, 3), 1 / 9, np.float32))
    return nn.Conv2d(channels, channels, 3, 2, "pad", 1, group=channels, weight_init=weights)


# name: refused operator, a Cell that uses it, and an equal Cell with the recommended replacement
REPLACED: dict[str, tuple[str, Callable[[], nn.Cell], Callable[[], nn.Cell]]] = {
    "adaptive pool": (
        "AdaptiveAvgPool2D",
        lambda: Unary(nn.AdaptiveAvgPool2d(1)),
        lambda: Unary(ops.mean, (2, 3), True),
    ),
    "ops.max_pool2d": (
        "MaxPoolWithArgmaxV2",
        lambda: Unary(ops.max_pool2d, 2, 2),
        lambda: Unary(nn.MaxPool2d(2, 2)),
    ),
    "padded ops.max_pool2d": (
        "MaxPoolWithArgmaxV2",
        lambda: Unary(_padded_pool),
        lambda: Unary(nn.SequentialCell(nn.ReLU(), nn.Pad(EDGE), nn.MaxPool2d(3, 2))),
    ),
    "padded nn.MaxPool2d": (
        "MaxPool3DWithArgmax",
        lambda: Unary(nn.SequentialCell(nn.ReLU(), nn.MaxPool2d(3, 2, pad_mode="pad", padding=1))),
        lambda: Unary(nn.SequentialCell(nn.ReLU(), nn.Pad(EDGE), nn.MaxPool2d(3, 2))),
    ),
    "padded nn.AvgPool2d": (
        "AvgPool3D",
        lambda: Unary(nn.AvgPool2d(3, 2, pad_mode="pad", padding=1)),
        lambda: Unary(means_by_convolution()),
    ),
    "ops.avg_pool2d": ("AvgPool3D", lambda: Unary(ops.avg_pool2d, 3, 2), lambda: Unary(nn.AvgPool2d(3, 2))),
    "ops.pad": ("PadV3", lambda: Unary(ops.pad, (1, 1, 1, 1)), lambda: Unary(nn.Pad(EDGE))),
    "ops.pad and a pool": (
        "PadV3",
        lambda: nn.SequentialCell(Unary(ops.pad, (1, 1, 1, 1)), nn.MaxPool2d(3, 2)),
        lambda: nn.SequentialCell(Unary(nn.Pad(EDGE)), nn.MaxPool2d(3, 2)),
    ),
    "flatten": ("Flatten", lambda: Unary(nn.Flatten()), lambda: Unary(ops.reshape, (-1, 192))),
    "shape": ("Shape", lambda: Unary(_flat_by_shape), lambda: Unary(ops.reshape, (-1, 192))),
    "negation": ("Neg", lambda: Unary(_negative), lambda: Unary(_less)),
    "sum": ("SumExt", lambda: Unary(_sums), lambda: Unary(_means_times_count)),
    "division": ("Div", lambda: Unary(_divided, 1 / tensor(3, 1, 1)), lambda: Unary(_times, tensor(3, 1, 1))),
    "maximum": ("Maximum", lambda: Unary(_greater), lambda: Unary(_greater_by_relu)),
    "leaky ReLU": ("Maximum", lambda: Unary(nn.LeakyReLU(0.2)), lambda: Unary(_leaky)),
    "stack": ("Stack", lambda: Unary(_stacked), lambda: Unary(_twice)),
}

# others that are refused by name
REFUSED: dict[str, tuple[str, Callable[[], nn.Cell]]] = {
    "sine": ("Sin", lambda: Unary(ops.sin)),
    "sigmoid": ("Sigmoid", lambda: Unary(nn.Sigmoid())),
}


@pytest.fixture(autouse=True, scope="module")
def _pynative() -> Iterator[None]:
    """In PyNative mode: compilation would take longer than all runs."""
    before = ms.get_context("mode")
    ms.set_context(mode=ms.PYNATIVE_MODE)
    with contextlib.suppress(SystemError):  # MindSpore 2.10's first eager operator, where NumPy is newer than 1
        Tensor(np.ones(1, np.float32)) + 1
    yield
    ms.set_context(mode=before)


def images(dtype: str) -> np.ndarray:
    """The second float image is all negative: a maximum in Lite is wrong then."""
    random = np.random.default_rng(7)
    if dtype != "float32":
        return random.integers(0, 2 if dtype == "bool" else 256, SHAPE).astype(dtype)
    return (random.normal(0, 3, SHAPE) - np.reshape([0, 40], (2, 1, 1, 1))).astype(dtype)


def export(cell: nn.Cell, path: Path, dtype: str = "float32", dynamic: bool = True) -> ModelProto:
    """Write a version 3 MindIR and parse it."""
    shape = [None, *SHAPE[1:]] if dynamic else list(SHAPE)
    example = Tensor(shape=shape, dtype=ms.bool_ if dtype == "bool" else getattr(ms, dtype))
    ms.export(cell.set_train(False), example, file_name=str(path), file_format="MINDIR")
    model = ModelProto()
    model.ParseFromString(path.read_bytes())
    return model


@dataclass(frozen=True)
class Run:
    """One file whose outputs on Lite must equal those of its Cell."""

    name: str  # of a row or a replacement
    case: str
    dynamic: bool

    @property
    def dtype(self) -> str:
        return self.case if self.name == "Cast" else "float32"

    @property
    def file(self) -> str:
        return f"{self.name}-{self.case}-{self.dynamic}.{self.dtype}.mindir".replace(" ", "_")

    def __str__(self) -> str:
        return f"{self.name} {self.case} {'dynamic' if self.dynamic else 'fixed'}"


# every case with a dynamic batch, and with a fixed one the first case of the rows whose arguments depend on shapes
SHAPE_DEPENDENT = ("AvgPool", "Conv2D", "MatMul", "ReduceMean", "Reshape", "StridedSlice", "Tile")


def _fixed_too(operator: str, number: int) -> bool:
    return operator in FIXED_BATCH or (operator in SHAPE_DEPENDENT and number == 0)


ROWS = [
    Run(operator, case, dynamic)
    for operator, cases in CASES.items()
    for number, case in enumerate(cases)
    for dynamic in (True, False)
    if (operator not in FIXED_BATCH if dynamic else _fixed_too(operator, number))
]
REPLACEMENTS_TESTED = [Run("replacement", name, True) for name in REPLACED]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Run, np.ndarray]]:
    """All lowered files and the outputs of each Cell in MindSpore; replacements are compared with what they replace."""
    folder = tmp_path_factory.mktemp("lowered")
    expected = {}
    for run in ROWS:
        cell = CASES[run.name][run.case]()
        expected[run] = _lower(cell, folder, run, must_use=run.name)
    for run in REPLACEMENTS_TESTED:
        _, refused, replacement = REPLACED[run.case]
        assert _lower(replacement(), folder, run) is not None
        expected[run] = refused()(Tensor(images(run.dtype))).asnumpy()
    return folder, expected


def _lower(cell: nn.Cell, folder: Path, run: Run, must_use: str | None = None) -> np.ndarray:
    path = folder / run.file
    names = operator_names(export(cell, path, run.dtype, run.dynamic))
    assert must_use is None or must_use in names, f"{run} makes {names}"
    lower_mindir(path, path.with_suffix(".lowered"))
    np.save(folder / f"input.{run.dtype}.npy", images(run.dtype))
    return cell(Tensor(images(run.dtype))).asnumpy()


@pytest.fixture(scope="module")
def on_lite(exported: tuple[Path, dict], lite_home: object) -> Path:
    """The folder of results."""
    command = [sys.executable, "-c", RUN_ON_LITE, str(exported[0])]
    for _ in exported[1]:
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            break
    return exported[0]


def test_every_row_has_a_case() -> None:
    assert set(CASES) == set(OPERATORS) >= {*SHAPE_DEPENDENT, *FIXED_BATCH}


def test_every_replacement_has_a_case() -> None:
    assert {operator for operator, _, _ in REPLACED.values()} == set(REPLACEMENTS)


@pytest.mark.parametrize("run", [*ROWS, *REPLACEMENTS_TESTED], ids=str)
def test_on_lite(exported: tuple[Path, dict], on_lite: Path, run: Run) -> None:
    expected = exported[1][run]
    result = (on_lite / run.file).with_suffix(".npz")
    error = result.with_suffix(".error")
    assert result.is_file(), error.read_text() if error.is_file() else "Lite died of it"
    atol = RTOL * np.abs(expected).max()
    with np.load(result) as found:
        assert found["2"].shape == expected.shape
        assert np.allclose(found["2"], expected, rtol=0, atol=atol)
        if run.dynamic and len(expected) == SHAPE[0]:
            assert found["1"].shape == expected[1:].shape
            assert np.allclose(found["1"], expected[1:], rtol=0, atol=atol)


# --- content of a lowered file ---


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelProto:
    """A graph with arguments of several kinds."""
    cell = nn.SequentialCell(Unary(_batch_norm()), Unary(_scaled), Unary(_halved), Unary(_joined))
    return export(cell, tmp_path_factory.mktemp("model") / "model.mindir")


def test_version_1(model: ModelProto) -> None:
    assert model.mind_ir_version == 3
    lowered = lower_model(model)
    assert (lowered.mind_ir_version, lowered.ir_version) == (MIND_IR_VERSION, IR_VERSION) == (1, "0.1.1")


def test_the_source_is_not_altered(model: ModelProto) -> None:
    before = model.SerializeToString(deterministic=True)
    lower_model(model)
    assert model.SerializeToString(deterministic=True) == before


def test_lowering_is_deterministic(model: ModelProto) -> None:
    first, second = (lower_model(model).SerializeToString() for _ in range(2))
    assert first == second


def test_weights_names_inputs_and_outputs_stay(model: ModelProto) -> None:
    lowered = lower_model(model)
    for field in ("input", "output", "parameter"):
        assert list(getattr(lowered.graph, field)) == list(getattr(model.graph, field))
    assert [n for n in operator_names(lowered) if n not in ("Mul", "RealDiv")] == [
        n for n in operator_names(model) if n not in ("Muls", "Divs")
    ]


def test_every_input_of_a_node_exists(model: ModelProto) -> None:
    """Nothing refers to a constant that was moved away."""
    lowered = lower_model(model)
    known = {entry.name for entry in (*lowered.graph.input, *lowered.graph.parameter)}
    for node in lowered.graph.node:
        assert set(node.input) <= known, node.domain
        known.update(node.output)
    primitives = [primitive.name for primitive in lowered.primitives]
    assert len(primitives) == len(set(primitives))


def test_arguments_become_attributes(model: ModelProto) -> None:
    lowered = lower_model(model)
    (norm,) = (p for p in lowered.primitives if p.op_type == "BatchNorm")
    attributes = {attribute.name: attribute for attribute in norm.attribute}
    assert attributes["epsilon"].f == pytest.approx(1e-3)
    assert attributes["format"].s == b"NCHW" and attributes["is_training"].i == 0
    (node,) = (n for n in lowered.graph.node if n.op_type == f"REF::{norm.name}")
    assert len(node.input) == 5


def test_operator_names_in_graph_order(model: ModelProto) -> None:
    names = operator_names(model)
    assert names[:2] == ["Conv2D", "BatchNorm"] and names[-1] == "Concat" and "Constant" not in names


# --- what is refused ---


@pytest.mark.parametrize("name", [*REPLACED, *REFUSED])
def test_other_operators_are_refused_by_name(tmp_path: Path, name: str) -> None:
    operator, make, *_ = REPLACED.get(name) or REFUSED[name]
    export(make(), tmp_path / "model.mindir")
    with pytest.raises(LoweringError, match=rf"operator .*\b{operator} in ") as raised:
        lower_mindir(tmp_path / "model.mindir", tmp_path / "lowered.mindir")
    assert (f"(use {REPLACEMENTS.get(operator)})" in str(raised.value)) == (name in REPLACED)
    assert not (tmp_path / "lowered.mindir").exists()


def test_all_refused_operators_are_named_together(tmp_path: Path) -> None:
    model = export(nn.SequentialCell(Unary(ops.sin), Unary(ops.sin), Unary(nn.Flatten())), tmp_path / "model.mindir")
    with pytest.raises(
        LoweringError, match=r"operator Sin in 0 \(Unary\); Flatten in 2\.function \(Flatten\)"
    ) as raised:
        lower_model(model)
    assert str(raised.value).count("Sin") == 1 and "\n" not in str(raised.value)


class Network(nn.Cell):
    """`cell` as `backbone.features.1`."""

    def __init__(self, cell: nn.Cell) -> None:
        super().__init__()
        self.backbone = nn.Cell()
        self.backbone.features = nn.SequentialCell(nn.ReLU(), cell)

    def construct(self, x: Tensor) -> Tensor:
        return self.backbone.features(x)


def test_the_layer_is_named_as_the_cell_names_it(tmp_path: Path) -> None:
    network = Network(nn.Sigmoid())
    assert "backbone.features.1" in dict(network.cells_and_names())
    model = export(network, tmp_path / "model.mindir")
    with pytest.raises(LoweringError, match=r"operator Sigmoid in backbone\.features\.1 \(Sigmoid\)"):
        lower_model(model)


def test_an_operator_outside_of_layers(tmp_path: Path) -> None:
    model = export(Direct(ops.sin), tmp_path / "model.mindir")
    with pytest.raises(LoweringError, match="operator Sin in the outermost Cell"):
        lower_model(model)


class Branch(nn.Cell):
    def construct(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x
        return x * 2.0


class Loop(nn.Cell):
    def construct(self, x: Tensor) -> Tensor:
        while ops.amax(x, -1).sum() > 0:
            x = x - 1.0
        return x


class MeasuredVariant(nn.Cell):
    def construct(self, x: Tensor) -> Tensor:
        return x * 2.0 if ops.mean(x, -1).sum() > 0 else x


class Unrolled(nn.Cell):
    """Conditions on Python values are not control flow in the graph."""

    def __init__(self, flag: bool = True) -> None:
        super().__init__()
        self.flag = flag

    def construct(self, x: Tensor) -> Tensor:
        for _ in range(2):
            if self.flag and x.shape[1] == 3:
                x = x * 2.0
        return x


class SharedGraph(nn.Cell):
    @lazy_inline
    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()

    def construct(self, x: Tensor) -> Tensor:
        return self.relu(x) * 2.0


@pytest.mark.parametrize("cell", [Branch, Loop, MeasuredVariant])
def test_control_flow_is_refused(tmp_path: Path, cell: type) -> None:
    export(Network(cell()), tmp_path / "model.mindir")
    with pytest.raises(LoweringError, match=r"control flow .* in backbone\.features\.1 \(.*Python values"):
        lower_mindir(tmp_path / "model.mindir", tmp_path / "lowered.mindir")
    assert not (tmp_path / "lowered.mindir").exists()


def test_sub_graphs_are_refused(tmp_path: Path) -> None:
    model = export(nn.SequentialCell(SharedGraph(), SharedGraph()), tmp_path / "model.mindir")
    assert len(model.functions) and "ReLU" in operator_names(model)
    with pytest.raises(LoweringError, match=r"sub-graphs with .*\(SharedGraph\).*lazy_inline"):
        lower_model(model)


def test_conditions_that_python_decides_are_lowered(tmp_path: Path) -> None:
    model = export(Unrolled(), tmp_path / "model.mindir")
    assert operator_names(lower_model(model)) == ["Mul", "Mul"]


def _to_half(x: Tensor) -> Tensor:
    return ops.cast(ops.cast(x, ms.float16), ms.float32)


def _to_integer(x: Tensor) -> Tensor:
    return ops.cast(ops.cast(x, ms.int32), ms.float32)


@pytest.mark.parametrize("function", [_to_half, _to_integer])
def test_casts_to_other_types_are_refused(tmp_path: Path, function: Callable) -> None:
    model = export(Direct(function), tmp_path / "model.mindir")
    with pytest.raises(LoweringError, match=r"Cast in the outermost Cell casts to type \d+: cast to float32"):
        lower_model(model)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int64"])
def test_inputs_that_lite_reads_as_another_type_are_refused(tmp_path: Path, dtype: str) -> None:
    model = export(Direct(_as_float), tmp_path / "model.mindir", dtype)
    with pytest.raises(LoweringError, match=r"input x is \w+\d+, .*use float32 or uint8"):
        lower_model(model)


@pytest.mark.parametrize(("function", "dtype"), [(_scaled_from_the_left, "int32"), (_last, "uint8")])
def test_other_arithmetic_is_refused(tmp_path: Path, function: Callable, dtype: str) -> None:
    model = export(Direct(function), tmp_path / "model.mindir", dtype)
    with pytest.raises(LoweringError, match=rf"in the outermost Cell gives {dtype}: only float32"):
        lower_model(model)


def _mean_of_all(x: Tensor) -> Tensor:
    return ops.mean(x, None, True)


def _greatest_of_all(x: Tensor) -> Tensor:
    return ops.amax(x, (), True)


@pytest.mark.parametrize("function", [_mean_of_all, _greatest_of_all])
def test_reductions_over_everything_are_refused(tmp_path: Path, function: Callable) -> None:
    """With a dynamic batch, Lite 2.0 computes a wrong value and corrupts its memory."""
    model = export(Unary(function), tmp_path / "model.mindir")
    with pytest.raises(LoweringError, match=r"Reduce\w+ in .*name the axes"):
        lower_model(model)


@pytest.mark.parametrize("axis", [0, 1, 2, -2, (2, 3), (1, 3)])
def test_maxima_over_other_axes_are_refused(tmp_path: Path, axis: int | tuple[int, ...]) -> None:
    """Lite 2.0 gives the smallest positive number if all values are negative."""
    model = export(Unary(ops.amax, axis), tmp_path / "model.mindir")
    with pytest.raises(LoweringError, match="ReduceMax in the outermost Cell is correct over the last axis only"):
        lower_model(model)


@pytest.mark.parametrize("multiples", [(2, 1), (2, 1, 1, 1, 1)])
def test_other_numbers_of_multiples_are_refused(tmp_path: Path, multiples: tuple[int, ...]) -> None:
    """Lite 2.0 repeats the first axes if there are fewer multiples, and does not load the file if there are more."""
    model = export(Unary(ops.tile, multiples), tmp_path / "model.mindir")
    with pytest.raises(LoweringError, match=r"Tile in .* as many multiples as"):
        lower_model(model)


def _backwards(x: Tensor) -> Tensor:
    return x[:, :, ::-1]


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (lambda: Unary(_backwards), r"StridedSlice in .* negative or computed step"),
        (lambda: Unary(ops.transpose, (0, -1, 1, 2)), r"Transpose in .* count from 0"),
        (lambda: Unary(ops.softmax, -2), r"Softmax in .* counts from 0, or -1"),
    ],
)
def test_uses_that_lite_does_not_load_are_refused(tmp_path: Path, cell: Callable[[], nn.Cell], words: str) -> None:
    model = export(cell(), tmp_path / "model.mindir")
    with pytest.raises(LoweringError, match=words):
        lower_model(model)


def test_what_needs_a_fixed_batch_is_refused_with_a_dynamic_one(tmp_path: Path) -> None:
    model = export(Unary(_prelu()), tmp_path / "model.mindir")
    with pytest.raises(LoweringError, match=r"PReLU in function \(PReLU\) .*dynamic batch.*--batch N"):
        lower_model(model)


@pytest.mark.parametrize("layout", ["NHWC"])
def test_another_layout_is_refused(tmp_path: Path, layout: str) -> None:
    model = export(Unary(ops.BiasAdd(layout), tensor(8)), tmp_path / "model.mindir")
    with pytest.raises(LoweringError, match="BiasAdd in the outermost Cell has layout 1: use NCHW"):
        lower_model(model)


@pytest.mark.parametrize("kind", [Parameter, Tensor])
@pytest.mark.parametrize(
    ("first", "second", "from_left"),
    [
        (ops.MatMul(), ops.MatMul(transpose_b=True), False),
        (ops.MatMul(transpose_b=True), ops.matmul, False),
        (ops.MatMul(transpose_a=True), ops.MatMul(transpose_a=True, transpose_b=True), False),
        (ops.matmul, ops.matmul, True),
    ],
)
def test_one_weight_with_two_layouts_is_refused(
    tmp_path: Path, first: Callable, second: Callable, from_left: bool, kind: type
) -> None:
    """Lite 2.0 transposes a weight in place for its first product, so the second one is wrong."""
    model = export(Unary(OneWeightTwice(first, second, kind, from_left)), tmp_path / "model.mindir")
    with pytest.raises(LoweringError, match=r"MatMul.* in .* shares a weight"):
        lower_model(model)


def test_arguments_computed_at_run_time_are_refused(tmp_path: Path) -> None:
    """Version 1 stores arguments as constants."""
    model = export(Unary(ops.softmax, 1), tmp_path / "model.mindir")
    (node,) = (n for n in model.graph.node if "Softmax" in n.op_type)
    node.input[1] = model.graph.input[0].name
    with pytest.raises(LoweringError, match=r"Softmax in the outermost Cell computes an argument"):
        lower_model(model)


@pytest.mark.parametrize("change", ["more", "fewer"])
def test_another_number_of_inputs_is_refused(tmp_path: Path, change: str) -> None:
    """Another version of MindSpore may write the operator with other inputs."""
    model = export(Unary(ops.softmax, 1), tmp_path / "model.mindir")
    (node,) = (n for n in model.graph.node if "Softmax" in n.op_type)
    if change == "more":
        node.input.append(node.input[1])
    else:
        del node.input[1]
    with pytest.raises(
        LoweringError, match=r"Softmax in the outermost Cell takes [13] inputs, not the 2 that were tested"
    ):
        lower_model(model)


def test_a_node_of_an_undefined_operator_is_refused(tmp_path: Path) -> None:
    model = export(Unary(ops.relu), tmp_path / "model.mindir")
    (node,) = (n for n in model.graph.node if "ReLU" in n.op_type)
    node.op_type = "REF::ReLU:99"
    with pytest.raises(LoweringError, match="the outermost Cell uses REF::ReLU:99, which is not defined"):
        lower_model(model)


@pytest.mark.parametrize("change", ["more", "fewer"])
def test_operators_without_arguments_are_counted_too(tmp_path: Path, change: str) -> None:
    model = export(Unary(ops.relu), tmp_path / "model.mindir")
    (node,) = (n for n in model.graph.node if "ReLU" in n.op_type)
    if change == "more":
        node.input.append(node.input[0])
    else:
        del node.input[0]
    with pytest.raises(LoweringError, match="ReLU in the outermost Cell takes"):
        lower_model(model)


@pytest.mark.parametrize("version", [0, 1, 2, 4])
def test_other_versions_are_refused(model: ModelProto, version: int) -> None:
    """Only version 3 can be lowered; a lowered file is version 1."""
    other = ModelProto()
    other.CopyFrom(model)
    other.mind_ir_version = version
    with pytest.raises(LoweringError, match="version"):
        lower_model(other)


@pytest.mark.parametrize(
    "content", [b"", b"a text file\n", bytes(50), b"\xff" * 50], ids=["empty", "text", "zeros", "ones"]
)
def test_other_files(tmp_path: Path, content: bytes) -> None:
    source, target = tmp_path / "model.mindir", tmp_path / "lowered.mindir"
    source.write_bytes(content)
    with pytest.raises(LoweringError) as raised:
        lower_mindir(source, target)
    assert "\n" not in str(raised.value) and not target.exists()
