"""Tables fit a terminal of 80 columns, also where engines compute in less than float32."""

from __future__ import annotations

import pytest

from synergy.benchmarks.commands.tables import print_bench, print_parity
from synergy.benchmarks.speed.latency import BenchReport, Row
from synergy.runtime.diagnostics.host import describe_host
from synergy.runtime.parity_record import Accuracy, Check, ParityReport

WAYS = [("model.v1.mindir", "lite", "fp32"), ("model.onnx", "openvino", "bf16"), ("model.mindir", "mindspore", "fp32")]


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def fits(text: str) -> bool:
    return "…" not in text and all(len(line) <= 80 for line in text.splitlines())


def test_latency(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        Row(engine, file, "cpu", 16, 64, 12345.67, 12345.67, 12345.0, 12.34, 1234.5, 10.25, compute_precision)
        for file, engine, compute_precision in WAYS
    ]
    print_bench(BenchReport(describe_host(), tuple(rows)))
    out = capsys.readouterr().out
    assert fits(out) and "openvino bf16" in out and out.count("10.25") == 3


def test_parity(capsys: pytest.CaptureFixture[str]) -> None:
    checks = [
        Check(file, engine, "landmarks", 1e-5, 12.3, 5.1, True, compute_precision)
        for file, engine, compute_precision in WAYS
    ]
    accuracy = [Accuracy(file, engine, 12.345, 1e-5, 12.345, 1e-5, False, True, each) for file, engine, each in WAYS]
    print_parity(ParityReport(True, tuple(checks), tuple(accuracy)))
    out = capsys.readouterr().out
    assert fits(out) and out.count("openvino bf16") == 2 and out.count("accepted") == 3
