"""Each row of the lowering table is run on MindSpore Lite against the Cell; all else is refused by name.

All Cells are exported here, and run on Lite by another process. Lite dies of some files instead of refusing them:
then the next process goes on with the next file.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops
from mindspore.train.mind_ir_pb2 import ModelProto

from export.lowering import (
    IR_VERSION,
    MIND_IR_VERSION,
    OPERATORS,
    LoweringError,
    lower_mindir,
    lower_model,
    operator_names,
)

SHAPE = (2, 3, 8, 8)
RTOL = 1e-5  # of the largest value: float32 sums of up to 192 terms, in another order

RUN_ON_LITE = """
import sys
from pathlib import Path
import numpy as np
from runtime.engines.base import Device
from runtime.native.binding import LiteModel

def run(path):
    images = np.load(path.with_name("input." + path.name.split(".")[1] + ".npy"))
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
    """`function` of a convolution's output: Lite 2.0 lays a graph with a dynamic batch out by its convolutions."""

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
    return ops.squeeze(ops.amax(x, (2,), True), 2)


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
    "Cast": {"uint8": lambda: Direct(_as_float)},
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
    "ReduceMax": {"kept": lambda: Unary(ops.amax, (2,), True), "dropped": lambda: Unary(ops.amax, (1, 3), False)},
    "Softmax": {"channels": lambda: Unary(ops.softmax, 1), "last": lambda: Unary(ops.softmax, -1)},
    "Concat": {"channels": lambda: Unary(_joined), "last": lambda: Unary(_joined_last)},
    "Split": {"halves": lambda: Unary(_pairs), "channels": lambda: Unary(_pairs_of_channels)},
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
ROWS = [(operator, case) for operator, cases in CASES.items() for case in cases]
FIXED_BATCH = ("PReLU",)  # Lite 2.0 refuses it with a dynamic one, and says so

# what FACTS.md found to load and give wrong numbers, or not to load: operator in the MindIR, Cell
REFUSED: dict[str, tuple[str, Callable[[], nn.Cell]]] = {
    "adaptive pool": ("AdaptiveAvgPool2D", lambda: Unary(nn.AdaptiveAvgPool2d(1))),
    "padded max pool": ("MaxPoolWithArgmaxV2", lambda: Unary(ops.max_pool2d, 3, 2, 1)),
    "padded nn.MaxPool2d": ("MaxPool3DWithArgmax", lambda: Unary(nn.MaxPool2d(3, 2, pad_mode="pad", padding=1))),
    "padded average": ("AvgPool3D", lambda: Unary(nn.AvgPool2d(3, 2, pad_mode="pad", padding=1))),
    "ops.pad": ("PadV3", lambda: Unary(ops.pad, (1, 1, 1, 1))),
    "sine": ("Sin", lambda: Unary(ops.sin)),
    "flatten": ("Flatten", lambda: Unary(nn.Flatten())),
    "sigmoid": ("Sigmoid", lambda: Unary(nn.Sigmoid())),
}


@pytest.fixture(autouse=True, scope="module")
def _pynative() -> Iterator[None]:
    """Without compilation, which takes longer than all the runs here."""
    before = ms.get_context("mode")
    ms.set_context(mode=ms.PYNATIVE_MODE)
    with contextlib.suppress(SystemError):  # MindSpore 2.10's first eager operator, where NumPy is newer than 1
        Tensor(np.ones(1, np.float32)) + 1
    yield
    ms.set_context(mode=before)


def images(dtype: str) -> np.ndarray:
    random = np.random.default_rng(7)
    return random.integers(0, 256, SHAPE, np.uint8) if dtype == "uint8" else random.normal(0, 3, SHAPE).astype(dtype)


def export(cell: nn.Cell, path: Path, dtype: str = "float32", dynamic: bool = True) -> ModelProto:
    """Write a version 3 MindIR and parse it."""
    shape = [None, *SHAPE[1:]] if dynamic else list(SHAPE)
    example = Tensor(shape=shape, dtype=getattr(ms, dtype)) if dynamic else Tensor(images(dtype))
    ms.export(cell.set_train(False), example, file_name=str(path), file_format="MINDIR")
    model = ModelProto()
    model.ParseFromString(path.read_bytes())
    return model


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[tuple[str, str], np.ndarray]]:
    """All lowered files, and what each Cell gives in MindSpore."""
    folder = tmp_path_factory.mktemp("lowered")
    expected = {}
    for operator, case in ROWS:
        cell, dtype = CASES[operator][case](), "uint8" if operator == "Cast" else "float32"
        path = folder / f"{operator}-{case}.{dtype}.mindir".replace(" ", "_")
        model = export(cell, path, dtype, dynamic=operator not in FIXED_BATCH)
        assert operator in operator_names(model), f"{operator} {case} makes {operator_names(model)}"
        lower_mindir(path, path.with_suffix(".lowered"))
        expected[operator, case] = cell(Tensor(images(dtype))).asnumpy()
        np.save(folder / f"input.{dtype}.npy", images(dtype))
    return folder, expected


@pytest.fixture(scope="module")
def on_lite(exported: tuple[Path, dict], lite_home: object) -> Path:
    """The folder of results."""
    command = [sys.executable, "-c", RUN_ON_LITE, str(exported[0])]
    for _ in ROWS:
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            break
    return exported[0]


def test_every_row_has_a_case() -> None:
    assert set(CASES) == set(OPERATORS)


