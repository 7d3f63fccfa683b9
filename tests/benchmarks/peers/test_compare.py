"""`bench_peers` end to end on a small bundle, what it leaves out, and the options it rejects."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from synergy.benchmarks.peers import compare
from synergy.benchmarks.peers.compare import DEFAULT_BATCHES, bench_peers
from synergy.benchmarks.peers.report import PeerReport
from synergy.benchmarks.peers.sessions import PEERS
from synergy.benchmarks.speed import cases, engine_process
from synergy.benchmarks.speed.engine_process import ISOLATED, OVERHEAD, SessionInputs, SessionSpec, Workload
from synergy.benchmarks.speed.latency import BenchOptions, BenchReport
from synergy.benchmarks.speed.peak_flops import PeakCase, multiply_adds
from synergy.runtime.bundle import Bundle
from synergy.runtime.engines import available
from synergy.runtime.errors import BundleError, EngineError, EngineUnavailableError
from synergy.runtime.specs import EngineOptions

QUICK = BenchOptions(engines=("onnx",), threads=(1,), batches=(1,), rounds=1)
ROW = (
    "engine artifact device threads batch median_ms p95_ms fps cold_start_s rss_mb ratio_to_onnxruntime gflops "
    "share_of_peak even_fps"
)

pytestmark = pytest.mark.skipif(not available("onnx").ok, reason="onnxruntime is not installed")


def only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """The others' packages are not installed."""
    for name, peer in PEERS.items():
        package = peer.package if name in names else "no_such_package"
        monkeypatch.setitem(PEERS, name, dataclasses.replace(peer, package=package))  # type: ignore[arg-type]


