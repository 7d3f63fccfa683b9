"""The onnxruntime engine; unsupported requests are errors with cause and cure."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from synergy.runtime.engines import onnx as module
from synergy.runtime.engines import open_engine
from synergy.runtime.engines.onnx import OnnxEngine, worker_cores
from synergy.runtime.errors import EngineError, EngineUnavailableError
from synergy.runtime.specs import Device, EngineOptions, ModelFile, TensorSpec, available_cores

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
    """It can be loaded together with MindSpore or MindSpore Lite."""
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


# --- cards: by the real library up to its error, then by a stand-in


@pytest.mark.parametrize(
    ("device", "provider", "package"),
    [
        ("gpu", "CUDAExecutionProvider", r"'synergy-mindir\[onnx-gpu\]'"),
        ("ascend:1", "CANNExecutionProvider", "onnxruntime-cann"),
    ],
)
def test_devices_it_was_not_built_for(model: ModelFile, device: str, provider: str, package: str) -> None:
    if provider in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime was built for it")
    with pytest.raises(
        EngineUnavailableError,
        match=rf"no {provider} for {device}(:0)? .*then pip install {package}; or use --device cpu",
    ):
        OnnxEngine(model, Device.parse(device), 1)


@pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")
def test_no_silent_fall_back(
    model: ModelFile, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """onnxruntime itself goes on with the CPU where CUDA's libraries do not load, and only logs it."""
    if any(Path("/dev").glob("nvidia[0-9]*")):
        pytest.skip("there is a card")
    providers = [*onnxruntime.get_available_providers(), "CUDAExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    with pytest.raises(EngineError, match=r"gpu:0.*--device cpu") as raised:
        OnnxEngine(model, Device("gpu"), 1)
    assert "\n" not in str(raised.value) and capfd.readouterr() == ("", "")


def test_operators_that_only_the_cpu_runs_are_an_error(model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Azure's provider, which most packages have, runs none of ours: all would go to the CPU, by default unsaid."""
    if "AzureExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no provider to try it with")
    monkeypatch.setitem(module.PROVIDERS, "gpu", "AzureExecutionProvider")
    monkeypatch.setattr(module, "card_provider", lambda *_: ("AzureExecutionProvider", {}))
    with pytest.raises(
        EngineError, match=r"Azure\w+ on gpu:2 cannot run all operators .* no fallback to the CPU.*--device cpu"
    ):
        OnnxEngine(model, Device("gpu", 2), 1)


class StandIn(ModuleType):
    """A stub of onnxruntime with GPU and NPU providers; records its arguments."""

    def __init__(self, problem: str = "", folder: Path = Path()) -> None:
        super().__init__("onnxruntime")
        self.__file__ = str(folder / "__init__.py")
        self.problem, self.severities, self.entries, self.session = problem, [], {}, None
        self.fell_back = False

    def SessionOptions(self) -> StandIn:  # noqa: N802 - onnxruntime's name
        return self

    def add_session_config_entry(self, key: str, value: str) -> None:
        self.entries[key] = value

    def get_available_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CANNExecutionProvider", "CPUExecutionProvider"]

    def preload_dlls(self) -> None:
        print("Failed to load libcublas")

    def set_default_logger_severity(self, severity: int) -> None:
        self.severities.append(severity)

    def InferenceSession(self, data: bytes, options: Any, providers: Any, enable_fallback: int) -> StandIn:  # noqa: N802
        if self.problem:
            raise RuntimeError(self.problem)
        self.session = (data, providers, enable_fallback)
        return self

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"] if self.fell_back else [self.session[1][0][0], "CPUExecutionProvider"]

    def disable_fallback(self) -> None:
        self.entries["python"] = "no fallback"


@pytest.mark.parametrize(
    ("device", "options", "provider"),
    [
        ("gpu:3", EngineOptions(), ("CUDAExecutionProvider", {"device_id": "3", "use_tf32": "0"})),
        (
            "ascend",
            EngineOptions(),
            ("CANNExecutionProvider", {"device_id": "0", "precision_mode": "must_keep_origin_dtype"}),
        ),
        (
            "ascend:1",
            EngineOptions(precision="fp16"),
            ("CANNExecutionProvider", {"device_id": "1", "precision_mode": "force_fp16"}),
        ),
    ],
)
def test_device_settings(
    model: ModelFile,
    device: str,
    options: EngineOptions,
    provider: tuple[str, dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    runtime = StandIn()
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    with OnnxEngine(model, Device.parse(device), 2, options) as engine:
        assert engine.device == Device.parse(device)
    assert runtime.session == (model.data, [provider], 0)
    assert runtime.entries == {"session.disable_cpu_ep_fallback": "1", "python": "no fallback"}
    assert runtime.severities[-1] == module.LOG_WARNINGS and capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("problem", "kind", "words"),
    [
        ("CUDA failure 100: no CUDA-capable device is detected", EngineUnavailableError, "CUDA failure 100.*doctor"),
        ("nodes that are assigned to the default CPU EP", EngineError, "cannot run all operators"),
        ("Protobuf parsing failed.", EngineError, "Protobuf parsing failed.*gpu:0"),
    ],
)
def test_what_a_card_refuses(
    model: ModelFile, problem: str, kind: type[EngineError], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", StandIn(problem))
    with pytest.raises(EngineError, match=f"{words}.*--device cpu") as raised:
        OnnxEngine(model, Device("gpu"), 1)
    assert type(raised.value) is kind and "\n" not in str(raised.value)


def test_a_session_that_fell_back_anyway(model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = StandIn()
    runtime.fell_back = True
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    with pytest.raises(EngineError, match="fell back from CUDAExecutionProvider"):
        OnnxEngine(model, Device("gpu"), 1)


@pytest.mark.parametrize(
    ("kind", "library", "cure"),
    [("gpu", "cuda", r"synergy-mindir\[onnx-gpu\].*libcuda\.so\.1"), ("ascend", "cann", "CANN")],
)
def test_a_missing_library_is_named(
    model: ModelFile, kind: str, library: str, cure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime says of it only that nodes are left to the CPU."""
    path = tmp_path / "capi" / f"libonnxruntime_providers_{library}.so"
    path.parent.mkdir()
    path.write_text("no library")
    monkeypatch.setitem(sys.modules, "onnxruntime", StandIn("assigned to the default CPU EP", tmp_path))
    with pytest.raises(EngineUnavailableError, match=rf"cannot use {kind}:0: .*{path.name}.*; .*{cure}.*--device cpu"):
        OnnxEngine(model, Device(kind), 1)


# --- cores


@pytest.mark.parametrize(
    ("threads", "affinity", "expected"),
    [(2, (0,), "1"), (2, (0, 1), "2"), (3, (0, 1), "2;1"), (4, (5, 7, 9), "8;10;6")],
)
def test_worker_cores(threads: int, affinity: tuple[int, ...], expected: str) -> None:
    """One entry for each worker, cores from 1 on; the caller's thread is the first of `threads` and gets none."""
    assert worker_cores(threads, EngineOptions(affinity=affinity)) == expected


def bound_threads(core: int) -> int:
    """How many threads of this process may run on that core alone."""
    statuses = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it ended meanwhile
            statuses.append((task / "status").read_text())
    return sum(f"Cpus_allowed_list:\t{core}\n" in status for status in statuses)


def test_threads_are_bound_and_the_callers_is_not(model: ModelFile, tiny: Any) -> None:
    if not Path("/proc/self/task").is_dir():
        pytest.skip("threads are looked up in /proc")
    own = available_cores()
    core, before = max(own), bound_threads(max(own))
    with OnnxEngine(model, Device(), 2, EngineOptions(affinity=(core,))) as engine:
        assert engine.run({"images": tiny.images(2)})["scores"].shape == (2, 5)
        end = time.monotonic() + 10.0  # a worker binds itself when it first gets to run
        while bound_threads(core) <= before and time.monotonic() < end:
            time.sleep(0.01)
        assert bound_threads(core) > before
    assert available_cores() == own


def test_one_thread_is_the_callers(model: ModelFile) -> None:
    with pytest.raises(EngineError, match="with 1 thread there are none"):
        OnnxEngine(model, Device(), 1, EngineOptions(affinity=(max(available_cores()),)))


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


def test_available_loads_nothing() -> None:
    before = set(sys.modules)
    assert OnnxEngine.available().ok
    assert set(sys.modules) == before


def test_closed(model: ModelFile, tiny: Any) -> None:
    engine = OnnxEngine(model, Device(), 1)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run({"images": tiny.images(1)})
