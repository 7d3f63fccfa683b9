"""`engine="auto"`: the fastest of what is here, measured once, and never an artifact whose drift had to be accepted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from synergy.runtime import autotune as tuning
from synergy.runtime import variants
from synergy.runtime.autotune import MeasuredVariant, TuneRequest, candidates, tune
from synergy.runtime.bundle import Bundle
from synergy.runtime.engines import Engine
from synergy.runtime.engines.onnx import OnnxEngine
from synergy.runtime.engines.openvino import OpenVinoEngine
from synergy.runtime.errors import EngineError, EngineUnavailableError
from synergy.runtime.manifest import ComputePrecision, Drift
from synergy.runtime.specs import Availability, Device, EngineOptions, ModelFile

CPU = Device()
sizes: list[int] = []  # of the batches that the stand-ins ran


@pytest.fixture
def bundle(bundles: dict[str, Path], tmp_path: Path) -> Bundle:
    return Bundle.open(shutil.copytree(bundles["mb05"], tmp_path / "mb05"))


class Clock:
    """Takes the place of the module `time`: `sleep` returns at once, and later times are that much later."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    """Stand-ins: each run takes 1 ms on lite, 3 ms on onnx and 8 ms on openvino, half of it with two threads and a
    twentieth in bf16. Notes what was opened."""
    seen: list[tuple[str, str, int]] = []
    clock = Clock()
    sizes.clear()

    class FakeEngine(Engine):
        formats = ("ms", "mindir_v1", "onnx", "mindir")

        @classmethod
        def available(cls) -> Availability:
            return Availability(True, "")

        def _run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
            sizes.append(len(arrays[0]))
            exact_s = {"lite": 0.001, "openvino": 0.008}.get(self.name, 0.003) / self.threads
            clock.sleep(exact_s / (20 if self.compute_precision == "bf16" else 1))
            shapes = [(len(arrays[0]), *spec.shape[1:]) for spec in self.model.outputs]
            return [np.zeros(shape, np.float32) for shape in shapes]

        def close(self) -> None:
            pass

    def open_engine(name: str, model: ModelFile, device: Device, threads: int, options: EngineOptions) -> Engine:
        seen.append((name, model.format, threads))
        kind = type(
            name, (FakeEngine,), {"name": name, "reduced_precisions": {"bf16": ("cpu",)} if name == "openvino" else {}}
        )
        return kind(model, device, threads, options)

    monkeypatch.setattr(tuning, "time", clock)
    monkeypatch.setattr(tuning, "WARM_UP_S", 0.0)
    monkeypatch.setattr(tuning, "open_engine", open_engine)
    for module in (tuning, variants):
        monkeypatch.setattr(module, "available", lambda name: Availability(True, f"{name} 1.0"))
    monkeypatch.setattr(tuning, "default_threads", lambda: 2)
    return seen


def manifest_with(bundle: Bundle, change: Callable) -> Bundle:
    artifacts = tuple(change(artifact) for artifact in bundle.manifest.artifacts)
    return Bundle(bundle.folder, msgspec.structs.replace(bundle.manifest, artifacts=artifacts))


def test_fastest_first(bundle: Bundle, opened: list) -> None:
    found = tune(bundle, CPU, TuneRequest())
    expected = [(name, threads) for name in ("lite", "onnx", "openvino") for threads in (2, 1)]
    assert [(each.engine, each.threads) for each in found] == expected
    assert found[0].median_ms == pytest.approx(0.5, abs=0.4) and found[0].artifact == "model.ms"
    assert ("mindspore", "mindir", 1) not in opened  # others are here


def test_measured_once(bundle: Bundle, opened: list, caplog: pytest.LogCaptureFixture) -> None:
    first = tune(bundle, CPU, TuneRequest())
    count = len(opened)
    assert tune(bundle, CPU, TuneRequest()) == first and len(opened) == count
    (said,) = caplog.messages
    assert said.startswith("engine auto: measuring the engines of this machine once") and "tuning.json" in said
    assert tune(bundle, CPU, TuneRequest(), again=True) != () and len(opened) == 2 * count


def test_the_result_lies_beside_the_bundle(bundle: Bundle, opened: list) -> None:
    before = sorted(path.name for path in bundle.folder.iterdir())
    tune(bundle, CPU, TuneRequest())
    assert sorted(path.name for path in bundle.folder.iterdir()) == before
    assert [path.name for path in bundle.folder.parent.glob("*.json")] == ["mb05.tuning.json"]


@pytest.mark.parametrize("what", ["bundle", "version", "device", "threads"])
def test_what_else_is_asked_is_measured_anew(
    bundle: Bundle, opened: list, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    tune(bundle, CPU, TuneRequest())
    count, device, request = len(opened), CPU, TuneRequest()
    if what == "bundle":
        with (bundle.folder / "manifest.json").open("a") as stream:
            stream.write(" ")
    elif what == "version":
        monkeypatch.setattr(tuning, "available", lambda name: Availability(True, f"{name} 2.0"))
    elif what == "device":
        device = Device("gpu", 1)
    else:
        request = TuneRequest(threads=3)
    tune(bundle, device, request)
    assert len(opened) > count
    count = len(opened)
    tune(bundle, device, request)
    assert len(opened) == count  # each is remembered beside the other


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"nonsense", b'[{"key": "x"}]', b"[" * 100_000, b"\xff", None],
)
def test_a_damaged_file_is_measured_anew(bundle: Bundle, opened: list, content: bytes | None) -> None:
    tune(bundle, CPU, TuneRequest())
    path, count = bundle.folder.parent / "mb05.tuning.json", len(opened)
    if content is None:  # well-formed, of ways that do not exist here
        entries = json.loads(path.read_text())
        entries[0]["ranking"][0]["threads"] = 10**6
        content = json.dumps(entries).encode()
    path.write_bytes(content)
    assert tune(bundle, CPU, TuneRequest())[0].engine == "lite" and len(opened) == 2 * count


def test_a_folder_that_cannot_be_written_is_no_obstacle(
    bundle: Bundle, opened: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "tuning_path", lambda bundle: Path("/proc/none/x.tuning.json"))
    assert tune(bundle, CPU, TuneRequest())[0].engine == "lite"


def test_accepted_drift_is_never_chosen(bundle: Bundle, opened: list) -> None:
    """However fast: only where there is nothing else."""
    bad = Drift(1.0, 1.0, "test", accepted=True)
    drifted = manifest_with(bundle, lambda a: msgspec.structs.replace(a, drift=bad) if a.format != "onnx" else a)
    assert {each.engine for each in tune(drifted, CPU, TuneRequest())} == {"onnx", "openvino"}
    all_drifted = manifest_with(bundle, lambda a: msgspec.structs.replace(a, drift=bad))
    assert tune(all_drifted, CPU, TuneRequest(), again=True)[0].engine == "lite"


def test_each_precision_competes(bundle: Bundle) -> None:
    """`.ms` in fp16 and the lowered MindIR in fp32 are two ways on one engine; two formats in fp32 are one."""
    reduced = manifest_with(bundle, lambda a: msgspec.structs.replace(a, precision="fp16") if a.format == "ms" else a)
    files = {variant.artifact.file for variant in candidates(reduced, CPU, TuneRequest()) if variant.engine == "lite"}
    assert files == {"model.ms", "model.v1.mindir"}
    assert {
        variant.artifact.file for variant in candidates(bundle, CPU, TuneRequest()) if variant.engine == "lite"
    } == {"model.ms"}


def test_what_an_engine_does_not_run_on_is_no_candidate(bundle: Bundle, opened: list) -> None:
    """OpenVINO's gpu is another's."""
    assert {variant.engine for variant in candidates(bundle, Device("gpu"), TuneRequest())} == {"lite", "onnx"}


PROVED = ComputePrecision("openvino", "bf16", Drift(0.002, 0.002, "test"))


def computed(bundle: Bundle, compute_precision: ComputePrecision = PROVED) -> Bundle:
    """With one more thing that `model.onnx` was proved in."""
    add = {"compute_precisions": (compute_precision,)}
    return manifest_with(bundle, lambda a: msgspec.structs.replace(a, **add) if a.format == "onnx" else a)


def test_a_verified_compute_precision_competes(bundle: Bundle, opened: list, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU that has it."""
    monkeypatch.setattr(OpenVinoEngine, "computes", classmethod(lambda *_: Availability(True, "")))
    found = tune(computed(bundle), CPU, TuneRequest())
    assert [(each.engine, each.threads, each.compute_precision) for each in found[:2]] == [
        ("openvino", 2, "bf16"),
        ("openvino", 1, "bf16"),
    ]
    assert [each.compute_precision for each in found[2:]] == ["fp32"] * 6
    assert tune(computed(bundle), CPU, TuneRequest()) == found