def test_a_small_bundle(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real run, with real processes."""
    only(monkeypatch, "onnxruntime")
    heard: list[float] = []
    report = bench_peers(tiny_bundle, dataclasses.replace(QUICK, batches=(1, 4)), lambda part, _: heard.append(part))
    assert report.failures == () and report.network == "tiny"
    assert [(row.engine, row.batch) for row in report.rows] == [
        ("onnxruntime (bare)", 1), ("onnx", 1), ("onnxruntime (bare)", 4), ("onnx", 4),
    ]  # fmt: skip
    assert all(row.artifact == "model.onnx" and row.median_ms > 0 and row.share_of_peak for row in report.rows)
    assert [row.ratio_to_onnxruntime for row in report.rows if row.is_bare] == [1.0, 1.0]
    assert [(row.isolated, row.batch) for row in report.overhead] == [(False, 1), (False, 4), (True, 1), (True, 4)]
    assert [row.engine for row in report.pipeline] == ["onnxruntime (bare)", "onnx"]
    assert [row.threads for row in report.peak] == [1] and report.peak[0].gflops > 0.1
    assert report.multiply_adds == multiply_adds((tiny_bundle / "model.onnx").read_bytes())
    assert [note for note in report.notes if "openvino" in note] == [
        "openvino is not installed, so it is not compared: pip install 'synergy-mindir[bench]'"
    ]
    assert report.jitter is None and "loses a face" in report.notes[-1]
    assert heard == sorted(heard) and heard[0] == 0
    check_json(report)


def check_json(report: PeerReport) -> None:
    data = msgspec.json.encode(report)
    decoded = msgspec.json.decode(data)
    assert list(decoded) == (
        ["host", "network", "rows", "overhead", "path", "peak", "multiply_adds", "jitter", "notes", "failures"]
    )
    assert " ".join(decoded["rows"][0]) == ROW
    assert msgspec.json.decode(data, type=PeerReport) == report
    plain = msgspec.json.decode(data, type=BenchReport)  # as `synergy report --bench FILE` reads it
    assert [row.engine for row in plain.rows] == [row.engine for row in report.rows]


def test_openvino_in_its_default_precision_and_in_float32(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    only(monkeypatch, "openvino", "openvino queue")
    monkeypatch.setattr(compare, "library_precisions", lambda name: ("bf16", "f32"))
    bundle = Bundle.open(tiny_bundle)
    package, _ = compare.package_specs(bundle, BenchOptions(engines=("onnx", "openvino"), threads=(1, 2)))
    libraries, _ = compare.library_specs(bundle, (1, 2), DEFAULT_BATCHES, tuple(compare.PEERS))
    assert {spec.batches for spec in [*package, *libraries]} == {DEFAULT_BATCHES}
    assert [(spec.name, spec.threads, spec.precision) for spec in libraries] == [
        (name, threads, precision)
        for name in ("openvino", "openvino queue")
        for precision in ("bf16", "f32")
        for threads in (1, 2)
    ]
    extra = compare.reduced_specs(package, libraries)
    assert [(spec.name, spec.threads, spec.precision) for spec in extra] == [
        ("openvino", 1, "bf16"), ("openvino", 2, "bf16"),
    ]  # fmt: skip


def test_precisions_of_the_libraries() -> None:
    pytest.importorskip("openvino")
    found = compare.library_precisions("openvino")
    assert found[-1] == "f32" and len(set(found)) == len(found) <= 2
    assert compare.library_precisions("onnxruntime") == ("",)


def test_isolated_engines_and_pictures_are_measured_with_most_threads(tiny_bundle: Path) -> None:
    package, _ = compare.package_specs(
        Bundle.open(tiny_bundle), BenchOptions(engines=("onnx",), threads=(1, 2), batches=(1,))
    )
    assert [[workload.kind for workload in compare.spec_workloads(spec, 2)] for spec in package] == [
        ["overhead"],
        ["overhead", "isolated", "pipeline"],
    ]


def test_library_without_a_file_is_a_note(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch)
    monkeypatch.setitem(PEERS, "mindspore", dataclasses.replace(PEERS["mindspore"], package="numpy"))  # any package
    bundle = Bundle.open(tiny_bundle)
    package, _ = compare.package_specs(bundle, QUICK)
    specs, notes = compare.library_specs(bundle, (1,), package[0].batches, tuple(compare.PEERS))
    assert "mindspore" not in {spec.name for spec in specs}
    assert f"mindspore is not compared: it reads mindir, and {bundle.folder} has no such file" in notes


def test_session_that_does_not_start_is_a_failure(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "onnxruntime")

    def sample(workload: Workload) -> list[list[float]]:
        return [[0.002], [0.001]] if workload.kind in (OVERHEAD, ISOLATED) else [[0.004]]

    def start(spec: SessionSpec, inputs: SessionInputs) -> list[SimpleNamespace]:
        if spec.is_bare:
            raise EngineError("out of\n memory")
        return [SimpleNamespace(sample=sample, close=lambda: None, cold_start_s=0.5, rss_mb=100.0)]

    def no_peak(case: PeakCase, threads: int) -> None:
        raise EngineError("no NumPy")

    monkeypatch.setattr(cases, "start_repeatedly", start)
    monkeypatch.setattr(PeakCase, "__init__", no_peak)
    monkeypatch.setattr(compare, "measured_jitter", lambda *_: None)
    report = bench_peers(tiny_bundle, QUICK)
    assert report.failures == (
        "tiny/model.onnx on onnxruntime (bare), 1 thread, batch 1: out of memory",
        "matrix product, 1 thread: no NumPy",
    )
    assert [(row.engine, row.median_ms, row.ratio_to_onnxruntime) for row in report.rows] == [("onnx", 2.0, None)]
    assert [(row.isolated, row.ratio, row.added_ms) for row in report.overhead] == [(False, 2.0, 1.0), (True, 2.0, 1.0)]
    assert [(row.engine, row.median_ms) for row in report.pipeline] == [("onnx", 4.0)]


def test_operations_that_cannot_be_counted_are_a_note(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, notes = Bundle.open(tiny_bundle), []

    def fail(error: Exception) -> None:
        def count(data: bytes) -> int:
            raise error

        monkeypatch.setattr(compare, "multiply_adds", count)
        assert compare.count_multiply_adds(bundle, notes) is None

    fail(ImportError("no onnx"))
    fail(ValueError("strange"))
    bundle.manifest = msgspec.structs.replace(bundle.manifest, artifacts=())
    assert compare.count_multiply_adds(bundle, notes) is None
    assert notes == [
        "share of peak is not available: onnx is not installed: pip install 'synergy-mindir[export]'",
        "share of peak is not available: strange",
        "share of peak is not available: operations are counted in model.onnx, which this bundle lacks",
    ]


def test_nothing_to_compare_with(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch)
    with pytest.raises(
        EngineUnavailableError, match=r"no library to compare .*onnxruntime is not installed.*\[bench\]"
    ):
        bench_peers(tiny_bundle, QUICK)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "gpu"}, "on the CPU only, not on gpu: leave the device out"),
        (
            {"engine_options": EngineOptions(affinity=(0,))},
            "compute precision, affinity and Lite configuration cannot be compared",
        ),
        ({"engine_options": EngineOptions("bf16")}, "compute precision"),
        ({"against": Path("other")}, "one bundle and its preferred artifacts"),
        ({"all_artifacts": True}, "one bundle and its preferred artifacts"),
    ],
)
def test_options_that_libraries_do_not_have(tiny_bundle: Path, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bench_peers(tiny_bundle, dataclasses.replace(QUICK, **changes))


@pytest.mark.parametrize("precision", ["auto", "fp32"])
def test_no_bundle(tmp_path: Path, precision: str) -> None:
    """Float32 is the default of the comparison, so it may be given."""
    with pytest.raises(BundleError, match="no bundle at"):
        bench_peers(tmp_path / "none", dataclasses.replace(QUICK, engine_options=EngineOptions(precision)))


def test_a_real_bundle(bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every installed engine and library, with MindSpore and MindSpore Lite, each in its own process, started once."""
    monkeypatch.setattr(engine_process, "COLD_STARTS", 1)
    report = bench_peers(bundles["mb05"], BenchOptions(threads=(1,), batches=(1,), rounds=1))
    assert report.failures == ()
    engines = [row.engine for row in report.rows]
    assert [engine for engine in engines if "bare" in engine][-1] == "mindspore (bare)"
    assert {"lite", "onnx", "mindspore"} <= set(engines)
    assert {row.engine for row in report.overhead} == {engine for engine in engines if "bare" not in engine}
    assert {row.engine for row in report.pipeline} == set(engines)
    assert report.jitter is not None and 0 < report.jitter.smoothed_percent < report.jitter.raw_percent < 5
    assert report.multiply_adds is not None and 1e7 < report.multiply_adds < 1e8
