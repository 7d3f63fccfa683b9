"""The demo: one table of the Cell and every artifact, complete, and narrow enough for a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from synergy.benchmarks import demo
from synergy.benchmarks.accuracy.report import AccuracyReport, NmeBinRecord, NmeRecord, PoseMaeRecord
from synergy.benchmarks.commands.tables import print_demo
from synergy.benchmarks.demo import DEMO_CHECKPOINT, DemoReport, accuracy_rows
from synergy.benchmarks.parity.drift import CELL, VariantAccuracy
from synergy.benchmarks.speed.latency import BenchReport, Row
from synergy.runtime.diagnostics.host import Host
from synergy.runtime.verification.parity_record import Check, ParityReport

FILES = {"model.mindir": "mindspore", "model.v1.mindir": "lite", "model.onnx": "onnx", "model.ms": "lite"}
HOST = Host("A processor", 2, 25.3, 0.1, "3.11.7", "Linux", {})


# as much of a manifest and a bundle as is used
MANIFEST = SimpleNamespace(
    artifacts=[SimpleNamespace(file=file, bytes=9_700_000 + place) for place, file in enumerate(FILES)]
)
BUNDLE = SimpleNamespace(manifest=MANIFEST)


def measured(artifact: str, engine: str, nme: float) -> VariantAccuracy:
    means = (nme - 1, None, nme + 1)
    ranges = ((0, 30), (30, 60), (60, 90))
    bins = tuple(
        NmeBinRecord(each, 0 if mean is None else 8, mean, mean) for each, mean in zip(ranges, means, strict=True)
    )
    report = AccuracyReport(
        "faces", "16 faces", NmeRecord(bins, nme, 0.5, nme), PoseMaeRecord(1, 2, 3, 2, 16), None, []
    )
    return VariantAccuracy(artifact, engine, report)


@pytest.fixture
def report() -> DemoReport:
    found = [measured(CELL, "mindspore", 5.25)]
    found += [measured(file, engine, 5.25 + 1e-6 * place) for place, (file, engine) in enumerate(FILES.items(), 1)]
    rows = tuple(
        Row(engine, file, "cpu", 2, 1, 10.0 + place, 20.0, 99.0, 0.4, 290.0, 1.0)
        for place, (file, engine) in enumerate(FILES.items())
        if file != "model.v1.mindir"
    )
    bench = BenchReport(HOST, rows)
    checks = tuple(Check(file, engine, "landmarks", 4.6e-5, 17.7, 1e-2, True) for file, engine in FILES.items())
    return DemoReport("demo", ParityReport(True, checks), accuracy_rows(found, bench, MANIFEST), bench, ())  # type: ignore[arg-type]


def test_rows_join_accuracy_latency_and_size(report: DemoReport) -> None:
    cell, mindir, lowered, *_ = report.accuracy
    assert (cell.artifact, cell.median_ms, cell.bytes) == (CELL, None, DEMO_CHECKPOINT.stat().st_size)
    assert (mindir.artifact, mindir.engine, mindir.median_ms, mindir.bytes) == (
        "model.mindir",
        "mindspore",
        10.0,
        9_700_000,
    )
    assert (
        mindir.nme_drift == pytest.approx(1e-6)
        and mindir.mae == 2
        and [each.count for each in mindir.bins] == [8, 0, 8]
    )
    assert lowered.median_ms is None and lowered.passed


def test_json_has_the_forms_of_the_other_commands(report: DemoReport) -> None:
    content = json.loads(msgspec.json.encode(report))
    assert set(content) == {"bundle", "parity", "accuracy", "bench", "pictures"}
    for row in content["accuracy"]:
        assert {"artifact", "engine", "nme", "nme_drift", "mae", "mae_drift", "pass", "bins"} <= set(row)


def test_table_fits_a_terminal(
    report: DemoReport, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_demo(report)
    out = capsys.readouterr().out
    lines = {
        line.split()[0]: line.split()
        for line in out.split("accuracy, latency and size")[1].splitlines()
        if line.split()
    }
    assert "…" not in out and all(len(line) <= 80 for line in out.splitlines())
    assert "on 16 held-out faces" in out
    assert lines["artifact"] == ["artifact", "engine", "0-30", "30-60", "60-90", "NME", "drift", "MAE", "ms", "MB"]
    cell_mb = f"{DEMO_CHECKPOINT.stat().st_size / 1e6:.1f}"
    assert lines["Cell"] == ["Cell", "mindspore", "4.25", "-", "6.25", "5.25", "0e+00", "2.00", "-", cell_mb]
    assert lines["model.mindir"][2:] == ["4.25", "-", "6.25", "5.25", "1e-06", "2.00", "10.00", "9.7"]
    assert set(FILES) <= set(lines)


def test_the_accuracy_shown_is_that_of_the_proof(
    report: DemoReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps that take minutes are replaced; tests/test_cli.py runs them."""
    steps: list[str] = []
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "parity.json").write_bytes(msgspec.json.encode(report.parity))

    def prove(folder: Path, checkpoint: SimpleNamespace, faces: int) -> tuple[str, list[VariantAccuracy]]:
        steps.append(f"gate {folder} {faces}")
        return "proof", [measured(CELL, "mindspore", 5.0), measured("model.ms", "lite", 5.5)]

    def export(ckpt: Path, target: Path, options: object, proving: Callable, say: object) -> None:
        assert (ckpt, target) == (DEMO_CHECKPOINT, tmp_path / "demo")
        assert proving("unpublished", SimpleNamespace(network="network")) == "proof"

    fakes = {"gate_and_measure": prove, "export_bundle": export, "synthetic_data": int}
    fakes |= {"Bundle": SimpleNamespace(open=lambda folder: BUNDLE if folder == tmp_path / "demo" else folder)}
    fakes |= {"_draw_sheet": lambda _, path: path, "_draw_portrait": lambda _, path: path}
    fakes |= {"bench_bundle": lambda folder, options: report.bench}
    for name, fake in fakes.items():
        monkeypatch.setattr(demo, name, fake)
    done = demo.run_demo(tmp_path, ("lite",), log=lambda _: None)
    assert steps == [f"gate unpublished {demo.ACCURACY_FACES}"]
    assert [(row.artifact, row.nme_drift, row.passed) for row in done.accuracy] == [
        (CELL, 0.0, True),
        ("model.ms", 0.5, False),
    ]
    assert done.accuracy[1].median_ms == 13.0 and done.parity == report.parity
    assert [Path(picture).name for picture in done.pictures] == ["demo-faces.png", "demo-portrait.png"]