@pytest.mark.parametrize("drift", [None, Drift(1.0, 1.0, "test", accepted=True)], ids=["not proved", "accepted"])
def test_what_was_not_proved_does_not(bundle: Bundle, opened: list, drift: Drift | None) -> None:
    found = tune(computed(bundle, ComputePrecision("openvino", "bf16", drift)), CPU, TuneRequest())
    assert {each.compute_precision for each in found} == {"fp32"} and found[0].engine == "lite"


def test_who_asks_for_a_precision_gets_it(bundle: Bundle, opened: list) -> None:
    """Also what was not proved; and float32 of a bundle that was proved in less."""
    exact = tune(computed(bundle), CPU, TuneRequest(options=EngineOptions("fp32")))
    assert {each.compute_precision for each in exact} == {"fp32"} and exact[0].engine == "lite"
    asked = tune(bundle, CPU, TuneRequest(options=EngineOptions("bf16")))
    assert {(each.engine, each.compute_precision) for each in asked} == {("openvino", "bf16")}


def test_reduced_precisions_are_verified_for_cpus_only(bundle: Bundle) -> None:
    for device, precisions in ((CPU, {"fp32", "bf16"}), (Device("gpu"), {"fp32"})):
        found = candidates(computed(bundle), device, TuneRequest())
        assert {variant.compute_precision for variant in found} == precisions


