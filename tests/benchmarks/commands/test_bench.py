"""The command line of `synergy bench`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from synergy.benchmarks.peers import compare
from synergy.benchmarks.peers.report import PeerReport, PeerRow
from synergy.benchmarks.speed import engine_process, tuning
from synergy.benchmarks.speed.latency import BenchOptions
from synergy.runtime.autotune import MeasuredVariant
from synergy.runtime.diagnostics.host import describe_host
from synergy.runtime.engines import available
from synergy.runtime.inference.worker import POOL_BATCH

Run = Callable[..., tuple[int, str, str]]

COMMANDS = ("latency", "peers", "throughput", "stages", "startup", "tune")

needs_onnxruntime = pytest.mark.skipif(not available("onnx").ok, reason="onnxruntime is not installed")


def words(text: str) -> str:
    """The text without the frames and line breaks of a usage error."""
    return " ".join(text.replace("│", "").split())


def test_help_lists_the_commands_and_names_the_default(synergy: Run) -> None:
    code, out, _ = synergy("bench", "--help")
    assert code == 0 and all(f" {command} " in out for command in COMMANDS)
    assert "`synergy bench BUNDLE` is short for `synergy bench latency BUNDLE`" in words(out)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_a_bundle_and_writes_json(synergy: Run, tmp_path: Path, command: str) -> None:
    code, out, _ = synergy("bench", command, "--help")
    assert code == 0 and "BUNDLE" in out and "--json" in out
    code, out, err = synergy("bench", command, tmp_path / "none")
    assert code == 1 and out == "" and err.startswith("error: no bundle at") and err.count("\n") == 1


@needs_onnxruntime
@pytest.mark.parametrize("first", [(), ("latency",), ("--rounds", 1)])
def test_latency_is_the_default(
    synergy: Run, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: tuple
) -> None:
    monkeypatch.setattr(engine_process, "COLD_STARTS", 1)
    report = tmp_path / "bench.json"
    quick = ("--engine", "onnx", "--threads", 1, "--batch", 1, "--rounds", 1)
    code, out, err = synergy("bench", *first, tiny_bundle, *quick, "--json", report)
    assert code == 0 and err == "" and "model.onnx" in out
    assert [(row["engine"], row["batch"]) for row in json.loads(report.read_text())["rows"]] == [("onnx", 1)]


def test_peers_with_json_and_chart(
    synergy: Run, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(bundle: Path, options: BenchOptions, progress: object) -> PeerReport:
        assert bundle == tiny_bundle
        assert options == BenchOptions(("onnx",), threads=(1,), batches=(1, 2), rounds=3)
        rows = [
            PeerRow(engine, "model.onnx", "cpu", 1, batch, 2.0, 2.0, 500.0, 0.3, 90.0, 1.0, even_fps=500.0)
            for engine in ("onnxruntime (bare)", "onnx")
            for batch in (1, 2)
        ]
        return PeerReport(describe_host(), "tiny", tuple(rows), (), (), (), None, None)

    monkeypatch.setattr(compare, "bench_peers", measured)
    data, chart = tmp_path / "peers.json", tmp_path / "peers.svg"
    options = ("--engine", "onnx", "--threads", 1, "--batch", 1, "--batch", 2, "--rounds", 3)
    code, out, err = synergy("bench", "peers", tiny_bundle, *options, "--json", data, "--chart", chart)
    assert code == 0 and err == ""
    assert "onnxruntime (bare)" in out and "68 landmarks" in out
    assert [row["batch"] for row in json.loads(data.read_text())["rows"]] == [1, 2, 1, 2]
    assert ElementTree.parse(chart).getroot().tag.endswith("svg")


def test_tune_reports_both_purposes(
    synergy: Run, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(bundle: object, device: object, request, again: bool) -> list[MeasuredVariant]:
        assert again
        return [MeasuredVariant("openvino", "model.onnx", request.threads or 2, 1.5, "bf16")]

    monkeypatch.setattr(tuning, "tune", measured)
    code, out, err = synergy("bench", "tune", tiny_bundle, "--json", tmp_path / "tune.json")
    assert code == 0 and err == "" and out.count("openvino bf16") == 2
    content = json.loads((tmp_path / "tune.json").read_text())
    common = {"engine": "openvino", "artifact": "model.onnx", "device": "cpu", "median_ms": 1.5, "computing": "bf16"}
    assert content["host"]["cpu"] and content["rows"] == [
        {"purpose": "single session", "threads": 2, "batch": 1, **common},
        {"purpose": "pool worker", "threads": 1, "batch": POOL_BATCH, **common},
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--chart", "x.svg"), 2, "No such option: --chart"),
        (("tune", "--batch", "4"), 2, "No such option: --batch"),
        (("throughput", "--device", "gpu"), 2, "No such option: --device"),
        (("startup", "--device-precision", "bf16"), 2, "No such option: --device-precision"),
        (("peers", "--against", "other"), 2, "No such option: --against"),
        (("peers", "--threads", "0"), 1, "threads must be 1 or more"),
        (("latency", "--device", "tpu"), 1, "unknown device 'tpu'"),
    ],
)
def test_wrong_options(synergy: Run, tiny_bundle: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    found, out, err = synergy("bench", *arguments, tiny_bundle)
    assert found == code and out == "" and message in words(err)
    assert not Path("x.svg").exists()
