"""Which variants of a bundle run here: engines, formats, threads, and compute precisions below float32."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import synergy.runtime.variants as module
from synergy.runtime.engines import ENGINES, engine_class
from synergy.runtime.engines.openvino import OpenVinoEngine
from synergy.runtime.manifest import Artifact, ComputePrecision, Drift
from synergy.runtime.specs import Availability, Device, EngineOptions
from synergy.runtime.variants import Variant, VariantEngines, runnable_variants

BF16 = ComputePrecision("openvino", "bf16", Drift(0.0, 0.0, "test"))
PLAIN = Artifact("model.onnx", "0" * 64, 1, "onnx", "fp32")
VERIFIED = Artifact("model.onnx", "0" * 64, 1, "onnx", "fp32", compute_precisions=(BF16,))
UNVERIFIED = Artifact(
    "model.onnx", "0" * 64, 1, "onnx", "fp32", compute_precisions=(ComputePrecision("openvino", "bf16"),)
)
MS = Artifact("model.ms", "0" * 64, 1, "ms", "fp32")
LOWERED = Artifact("model.v1.mindir", "0" * 64, 1, "mindir_v1", "fp32")


@pytest.fixture(autouse=True)
def all_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available", lambda name: Availability(True, ""))
    monkeypatch.setattr(module, "default_threads", lambda: 2)


@pytest.fixture(params=[True, False], ids=["with bfloat16", "without"])
def has_bf16(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether this CPU computes in bfloat16."""
    status = Availability(request.param, "no bfloat16", "")
    monkeypatch.setattr(OpenVinoEngine, "computes", classmethod(lambda cls, precision, device: status))
    return request.param


def labels(*artifacts: Artifact, **choice: object) -> list[str]:
    return [str(each) for each in runnable_variants(artifacts, **choice).variants]  # type: ignore[arg-type]


def test_every_engine_runs_every_artifact_that_it_reads() -> None:
    found = runnable_variants([PLAIN, MS, LOWERED])
    assert [str(each) for each in found.variants] == [
        "model.ms on lite",
        "model.v1.mindir on lite",
        "model.onnx on onnx",
        "model.onnx on openvino",
    ]
    assert {each.threads for each in found.variants} == {2}
    assert [str(each) for each in found.of(MS)] == ["model.ms on lite"]
    assert [str(each) for each in found.best_formats()] == [
        "model.ms on lite",
        "model.onnx on onnx",
        "model.onnx on openvino",
    ]


def test_threads_are_counted_up_per_precision() -> None:
    found = runnable_variants([PLAIN], engines=["onnx"], threads=(1, 2, 1))
    assert [each.key for each in found.variants] == [
        ("onnx", "model.onnx", 1, "fp32"),
        ("onnx", "model.onnx", 2, "fp32"),
    ]


@pytest.mark.parametrize(
    ("options", "with_bf16", "without"),
    [
        (EngineOptions(), ["openvino", "openvino bf16"], ["openvino"]),
        (EngineOptions("fp32"), ["openvino"], ["openvino"]),
        (EngineOptions("bf16"), ["openvino bf16"], ["openvino bf16"]),  # tried, so that the engine's error is shown
    ],
    ids=["auto", "fp32", "bf16"],
)
def test_compute_precisions(has_bf16: bool, options: EngineOptions, with_bf16: list[str], without: list[str]) -> None:
    found = runnable_variants([VERIFIED], engines=["openvino"], options=options).variants
    assert [each.engine_label for each in found] == (with_bf16 if has_bf16 else without)
    assert all(each.options().compute_precision == each.compute_precision for each in found)


