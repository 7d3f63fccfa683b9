"""The compiled kernels against MindSpore's own operators, forward and backward."""

from __future__ import annotations

from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from synergy.synergy_model.landmark_networks import REFINER_POOLED_DIM, LandmarkRefiner
from synergy.synergy_model.synergynet import SynergyNet
from synergy.synergy_model.training.cpu_kernels import (
    BatchNorm,
    DepthwiseConv,
    FactoredRefiner,
    build_kernels,
    use_compiled_kernels,
)

ms.set_context(mode=ms.GRAPH_MODE)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = build_kernels(tmp_path_factory.mktemp("kernels"))
    if built is None:
        pytest.skip("no C++ compiler")
    return built


class Weighted(nn.Cell):
    """sum(cell(x) * weight), so that gradients differ everywhere."""

    def __init__(self, cell: nn.Cell) -> None:
        super().__init__()
        self.cell = cell

    def construct(self, x: Tensor, weight: Tensor) -> Tensor:
        return ops.sum(self.cell(x) * weight)


def _gradients(cell: nn.Cell, x: np.ndarray, weight: np.ndarray) -> list[np.ndarray]:
    """With respect to the input, then the parameters in the order of their names."""
    network = Weighted(cell)
    network.set_train()
    parameters = sorted(network.trainable_params(), key=lambda parameter: parameter.name.rsplit(".", 1)[-1])
    gradient = ops.grad(network, 0, ms.ParameterTuple(parameters))
    of_input, of_parameters = gradient(Tensor(x), Tensor(weight))
    return [of_input.asnumpy(), *(value.asnumpy() for value in of_parameters)]


def _normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def _agree(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-4 * max(1.0, float(np.abs(theirs).max())))


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (5, 1), (8, 1), (8, 2), (15, 2), (30, 2)])
def test_depthwise_convolution(library: Path, size: int, stride: int) -> None:
    conv = nn.Conv2d(6, 6, 3, stride, pad_mode="pad", padding=1, group=6)
    x = _normal(3, 6, size, size)
    expected = conv(Tensor(x)).asnumpy()
    weight = _normal(*expected.shape)
    wanted = _gradients(conv, x, weight)
    ours = DepthwiseConv(conv, library)
    assert ours(Tensor(x)).asnumpy() == pytest.approx(expected, abs=1e-5)
    _agree(_gradients(ours, x, weight), wanted)


@pytest.mark.parametrize("clipped", [False, True])
def test_batch_normalisation(library: Path, clipped: bool) -> None:
    norms = []
    for _ in range(2):
        norm = nn.BatchNorm2d(5)
        norm.gamma.set_data(Tensor(3.0 + _normal(5)))
        norm.beta.set_data(Tensor(2.0 + _normal(5)))
        norms.append(norm)
    ours = BatchNorm(norms[0], library, clipped)
    theirs = nn.SequentialCell([norms[1], nn.ReLU6()]) if clipped else norms[1]
    x, weight = 7.0 + 3.0 * _normal(4, 5, 6, 6), _normal(4, 5, 6, 6)
    for cell in (ours, theirs):
        cell.set_train()
    assert ours(Tensor(x)).asnumpy() == pytest.approx(theirs(Tensor(x)).asnumpy(), abs=1e-4)
    assert ours.moving_mean.asnumpy() == pytest.approx(0.1 * x.mean((0, 2, 3)), rel=1e-4)
    assert ours.moving_variance.asnumpy() == pytest.approx(norms[1].moving_variance.asnumpy(), rel=1e-2)
    _agree(_gradients(ours, x, weight), _gradients(theirs, x, weight))


def test_factored_refiner() -> None:
    refiner = LandmarkRefiner()
    refiner.set_train()
    inputs = [Tensor(array) for array in (60 + 20 * _normal(4, 3, 68), _normal(4, REFINER_POOLED_DIM), _normal(4, 62))]
    expected = refiner(*inputs).asnumpy()
    factored = FactoredRefiner(refiner)
    factored.set_train()
    assert expected.std() > 0.1
    assert factored(*inputs).asnumpy() == pytest.approx(expected, abs=2e-3)


def test_names_and_parameters_stay(library: Path) -> None:
    network = SynergyNet("mobilenet_v2", "synergynet", True, True)
    before = {parameter.name: id(parameter) for parameter in network.get_parameters()}
    use_compiled_kernels(network, library)
    kinds = [type(cell).__name__ for _, cell in network.backbone.cells_and_names()]
    assert {parameter.name: id(parameter) for parameter in network.get_parameters()} == before
    assert (kinds.count("DepthwiseConv"), kinds.count("BatchNorm"), kinds.count("BatchNorm2d")) == (17, 52, 0)


def test_without_a_compiler_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert build_kernels(tmp_path) is None
    monkeypatch.setenv("CXX", "false")
    assert build_kernels(tmp_path) is None and not list(tmp_path.iterdir())
