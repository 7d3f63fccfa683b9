"""The engine: what it reads, what it refuses, which output is which."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.engines.base import DYNAMIC, Device, ModelFile, TensorSpec
from runtime.engines.lite import LiteEngine, readable_formats
from runtime.errors import EngineError, EngineUnavailableError
from runtime.native.home import locate

CPU = Device()
IMAGES = TensorSpec("images", (DYNAMIC, 8, 8, 3), "uint8")
POOLED = TensorSpec("pooled", (DYNAMIC, 4), "float32")
SCORES = TensorSpec("scores", (DYNAMIC, 5), "float32")


def model_file(data: bytes, **changes: Any) -> ModelFile:
    return replace(ModelFile(data, "ms", (IMAGES,), (POOLED, SCORES)), **changes)


def test_formats() -> None:
    """Lite 2.0, or no Lite at all; newer releases are tried in native/test_vendor.py and below."""
    assert LiteEngine.formats == readable_formats() == ("ms", "mindir_v1")


@pytest.mark.parametrize(("version", "reads"), [("2.0.1", False), ("2.1.0", True), ("2.10.0rc1", True)])
def test_newer_homes_read_mindir_of_today(
    version: str, reads: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / f"mindspore-lite-{version}-linux-x64"
    for name in ("include/api/model.h", "include/api/types.h", "include/api/context.h", "lib/libmindspore-lite.so"):
        (root / "runtime" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "runtime" / name).touch()
    monkeypatch.setenv("SYNERGY_LITE_HOME", str(root))
    assert ("mindir" in readable_formats()) == reads


def test_a_wrong_home_is_told_when_it_matters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SYNERGY_LITE_HOME", str(tmp_path))
    assert readable_formats() == ("ms", "mindir_v1")
    assert not LiteEngine.available().ok
    with pytest.raises(EngineUnavailableError, match="SYNERGY_LITE_HOME="):
        LiteEngine(model_file(b"any"), CPU, 1)


def test_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SYNERGY_LITE_HOME", raising=False)
    monkeypatch.setenv("SYNERGY_DATA_HOME", str(tmp_path))
    status = LiteEngine.available()
    assert (status.ok, status.detail, status.fix) == (
        False,
        "MindSpore Lite is not installed",
        "run `synergy lite install`",
    )


def test_available(lite_home: Path) -> None:
    status = LiteEngine.available()
    assert status.ok and status.detail == f"MindSpore Lite {locate().version} at {lite_home}"


@pytest.mark.parametrize("format_", ["onnx", "mindir"])
def test_refuses_formats_it_cannot_read(format_: str) -> None:
    with pytest.raises(EngineError, match=f"engine lite cannot read {format_} files: it reads ms, mindir_v1"):
        LiteEngine(model_file(b"any", format=format_), CPU, 1)


@pytest.mark.lite_process
def test_runs(tiny_ms: bytes, tiny: Any) -> None:
    with LiteEngine(model_file(tiny_ms), CPU, 1) as engine:
        for count in (1, 3, 1):
            images = tiny.images(count)
            result = engine.run({"images": images})
            for name, expected in zip(("pooled", "scores"), tiny.expected(images), strict=True):
                np.testing.assert_allclose(result[name], expected, atol=1e-4)


@pytest.mark.lite_process
def test_outputs_go_by_name_where_names_survive(tiny_ms: bytes, tiny: Any) -> None:
    with LiteEngine(model_file(tiny_ms, outputs=(SCORES, POOLED)), CPU, 1) as engine:
        result = engine.run({"images": tiny.images(2)})
    np.testing.assert_allclose(result["pooled"], tiny.expected(tiny.images(2))[0], atol=1e-4)


@pytest.mark.lite_process
def test_and_else_by_place(tiny_ms: bytes, tiny: Any) -> None:
    renamed = (replace(POOLED, name="a"), replace(SCORES, name="b"))
    spec = replace(IMAGES, name="crops")
    with LiteEngine(model_file(tiny_ms, inputs=(spec,), outputs=renamed), CPU, 1) as engine:
        result = engine.run({"crops": tiny.images(2)})
    np.testing.assert_allclose(result["a"], tiny.expected(tiny.images(2))[0], atol=1e-4)


@pytest.mark.lite_process
def test_a_batch_fixed_by_the_manifest(tiny_ms: bytes, tiny: Any) -> None:
    spec = replace(IMAGES, shape=(2, 8, 8, 3))
    with LiteEngine(model_file(tiny_ms, inputs=(spec,)), CPU, 1) as engine:
        assert engine.run({"images": tiny.images(2)})["scores"].shape == (2, 5)
        with pytest.raises(ValueError, match="the model takes"):
            engine.run({"images": tiny.images(1)})


@pytest.mark.lite_process
@pytest.mark.parametrize(
    "inputs",
    [
        (replace(IMAGES, dtype="float32"),),
        (replace(IMAGES, shape=(DYNAMIC, 3, 8, 8)),),
        (replace(IMAGES, shape=(DYNAMIC, 192)),),
        (IMAGES, replace(IMAGES, name="more")),
    ],
    ids=["dtype", "layout", "rank", "count"],
)
def test_refuses_a_file_that_is_not_what_the_manifest_says(tiny_ms: bytes, inputs: tuple[TensorSpec, ...]) -> None:
    with pytest.raises(EngineError, match=r"takes images uint8 \(-1, 8, 8, 3\), its manifest says .*export"):
        LiteEngine(model_file(tiny_ms, inputs=inputs), CPU, 1)


@pytest.mark.lite_process
@pytest.mark.parametrize(
    "outputs",
    [(POOLED,), (POOLED, replace(SCORES, shape=(DYNAMIC, 6))), (POOLED, replace(SCORES, dtype="float16"))],
    ids=["count", "shape", "dtype"],
)
def test_refuses_results_that_are_not_what_the_manifest_says(
    tiny_ms: bytes, tiny: Any, outputs: tuple[TensorSpec, ...]
) -> None:
    with (
        LiteEngine(model_file(tiny_ms, outputs=outputs), CPU, 1) as engine,
        pytest.raises(EngineError, match="returned"),
    ):
        engine.run({"images": tiny.images(1)})


@pytest.mark.lite_process
def test_lowered_mindir(mindirs: dict[str, bytes]) -> None:
    values = np.array([[-1, 2, -3, 4]], np.float32)
    spec = TensorSpec("x", (DYNAMIC, 4), "float32")
    file = ModelFile(mindirs["v1"], "mindir_v1", (spec,), (replace(spec, name="y"),))
    with LiteEngine(file, CPU, 1) as engine:
        assert np.array_equal(engine.run({"x": values})["y"], np.maximum(values, 0))


@pytest.mark.lite_process
def test_damaged(tiny_ms: bytes) -> None:
    with pytest.raises(EngineError, match="The model buffer is invalid"):
        LiteEngine(model_file(tiny_ms[:-200]), CPU, 1)


@pytest.mark.lite_process
def test_a_device_that_is_not_here(tiny_ms: bytes) -> None:
    with pytest.raises(EngineUnavailableError, match=r"ascend:0: lib\w+\.so: cannot open .*CANN.*--device cpu"):
        LiteEngine(model_file(tiny_ms), Device("ascend"), 1)


@pytest.mark.lite_process
def test_closed(tiny_ms: bytes, tiny: Any) -> None:
    engine = LiteEngine(model_file(tiny_ms), CPU, 1)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run({"images": tiny.images(1)})
