"""MLP_for and MLP_rev against the official PyTorch code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from synergy.synergy_model.checkpoints.checkpoint import load_checkpoint
from synergy.synergy_model.landmark_networks import FUSED_DIM, LandmarkRefiner, LandmarkTo3DMM
from synergy.synergy_model.synergynet import SynergyNet

LANDMARKS_ATOL = 0.01  # crop pixels
REGRESSED_ATOL = 5e-3
RESIDUAL_ATOL = 5e-3  # crop pixels / 0.05


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
def official(shared: Path) -> dict[str, dict[str, np.ndarray]]:
    names = ("mobilenet_v2", "mobilenet_1")
    return {name: dict(np.load(shared / "reference" / f"io_{name}.npz")) for name in names}


def test_refiner(networks: dict[str, SynergyNet], official: dict[str, dict[str, np.ndarray]]) -> None:
    """From the official inputs, so that no earlier error can hide or help."""
    expected = official["mobilenet_v2"]
    inputs = (Tensor(expected[name]) for name in ("lm68", "pooled", "params"))
    residual = networks["mobilenet_v2"].refiner(*inputs).asnumpy()
    assert np.allclose(residual, expected["mlp_for_residual"], rtol=0, atol=RESIDUAL_ATOL)
    refined = expected["lm68"] + 0.05 * residual
    assert np.allclose(refined, expected["lm68_refined"], rtol=0, atol=LANDMARKS_ATOL)


def test_refine_from_pixels(
    networks: dict[str, SynergyNet], official: dict[str, dict[str, np.ndarray]], shared: Path
) -> None:
    crops = np.load(shared / "reference" / "input_batch.npz")["images_bgr_u8"]
    images = Tensor((crops.astype(np.float32).transpose(0, 3, 1, 2) - 127.5) / 128)
    _, plain, refined = networks["mobilenet_v2"].refine(images)
    assert np.allclose(plain.asnumpy(), official["mobilenet_v2"]["lm68"], rtol=0, atol=LANDMARKS_ATOL)
    assert np.allclose(refined.asnumpy(), official["mobilenet_v2"]["lm68_refined"], rtol=0, atol=LANDMARKS_ATOL)
    assert np.abs(refined.asnumpy() - plain.asnumpy()).max() > 5 * LANDMARKS_ATOL  # it does refine


@pytest.mark.parametrize(
    ("arch", "landmarks", "params"),
    [
        ("mobilenet_v2", "lm68_refined", "mlp_rev"),
        ("mobilenet_v2", "lm68", "mlp_rev_unrefined"),
        ("mobilenet_1", "lm68", "mlp_rev_unrefined"),
    ],
)
def test_regressor(
    networks: dict[str, SynergyNet],
    official: dict[str, dict[str, np.ndarray]],
    arch: str,
    landmarks: str,
    params: str,
) -> None:
    found = networks[arch].regressor(Tensor(official[arch][landmarks])).asnumpy()
    assert found.shape == (2, 62)
    assert np.allclose(found, official[arch][params], rtol=0, atol=REGRESSED_ATOL)


def test_outputs_are_never_negative() -> None:
    """Both end in BatchNorm and ReLU: they serve as training signals, not as final answers."""
    random = np.random.default_rng(0)
    landmarks = Tensor(random.normal(60, 40, (4, 3, 68)).astype(np.float32))
    pooled, params = (Tensor(random.normal(0, 1, (4, n)).astype(np.float32)) for n in (1280, 62))
    residual = LandmarkRefiner().set_train(True)(landmarks, pooled, params).asnumpy()
    regressed = LandmarkTo3DMM().set_train(True)(landmarks).asnumpy()
    for values in (residual, regressed):
        assert values.min() == 0 and values.max() > 0


def test_fused_width_is_the_papers() -> None:
    assert FUSED_DIM == 64 + 1024 + 1280 + 40 + 10 == 2418


def test_regressor_is_invariant_to_the_order_of_points(
    networks: dict[str, SynergyNet], official: dict[str, dict[str, np.ndarray]]
) -> None:
    """PointNet: one map per point, then a maximum over all of them."""
    landmarks = official["mobilenet_v2"]["lm68"]
    shuffled = landmarks[:, :, np.random.default_rng(1).permutation(68)]
    regress = networks["mobilenet_v2"].regressor
    assert np.allclose(regress(Tensor(shuffled)).asnumpy(), regress(Tensor(landmarks)).asnumpy(), rtol=0, atol=1e-4)


def test_refiner_reads_codes_without_the_camera(
    networks: dict[str, SynergyNet], official: dict[str, dict[str, np.ndarray]]
) -> None:
    """Of the 62 parameters it takes the 50 shape and expression codes, whitened."""
    expected = official["mobilenet_v2"]
    landmarks, pooled = Tensor(expected["lm68"]), Tensor(expected["pooled"])
    refine = networks["mobilenet_v2"].refiner
    plain = refine(landmarks, pooled, Tensor(expected["params"])).asnumpy()
    camera, codes = expected["params"].copy(), expected["params"].copy()
    camera[:, :12] += 1
    codes[:, 12:] += 1
    assert np.array_equal(refine(landmarks, pooled, Tensor(camera)).asnumpy(), plain)
    assert np.abs(refine(landmarks, pooled, Tensor(codes)).asnumpy() - plain).max() > 0.01
