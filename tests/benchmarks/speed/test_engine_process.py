"""A session in its own process: cold start, memory, samples, errors, and its end."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from synergy.benchmarks.speed import engine_process
from synergy.benchmarks.speed.engine_process import (
    NETWORK,
    EngineSession,
    SessionInputs,
    SessionProcess,
    SessionSpec,
    Workload,
    start_repeatedly,
)
from synergy.benchmarks.speed.timing import MIN_RUNS
from synergy.runtime.diagnostics.probes import PROBE_MODELS
from synergy.runtime.errors import EngineError
from synergy.runtime.specs import Device, EngineOptions, ModelFile, TensorSpec

INPUTS = SessionInputs(np.ones((1, 4), np.float32))


def probe_spec(engine: str) -> SessionSpec:
    """A model of one ReLU on a real engine."""
    kind, data = PROBE_MODELS[engine]
    model = ModelFile(data, kind, (TensorSpec("x", (1, 4), "float32"),), (TensorSpec("y", (1, 4), "float32"),))
    return SessionSpec(EngineSession, engine, Path("bundle"), f"model.{kind}", model, 1, (1,))


class LargeSession:
    """Allocates memory when it is opened; a sample is an error of the session, or the end of the process."""

    def __init__(self, spec: SessionSpec, inputs: SessionInputs) -> None:
        self.ballast = np.ones(spec.threads, np.uint8)

    def sample(self, workload: Workload) -> list[list[float]]:
        if workload.kind == "abort":
            os.abort()
        raise ValueError("input refused")


def large_spec(size: int = 1) -> SessionSpec:
    return dataclasses.replace(probe_spec("onnx"), session=LargeSession, threads=size)


def has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_real_engines_run_and_end(lite_home: Path) -> None:
    for name in ("lite", "onnx"):
        with SessionProcess(probe_spec(name), INPUTS) as process:
            (times,) = process.sample(Workload(seconds=0.02))
        assert len(times) >= MIN_RUNS and 0 < min(times) <= max(times) < 1
        assert 0 < process.cold_start_s < 60 and 20 < process.rss_mb < 2000
        assert has_ended(process.child.process.pid)
        process.close()
        with pytest.raises(EngineError, match=f"the {name} session is closed"):
            process.sample(Workload())


def test_memory_is_that_of_the_child() -> None:
    parent = np.ones(300_000_000, np.uint8)  # getrusage would report it in the child, across exec
    with SessionProcess(large_spec(), INPUTS) as small, SessionProcess(large_spec(150_000_000), INPUTS) as large:
        assert 100 < large.rss_mb - small.rss_mb < 200
        assert large.rss_mb * 1e6 < parent.nbytes


@pytest.mark.parametrize(("kind", "message"), [(NETWORK, "^input refused$"), ("abort", "onnx session died.*SIGABRT")])
def test_session_that_fails_ends_its_process(kind: str, message: str) -> None:
    process = SessionProcess(large_spec(), INPUTS)
    with pytest.raises(EngineError, match=message):
        process.sample(Workload(kind))
    assert has_ended(process.child.process.pid)


def test_model_that_does_not_load_is_an_error_with_its_cause() -> None:
    pytest.importorskip("onnxruntime")
    spec = probe_spec("onnx")
    broken = dataclasses.replace(spec, model=dataclasses.replace(spec.model, data=b"no model"))
    with pytest.raises(EngineError, match="onnxruntime cannot load the model"):
        SessionProcess(broken, INPUTS)


def test_cold_start_is_from_the_start_of_the_process_to_its_first_output(
    fake_clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SlowChild:
        def __init__(self, *arguments: str) -> None:
            fake_clock.run(0.2)

        def ask(self, request: object) -> float:
            fake_clock.run(1.5)
            return 123.0

    monkeypatch.setattr(engine_process, "Child", SlowChild)
    process = SessionProcess(probe_spec("onnx"), INPUTS, fake_clock.clock.now)
    assert process.cold_start_s == pytest.approx(1.7) and process.rss_mb == 123.0
    process.sample(Workload())
    assert process.cold_start_s == pytest.approx(1.7)


@pytest.mark.parametrize(("cold_start_s", "count"), [(0.3, 3), (1.1, 2), (2.1, 1)])
def test_slow_engines_start_less_often(monkeypatch: pytest.MonkeyPatch, cold_start_s: float, count: int) -> None:
    closed: list[object] = []

    def start(spec: object, inputs: object) -> SimpleNamespace:
        process = SimpleNamespace(cold_start_s=cold_start_s)
        process.close = lambda: closed.append(process)
        return process

    monkeypatch.setattr(engine_process, "SessionProcess", start)
    starts = start_repeatedly(probe_spec("onnx"), INPUTS)
    assert len(starts) == count and closed == starts[:-1]


@pytest.mark.parametrize(
    ("changes", "label", "precision"),
    [
        ({}, "onnx", "auto"),
        ({"precision": "fp32"}, "onnx", "fp32"),
        ({"precision": "bf16"}, "onnx bf16", "bf16"),
        ({"options": EngineOptions("fp16")}, "onnx", "fp16"),
        ({"precision": "", "is_bare": True}, "onnx (bare)", "auto"),
    ],
)
def test_label_and_engine_options(changes: dict, label: str, precision: str) -> None:
    spec = dataclasses.replace(probe_spec("onnx"), **changes)
    assert spec.label == label and spec.engine_options.precision == precision
    assert str(spec) == f"bundle/model.onnx on {label}, 1 thread"
    assert str(dataclasses.replace(spec, threads=2)).endswith(", 2 threads") and spec.device == Device()
