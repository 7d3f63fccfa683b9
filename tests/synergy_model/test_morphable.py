"""The morphable model: analytic truths, and the official code's landmarks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor

from synergy.synergy_model.checkpoints.checkpoint import load_checkpoint
from synergy.synergy_model.morphable import CAMERA, PARAMS, POINTS, MorphableModel

LANDMARKS_ATOL = 0.01  # crop pixels
CONVENTIONS = ("synergynet", "3ddfa_v2")


@pytest.fixture(autouse=True, scope="module")
def _pynative() -> Iterator[None]:
    """Without compilation, which takes longer than all the runs here."""
    before = ms.get_context("mode")
    ms.set_context(mode=ms.PYNATIVE_MODE)
    with contextlib.suppress(SystemError):  # MindSpore 2.10's first eager operator, where NumPy is newer than 1
        Tensor(np.ones(1, np.float32)) + 1
    yield
    ms.set_context(mode=before)


def make(convention: str, **arrays: np.ndarray) -> MorphableModel:
    """All zero, with unit deviation, but for `arrays`."""
    model = MorphableModel(convention)
    for name, value in {"param_std": np.ones(PARAMS), **arrays}.items():
        param = getattr(model, name)
        value = np.asarray(value, np.float32).reshape(param.shape)
        param.set_data(Parameter(Tensor(value), name=param.name))
    return model


def camera(rows: np.ndarray, offset: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    """Parameters (1,62) with this 3x3 matrix and offset, and no deformation."""
    params = np.zeros((1, PARAMS), np.float32)
    params[0, :CAMERA] = np.concatenate([rows, np.array(offset)[:, None]], axis=1).reshape(-1)
    return params


def run(model: MorphableModel, params: np.ndarray) -> np.ndarray:
    return model(Tensor(np.asarray(params, np.float32))).asnumpy()


def in_frame(points: np.ndarray, convention: str) -> np.ndarray:
    """Model points (N,3,68), y up -> crop pixels; written independently of the code under test."""
    x, y, z = points[:, 0], points[:, 1], points[:, 2]
    if convention == "synergynet":
        return np.stack([x, 121 - y, z], 1)
    z = z - 1
    return np.stack([x - 1, 120 - y, z - z.min(1, keepdims=True)], 1)


@pytest.fixture(scope="module")
def mean_shape() -> np.ndarray:
    """(68, 3), as u_base interleaves it."""
    return np.random.default_rng(3).uniform(-50, 50, (POINTS, 3)).astype(np.float32)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_zero_parameters_give_the_frame_origin(convention: str) -> None:
    """No shape, no camera: every point is the model's origin in the crop's frame."""
    found = run(make(convention), np.zeros((2, PARAMS)))
    assert found.shape == (2, 3, POINTS)
    origin = {"synergynet": (0, 121, 0), "3ddfa_v2": (-1, 120, 0)}[convention]
    assert np.array_equal(found, np.broadcast_to(np.float32(origin)[None, :, None], found.shape))


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_identity_camera_shows_the_mean_shape(convention: str, mean_shape: np.ndarray) -> None:
    found = run(make(convention, u_base=mean_shape), camera(np.eye(3)))
    assert np.allclose(found, in_frame(mean_shape.T[None], convention), rtol=0, atol=1e-4)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_camera_and_offset(convention: str, mean_shape: np.ndarray) -> None:
    rows = np.array([[0.5, -0.2, 0.1], [0.3, 0.6, -0.1], [0, 0.2, 0.7]])
    offset = (40.0, 55.0, -7.0)
    found = run(make(convention, u_base=mean_shape), camera(rows, offset))
    expected = rows @ mean_shape.T + np.array(offset)[:, None]
    assert np.allclose(found, in_frame(expected[None], convention), rtol=0, atol=1e-3)


def test_conventions_are_one_crop_pixel_apart(mean_shape: np.ndarray) -> None:
    params = camera(np.eye(3), (60, 60, 0))
    ours, theirs = (run(make(name, u_base=mean_shape), params) for name in CONVENTIONS)
    assert np.allclose(ours[:, :2] - theirs[:, :2], 1, rtol=0, atol=1e-4)


def test_least_depth_is_zero_for_each_face(mean_shape: np.ndarray) -> None:
    params = np.concatenate([camera(np.eye(3), (0, 0, z)) for z in (-500.0, 0.0, 300.0)])
    depth = run(make("3ddfa_v2", u_base=mean_shape), params)[:, 2]
    assert np.allclose(depth.min(1), 0, rtol=0, atol=1e-3)
    assert np.allclose(depth - depth[1], 0, rtol=0, atol=1e-3)  # depth of the whole head does not show
    assert np.allclose(np.ptp(depth, axis=1), np.ptp(mean_shape[:, 2]), rtol=0, atol=1e-3)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_whitening(convention: str, mean_shape: np.ndarray) -> None:
    """physical = whitened * std + mean."""
    random = np.random.default_rng(5)
    mean, std = random.normal(0, 1, PARAMS), random.uniform(0.5, 2, PARAMS)
    bases = {"w_shp_base": random.normal(0, 1, (204, 40)), "w_exp_base": random.normal(0, 1, (204, 10))}
    whitened = random.normal(0, 1, (3, PARAMS))
    plain = run(make(convention, u_base=mean_shape, **bases), whitened * std + mean)
    found = run(make(convention, u_base=mean_shape, param_mean=mean, param_std=std, **bases), whitened)
    assert np.allclose(found, plain, rtol=0, atol=5e-3)


@pytest.mark.parametrize(
    ("basis", "column", "parameter"),
    [("w_shp_base", 0, 12), ("w_shp_base", 39, 51), ("w_exp_base", 0, 52), ("w_exp_base", 9, 61)],
)
def test_each_code_drives_its_own_column(basis: str, column: int, parameter: int) -> None:
    """12 camera, 40 shape, 10 expression values; rows are x, y, z of point 0, then of point 1, ..."""
    weights = np.zeros((204, 40 if basis == "w_shp_base" else 10), np.float32)
    weights[3 * 7 + 2, column] = 5  # z of point 7
    params = camera(np.eye(3))
    params[0, parameter] = 2
    found = run(make("synergynet", **{basis: weights}), params)
    expected = np.zeros((1, 3, POINTS))
    expected[0, 2, 7] = 10
    assert np.allclose(found, in_frame(expected, "synergynet"))


def test_bases_are_never_trained() -> None:
    model = MorphableModel()
    assert list(model.trainable_params()) == []
    assert {name for name, _ in model.parameters_and_names()} == set(MorphableModel.ARRAYS)


def test_unknown_convention_lists_the_known() -> None:
    with pytest.raises(ValueError, match="synergynet, 3ddfa_v2"):
        MorphableModel("official")


@pytest.mark.parametrize("arch", ["mobilenet_v2", "mobilenet_1"])
def test_official_landmarks(checkpoints: dict[str, Path], shared: Path, arch: str) -> None:
    expected = np.load(shared / "reference" / f"io_{arch}.npz")
    found = run(load_checkpoint(checkpoints[arch]).network.morphable, expected["params"])
    assert np.allclose(found, expected["lm68"], rtol=0, atol=LANDMARKS_ATOL)


@pytest.mark.parametrize("photo", ["emma", "JianzhuGuo"])
def test_trained_landmarks(checkpoints: dict[str, Path], shared: Path, photo: str) -> None:
    """3DDFA_V2 gives image pixels: its own mapping back is side / 120 and the box's corner, z by the mean scale."""
    expected = np.load(shared / "reference" / f"real_{photo}.npz")
    found = run(load_checkpoint(checkpoints["mb05"]).network.morphable, expected["param_whitened"])
    corner, side = expected["roi_box"][:, :2], expected["roi_box"][:, 2:] - expected["roi_box"][:, :2]
    scale = np.concatenate([side, side.mean(1, keepdims=True)], 1) / 120
    image = found * scale[:, :, None] + np.pad(corner, ((0, 0), (0, 1)))[:, :, None]
    assert np.allclose(image, expected["landmarks"], rtol=0, atol=0.1)