def test_a_cpu_without_the_type_is_no_obstacle(bundle: Bundle, opened: list, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = tuning.open_engine

    def refuse(name: str, model: ModelFile, device: Device, threads: int, options: EngineOptions) -> Engine:
        if options.compute_precision == "bf16":
            raise EngineError("this CPU does not compute in bfloat16")
        return sound(name, model, device, threads, options)

    monkeypatch.setattr(tuning, "open_engine", refuse)
    assert {each.compute_precision for each in tune(computed(bundle), CPU, TuneRequest())} == {"fp32"}


def test_what_was_measured_on_another_cpu_is_measured_anew(
    bundle: Bundle, opened: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file lies beside the bundle and may be copied with it."""
    able = Availability(True, "")
    monkeypatch.setattr(OpenVinoEngine, "computes", classmethod(lambda cls, precision, device: able))
    assert tune(computed(bundle), CPU, TuneRequest())[0].compute_precision == "bf16"
    count = len(opened)
    assert tune(computed(bundle), CPU, TuneRequest())[0].compute_precision == "bf16" and len(opened) == count
    able = Availability(False, "this CPU does not compute in bfloat16")
    tune(computed(bundle), CPU, TuneRequest())
    assert len(opened) == 2 * count


@pytest.mark.parametrize(("reduced_ms", "first"), [(0.94, "bf16"), (0.97, "fp32"), (1.2, "fp32")])
def test_a_little_time_is_not_worth_less_exact_numbers(reduced_ms: float, first: str) -> None:
    ranking = [
        MeasuredVariant("openvino", "model.onnx", 2, reduced_ms, "bf16"),
        MeasuredVariant("openvino", "model.onnx", 2, 1.0),
    ]
    assert min(ranking, key=tuning.rank).compute_precision == first


def test_wishes_are_kept(bundle: Bundle, opened: list) -> None:
    assert {each.threads for each in tune(bundle, CPU, TuneRequest(threads=1))} == {1}
    assert {each.artifact for each in tune(bundle, CPU, TuneRequest(artifact="onnx"))} == {"model.onnx"}
    assert tune(bundle, CPU, TuneRequest(artifact="model.mindir"))[0].engine == "mindspore"


def test_an_engine_that_fails_leaves_the_others(bundle: Bundle, opened: list, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = tuning.open_engine

    def fail(name: str, model: ModelFile, device: Device, threads: int, options: EngineOptions) -> Engine:
        if name == "lite":
            raise EngineError("lite is broken")
        return sound(name, model, device, threads, options)

    monkeypatch.setattr(tuning, "open_engine", fail)
    assert {each.engine for each in tune(bundle, CPU, TuneRequest())} == {"onnx", "openvino"}
    with pytest.raises(EngineError, match="lite is broken"):
        tune(bundle, CPU, TuneRequest(artifact="ms"))


def test_a_broken_package_is_one_engine_less(
    bundle: Bundle, opened: list, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A package that does not import can raise anything. It is named, and measured again once it is repaired."""

    def fail(*_: object) -> None:
        raise AttributeError("_ARRAY_API not found")

    whole = tune(bundle, CPU, TuneRequest(artifact="onnx"))
    with monkeypatch.context() as patch:
        patch.setattr(OnnxEngine, "load_library", fail)
        kept = tune(bundle, CPU, TuneRequest(artifact="onnx"))
        assert kept == tuple(each for each in whole if each.engine != "onnx")
        measured = tune(bundle, CPU, TuneRequest(artifact="onnx"), again=True)
        assert {each.engine for each in measured} == {"openvino"}
        named = "engine onnx: its library does not import (_ARRAY_API not found): install it again"
        assert any(message.startswith(named) for message in caplog.messages)
        patch.setattr(OpenVinoEngine, "load_library", fail)
        with pytest.raises(EngineUnavailableError, match=r"engine onnx: .*; engine openvino: its library"):
            tune(bundle, CPU, TuneRequest(artifact="onnx"), again=True)
    assert tune(bundle, CPU, TuneRequest(artifact="onnx")) == whole


def test_no_engine_at_all(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "available", lambda name: Availability(False, f"{name} is missing", f"get {name}"))
    with pytest.raises(EngineUnavailableError, match="lite is missing, get lite; onnx: onnx is missing, get onnx"):
        tune(bundle, CPU, TuneRequest())


def test_many_crops_at_once_are_measured_on_their_own(bundle: Bundle, opened: list) -> None:
    """Which engine is fastest depends on the batch."""
    tune(bundle, CPU, TuneRequest(threads=1))
    assert set(sizes) == {1}
    sizes.clear()
    tune(bundle, CPU, TuneRequest(threads=1, batch=8))
    assert set(sizes) == {8}
    sizes.clear()
    tune(bundle, CPU, TuneRequest(threads=1))
    tune(bundle, CPU, TuneRequest(threads=1, batch=8))
    assert not sizes


@pytest.mark.parametrize(("others", "more"), [([1.1], True), ([1.3], False), ([1.05, 2.0], True)])
def test_those_near_the_best_take_more_turns(monkeypatch: pytest.MonkeyPatch, others: list[float], more: bool) -> None:
    """A busy moment must not decide; who is far behind need not wait for it."""
    monkeypatch.setattr(tuning, "time_sample", lambda engine, crop: engine)
    times = tuning.interleaved_times([1.0, *others], {})  # type: ignore[list-item] # an engine's turn takes what it is
    long, short = tuning.ROUNDS + tuning.FINAL_ROUNDS, tuning.ROUNDS
    assert [len(samples) for samples in times] == [
        long if more and seconds <= tuning.CLOSE_FACTOR else short for seconds in (1.0, *others)
    ]


def test_engines_settle_before_they_are_measured(bundle: Bundle, opened: list, monkeypatch: pytest.MonkeyPatch) -> None:
    tune(bundle, CPU, TuneRequest(threads=1, artifact="onnx"))
    few = len(sizes)
    monkeypatch.setattr(tuning, "WARM_UP_S", 0.1)
    sizes.clear()
    tune(bundle, CPU, TuneRequest(threads=1, artifact="onnx"), again=True)
    assert len(sizes) >= few + 20
