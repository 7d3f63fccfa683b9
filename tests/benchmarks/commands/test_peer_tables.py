"""Tables of `synergy bench peers`: values, and a width of 80 columns."""

from __future__ import annotations

import pytest

from synergy.benchmarks.accuracy.jitter import JitterReport
from synergy.benchmarks.commands.peer_tables import print_peers
from synergy.benchmarks.peers.report import OverheadRow, PeakRow, PeerReport, PeerRow, PipelineRow
from synergy.runtime.diagnostics.host import describe_host


def row(engine: str, batch: int, ms: float, ratio: float | None = 1.0, threads: int = 2) -> PeerRow:
    fps = 1e3 * batch / ms
    return PeerRow(
        engine, "model.onnx", "cpu", threads, batch, ms, 2 * ms, fps, 0.91, 513.2, ratio, fps / 5, 0.123, fps
    )


def overhead(ratio: float, added_ms: float, isolated: bool = False, batch: int = 1) -> OverheadRow:
    return OverheadRow("openvino bf16", "model.onnx", isolated, 2, batch, 2.0, 2.0, ratio, added_ms)


def report(rows: tuple[PeerRow, ...], overheads: tuple[OverheadRow, ...] = ()) -> PeerReport:
    pipelines = (PipelineRow("onnxruntime (bare)", "model.onnx", 2, 8.345, 22.6, 119.8, 1.0),)
    jitter = JitterReport("lite", 60, 4.9, 0.63, 0.688, 0.117, 0.127)
    notes, failures = ("mindspore is not [installed]",), ("model.ms on lite: [bad] luck",)
    peak = (PeakRow(2, 147.4),)
    return PeerReport(describe_host(), "mb05", rows, overheads, pipelines, peak, 10**8, jitter, notes, failures)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> object:
    monkeypatch.setenv("COLUMNS", "80")

    def show(found: PeerReport) -> str:
        print_peers(found)
        return capsys.readouterr().out

    return show


def test_tables_fit_80_columns(shown) -> None:
    names = ("openvino bf16 (bare)", "onnxruntime (bare)", "openvino bf16", "mindspore")
    rows = tuple(row(name, batch, 345.6, 11.23) for name in names for batch in (1, 4, 16, 32))
    overheads = tuple(overhead(1.07, -10.08, isolated, batch) for isolated in (False, True) for batch in (1, 4, 16))
    out = shown(report(rows, overheads))
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 80 and "…" not in out
    assert out.count("b=32") == 1 and out.count("network only, ms by batch, 2 threads, peak 147 GFLOP/s") == 2


def test_values(shown) -> None:
    rows = (row("onnxruntime (bare)", 1, 2.0), row("onnxruntime (bare)", 16, 20.0), row("lite", 1, 1.0, 0.5))
    out = shown(report(rows, (overhead(1.02, 0.04),)))
    lines = [line.split() for line in out.splitlines()]
    assert ["onnxruntime", "(bare)", "2.00", "1.00", "20.00", "1.00", "12%", "0.91", "513"] in lines
    assert ["lite", "1.00", "0.50", "-", "-", "12%", "0.91", "513"] in lines
    assert ["openvino", "bf16", "same", "2", "1.02", "+0.04"] in lines
    assert ["onnxruntime", "(bare)", "8.35", "22.60", "120", "1.00"] in lines
    text = " ".join(out.split())
    assert "highest faces/s: FaceAligner 1000 (lite, 2 threads, batch 1)" in text
    assert "libraries 800 (onnxruntime (bare), 2 threads, batch 16); ratio 1.25" in text
    assert "0.69 % raw, 0.13 % smoothed" in text
    assert "note mindspore is not [installed]" in text and "FAIL model.ms on lite: [bad] luck" in text


def test_only_missed_targets_are_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    from synergy.benchmarks.commands.peer_tables import overhead_text

    assert [overhead_text(each).startswith("[yellow]") for each in (
        overhead(1.05, 9.0), overhead(1.06, 0.01), overhead(1.10, 9.0, isolated=True),
        overhead(1.5, 0.3, isolated=True), overhead(1.11, 0.31, isolated=True),
    )] == [False, True, False, False, True]  # fmt: skip


def test_empty_report(shown) -> None:
    empty = PeerReport(describe_host(), "mb05", (), (), (), (), None, None, (), ("everything failed",))
    assert "FAIL everything failed" in shown(empty)
