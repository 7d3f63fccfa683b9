"""The OpenVINO engine: precision, thread settings, telemetry, errors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import synergy.runtime.engines.openvino as module
from synergy.runtime.engines import default_threads, open_engine
from synergy.runtime.engines.base import ONEDNN_ISA_LIMIT
from synergy.runtime.engines.openvino import OpenVinoEngine, import_openvino, settings
from synergy.runtime.errors import EngineError, EngineUnavailableError
from synergy.runtime.specs import DYNAMIC, Device, EngineOptions, ModelFile, TensorSpec

if not OpenVinoEngine.available().ok:
    pytest.skip("openvino is not installed", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def capabilities() -> list[str]:
    """What this CPU has of FP16, BF16 and others."""
    return import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.fixture
def model(tiny_onnx: Path) -> ModelFile:
    images = (TensorSpec("images", (-1, 8, 8, 3), "uint8"),)
    outputs = (TensorSpec("pooled", (-1, 4), "float32"), TensorSpec("scores", (-1, 5), "float32"))
    return ModelFile(tiny_onnx.read_bytes(), "onnx", images, outputs)


@pytest.fixture
def engine(model: ModelFile) -> Iterator[OpenVinoEngine]:
    with OpenVinoEngine(model, Device(), 1) as engine:
        yield engine


@pytest.mark.parametrize("count", [1, 4, 7])
def test_numbers(engine: OpenVinoEngine, tiny: Any, count: int) -> None:
    """In float32, also where the CPU has bfloat16, which is OpenVINO's own choice there."""
    images = tiny.images(count)
    pooled, scores = tiny.expected(images)
    found = engine.run({"images": images})
    assert np.allclose(found["pooled"], pooled, atol=1e-4) and np.allclose(found["scores"], scores, atol=1e-4)


def test_outputs_go_by_name_not_by_place(model: ModelFile, tiny: Any) -> None:
    images = tiny.images(2)
    with OpenVinoEngine(replace(model, outputs=model.outputs[::-1]), Device(), 1) as engine:
        found = engine.run({"images": images})
    assert list(found) == ["scores", "pooled"]
    assert np.allclose(found["pooled"], tiny.expected(images)[0], atol=1e-4)


def test_fewer_outputs_may_be_asked_for(model: ModelFile, tiny: Any) -> None:
    with OpenVinoEngine(replace(model, outputs=model.outputs[1:]), Device(), 1) as engine:
        assert list(engine.run({"images": tiny.images(1)})) == ["scores"]


def test_plugin_settings() -> None:
    told = settings(3, EngineOptions())
    assert told["INFERENCE_NUM_THREADS"] == 3 and told["NUM_STREAMS"] == "1"
    assert told["ENABLE_CPU_PINNING"] is False and told["INFERENCE_PRECISION_HINT"] == "f32"
    assert settings(1, EngineOptions(precision="bf16"))["INFERENCE_PRECISION_HINT"] == "bf16"


@pytest.mark.parametrize("threads", [1, 2])
def test_the_plugin_uses_the_settings(model: ModelFile, threads: int) -> None:
    """Pinned, two processes of one thread would share core 0."""
    with OpenVinoEngine(model, Device(), threads) as engine:
        compiled = engine.model_for(1).compiled
        assert compiled.get_property("INFERENCE_NUM_THREADS") == min(threads, default_threads())  # no more than cores
        assert compiled.get_property("ENABLE_CPU_PINNING") is False
        assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"


def test_stays_in_this_process(model: ModelFile) -> None:
    """It can be loaded together with MindSpore, MindSpore Lite or onnxruntime."""
    with open_engine("openvino", model) as engine:
        assert isinstance(engine, OpenVinoEngine)


BESIDE = """
import sys
import numpy as np
from synergy.runtime.bundle import Bundle
from synergy.runtime.engines import engine_class
from synergy.runtime.specs import Device
bundle, device = Bundle.open(sys.argv[1]), Device()
crops = np.random.default_rng(0).integers(0, 256, (3, 120, 120, 3), np.uint8)
models = {name: bundle.model_file(bundle.artifact_for(name, device)) for name in sys.argv[2:]}
engines = [engine_class(name)(model, device, 2) for name, model in models.items()]
results = [engine.run({"images": crops})["params"] for _ in range(2) for engine in engines]
print(max(np.abs(result - results[0]).max() for result in results) < 1e-4)
"""


