"""`bench_bundle` with sessions of known run times, what it measures, and every engine on a real bundle."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import sys
from pathlib import Path

import msgspec
import pytest

from synergy.benchmarks.speed import cases, engine_process
from synergy.benchmarks.speed.engine_process import EngineSession, SessionInputs, SessionSpec, Workload
from synergy.benchmarks.speed.interleave import MIN_ROUNDS
from synergy.benchmarks.speed.latency import BenchOptions, BenchReport, bench_bundle, plan
from synergy.runtime.bundle import Bundle
from synergy.runtime.crop import CropRule
from synergy.runtime.decode import SYNERGYNET_FRAME, SYNERGYNET_POSE
from synergy.runtime.diagnostics.host import describe_host, installed_versions
from synergy.runtime.engines import default_threads
from synergy.runtime.errors import BundleError, EngineError, EngineUnavailableError
from synergy.runtime.manifest import Artifact, FileEntry, Manifest, Preprocessing, Source, Tensor, encode_manifest
from synergy.runtime.specs import EngineOptions

CROP_S = 0.01  # run time of the sessions, for each crop of the batch

# in onnxruntime's place: it can be found, and nothing runs in it
STAND_IN = """
def get_available_providers():
    return ["CPUExecutionProvider"]
"""


class FakeProcess:
    """A session whose runs take `CROP_S` per crop; it fails in sample `fails_in`, counted from 1."""

    cold_start_s, rss_mb = 0.5, 100.0

    def __init__(self, spec: SessionSpec, inputs: SessionInputs, log: list[FakeProcess], fails_in: int = 0) -> None:
        self.spec, self.inputs, self.log, self.fails_in = spec, inputs, log, fails_in
        self.count = 0
        self.is_closed = False

    def sample(self, workload: Workload) -> list[list[float]]:
        self.log.append(self)
        self.count += 1
        if self.count == self.fails_in:
            raise EngineError("onnxruntime failed: out of memory")
        return [[CROP_S * workload.batch] * 3]

    def close(self) -> None:
        self.is_closed = True


class FakeSessions:
    """Starts processes without a child; `samples` are the processes in the order of their samples."""

    def __init__(self) -> None:
        self.samples: list[FakeProcess] = []
        self.started: list[FakeProcess] = []
        self.fails_in: dict[int, int] = {}  # by batch

    def start(self, spec: SessionSpec, inputs: SessionInputs) -> list[FakeProcess]:
        process = FakeProcess(spec, inputs, self.samples, self.fails_in.get(spec.batches[0], 0))
        self.started.append(process)
        return [process]


@pytest.fixture
def only_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime is installed, MindSpore Lite and OpenVINO are not."""
    package = tmp_path / "packages" / "onnxruntime"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setenv("SYNERGY_DATA_HOME", str(tmp_path / "nothing"))
    monkeypatch.delenv("SYNERGY_LITE_HOME", raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)  # how Python itself marks what cannot be imported


@pytest.fixture
def sessions(only_onnx: None, monkeypatch: pytest.MonkeyPatch) -> FakeSessions:
    fake = FakeSessions()
    monkeypatch.setattr(cases, "start_repeatedly", fake.start)
    return fake


def write_bundle(folder: Path, formats: tuple[str, ...] = ("onnx",), batch: int = -1) -> Path:
    """A bundle whose artifacts are not models: the fake sessions do not read them."""
    folder.mkdir()
    (folder / "morphable.npz").write_bytes(b"none")
    artifacts = []
    for kind in formats:
        data = f"this is {kind}".encode()
        (folder / f"model.{kind}").write_bytes(data)
        artifacts.append(Artifact(f"model.{kind}", _sha256(data), len(data), format=kind, precision="fp32"))
    manifest = Manifest(
        schema=1,
        arch="mobilenet_v2",
        convention="synergynet",
        inputs=(Tensor("images", (batch, 120, 120, 3), "uint8", "NHWC", ""),),
        outputs=(
            Tensor("params", (batch, 62), "float32", "NC", ""),
            Tensor("landmarks", (batch, 3, 68), "float32", "NCP", ""),
        ),
        preprocessing=Preprocessing(120, "BGR", 127.5, 128.0, in_graph=True),
        crop=CropRule("height", 1.2, 2, 0.0),
        pose=SYNERGYNET_POSE,
        landmark_frame=SYNERGYNET_FRAME,
        toolchain={},
        source=Source("none.ckpt", _sha256(b"")),
        artifacts=tuple(artifacts),
        morphable=FileEntry("morphable.npz", _sha256(b"none"), 4),
    )
    (folder / "manifest.json").write_bytes(encode_manifest(manifest))
    return folder


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# --- the samples


def test_cases_are_interleaved(sessions: FakeSessions, tmp_path: Path) -> None:
    bench_bundle(write_bundle(tmp_path / "bundle"), BenchOptions(threads=(1, 2), batches=(1, 4), rounds=3))
    number = {process: index for index, process in enumerate(sessions.started)}
    order = "".join(str(number[process]) for process in sessions.samples)
    assert order == "0123" + "0123" + "1230" + "2301"  # warm-up, then three rounds, each starting one later
    assert all(process.is_closed for process in sessions.started)
    assert [(each.spec.threads, each.spec.batches, len(each.inputs.crops)) for each in sessions.started] == [
        (1, (1,), 1), (1, (4,), 4), (2, (1,), 1), (2, (4,), 4)
    ]  # fmt: skip


