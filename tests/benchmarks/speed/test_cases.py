"""Starting sessions, and what a case reports of them."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from synergy.benchmarks.speed import cases
from synergy.benchmarks.speed.cases import SessionCase, start_cases
from synergy.benchmarks.speed.engine_process import ISOLATED, OVERHEAD, PIPELINE, SessionSpec, Workload
from synergy.runtime.errors import EngineError

ANY: Any = None


def spec(name: str, is_bare: bool = False) -> SessionSpec:
    return SessionSpec(ANY, name, Path("b"), "model.x", ANY, 2, (1, 4), is_bare=is_bare)


def process(name: str, log: list[str], cold_start_s: float = 1.0) -> Any:
    """Answers with one list of runs, or two if the workload alternates."""

    def sample(workload: Workload) -> list[list[float]]:
        log.append(f"{name} {workload.kind} {workload.batch}")
        if name == "fails":
            raise EngineError("cannot\n run")
        return [[2.0, 4.0], [1.0, 1.0]] if workload.kind in (OVERHEAD, ISOLATED) else [[1.0]]

    return SimpleNamespace(
        sample=sample, close=lambda: log.append(f"close {name}"), cold_start_s=cold_start_s, rss_mb=100 * cold_start_s
    )


def test_sessions_start_one_after_another_and_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    heard: list[tuple[float, str]] = []
    failures: list[str] = []
    monkeypatch.setattr(cases, "start_repeatedly", lambda spec, inputs: [process(spec.name, log)])
    workloads = [Workload(OVERHEAD, 1), Workload(PIPELINE)]
    planned = [(spec(name), ANY, workloads) for name in ("onnx", "fails", "lite")]
    with ExitStack() as stack:
        started = list(start_cases(planned, failures, lambda *news: heard.append(news), stack))
        assert log == ["onnx overhead 1", "onnx pipeline 1", "fails overhead 1", "lite overhead 1", "lite pipeline 1"]
    assert log[-3:] == ["close lite", "close fails", "close onnx"]
    assert [(case.spec.name, case.workload) for case in started] == [
        (name, workload) for name in ("onnx", "lite") for workload in workloads
    ]
    assert all(not case.samples and not case.bare_samples for case in started)
    assert failures == ["b/model.x on fails, 2 threads, batch 1, 4: cannot run"]
    assert [part for part, _ in heard] == pytest.approx([0, 1 / 6, 1 / 3])
    assert heard[0][1] == "starting b/model.x on onnx, 2 threads, batch 1, 4"


def test_values_of_a_case() -> None:
    starts = [process("onnx", [], start) for start in (1.0, 3.0, 2.0)]
    case = SessionCase(spec("onnx"), starts, Workload(OVERHEAD, 4))
    case.take_sample(0)
    case.take_sample(1)
    assert case.samples == {0: [2.0, 4.0], 1: [2.0, 4.0]} and case.bare_samples == {0: [1.0, 1.0], 1: [1.0, 1.0]}
    assert (case.median_s, case.p95_s, case.cold_start_s, case.rss_mb) == (3.0, 4.0, 2.0, 200.0)


@pytest.mark.parametrize(
    ("made", "workload", "text"),
    [
        (spec("onnxruntime", is_bare=True), Workload(batch=4), "b/model.x on onnxruntime (bare), 2 threads, batch 4"),
        (spec("lite"), Workload(ISOLATED, 4), "b/model.x on lite, 2 threads in a child process, batch 4"),
        (spec("lite"), Workload(PIPELINE), "b/model.x on lite, 2 threads, picture to landmarks"),
    ],
)
def test_name_of_a_case(made: SessionSpec, workload: Workload, text: str) -> None:
    assert str(SessionCase(made, [], workload)) == text
