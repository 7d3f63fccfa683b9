"""Whole processes are clocked, beside scripts that load and run the same engine."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from synergy.benchmarks.peers import startup as first_face
from synergy.benchmarks.peers.startup import COMMAND, CROP, PICTURE, Script, Start, StartupReport, _rows
from synergy.runtime.autotune import MeasuredVariant
from synergy.runtime.errors import EngineError


def start(code: str, who: str = "predict", work: str = CROP) -> Start:
    return Start(work, who, "onnx", "onnx", Script(code, ()))


def test_a_process_from_its_start_to_its_end() -> None:
    (quick,) = start("pass").run_sample(0)
    (slow,) = start("import time; time.sleep(0.5)").run_sample(0)
    assert 0 < quick < slow - 0.3


def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(EngineError, match=r"^ValueError: no such face$"):
        start("raise ValueError('no such face')").run_sample(0)
    assert str(start("pass")) == "predict on onnx from a crop"
    with pytest.raises(EngineError, match="exit status 3"):
        start("raise SystemExit(3)").run_sample(0)


def test_a_process_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_face, "START_LIMIT_S", 0.2)
    with pytest.raises(EngineError, match="more than"):
        start("import time; time.sleep(60)").run_sample(0)


def test_ratios_are_over_the_script_for_the_same_work() -> None:
    times = {(CROP, "onnxruntime"): 1.0, (CROP, "predict"): 1.5, (PICTURE, "onnxruntime"): 2.0, (COMMAND, "infer"): 5.0}
    played = []
    for (work, who), seconds in times.items():
        played.append(start("pass", who, work))
        played[-1].samples = {0: [seconds]}
    assert [(row.seconds, row.ratio) for row in _rows(played)] == [(1, 1), (1.5, 1.5), (2, 1), (5, 2.5)]
    assert [row.ratio for row in _rows(played[1:2])] == [None]


def test_a_real_bundle(bundles: dict[str, Path], synergy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(first_face, "ENGINES", ("onnx", "openvino"))
    monkeypatch.setattr(first_face, "ROUNDS", 1)
    monkeypatch.setattr(first_face, "tune", lambda *_: [MeasuredVariant("onnx", "model.onnx", 1, 1.0)])
    bundle = shutil.copytree(bundles["mb05"], tmp_path / "bundle")  # what auto takes is written beside it
    code, out, err = synergy("bench", "startup", bundle, "--threads", 1, "--json", tmp_path / "s.json")
    assert code == 0, err
    report = msgspec.json.decode((tmp_path / "s.json").read_bytes(), type=StartupReport)
    assert report.failures == () and report.threads == 1
    found = {(row.work, row.who, row.engine): row for row in report.rows}
    for work, who in ((CROP, "predict"), (PICTURE, "align"), (COMMAND, "synergy infer")):
        assert {engine for its, him, engine in found if (its, him) == (work, who)} == {"onnx", "openvino", "auto"}
    assert found[PICTURE, "onnxruntime (bare)", "onnx"].ratio == found[CROP, "OpenVINO (bare)", "openvino"].ratio == 1
    assert all(0.05 < row.seconds < 60 and row.ratio and row.ratio > 0.3 for row in report.rows)
    assert "synergy infer" in out and "a picture" in out
