"""Tables fit a terminal of 80 columns, also with reduced compute precision."""

from __future__ import annotations

import pytest

from synergy.benchmarks.commands.stage_tables import print_stages, print_startup, print_throughput
from synergy.benchmarks.commands.tables import print_bench, print_parity, print_tuning
from synergy.benchmarks.peers.startup import StartupReport, StartupRow
from synergy.benchmarks.peers.throughput import ThroughputReport, ThroughputRow
from synergy.benchmarks.speed.latency import BenchReport, Row
from synergy.benchmarks.speed.stages import STAGES, StageReport, StageRow
from synergy.benchmarks.speed.tracking_cost import TrackingCostReport
from synergy.benchmarks.speed.tuning import TuneReport, TuneRow
from synergy.runtime.diagnostics.host import describe_host
from synergy.runtime.verification.parity_record import Accuracy, Check, ParityReport

VARIANTS = [
    ("model.v1.mindir", "lite", "fp32"),
    ("model.onnx", "openvino", "bf16"),
    ("model.mindir", "mindspore", "fp32"),
]


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def fits(text: str) -> bool:
    return "…" not in text and all(len(line) <= 80 for line in text.splitlines())


def test_latency(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        Row(engine, file, "cpu", 16, 64, 12345.67, 12345.67, 12345.0, 12.34, 1234.5, 10.25, compute_precision)
        for file, engine, compute_precision in VARIANTS
    ]
    print_bench(BenchReport(describe_host(), tuple(rows)))
    out = capsys.readouterr().out
    assert fits(out) and "openvino bf16" in out and out.count("10.25") == 3


def test_parity(capsys: pytest.CaptureFixture[str]) -> None:
    checks = [
        Check(file, engine, "landmarks", 1e-5, 12.3, 5.1, True, compute_precision)
        for file, engine, compute_precision in VARIANTS
    ]
    accuracy = [
        Accuracy(file, engine, 12.345, 1e-5, 12.345, 1e-5, False, True, each) for file, engine, each in VARIANTS
    ]
    print_parity(ParityReport(True, tuple(checks), tuple(accuracy)))
    out = capsys.readouterr().out
    assert fits(out) and out.count("openvino bf16") == 2 and out.count("accepted") == 3


def test_tuning(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        TuneRow(purpose, engine, file, "cpu", 16, 8, 12.345, compute_precision)
        for purpose in ("single session", "pool worker")
        for file, engine, compute_precision in VARIANTS
    ]
    print_tuning(TuneReport(describe_host(), tuple(rows)))
    out = capsys.readouterr().out
    assert fits(out) and out.count("openvino bf16") == 2 and "tuning result, pool worker, batch 8" in out


def test_stages(capsys: pytest.CaptureFixture[str]) -> None:
    settings = ((512, 1), (1024, 1), (2048, 1), (4096, 1), (1024, 4), (1024, 16))
    rows = tuple(StageRow(side, faces, dict.fromkeys(STAGES, 1234.5)) for side, faces in settings)
    cost = TrackingCostReport(300, 3.7, 5.0, 2.5, 1.48, 2)
    print_stages(StageReport(describe_host(), "openvino bf16", "model.onnx", 16, rows, cost))
    out = capsys.readouterr().out
    assert fits(out) and "3.70 ms per frame" in out and "not found in 2 of 300 frames" in out


def test_throughput(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        ThroughputRow("pictures, with detection", method, engine, 16, 16, 12345.6, 10.25)
        for method, engine in (("onnxruntime (bare)", "onnxruntime"), ("loop", "openvino bf16"), ("pool", "lite"))
    ]
    print_throughput(ThroughputReport(describe_host(), tuple(rows), ("a [note]",), ("a [failure]",)))
    out = capsys.readouterr().out
    assert fits(out) and "loop, openvino bf16" in out and "16 x 16" in out and "FAIL a [failure]" in out


def test_startup(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        StartupRow("command line", "synergy infer", "openvino", 12.345, 1.25),
        StartupRow("crop", "x", "y", 1, None),
    ]
    print_startup(StartupReport(describe_host(), 1, tuple(rows)))
    out = capsys.readouterr().out
    assert fits(out) and "12.345" in out and "process start to first result in s, 1 thread" in out
