"""Whole processes are timed, and compared with scripts that load and run the same engine."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from synergy.benchmarks.peers import startup
from synergy.benchmarks.peers.startup import (
    COMMAND,
    CROP,
    PHOTO,
    PICTURE,
    Script,
    StartupCase,
    StartupReport,
    startup_rows,
)
from synergy.runtime.autotune import MeasuredVariant
from synergy.runtime.detection.install import MODEL_NAME
from synergy.runtime.errors import EngineError


def case(code: str, method: str = "predict", work: str = CROP) -> StartupCase:
    return StartupCase(work, method, "onnx", "onnx", Script(code, ()))


def test_process_is_timed_from_its_start_to_its_end() -> None:
    (seconds,) = case("import time; time.sleep(0.1)").run_sample(0)
    assert 0.1 < seconds < 60


def test_process_that_fails() -> None:
    with pytest.raises(EngineError, match=r"^ValueError: no such face$"):
        case("raise ValueError('no such face')").run_sample(0)
    assert str(case("pass")) == "predict on onnx, crop"
    with pytest.raises(EngineError, match="exit status 3"):
        case("raise SystemExit(3)").run_sample(0)


def test_process_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "START_LIMIT_S", 0.2)
    with pytest.raises(EngineError, match="more than"):
        case("import time; time.sleep(60)").run_sample(0)


def test_ratios_are_over_the_script_with_the_same_input() -> None:
    times = {(CROP, "onnxruntime"): 1.0, (CROP, "predict"): 1.5, (PICTURE, "onnxruntime"): 2.0, (COMMAND, "infer"): 5.0}
    cases = []
    for (work, method), seconds in times.items():
        cases.append(case("pass", method, work))
        cases[-1].samples = {0: [seconds]}
    assert [(row.seconds, row.ratio) for row in startup_rows(cases)] == [(1, 1), (1.5, 1.5), (2, 1), (5, 2.5)]
    assert [row.ratio for row in startup_rows(cases[1:2])] == [None]


def test_a_whole_run(
    tiny_bundle_copy: Path, shared: Path, synergy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SYNERGY_DETECTOR", str(shared / "detector" / MODEL_NAME))
    monkeypatch.setattr(startup, "ENGINES", ("onnx", "openvino"))
    monkeypatch.setattr(startup, "ROUNDS", 1)
    monkeypatch.setattr(startup, "tune", lambda *_: [MeasuredVariant("onnx", "model.onnx", 1, 1.0)])
    bundle = tiny_bundle_copy  # the tuning file is written beside it
    code, out, err = synergy("bench", "startup", bundle, "--threads", 1, "--json", tmp_path / "s.json")
    assert code == 0, err
    report = msgspec.json.decode((tmp_path / "s.json").read_bytes(), type=StartupReport)
    assert report.failures == () and report.threads == 1
    found = {(row.work, row.method, row.engine): row for row in report.rows}
    for work, method in ((CROP, "predict"), (PICTURE, "align"), (COMMAND, "synergy infer")):
        assert {engine for *both, engine in found if both == [work, method]} == {"onnx", "openvino", "auto"}
    assert found[PICTURE, "onnxruntime (bare)", "onnx"].ratio == found[CROP, "OpenVINO (bare)", "openvino"].ratio == 1
    assert {method for work, method, _ in found if work == PHOTO} == {"onnxruntime (bare)", "synergy infer"}
    assert all(0.05 < row.seconds < 60 and row.ratio and row.ratio > 0.3 for row in report.rows)
    assert "synergy infer" in out and "picture" in out
