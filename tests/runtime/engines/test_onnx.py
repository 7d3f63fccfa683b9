"""onnxruntime: what it cannot do is an error with cause and cure."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.engines import onnx as module
from runtime.engines import open_engine
from runtime.engines.base import Device, ModelFile, TensorSpec
from runtime.engines.onnx import OnnxEngine
from runtime.errors import EngineError, EngineUnavailableError

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture
def model(tiny_onnx: Path) -> ModelFile:
    images = (TensorSpec("images", (-1, 8, 8, 3), "uint8"),)
    outputs = (TensorSpec("pooled", (-1, 4), "float32"), TensorSpec("scores", (-1, 5), "float32"))
    return ModelFile(tiny_onnx.read_bytes(), "onnx", images, outputs)


@pytest.fixture
def engine(model: ModelFile) -> Iterator[OnnxEngine]:
    with OnnxEngine(model, Device(), 1) as engine:
        yield engine


@pytest.mark.parametrize("count", [1, 4, 7])
def test_numbers(engine: OnnxEngine, tiny: Any, count: int) -> None:
    images = tiny.images(count)
    pooled, scores = tiny.expected(images)
    found = engine.run({"images": images})
    assert np.allclose(found["pooled"], pooled, atol=1e-4) and np.allclose(found["scores"], scores, atol=1e-4)


def test_outputs_go_by_name_not_by_place(model: ModelFile, tiny: Any) -> None:
    images = tiny.images(2)
    with OnnxEngine(replace(model, outputs=model.outputs[::-1]), Device(), 1) as engine:
        found = engine.run({"images": images})
    assert list(found) == ["scores", "pooled"]
    assert np.allclose(found["pooled"], tiny.expected(images)[0], atol=1e-4)


def test_fewer_outputs_may_be_asked_for(model: ModelFile, tiny: Any) -> None:
    with OnnxEngine(replace(model, outputs=model.outputs[1:]), Device(), 1) as engine:
        assert list(engine.run({"images": tiny.images(1)})) == ["scores"]


def test_threads_reach_the_session(model: ModelFile) -> None:
    for threads in (1, 2):
        with OnnxEngine(model, Device(), threads) as engine:
            assert engine.session.get_session_options().intra_op_num_threads == threads


def test_stays_in_this_process(model: ModelFile) -> None:
    """MindSpore and MindSpore Lite do not mind it."""
    with open_engine("onnx", model) as engine:
        assert isinstance(engine, OnnxEngine)


def test_a_manifest_that_names_other_tensors(model: ModelFile, tiny: Any) -> None:
    renamed = replace(model, outputs=(TensorSpec("landmarks", (-1, 4), "float32"),))
    with pytest.raises(EngineError, match="landmarks") as raised, OnnxEngine(renamed, Device(), 1) as engine:
        engine.run({"images": tiny.images(1)})
    assert "\n" not in str(raised.value)
    renamed = replace(model, inputs=(TensorSpec("crops", (-1, 8, 8, 3), "uint8"),))
    with pytest.raises(EngineError, match=r"crops|images"), OnnxEngine(renamed, Device(), 1) as engine:
        engine.run({"crops": tiny.images(1)})


def test_a_manifest_that_promises_another_shape(model: ModelFile, tiny: Any) -> None:
    wrong = replace(model, inputs=(TensorSpec("images", (-1, 9, 9, 3), "uint8"),))
    with pytest.raises(EngineError) as raised, OnnxEngine(wrong, Device(), 1) as engine:
        engine.run({"images": np.zeros((1, 9, 9, 3), np.uint8)})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_truncated(model: ModelFile, share: float) -> None:
    with pytest.raises(EngineError, match=r"onnxruntime cannot load the model: .*[Pp]rotobuf") as raised:
        OnnxEngine(replace(model, data=model.data[: int(share * len(model.data))]), Device(), 1)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("kind", "provider"), [("gpu", "CUDAExecutionProvider"), ("ascend", "CANNExecutionProvider")])
def test_devices_it_was_not_built_for(model: ModelFile, kind: str, provider: str) -> None:
    if provider in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime was built for it")
    with pytest.raises(EngineUnavailableError, match=rf"no {provider} for device {kind}:0 .*--device cpu"):
        OnnxEngine(model, Device(kind), 1)


@pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")
def test_no_silent_fall_back(model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime itself goes on with the CPU where CUDA's libraries do not load."""
    providers = [*onnxruntime.get_available_providers(), "CUDAExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    with pytest.raises(EngineError, match="CUDAExecutionProvider"):
        OnnxEngine(model, Device("gpu"), 1)


def test_missing_package(model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    find = module.find_spec

    def without(name: str) -> ModuleSpec | None:
        return None if name == "onnxruntime" else find(name)

    monkeypatch.setattr(module, "find_spec", without)
    assert not OnnxEngine.available().ok
    with pytest.raises(
        EngineUnavailableError, match=r"onnxruntime is not installed: pip install 'synergy-mindir\[onnx\]'"
    ):
        open_engine("onnx", model)


def test_looking_loads_nothing() -> None:
    before = set(sys.modules)
    assert OnnxEngine.available().ok
    assert set(sys.modules) == before


def test_closed(model: ModelFile, tiny: Any) -> None:
    engine = OnnxEngine(model, Device(), 1)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run({"images": tiny.images(1)})