@pytest.mark.parametrize(("operator", "case"), ROWS)
def test_row_on_lite(exported: tuple[Path, dict], on_lite: Path, operator: str, case: str) -> None:
    expected = exported[1][operator, case]
    dtype = "uint8" if operator == "Cast" else "float32"
    result = on_lite / f"{operator}-{case}.{dtype}.npz".replace(" ", "_")
    error = result.with_suffix(".error")
    assert result.is_file(), error.read_text() if error.is_file() else "Lite died of it"
    atol = RTOL * np.abs(expected).max()
    with np.load(result) as found:
        assert found["2"].shape == expected.shape
        assert np.allclose(found["2"], expected, rtol=0, atol=atol)
        if operator not in FIXED_BATCH and len(expected) == len(images(dtype)):
            assert found["1"].shape == expected[1:].shape
            assert np.allclose(found["1"], expected[1:], rtol=0, atol=atol)


# --- what a lowered file says of itself ---


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


@pytest.mark.parametrize("name", list(REFUSED))
def test_other_operators_are_refused_by_name(tmp_path: Path, name: str) -> None:
    operator, make = REFUSED[name]
    export(make(), tmp_path / "model.mindir")
    with pytest.raises(LoweringError, match=rf"operator .*\b{operator}, used by Default/"):
        lower_mindir(tmp_path / "model.mindir", tmp_path / "lowered.mindir")
    assert not (tmp_path / "lowered.mindir").exists()


def test_all_refused_operators_are_named_together(tmp_path: Path) -> None:
    model = export(nn.SequentialCell(Unary(ops.sin), Unary(ops.cos), Unary(ops.sin)), tmp_path / "model.mindir")
    with pytest.raises(LoweringError, match=r"Sin, used by Default/0-Unary.*; Cos, used by Default/1-Unary") as raised:
        lower_model(model)
    assert str(raised.value).count("Sin,") == 1 and "\n" not in str(raised.value)


class Branch(nn.Cell):
    def construct(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x
        return x * 2.0


def test_control_flow_is_refused(tmp_path: Path) -> None:
    model = export(Branch(), tmp_path / "model.mindir")
    with pytest.raises(LoweringError, match="sub-graphs"):
        lower_model(model)


def _to_half(x: Tensor) -> Tensor:
    return ops.cast(ops.cast(x, ms.float16), ms.float32)


def _to_integer(x: Tensor) -> Tensor:
    return ops.cast(ops.cast(x, ms.int32), ms.float32)


@pytest.mark.parametrize("function", [_to_half, _to_integer])
def test_casts_to_other_types_are_refused(tmp_path: Path, function: Callable) -> None:
    model = export(Direct(function), tmp_path / "model.mindir")
    with pytest.raises(LoweringError, match=r"Cast to type \d+: only casts to float32"):
        lower_model(model)


def _mean_of_all(x: Tensor) -> Tensor:
    return ops.mean(x, None, True)


def test_reductions_over_everything_are_refused(tmp_path: Path) -> None:
    """With a dynamic batch, Lite 2.0 gives another number, and corrupts its memory."""
    model = export(Unary(_mean_of_all), tmp_path / "model.mindir")
    with pytest.raises(LoweringError, match="ReduceMean"):
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
def test_one_weight_read_in_two_ways_is_refused(
    tmp_path: Path, first: Callable, second: Callable, from_left: bool, kind: type
) -> None:
    """Lite 2.0 turns a weight for its first product in place, and gives the second one wrong numbers."""
    model = export(Unary(OneWeightTwice(first, second, kind, from_left)), tmp_path / "model.mindir")
    with pytest.raises(LoweringError, match=r"MatMul.* in Default/"):
        lower_model(model)


def test_arguments_computed_at_run_time_are_refused(tmp_path: Path) -> None:
    """Version 1 has no place for them."""
    model = export(Unary(ops.softmax, 1), tmp_path / "model.mindir")
    (node,) = (n for n in model.graph.node if "Softmax" in n.op_type)
    node.input[1] = model.graph.input[0].name
    with pytest.raises(LoweringError, match=r"Softmax in Default/.* computes an argument"):
        lower_model(model)


@pytest.mark.parametrize("change", ["more", "fewer"])
def test_another_number_of_inputs_is_refused(tmp_path: Path, change: str) -> None:
    """Another MindSpore may write the operator otherwise."""
    model = export(Unary(ops.softmax, 1), tmp_path / "model.mindir")
    (node,) = (n for n in model.graph.node if "Softmax" in n.op_type)
    if change == "more":
        node.input.append(node.input[1])
    else:
        del node.input[1]
    with pytest.raises(LoweringError, match=r"Softmax in Default/.* takes [13] inputs, not as proved"):
        lower_model(model)


@pytest.mark.parametrize("change", ["more", "fewer"])
def test_operators_without_arguments_are_counted_too(tmp_path: Path, change: str) -> None:
    model = export(Unary(ops.relu), tmp_path / "model.mindir")
    (node,) = (n for n in model.graph.node if "ReLU" in n.op_type)
    if change == "more":
        node.input.append(node.input[0])
    else:
        del node.input[0]
    with pytest.raises(LoweringError, match="ReLU in Default/"):
        lower_model(model)


@pytest.mark.parametrize("version", [0, 1, 2, 4])
def test_other_versions_are_refused(model: ModelProto, version: int) -> None:
    """The table was proved on version 3; one that was lowered already is no source either."""
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