@pytest.mark.parametrize(
    "names", [("mindspore", "openvino", "onnx"), ("openvino", "mindspore"), ("lite", "openvino")], ids="-".join
)
def test_shares_a_process_with_the_others(bundles: dict[str, Path], names: tuple[str, ...]) -> None:
    if "mindspore" in names:
        pytest.importorskip("mindspore")
    command = [sys.executable, "-c", BESIDE, str(bundles["mb05"]), *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr[-2000:]


# --- below float32


@pytest.mark.parametrize(("precision", "rounding"), [("fp16", 2.0**-11), ("bf16", 2.0**-8)])
def test_computes_in_less_on_request(
    model: ModelFile, tiny: Any, capabilities: list[str], precision: str, rounding: float
) -> None:
    if precision.upper() not in capabilities:
        pytest.skip(f"this CPU has no {precision}")
    images = tiny.images(4)
    with OpenVinoEngine(model, Device(), 1, EngineOptions(precision=precision)) as engine:
        found = engine.run({"images": images})
    for name, expected in zip(("pooled", "scores"), tiny.expected(images), strict=True):
        error = np.abs(found[name] - expected).max() / np.abs(expected).max()
        assert found[name].dtype == np.float32 and 1e-6 < error < 8 * rounding


@pytest.mark.parametrize(
    ("capabilities", "precision", "words"),
    [
        (["FP32", "INT8"], "bf16", "does not compute in bfloat16, .*emulate it: use precision fp32$"),
        (["FP32", "BF16"], "fp16", "does not compute in float16, .*: use precision fp32 or bf16$"),
    ],
)
def test_a_cpu_that_would_emulate_it(
    model: ModelFile, monkeypatch: pytest.MonkeyPatch, capabilities: list[str], precision: str, words: str
) -> None:
    monkeypatch.setattr(module, "cpu_capabilities", lambda core: capabilities)
    with pytest.raises(EngineError, match=words):
        OpenVinoEngine(model, Device(), 1, EngineOptions(precision))
    status = OpenVinoEngine.computes(precision, Device())
    assert not status.ok and status.detail.endswith("would only emulate it") and status.fix == "use a CPU that has it"
    assert OpenVinoEngine.computes("fp32", Device()).ok


def test_an_openvino_that_does_not_load_computes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ImportError("libopenvino.so: cannot open")

    monkeypatch.setattr(module, "import_openvino", fail)
    status = OpenVinoEngine.computes("bf16", Device())
    assert not status.ok and "libopenvino.so: cannot open" in status.detail and status.fix


def test_a_plugin_that_takes_another_precision(
    model: ModelFile, monkeypatch: pytest.MonkeyPatch, capabilities: list[str]
) -> None:
    if "BF16" not in capabilities:
        pytest.skip("this CPU has no other precision")
    told = settings(1, EngineOptions(precision="bf16"))
    monkeypatch.setattr(module, "settings", lambda *_: told)
    with pytest.raises(EngineError, match="computes in bf16 here, not in float32"):
        OpenVinoEngine(model, Device(), 1)


OPEN_UNDER_LIMIT = """
import os, sys
from pathlib import Path
from synergy.runtime.engines import open_engine
from synergy.runtime.specs import EngineOptions, ModelFile, TensorSpec
model = ModelFile(Path(sys.argv[1]).read_bytes(), "onnx", (TensorSpec("images", (-1, 8, 8, 3), "uint8"),), ())
engine = open_engine("openvino", model, threads=1)
nodes = engine.model_for(1).compiled.get_runtime_model().get_ordered_ops()
kinds = {node.get_rt_info()["layerType"].astype(str): node.get_rt_info()["primitiveType"].astype(str) for node in nodes}
print(os.environ.get("ONEDNN_MAX_CPU_ISA"), "avx512" in kinds["Convolution"])
"""


def test_the_isa_limit_of_mindspore_does_not_apply(tiny_onnx: Path) -> None:
    """It is in the environment of MindSpore's process and its children, and stays there for MindSpore."""
    info = Path("/proc/cpuinfo")
    if not info.is_file() or "avx512vl" not in info.read_text():
        pytest.skip("there is nothing to limit: this CPU has no AVX-512")
    name, limit = ONEDNN_ISA_LIMIT
    for setting, expected in ((limit, f"{limit} True"), ("AVX", "AVX False")):  # a limit of the user's own is obeyed
        done = subprocess.run(
            [sys.executable, "-c", OPEN_UNDER_LIMIT, str(tiny_onnx)],
            env=os.environ | {name: setting},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == expected


# --- silence

QUIET = """
import os, sys, threading
from pathlib import Path
events = []
sys.addaudithook(lambda event, _: events.append(event) if event.startswith(("socket.", "subprocess.")) else None)
from synergy.runtime.engines import open_engine
from synergy.runtime.specs import ModelFile, TensorSpec
model = ModelFile(Path(sys.argv[1]).read_bytes(), "onnx", (TensorSpec("images", (-1, 8, 8, 3), "uint8"),), ())
open_engine("openvino", model, threads=1).close()
print(events, threading.active_count(), os.listdir(Path.home()), "openvino_telemetry" in sys.modules)
import openvino
print(hasattr(openvino, "convert_model"))
"""


def test_sends_nothing_and_writes_nothing(tiny_onnx: Path, tmp_path: Path) -> None:
    """Imported as it is, the package puts a client id into the user's home and reports the import."""
    environment = {key: value for key, value in os.environ.items() if key not in ("CI", "TF_BUILD", "JENKINS_URL")}
    done = subprocess.run(
        [sys.executable, "-c", QUIET, str(tiny_onnx)],
        env=environment | {"HOME": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[] 1 [] False\nTrue\n" and done.stderr == ""


def test_what_was_loaded_before_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    telemetry = object()
    monkeypatch.setitem(sys.modules, module.TELEMETRY, telemetry)
    import_openvino()
    assert sys.modules[module.TELEMETRY] is telemetry


# --- refusals


@pytest.mark.parametrize("device", ["gpu", "gpu:1", "ascend"])
def test_cpu_only(model: ModelFile, device: str) -> None:
    """Its GPU is Intel's; ours is NVIDIA's."""
    where = Device.parse(device)
    with pytest.raises(EngineUnavailableError, match=f"openvino runs on cpu only, not on {where}: use --device cpu"):
        OpenVinoEngine(model, where, 1)


def test_a_manifest_that_names_other_tensors(model: ModelFile) -> None:
    renamed = replace(model, outputs=(TensorSpec("landmarks", (-1, 4), "float32"),))
    with pytest.raises(EngineError, match="has pooled, scores, its manifest names landmarks: export"):
        OpenVinoEngine(renamed, Device(), 1)
    renamed = replace(model, inputs=(TensorSpec("crops", (-1, 8, 8, 3), "uint8"),))
    with pytest.raises(EngineError, match="has images, its manifest names crops: export"):
        OpenVinoEngine(renamed, Device(), 1)


def test_a_manifest_that_promises_another_shape(model: ModelFile) -> None:
    wrong = replace(model, inputs=(TensorSpec("images", (-1, 9, 9, 3), "uint8"),))
    with OpenVinoEngine(wrong, Device(), 1) as engine, pytest.raises(EngineError, match="incompatible") as raised:
        engine.run({"images": np.zeros((1, 9, 9, 3), np.uint8)})
    assert "\n" not in str(raised.value) and "Exception from" not in str(raised.value)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_truncated(model: ModelFile, share: float, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EngineError, match=r"OpenVINO cannot load the model: \w") as raised:
        OpenVinoEngine(replace(model, data=model.data[: int(share * len(model.data))]), Device(), 1)
    assert "\n" not in str(raised.value) and "Exception from" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "RuntimeError"),
        ("plain", "plain"),
        ("Exception from src/a.cpp:1:\nCheck 'x' failed at src/b.cpp:2:\nthe shape is wrong\n\n", "the shape is wrong"),
        ("Exception from src/a.cpp:1:\n", "Exception from src/a.cpp:1:"),
    ],
)
def test_the_cause_of_an_error(text: str, cause: str) -> None:
    assert module.error_cause(RuntimeError(text)) == cause


def test_missing_package(model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    find = module.find_spec

    def without(name: str) -> ModuleSpec | None:
        return None if name == "openvino" else find(name)

    monkeypatch.setattr(module, "find_spec", without)
    with pytest.raises(
        EngineUnavailableError, match=r"openvino is not installed: pip install 'synergy-mindir\[openvino\]'"
    ):
        open_engine("openvino", model)


def test_closing_frees_the_model(model: ModelFile) -> None:
    engine = OpenVinoEngine(model, Device(), 1)
    engine.close()
    engine.close()
    assert not engine.models
    with pytest.raises(EngineError, match="closed"):
        engine.run({"images": np.zeros((1, 8, 8, 3), np.uint8)})


def test_a_model_is_compiled_for_a_frequent_batch_size(
    engine: OpenVinoEngine, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its second run on here; with the same results to the last bit, and only so many sizes."""
    monkeypatch.setattr(module, "COMPILE_AFTER_S", 0.0)
    monkeypatch.setattr(module, "MAX_COMPILED_SIZES", 2)
    for size, own in ((1, True), (5, True), (3, False)):
        images = {"images": tiny.images(size)}
        first = engine.run(images)
        again = engine.run(images)
        assert all(np.array_equal(again[name], first[name]) for name in first)
        assert (engine.model_for(size) is not engine.model_for(0)) == own
    assert sorted(engine.models) == [DYNAMIC, 1, 5]


def test_a_rare_batch_size_uses_the_dynamic_model(engine: OpenVinoEngine, tiny: Any) -> None:
    for size in range(1, 30):
        engine.run({"images": tiny.images(size)})
    assert list(engine.models) == [DYNAMIC]


def test_a_fixed_batch_needs_no_other_model(model: ModelFile, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMPILE_AFTER_S", 0.0)
    fixed = [TensorSpec(spec.name, (2, *spec.shape[1:]), spec.dtype) for spec in model.inputs]
    with OpenVinoEngine(replace(model, inputs=tuple(fixed)), Device(), 1) as engine:
        for _ in range(3):
            engine.run({"images": tiny.images(2)})
        assert list(engine.models) == [DYNAMIC]