def test_cards_run_what_was_asked_for_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute precisions are verified on CPUs."""
    monkeypatch.setattr(OpenVinoEngine, "devices", ("cpu", "gpu"))
    assert labels(VERIFIED, device=Device("gpu"), engines=["openvino"]) == ["model.onnx on openvino"]


def test_what_is_not_verified_runs_for_its_verification_only(has_bf16: bool) -> None:
    assert labels(UNVERIFIED, engines=["openvino"]) == ["model.onnx on openvino"]
    found = labels(UNVERIFIED, engines=["openvino"], include_unverified=True)
    assert found == ["model.onnx on openvino", *(["model.onnx on openvino bf16"] if has_bf16 else [])]


def test_missing_precisions_are_named(has_bf16: bool) -> None:
    assert runnable_variants([PLAIN]).missing_precisions() == []
    missing = runnable_variants([VERIFIED]).missing_precisions()
    assert [str(each) for each in missing] == ([] if has_bf16 else ["model.onnx on openvino bf16: no bfloat16"])


def test_precisions_are_not_probed_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe may load the engine's library."""
    monkeypatch.setattr(OpenVinoEngine, "computes", classmethod(lambda *_: pytest.fail("probed")))
    found = labels(VERIFIED, engines=["openvino"], probe_precisions=False)
    assert found == ["model.onnx on openvino", "model.onnx on openvino bf16"]


def test_the_lower_precision_decides_the_tolerances() -> None:
    assert Variant(PLAIN, "onnx", 1).precision == "fp32"
    assert Variant(VERIFIED, "openvino", 1, "bf16").precision == "bf16"
    assert Variant(Artifact("model.ms", "0" * 64, 1, "ms", "fp16"), "lite", 1).precision == "fp16"


def test_absent_engines_are_skipped_with_cause_and_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available", lambda name: Availability(name == "onnx", "missing", f"get {name}"))
    found = runnable_variants([VERIFIED])
    assert [str(each) for each in found.variants] == ["model.onnx on onnx"]
    absent = {each.engine: each for each in found.skipped}
    assert absent["openvino"].cause_and_fix == "missing: get openvino" and absent["openvino"].artifact == VERIFIED
    assert absent["lite"].artifact is None and str(absent["lite"]) == "lite: missing: get lite"


def test_an_engine_without_a_file_is_skipped() -> None:
    (lite,) = (each for each in runnable_variants([PLAIN]).skipped if each.engine == "lite")
    assert str(lite) == "lite: reads ms, mindir_v1; the bundle has no such file"


def test_engines_that_were_not_asked_for_are_skipped() -> None:
    found = runnable_variants([PLAIN], engines=["openvino"])
    assert [str(each) for each in found.variants] == ["model.onnx on openvino"]
    assert "model.onnx on onnx: not asked for" in map(str, found.skipped)
    assert set(ENGINES) == {each.engine for each in (*found.variants, *found.skipped)} | {"lite", "mindspore"}


@pytest.mark.parametrize(
    ("engine", "precision", "device", "words"),
    [
        ("onnx", "bf16", "cpu", "onnx computes in bfloat16 on no device"),
        ("lite", "fp16", "cpu", "lite computes in float16 only on"),
        ("openvino", "bf16", "gpu", "only on cpu, not on gpu"),
    ],
)
def test_engines_say_which_precisions_they_lack(engine: str, precision: str, device: str, words: str) -> None:
    status = engine_class(engine).computes(precision, Device(device))
    assert not status.ok and words in status.detail and status.fix
    assert engine_class(engine).computes("fp32", Device(device)).ok


def test_an_engine_is_opened_once_and_closed_with_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    closed: list[str] = []

    class FakeEngine:
        def __init__(self, name: str) -> None:
            self.name = name

        def __enter__(self) -> FakeEngine:
            return self

        def __exit__(self, *_: object) -> None:
            closed.append(self.name)

    def open_engine(
        name: str, model: object, device: Device, threads: int, isolated: bool, options: EngineOptions
    ) -> FakeEngine:
        assert isolated
        opened.append(f"{name} {threads} {options.compute_precision}")
        return FakeEngine(name)

    monkeypatch.setattr(module, "open_engine", open_engine)
    bundle = SimpleNamespace(model_file=lambda artifact: artifact.file)
    with VariantEngines(bundle) as engines:  # type: ignore[arg-type]
        exact, reduced = Variant(VERIFIED, "openvino", 2), Variant(VERIFIED, "openvino", 2, "bf16")
        assert engines.engine(exact) is engines.engine(exact) is not engines.engine(reduced)
        assert closed == []
    assert opened == ["openvino 2 fp32", "openvino 2 bf16"] and closed == ["openvino", "openvino"]
