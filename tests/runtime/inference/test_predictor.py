"""How many crops go into one run of an engine, and that nothing is copied beside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from synergy.runtime.bundle import BUILTIN, Bundle
from synergy.runtime.engines.base import Engine
from synergy.runtime.inference.predictor import CropPredictor
from synergy.runtime.specs import Availability, Device, ModelFile


class FreeEngine(Engine):
    """An engine whose runs take no time."""

    name, formats = "free", ("onnx",)

    def __init__(self, bundle: Bundle, device: str) -> None:
        manifest = bundle.manifest
        specs = (tuple(tensor.spec for tensor in side) for side in (manifest.inputs, manifest.outputs))
        super().__init__(ModelFile(b"", "onnx", *specs), Device(device), 1)
        self.runs: list[np.ndarray] = []
        self.results = [np.zeros((1024, *spec.shape[1:]), np.float32) for spec in self.model.outputs]

    @classmethod
    def available(cls) -> Availability:
        return Availability(True, "")

    def _run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        self.runs.append(arrays[0])
        return [result[: len(arrays[0])] for result in self.results]

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("device", "count", "runs"),
    [("cpu", 64, [64]), ("cpu", 130, [64, 64, 2]), ("gpu", 1024, [1024]), ("ascend", 1030, [1024, 6])],
)
def test_crops_per_run(device: str, count: int, runs: list[int]) -> None:
    bundle = Bundle.open(BUILTIN)
    engine = FreeEngine(bundle, device)
    crops = np.zeros((count, 120, 120, 3), np.uint8)
    prediction = CropPredictor(bundle, engine).predict(crops)
    assert [len(run) for run in engine.runs] == runs
    assert prediction.params.shape == (count, 62) and prediction.euler_deg.shape == (count, 3)
    assert all(np.shares_memory(run, crops) for run in engine.runs)
    if len(runs) == 1:
        assert np.shares_memory(prediction.landmarks, engine.results[1])
