"""The folded 3DMM gives the points of the Cell, with constants within the range of float16."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from synergy.export.folding import FoldedMorphable, FoldedRefiner
from synergy.runtime.decode import LANDMARK_FRAMES, dewhiten, vertices
from synergy.synergy_model.landmark_networks import LandmarkRefiner
from synergy.synergy_model.morphable import MorphableModel

FLOAT16 = np.finfo(np.float16)


def arrays(points: int, seed: int = 0) -> dict[str, np.ndarray]:
    """As large as real ones: in micrometres, with one shape code of several thousand."""
    rng = np.random.default_rng(seed)
    camera_mean = np.array([5e-4, 0, 0, 60, 0, 5e-4, 0, 60, 0, 0, 5e-4, -70])
    return {
        "param_mean": np.concatenate([camera_mean, rng.normal(0, 1e4, 40), rng.normal(0, 0.5, 10)]),
        "param_std": np.concatenate([np.tile([2e-4, 2e-4, 2e-4, 30], 3), np.geomspace(5e5, 2e4, 40), np.ones(10)]),
        "u_base": rng.normal(0, 4e4, (3 * points, 1)),
        "w_shp_base": rng.normal(0, 2e-3, (3 * points, 40)),
        "w_exp_base": rng.normal(0, 3e3, (3 * points, 10)),
    }


def cell(convention: str, values: dict[str, np.ndarray]) -> MorphableModel:
    model = MorphableModel(convention)
    for name, value in values.items():
        getattr(model, name).set_data(Tensor(value.astype(np.float32)))
    return model


def folded(model: MorphableModel, values: dict[str, np.ndarray]) -> FoldedMorphable:
    return FoldedMorphable(model, *(values[name].astype(np.float32) for name in ("u_base", "w_shp_base", "w_exp_base")))


@pytest.fixture(scope="module", autouse=True)
def _graph_mode() -> None:
    ms.set_context(mode=ms.GRAPH_MODE)


@pytest.mark.parametrize("convention", LANDMARK_FRAMES)
def test_landmarks_are_the_cells(convention: str) -> None:
    values = arrays(68)
    model = cell(convention, values)
    params = np.random.default_rng(1).standard_normal((5, 62)).astype(np.float32)
    expected = model(Tensor(params)).asnumpy()
    found = folded(model, values)(Tensor(params)).asnumpy()
    assert found.shape == (5, 3, 68) and np.ptp(expected) > 50
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("convention", LANDMARK_FRAMES)
def test_a_mesh_is_decoded_as_on_the_device(convention: str) -> None:
    """Against NumPy in float64, which shares no code with the graph."""
    sparse, dense = arrays(68), arrays(500, seed=3)
    params = np.random.default_rng(2).standard_normal((3, 62)).astype(np.float32)
    found = folded(cell(convention, sparse), dense)(Tensor(params)).asnumpy()
    physical = dewhiten(params.astype(np.float64), sparse["param_mean"], sparse["param_std"])
    frame = LANDMARK_FRAMES[convention]
    bases = (dense[name] for name in ("u_base", "w_shp_base", "w_exp_base"))
    np.testing.assert_allclose(found, vertices(physical, *bases, frame), rtol=0, atol=1e-3)


def test_constants_fit_half_precision() -> None:
    """Unfolded, whitening times micrometres exceeds float16: a model with float16 weights would output infinity."""
    values = arrays(68)
    assert max(np.abs(values[name]).max() for name in ("param_std", "u_base")) > FLOAT16.max
    graph = folded(cell("synergynet", values), values)
    for name in ("camera_scale", "camera_mean", "centre", "bases"):
        constant = np.abs(getattr(graph, name).asnumpy())
        assert constant.max() < 1000 and np.isfinite(constant.astype(np.float16)).all()
    halved = [getattr(graph, name).asnumpy().astype(np.float16) for name in ("camera_scale", "camera_mean")]
    assert all(np.count_nonzero(half) >= 6 for half in halved)  # nothing vanished either


def test_the_refiner_is_the_cells() -> None:
    """With random normalisation statistics, for one crop and several."""
    rng = np.random.default_rng(5)
    refiner = LandmarkRefiner().set_train(False)
    for name, parameter in refiner.parameters_and_names():
        input_sensitivity = 0.05 if name.endswith("weight") else 0.2
        values = rng.normal(0, input_sensitivity, parameter.shape) + (
            1.0 if "gamma" in name or "variance" in name else 0.0
        )
        parameter.set_data(
            Tensor(np.abs(values).astype(np.float32) if "variance" in name else values.astype(np.float32))
        )
    graph = FoldedRefiner(refiner).set_train(False)
    for count in (1, 3):
        landmarks = rng.normal(0, 30, (count, 3, 68)).astype(np.float32)
        pooled = np.abs(rng.normal(0, 1, (count, 1280))).astype(np.float32)
        params = rng.standard_normal((count, 62)).astype(np.float32)
        inputs = [Tensor(value) for value in (landmarks, pooled, params)]
        expected = refiner(*inputs).asnumpy()
        assert np.ptp(expected) > 0.1
        np.testing.assert_allclose(graph(*inputs).asnumpy(), expected, rtol=1e-4, atol=1e-4)
