"""Multiply-adds compared with hand counts, and the matrix product in its process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from synergy.benchmarks.speed.peak_flops import PRODUCT_FLOP, THREAD_VARIABLES, PeakCase, multiply_adds

onnx = pytest.importorskip("onnx")


def graph(nodes: Sequence, weights: dict[str, tuple[int, ...]], image: Sequence[int | str], kind: int = 1) -> bytes:
    """`x` of shape `image` through `nodes` to `y`; weights are zeros of those shapes."""
    helper = onnx.helper
    dtype = np.float32 if kind == onnx.TensorProto.FLOAT else np.uint8
    arrays = [onnx.numpy_helper.from_array(np.zeros(shape, dtype), name) for name, shape in weights.items()]
    x = helper.make_tensor_value_info("x", kind, image)
    y = helper.make_tensor_value_info("y", kind, ["N", *[None] * (len(image) - 1)])
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], arrays), opset_imports=[helper.make_opsetid("", 13)]
    )
    return model.SerializeToString()


def node(kind: str, inputs: str, output: str = "y", **attributes: object) -> object:
    return onnx.helper.make_node(kind, inputs.split(), [output], **attributes)


def test_a_bundle_counted_by_hand(tiny_bundle: Path) -> None:
    """A 3x3 convolution of 3 planes to 4 of 59x59, and two matrices."""
    assert multiply_adds((tiny_bundle / "model.onnx").read_bytes()) == 27 * 4 * 59 * 59 + 4 * 62 + 4 * 204


@pytest.mark.parametrize(
    ("nodes", "weights", "image", "count"),
    [
        ([node("Relu", "x")], {}, ["N", 5], 0),
        ([node("MatMul", "x w")], {"w": (5, 7)}, ["N", 5], 5 * 7),
        ([node("Gemm", "x w", transB=1)], {"w": (7, 5)}, ["N", 5], 5 * 7),
        ([node("Conv", "x w", kernel_shape=[1, 1])], {"w": (8, 4, 1, 1)}, ["N", 4, 6, 6], 8 * 4 * 36),
        ([node("Conv", "x w", kernel_shape=[3, 3], group=4)], {"w": (4, 1, 3, 3)}, ["N", 4, 6, 6], 4 * 9 * 16),
        ([node("Conv", "x w", pads=[1] * 4, strides=[2, 2])], {"w": (4, 4, 3, 3)}, ["N", 4, 6, 6], 4 * 36 * 9),
        ([node("MatMul", "x w", "z"), node("MatMul", "z v")], {"w": (5, 7), "v": (7, 2)}, ["N", 5], 35 + 14),
        ([node("MatMul", "x w")], {"w": (5, 7)}, [8, 3, 5], 3 * 5 * 7),  # a fixed batch: of one of its faces
    ],
)
def test_operators(nodes: Sequence, weights: dict, image: Sequence, count: int) -> None:
    assert multiply_adds(graph(nodes, weights, image)) == count


def test_a_transposed_left_matrix() -> None:
    nodes = [node("Transpose", "x", "z"), node("Gemm", "z w", transA=1)]
    assert multiply_adds(graph(nodes, {"w": (5, 7)}, ["N", 5])) == 5 * 7


def test_a_quantised_convolution_counts_as_its_own() -> None:
    """Its weights come out of a DequantizeLinear, whose shape onnx infers."""
    nodes = [node("DequantizeLinear", "w s", "v"), node("Conv", "x v", "z")]
    model = onnx.load_from_string(graph(nodes, {"s": (), "w": (4, 4, 1, 1)}, ["N", 4, 6, 6]))
    weight = next(each for each in model.graph.initializer if each.name == "w")
    weight.CopyFrom(onnx.numpy_helper.from_array(np.zeros((4, 4, 1, 1), np.int8), "w"))
    assert multiply_adds(model.SerializeToString()) == 4 * 4 * 36


def test_unknown_shapes_are_an_error() -> None:
    strange = onnx.helper.make_node("Strange", ["x"], ["z"], domain="elsewhere")
    data = graph([strange, node("MatMul", "z w")], {"w": (5, 7)}, ["N", 5])
    with pytest.raises(ValueError, match=r"onnx cannot infer the model's shapes: .*elsewhere"):
        multiply_adds(data)
    model = onnx.load_from_string(data)
    model.opset_import.append(onnx.helper.make_opsetid("elsewhere", 1))
    with pytest.raises(ValueError, match="the shape of z at MatMul is not known"):
        multiply_adds(model.SerializeToString())


@pytest.mark.parametrize("data", [b"", b"no model", b"\x08\x01"])
def test_no_onnx_file(data: bytes) -> None:
    with pytest.raises(ValueError, match="not an ONNX model"):
        multiply_adds(data)


def test_matrix_product_and_its_thread_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(THREAD_VARIABLES[0], "3")
    monkeypatch.delenv(THREAD_VARIABLES[1], raising=False)
    peak = PeakCase(1)
    try:
        environment = Path(f"/proc/{peak.child.process.pid}/environ")
        if environment.is_file():
            given = environment.read_bytes().split(b"\0")
            assert all(f"{name}=1".encode() in given for name in THREAD_VARIABLES)
        peak.take_sample(0)
    finally:
        peak.close()
    assert os.environ[THREAD_VARIABLES[0]] == "3" and THREAD_VARIABLES[1] not in os.environ
    assert 1e8 < PRODUCT_FLOP / min(peak.samples[0]) < 1e14
    assert str(peak) == "matrix product, 1 thread"
