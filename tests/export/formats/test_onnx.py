"""ONNX files: names, batch, and the numbers of the Cell."""

from __future__ import annotations

from pathlib import Path

import mindspore as ms
import numpy as np
import onnx
import pytest
from mindspore import Tensor, nn, ops

from synergy.export.formats.onnx import write_onnx

onnxruntime = pytest.importorskip("onnxruntime")

OUTPUTS = ("params", "landmarks")


class Tiny(nn.Cell):
    """uint8 crops (N,120,120,3) -> two outputs, of which the second is computed from the first."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Dense(3, 62)

    def construct(self, images: Tensor) -> tuple[Tensor, Tensor]:
        params = self.dense(ops.mean(ops.cast(images, ms.float32), (1, 2)) / 128.0)
        return params, params * 2.0


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tiny]:
    path, cell = tmp_path_factory.mktemp("onnx") / "m.onnx", Tiny()
    write_onnx(cell, path, None, OUTPUTS)
    return path, cell


def shapes(values: list) -> dict[str, list[str | int]]:
    return {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values
    }


def test_names_and_dynamic_batch(written: tuple[Path, Tiny]) -> None:
    graph = onnx.load(written[0]).graph
    assert shapes(graph.input) == {"images": ["N", 120, 120, 3]}
    assert shapes(graph.output) == {"params": ["N", 62], "landmarks": ["N", 62]}
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8


def test_the_file_is_valid_and_readable(written: tuple[Path, Tiny]) -> None:
    onnx.checker.check_model(onnx.load(written[0]), full_check=True)
    assert written[0].stat().st_mode & 0o777 == 0o644  # MindSpore alone leaves 0400
    assert [entry.name for entry in written[0].parent.iterdir()] == [written[0].name]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_numbers(written: tuple[Path, Tiny], count: int) -> None:
    """Also for an output that another one is computed from: both are renamed."""
    images = np.random.default_rng(count).integers(0, 256, (count, 120, 120, 3), np.uint8)
    session = onnxruntime.InferenceSession(str(written[0]), providers=["CPUExecutionProvider"])
    found = dict(zip(("params", "landmarks"), session.run(["params", "landmarks"], {"images": images}), strict=True))
    weight, bias = (getattr(written[1].dense, name).asnumpy() for name in ("weight", "bias"))
    expected = images.mean((1, 2)) / 128 @ weight.T + bias
    assert np.allclose(found["params"], expected, rtol=0, atol=1e-4)
    assert np.allclose(found["landmarks"], 2 * expected, rtol=0, atol=2e-4)


def test_fixed_batch(tmp_path: Path) -> None:
    write_onnx(Tiny(), tmp_path / "m.onnx", 2, OUTPUTS)
    graph = onnx.load(tmp_path / "m.onnx").graph
    assert shapes(graph.input) == {"images": [2, 120, 120, 3]}
    assert shapes(graph.output) == {"params": [2, 62], "landmarks": [2, 62]}


def test_a_second_export_in_one_process(tmp_path: Path) -> None:
    """With a fresh Cell: MindSpore 2.10 fails on the second export of the same one."""
    for name in ("a.onnx", "b.onnx"):
        write_onnx(Tiny(), tmp_path / name, None, OUTPUTS)
    assert (tmp_path / "b.onnx").is_file()


@pytest.mark.parametrize("name", ["with blank", "münchen", "(copy)"])
def test_any_path(tmp_path: Path, name: str) -> None:
    """MindSpore itself accepts only ASCII paths without spaces."""
    folder = tmp_path / name
    folder.mkdir()
    write_onnx(Tiny(), folder / "m.onnx", None, OUTPUTS)
    assert [entry.name for entry in folder.iterdir()] == ["m.onnx"]