def test_specs_are_engines_with_the_options(sessions: FakeSessions, tmp_path: Path) -> None:
    options = BenchOptions(threads=(1,), batches=(1,), rounds=1, engine_options=EngineOptions(affinity=(0,)))
    bench_bundle(write_bundle(tmp_path / "bundle"), options)
    (process,) = sessions.started
    assert (process.spec.session, process.spec.name, process.spec.artifact) == (EngineSession, "onnx", "model.onnx")
    assert process.spec.engine_options == EngineOptions("fp32", affinity=(0,)) and not process.spec.is_bare


def test_rows(sessions: FakeSessions, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    report = bench_bundle(folder, BenchOptions(threads=(1,), batches=(1, 4), rounds=4))
    for row, batch in zip(report.rows, (1, 4), strict=True):
        assert (row.engine, row.artifact, row.device) == ("onnx", "model.onnx", "cpu")
        assert (row.threads, row.batch, row.cold_start_s, row.rss_mb) == (1, batch, 0.5, 100.0)
        assert row.median_ms == row.p95_ms == pytest.approx(1e3 * CROP_S * batch)
        assert row.fps == pytest.approx(1 / CROP_S) and row.ratio_to_onnxruntime == 1.0
    assert report.failures == ()


def test_cases_with_long_runs_take_fewer_samples(
    sessions: FakeSessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take_sample(case: cases.SessionCase, number: int) -> None:
        case.samples[number] = case.run_sample(number)
        case.spent_s += 0.05 if case.workload.batch == 1 else 0.5

    monkeypatch.setattr(cases.SessionCase, "take_sample", take_sample)
    bench_bundle(write_bundle(tmp_path / "bundle"), BenchOptions(threads=(1,), batches=(1, 30), rounds=8))
    assert [process.count for process in sessions.started] == [1 + 8, 1 + MIN_ROUNDS]  # with the warm-up


@pytest.mark.parametrize("fails_in", [1, 2, 3])
def test_engine_that_fails_is_reported_and_the_others_are_measured(
    sessions: FakeSessions, tmp_path: Path, fails_in: int
) -> None:
    sessions.fails_in = {2: fails_in}
    report = bench_bundle(write_bundle(tmp_path / "bundle"), BenchOptions(threads=(1,), batches=(1, 2), rounds=2))
    assert [row.batch for row in report.rows] == [1]
    cause = "onnxruntime failed: out of memory"
    assert report.failures == (f"bundle/model.onnx on onnx, 1 thread, batch 2: {cause}",)


def test_two_bundles_in_the_same_run(sessions: FakeSessions, tmp_path: Path) -> None:
    """The second is the baseline of the ratios, and rows name their bundle."""
    mine, other = write_bundle(tmp_path / "mine"), write_bundle(tmp_path / "other")
    options = BenchOptions(threads=(1,), batches=(1,), rounds=3, against=other)
    report = bench_bundle(mine, options)
    assert [row.artifact for row in report.rows] == ["mine/model.onnx", "other/model.onnx"]
    assert [row.ratio_to_onnxruntime for row in report.rows] == [1.0, 1.0]
    with pytest.raises(BundleError, match="no bundle at"):
        bench_bundle(mine, dataclasses.replace(options, against=tmp_path / "missing"))


def test_progress_increases(sessions: FakeSessions, tmp_path: Path) -> None:
    heard: list[tuple[float, str]] = []
    folder = write_bundle(tmp_path / "bundle")
    bench_bundle(folder, BenchOptions(threads=(1,), batches=(1,), rounds=3), lambda *news: heard.append(news))
    parts = [part for part, _ in heard]
    assert parts == sorted(parts) and parts[0] == 0 and 0.8 < parts[-1] < 1
    assert heard[0][1] == "starting bundle/model.onnx on onnx, 1 thread, batch 1"


# --- what is measured


def test_defaults(lite_home: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    bundle = Bundle.open(write_bundle(tmp_path / "bundle", ("mindir_v1", "ms", "onnx")))
    variants, batches, obstacles = plan(bundle, BenchOptions())
    cores = sorted({1, default_threads()})
    preferred = (("lite", "model.ms"), ("onnx", "model.onnx"), ("openvino", "model.onnx"))
    expected = itertools.product(preferred, cores)
    assert [((each.engine, each.artifact.file), each.threads) for each in variants] == list(expected)
    assert batches == (1, 16) and obstacles == []


def test_all_artifacts(lite_home: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(write_bundle(tmp_path / "bundle", ("onnx", "mindir_v1", "ms")))
    variants, _, _ = plan(bundle, BenchOptions(engines=("lite",), all_artifacts=True, threads=(1,), batches=(1,)))
    assert [each.artifact.file for each in variants] == ["model.ms", "model.mindir_v1"]


def test_fixed_batch_is_the_only_one(only_onnx: None, tmp_path: Path) -> None:
    bundle = Bundle.open(write_bundle(tmp_path / "bundle", batch=3))
    for batches in (None, (3,)):
        variants, found, _ = plan(bundle, BenchOptions(engines=("onnx",), threads=(2,), batches=batches))
        assert [each.threads for each in variants] == [2] and found == (3,)
    with pytest.raises(ValueError, match="exported for batches of 3 only: leave the batches out"):
        plan(bundle, BenchOptions(batches=(1, 3)))


def test_requested_engine_that_is_missing_is_reported(sessions: FakeSessions, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    chosen = BenchOptions(engines=("lite", "onnx"), threads=(1,), batches=(1,), rounds=1)
    report = bench_bundle(folder, chosen)
    assert [row.engine for row in report.rows] == ["onnx"]
    assert report.failures == ("lite: MindSpore Lite is not installed: run `synergy lite install`",)


def test_requested_engine_without_an_artifact_is_reported(lite_home: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    bundle = Bundle.open(write_bundle(tmp_path / "bundle", ("onnx",)))
    variants, _, obstacles = plan(bundle, BenchOptions(engines=("lite", "onnx")))
    assert {each.engine for each in variants} == {"onnx"}
    assert obstacles == ["lite: reads ms, mindir_v1; the bundle has no such file"]


def test_no_engine_at_all(sessions: FakeSessions, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle", ("ms",))
    with pytest.raises(EngineUnavailableError, match=r"no engine here runs .*run `synergy lite install`.*onnx: reads"):
        bench_bundle(folder, BenchOptions())


def test_altered_artifact_is_refused(sessions: FakeSessions, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    (folder / "model.onnx").write_bytes(b"THIS IS ONNX")
    with pytest.raises(BundleError, match="was altered"):
        bench_bundle(folder, BenchOptions())


def test_missing_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle at"):
        bench_bundle(tmp_path / "none", BenchOptions())


def test_missing_device_is_a_failure(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    folder = write_bundle(tmp_path / "bundle")
    report = bench_bundle(folder, BenchOptions(("onnx",), device="ascend", threads=(1,), batches=(1,)))
    assert report.rows == ()
    assert "CANNExecutionProvider for ascend:0" in report.failures[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"engines": ("tensorrt",)}, "unknown engine 'tensorrt': use one of lite, onnx, openvino, mindspore"),
        ({"engines": ()}, "no engine given: use lite, onnx, openvino, mindspore"),
        ({"threads": (1, 0)}, "threads must be 1 or more, not 1, 0"),
        ({"threads": ()}, "threads must be 1 or more, not nothing"),
        ({"batches": (-1,)}, "batches must be 1 or more, not -1"),
        ({"rounds": 0}, "rounds must be 1 or more, not 0"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
    ],
)
def test_wrong_options(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BenchOptions(**wrong)


# --- the report


def test_json_is_the_contract(sessions: FakeSessions, tmp_path: Path) -> None:
    report = bench_bundle(write_bundle(tmp_path / "b"), BenchOptions(threads=(1,), batches=(1,), rounds=1))
    decoded = msgspec.json.decode(msgspec.json.encode(report))
    assert list(decoded) == ["host", "rows", "failures", "sha256"]
    assert " ".join(decoded["rows"][0]) == (
        "engine artifact device threads batch median_ms p95_ms fps cold_start_s rss_mb ratio_to_onnxruntime"
    )
    assert msgspec.json.decode(msgspec.json.encode(report), type=BenchReport) == report


def test_host_is_this_machine() -> None:
    host = describe_host()
    assert host.cpu and host.cores == default_threads() and host.memory_gb > 0.1
    assert host.python == ".".join(map(str, sys.version_info[:3]))


def test_versions_are_those_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lite_home: Path) -> None:
    from importlib.metadata import version

    pytest.importorskip("onnxruntime")
    assert installed_versions()["onnxruntime"] == version("onnxruntime")
    assert installed_versions()["mindspore-lite"]
    monkeypatch.setenv("SYNERGY_LITE_HOME", str(tmp_path))  # holds none
    assert "mindspore-lite" not in installed_versions()


def test_every_engine_on_a_real_bundle(bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_process, "COLD_STARTS", 1)
    pytest.importorskip("openvino")
    report = bench_bundle(bundles["mb05"], BenchOptions(threads=(1,), batches=(1,), rounds=3))
    assert report.failures == ()
    assert [row.engine for row in report.rows] == ["lite", "onnx", "openvino", "mindspore"]
    assert [row.artifact for row in report.rows] == ["model.ms", "model.onnx", "model.onnx", "model.mindir"]
    for row in report.rows:
        assert 0.05 < row.median_ms <= row.p95_ms < 10_000  # 26 M multiply-adds are not done in 50 us
        assert 0.05 < row.cold_start_s < 120 and 40 < row.rss_mb < 4000
        assert row.ratio_to_onnxruntime is not None and row.ratio_to_onnxruntime > 0
    assert report.rows[1].ratio_to_onnxruntime == 1.0
