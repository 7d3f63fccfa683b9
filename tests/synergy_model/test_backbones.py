"""Backbones against recorded outputs of the official PyTorch code for the same pixels and weights."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from synergy.synergy_model.backbones import BACKBONES, build_backbone
from synergy.synergy_model.checkpoints.checkpoint import load_checkpoint
from synergy.synergy_model.synergynet import SynergyNet

ARCHS = ("mobilenet_v2", "mobilenet_1")
PARAMS_ATOL = 2e-4  # the official code meets these against itself in float64
POOLED_ATOL = 5e-4
LANDMARKS_ATOL = 0.01  # crop pixels
REAL_PARAMS_ATOL = 1e-4
TRACE_RTOL = 1e-4  # of a block's largest value


@pytest.fixture(autouse=True, scope="module")
def _pynative() -> Iterator[None]:
    """Without compilation, which takes longer than all the runs here."""
    before = ms.get_context("mode")
    ms.set_context(mode=ms.PYNATIVE_MODE)
    with contextlib.suppress(SystemError):  # MindSpore 2.10's first eager operator, where NumPy is newer than 1
        Tensor(np.ones(1, np.float32)) + 1
    yield
    ms.set_context(mode=before)


@pytest.fixture(scope="module")
def networks(checkpoints: dict[str, Path]) -> dict[str, SynergyNet]:
    return {arch: load_checkpoint(path).network.set_train(False) for arch, path in checkpoints.items()}


@pytest.fixture(scope="module")
def batch(shared: Path) -> Tensor:
    with np.load(shared / "reference" / "input_batch.npz") as arrays:
        return normalised(arrays["images_bgr_u8"])


def normalised(crops_bgr_u8: np.ndarray) -> Tensor:
    """As the official code prepares its input."""
    return Tensor((crops_bgr_u8.astype(np.float32).transpose(0, 3, 1, 2) - 127.5) / 128)


@pytest.mark.parametrize("arch", ARCHS)
def test_official_outputs(networks: dict[str, SynergyNet], batch: Tensor, shared: Path, arch: str) -> None:
    expected = np.load(shared / "reference" / f"io_{arch}.npz")
    params, pooled = networks[arch].backbone(batch)
    assert np.allclose(params.asnumpy(), expected["params"], rtol=0, atol=PARAMS_ATOL)
    assert np.allclose(pooled.asnumpy(), expected["pooled"], rtol=0, atol=POOLED_ATOL)
    whole = networks[arch](batch)
    assert np.allclose(whole[0].asnumpy(), expected["params"], rtol=0, atol=PARAMS_ATOL)
    assert np.allclose(whole[1].asnumpy(), expected["lm68"], rtol=0, atol=LANDMARKS_ATOL)


@pytest.mark.parametrize("photo", ["emma", "JianzhuGuo"])
def test_trained_network_on_photos(networks: dict[str, SynergyNet], shared: Path, photo: str) -> None:
    expected = np.load(shared / "reference" / f"real_{photo}.npz")
    params, _ = networks["mb05"].backbone(normalised(expected["crop_bgr_u8"]))
    assert np.allclose(params.asnumpy(), expected["param_whitened"], rtol=0, atol=REAL_PARAMS_ATOL)


@pytest.mark.parametrize("border", [0, 5], ids=["plain", "black border"])
def test_trained_network_on_the_benchmark(networks: dict[str, SynergyNet], shared: Path, border: int) -> None:
    expected = np.load(shared / "reference" / "real_aflw8.npz")
    crops = expected["crop_bgr_u8"].copy()
    if border:
        inside = crops[:, border:-border, border:-border].copy()
        crops[:] = 0
        crops[:, border:-border, border:-border] = inside
    params, _ = networks["mb05"].backbone(normalised(crops))
    name = f"param_whitened_border{border}" if border else "param_whitened"
    assert np.allclose(params.asnumpy(), expected[name], rtol=0, atol=REAL_PARAMS_ATOL)


def _blocks(arch: str, backbone: nn.Cell) -> Iterator[tuple[str, nn.Cell]]:
    if arch == "mobilenet_v2":
        yield from ((f"features.{i}", cell) for i, cell in enumerate(backbone.features))
    else:
        yield "conv1", backbone.conv1
        yield "bn1", backbone.bn1
        yield "relu", nn.ReLU()
        yield from backbone.blocks.name_cells().items()


@pytest.mark.parametrize("arch", ARCHS)
def test_every_block(networks: dict[str, SynergyNet], batch: Tensor, shared: Path, arch: str) -> None:
    """Compares every block, so that a failure names the first wrong one."""
    trace = json.loads((shared / "reference" / "traces" / f"trace_{arch}.json").read_text())
    x, compared = batch, 0
    for name, cell in _blocks(arch, networks[arch].backbone):
        x = cell(x)
        if name in trace:
            # mean, deviation and largest value are over more images than the two that were kept
            largest, first_values = trace[name][2], trace[name][3:]
            assert np.allclose(x.asnumpy().reshape(-1)[:5], first_values, rtol=0, atol=TRACE_RTOL * largest), name
            compared += 1
    assert compared == len(trace) - 1  # all but the whole, or the pooling, for which there is no cell


@pytest.mark.parametrize("arch", ["mobilenet_v2", "mobilenet_1", "mb05"])
def test_shapes_and_keys(arch: str) -> None:
    backbone = build_backbone(arch).set_train(False)
    params, pooled = backbone(Tensor(np.zeros((3, 3, 120, 120), np.float32)))
    assert params.shape == (3, 62) and params.dtype == ms.float32
    assert pooled.shape == (3, backbone.pooled_dim)


@pytest.mark.parametrize("arch", ["mobilenet_v2", "mobilenet_1"])
def test_parameters_are_those_of_the_official_file(shared: Path, arch: str) -> None:
    """As many values as the official backbone has, no more and no fewer."""
    keys = json.loads((shared / "checkpoints" / "reference" / f"keys_{arch}.json").read_text())
    left_out = ("num_batches_tracked", "fc_lm")
    official = [
        np.prod(shape, dtype=int)
        for key, (shape, _) in keys.items()
        if ".I2P.backbone." in key and not any(part in key for part in left_out)
    ]
    ours = [np.prod(param.shape, dtype=int) for param in build_backbone(arch).get_parameters()]
    assert sorted(ours) == sorted(official)


def test_result_does_not_depend_on_the_batch(networks: dict[str, SynergyNet], batch: Tensor) -> None:
    together = networks["mobilenet_v2"].backbone(batch)[0].asnumpy()
    alone = [networks["mobilenet_v2"].backbone(batch[i : i + 1])[0].asnumpy()[0] for i in range(2)]
    assert np.allclose(together, alone, rtol=0, atol=1e-5)


def test_colour_order_matters(networks: dict[str, SynergyNet], shared: Path) -> None:
    """RGB must fail the comparison above; otherwise it would not show that BGR is right."""
    expected = np.load(shared / "reference" / "real_JianzhuGuo.npz")
    swapped = np.ascontiguousarray(expected["crop_bgr_u8"][..., ::-1])
    params, _ = networks["mb05"].backbone(normalised(swapped))
    assert np.abs(params.asnumpy() - expected["param_whitened"]).max() > 100 * REAL_PARAMS_ATOL


@pytest.mark.parametrize("name", ["", "mobilenet", "MobileNet_V2"])
def test_unknown_architecture_lists_the_known(name: str) -> None:
    with pytest.raises(ValueError, match="use one of") as raised:
        build_backbone(name)
    assert all(known in str(raised.value) for known in BACKBONES)


@pytest.mark.parametrize("arch", ["mobilenet_1", "mb05"])
def test_refiner_needs_its_features(arch: str) -> None:
    """Official refiner weights have room for 1280 image features only."""
    with pytest.raises(ValueError, match=f"1280 pooled features, {arch} has"):
        SynergyNet(arch, "synergynet", refiner=True, regressor=False)
