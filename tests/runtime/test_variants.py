"""Which ways there are to run an artifact here: engines, and what was proved in less than float32."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import synergy.runtime.variants as module
from synergy.runtime.engines import Availability, Device, EngineOptions, engine_class
from synergy.runtime.engines.openvino import OpenVinoEngine
from synergy.runtime.manifest import Artifact, ComputePrecision, Drift
from synergy.runtime.variants import Variant, VariantEngines, computable, not_computed, ways

CPU = Device()
BF16 = ComputePrecision("openvino", "bf16", Drift(0.0, 0.0, "test"))
PLAIN = Artifact("model.onnx", "0" * 64, 1, "onnx", "fp32")
PROVED = Artifact("model.onnx", "0" * 64, 1, "onnx", "fp32", compute_precisions=(BF16,))
UNPROVED = Artifact(
    "model.onnx", "0" * 64, 1, "onnx", "fp32", compute_precisions=(ComputePrecision("openvino", "bf16"),)
)


@pytest.fixture(params=[True, False], ids=["with bfloat16", "without"])
def able(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether this CPU has it; all engines are here."""
    status = Availability(request.param, "", "")
    monkeypatch.setattr(OpenVinoEngine, "computes", classmethod(lambda cls, precision, device: status))
    monkeypatch.setattr(module, "available", lambda name: Availability(True, ""))
    return request.param


def test_ways(able: bool) -> None:
    """What is to be proved is a way, once the CPU has it; each is judged by the least precision on it."""
    plain = [Variant(PLAIN, "onnx", "fp32"), Variant(PLAIN, "openvino", "fp32")]
    assert ways(PLAIN) == plain and [variant.precision for variant in plain] == ["fp32", "fp32"]
    *exact, last = ways(UNPROVED) if able else [*ways(UNPROVED), None]
    assert [variant.where for variant in exact] == ["onnx", "openvino"]
    assert last is None or (str(last), last.precision) == ("model.onnx on openvino bf16", "bf16")
    assert last is None or last.options == EngineOptions("bf16")


def test_a_reduced_file_is_judged_by_its_own_precision() -> None:
    assert Variant(Artifact("model.ms", "0" * 64, 1, "ms", "fp16"), "lite", "fp32").precision == "fp16"


def test_an_engine_that_is_not_here_has_no_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available", lambda name: Availability(name == "onnx", ""))
    assert ways(PROVED) == [Variant(PROVED, "onnx", "fp32")]


def test_what_cannot_be_repeated_is_named(able: bool) -> None:
    assert not_computed(PLAIN) == []
    named = not_computed(PROVED)
    assert named == [] if able else [line.split(":")[0] for line in named] == ["model.onnx on openvino bf16"]


def test_what_can_be_measured(able: bool) -> None:
    assert computable("openvino", PROVED, CPU) == (["fp32", "bf16"] if able else ["fp32"])
    assert computable("openvino", UNPROVED, CPU) == ["fp32"]
    assert computable("onnx", PROVED, CPU) == ["fp32"]
    assert computable("openvino", PROVED, CPU, EngineOptions("fp32")) == ["fp32"]
    assert computable("openvino", PLAIN, CPU, EngineOptions("bf16")) == ["bf16"]  # tried, so that its error is seen


@pytest.mark.parametrize(
    ("engine", "precision", "device", "words"),
    [
        ("onnx", "bf16", "cpu", "onnx computes in bfloat16 on no device"),
        ("lite", "fp16", "cpu", "lite computes in float16 only on"),
        ("openvino", "bf16", "gpu", "only on cpu, not on gpu"),
    ],
)
def test_engines_say_what_they_do_not_compute(engine: str, precision: str, device: str, words: str) -> None:
    status = engine_class(engine).computes(precision, Device(device))
    assert not status.ok and words in status.detail and status.fix
    assert engine_class(engine).computes("fp32", Device(device)).ok


def test_an_engine_is_opened_once_and_closed_with_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own: the proof runs each way twice."""
    opened: list[str] = []
    closed: list[str] = []

    class Puppet:
        def __init__(self, name: str) -> None:
            self.name = name

        def __enter__(self) -> Puppet:
            return self

        def __exit__(self, *_: object) -> None:
            closed.append(self.name)

    def open_engine(name: str, model: object, isolated: bool, options: EngineOptions) -> Puppet:
        assert isolated
        opened.append(f"{name} {options.compute_precision}")
        return Puppet(name)

    monkeypatch.setattr(module, "open_engine", open_engine)
    bundle = SimpleNamespace(model_file=lambda artifact: artifact.file)
    with VariantEngines(bundle) as engines:  # type: ignore[arg-type]
        exact, less = Variant(PROVED, "openvino", "fp32"), Variant(PROVED, "openvino", "bf16")
        assert engines.engine(exact) is engines.engine(exact) is not engines.engine(less)
        assert closed == []
    assert opened == ["openvino fp32", "openvino bf16"] and closed == ["openvino", "openvino"]
