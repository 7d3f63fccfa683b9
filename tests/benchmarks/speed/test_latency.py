"""Most of this runs against a stand-in for onnxruntime whose every run takes a known time."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from synergy.benchmarks.speed.engine_process import EngineProcess, Job, start_several
from synergy.benchmarks.speed.latency import BenchOptions, BenchReport, bench_bundle, plan
from synergy.runtime.bundle import Bundle
from synergy.runtime.crop import CropRule
from synergy.runtime.decode import SYNERGYNET_FRAME, SYNERGYNET_POSE
from synergy.runtime.diagnostics.host import describe_host, installed_versions
from synergy.runtime.diagnostics.probes import PROBE_MODELS
from synergy.runtime.engines import default_threads
from synergy.runtime.errors import BundleError, EngineError, EngineUnavailableError
from synergy.runtime.manifest import Artifact, FileEntry, Manifest, Preprocessing, Source, Tensor, encode_manifest
from synergy.runtime.specs import Device, ModelFile, TensorSpec

RUN_S = 0.01  # of the stand-in, for each image of the batch

STAND_IN = """
import os, threading, time
import numpy as np

IMPORTED = time.sleep(float(os.environ.get("FAKE_IMPORT_S", 0)))
BALLAST = np.ones(int(os.environ.get("FAKE_BYTES", 0)), np.uint8)
RUN_S = float(os.environ["FAKE_RUN_S"])
MISCHIEF = os.environ.get("FAKE_MISCHIEF", "")  # what happens with batches of 2, from the third run on


class SessionOptions:
    def add_session_config_entry(self, key, value):
        pass


def get_available_providers():
    return ["CPUExecutionProvider"]


def burn(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


class InferenceSession:
    def __init__(self, data, options, providers, enable_fallback=1):
        self.runs = 0

    def disable_fallback(self):
        pass

    def get_providers(self):
        return ["CPUExecutionProvider"]

    def run(self, names, feed):
        (images,) = feed.values()
        start, count = time.monotonic(), len(images)
        time.sleep(RUN_S * count)
        self.runs += 1
        if count == 2 and self.runs > 2:
            self.misbehave()
        if "FAKE_LOG" in os.environ:
            with open(os.environ["FAKE_LOG"], "a") as log:
                log.write(f"{os.getpid()} {count} {start} {time.monotonic()}\\n")
        return [np.zeros((count, 62), np.float32), np.zeros((count, 3, 68), np.float32)]

    def misbehave(self):
        if MISCHIEF == "raise":
            raise RuntimeError("out of luck")
        if MISCHIEF == "abort":
            os.abort()
        if MISCHIEF == "spin":
            threading.Thread(target=burn, args=(0.3,), daemon=True).start()
        if MISCHIEF == "never rest":
            threading.Thread(target=burn, args=(60,), daemon=True).start()
"""


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of the stand-in; times as `time.monotonic` tells them."""

    pid: int
    batch: int
    start: float
    end: float


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Run]]:
    """Put the stand-in in onnxruntime's place, take MindSpore Lite and OpenVINO away; returns a reader of its log."""
    package = tmp_path / "packages" / "onnxruntime"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(str(package.parent))
    log = tmp_path / "runs.log"
    monkeypatch.setenv("FAKE_LOG", str(log))
    monkeypatch.setenv("FAKE_RUN_S", str(RUN_S))
    monkeypatch.setenv("SYNERGY_DATA_HOME", str(tmp_path / "nothing"))
    monkeypatch.delenv("SYNERGY_LITE_HOME", raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)  # how Python itself marks what is not to be imported
    return lambda: [_run(line) for line in log.read_text().splitlines()]


def _run(line: str) -> Run:
    pid, batch, start, end = line.split()
    return Run(int(pid), int(batch), float(start), float(end))


def write_bundle(folder: Path, formats: tuple[str, ...] = ("onnx",), batch: int = -1) -> Path:
    """A bundle whose artifacts are no models: the stand-in does not look at them."""
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


def probe_job(engine: str) -> Job:
    """A real engine on a model of one ReLU."""
    kind, data = PROBE_MODELS[engine]
    model = ModelFile(data, kind, (TensorSpec("x", (1, 4), "float32"),), (TensorSpec("y", (1, 4), "float32"),))
    return Job(engine, model, Device(), 1, {"x": np.ones((1, 4), np.float32)})


def stand_in_job(batch: int = 1) -> Job:
    outputs = TensorSpec("params", (-1, 62), "float32"), TensorSpec("landmarks", (-1, 3, 68), "float32")
    model = ModelFile(b"", "onnx", (TensorSpec("images", (-1, 120, 120, 3), "uint8"),), outputs)
    return Job("onnx", model, Device(), 1, {"images": np.zeros((batch, 120, 120, 3), np.uint8)})


def has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


# --- one engine in a fresh process


def test_turn_gives_the_time_of_each_run_without_the_first(stand_in: Callable[[], list[Run]]) -> None:
    with EngineProcess(stand_in_job(batch=2)) as engine:
        times = engine.turn(10 * RUN_S)
    assert len(times) == len(stand_in()) - 2  # the one that opened it, and the first of the turn
    assert all(2 * RUN_S <= each < 2 * RUN_S + 0.5 for each in times)
    assert min(times) < 2 * RUN_S + 0.01  # neither pipe nor pickling of 86 kB is in it


def test_run_longer_than_the_turn_counts(stand_in: Callable[[], list[Run]]) -> None:
    with EngineProcess(stand_in_job(batch=3)) as engine:
        assert len(engine.turn(0)) == 1


def test_cold_start_holds_imports_and_the_first_run(
    stand_in: Callable[[], list[Run]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with EngineProcess(stand_in_job()) as quick:
        pass
    monkeypatch.setenv("FAKE_IMPORT_S", "1.5")
    with EngineProcess(stand_in_job()) as slow:
        pass
    assert slow.cold_start_s >= 1.5 + RUN_S
    assert quick.cold_start_s < 1.5


def test_memory_is_the_childs_not_the_parents(
    stand_in: Callable[[], list[Run]], monkeypatch: pytest.MonkeyPatch
) -> None:
    parents = np.ones(450_000_000, np.uint8)  # getrusage would report it in the child, across exec
    with EngineProcess(stand_in_job()) as small:
        pass
    monkeypatch.setenv("FAKE_BYTES", "200000000")
    with EngineProcess(stand_in_job()) as large:
        pass
    assert parents.nbytes > 1e6 * large.rss_mb > 200_000_000
    assert 150 < large.rss_mb - small.rss_mb < 250


def test_quick_engines_start_three_times_slow_ones_once(
    stand_in: Callable[[], list[Run]], monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = start_several(stand_in_job())
    assert len({start.child.process.pid for start in starts}) == 3
    assert [start.child.process.poll() is None for start in starts] == [False, False, True]
    starts[-1].close()
    monkeypatch.setenv("FAKE_IMPORT_S", "2.1")
    (only,) = start_several(stand_in_job())
    only.close()


def test_turn_ends_at_rest(stand_in: Callable[[], list[Run]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_MISCHIEF", "spin")
    with EngineProcess(stand_in_job(batch=2)) as engine:
        engine.turn(0)
        start = time.monotonic()
        times = engine.turn(0)
        took = time.monotonic() - start
    assert times[0] < 0.3 < took


def test_engine_that_never_rests_is_refused(stand_in: Callable[[], list[Run]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_MISCHIEF", "never rest")
    with EngineProcess(stand_in_job(batch=2)) as engine, pytest.raises(EngineError, match="still busy 2 s after a run"):
        for _ in range(3):
            engine.turn(0)


def test_real_engine_runs_and_leaves(lite_home: Path) -> None:
    for name in ("lite", "onnx"):
        with EngineProcess(probe_job(name)) as engine:
            times = engine.turn(0.02)
        assert 0 < min(times) <= max(times) < 1
        assert 0 < engine.cold_start_s < 60
        assert 20 < engine.rss_mb < 2000
        assert has_ended(engine.child.process.pid)
        engine.close()


def test_model_that_does_not_load_is_an_error_with_its_cause() -> None:
    pytest.importorskip("onnxruntime")
    job = probe_job("onnx")
    broken = dataclasses.replace(job, model=dataclasses.replace(job.model, data=b"no model"))
    with pytest.raises(EngineError, match="onnxruntime cannot load the model"):
        EngineProcess(broken)


def test_death_is_an_error_with_its_signal(stand_in: Callable[[], list[Run]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_MISCHIEF", "abort")
    with EngineProcess(stand_in_job(batch=2)) as engine, pytest.raises(EngineError, match=r"onnx engine died.*SIGABRT"):
        for _ in range(3):
            engine.turn(0)


def test_interrupt_is_for_the_parent(stand_in: Callable[[], list[Run]]) -> None:
    with EngineProcess(stand_in_job()) as engine:
        engine.child.process.send_signal(signal.SIGINT)
        assert engine.turn(0)


def test_process_does_not_outlive_its_parent(stand_in: Callable[[], list[Run]]) -> None:
    program = (
        "import sys, pickle, time; from synergy.benchmarks.speed.engine_process import FreshEngine; "
        "engine = FreshEngine(pickle.load(sys.stdin.buffer)); "
        "print(engine.child.process.pid, flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdin is not None and parent.stdout is not None
        parent.stdin.write(pickle.dumps(stand_in_job()))
        parent.stdin.close()
        child = int(parent.stdout.readline())
        assert not has_ended(child)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while not has_ended(child):
        assert time.monotonic() < deadline, "the engine's process is an orphan"
        time.sleep(0.02)


# --- the rounds


def test_configurations_take_turns_and_never_run_together(stand_in: Callable[[], list[Run]], tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    bench_bundle(folder, BenchOptions(threads=(1, 2), batches=(1, 4), rounds=3))
    runs = sorted(stand_in(), key=lambda run: run.start)
    assert all(earlier.end <= later.start for earlier, later in itertools.pairwise(runs))
    samples = [pid for pid, _ in itertools.groupby(run.pid for run in runs)]
    first, second, third = samples[-12:-8], samples[-8:-4], samples[-4:]
    assert len(set(first)) == 4
    assert second == first[1:] + first[:1] and third == first[2:] + first[:2]
    assert len(set(samples)) == 4 * 3  # each started three times
    assert all(has_ended(pid) for pid in samples)


def test_figures_are_those_of_the_engine(stand_in: Callable[[], list[Run]], tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    report = bench_bundle(folder, BenchOptions(threads=(1,), batches=(1, 4), rounds=4))
    for row, batch in zip(report.rows, (1, 4), strict=True):
        assert (row.engine, row.artifact, row.device) == ("onnx", "model.onnx", "cpu")
        assert (row.threads, row.batch) == (1, batch)
        assert 1e3 * RUN_S * batch <= row.median_ms <= row.p95_ms < 1e3
        assert row.fps == pytest.approx(batch / (row.median_ms / 1e3))
        assert row.cold_start_s > RUN_S * batch
        assert row.ratio_to_onnxruntime == 1.0
    assert report.failures == ()


def test_long_runs_leave_the_rounds_early_but_not_before_three(
    stand_in: Callable[[], list[Run]], tmp_path: Path
) -> None:
    folder = write_bundle(tmp_path / "bundle")
    bench_bundle(folder, BenchOptions(threads=(1,), batches=(1, 30), rounds=8))  # 0.3 s a run against 0.1 s a round
    runs = stand_in()
    last = {batch: [run.pid for run in runs if run.batch == batch][-1] for batch in (1, 30)}
    samples = [pid for pid, _ in itertools.groupby(run.pid for run in sorted(runs, key=lambda run: run.start))]
    assert len([run for run in runs if run.pid == last[30]]) == 1 + 1 + 3  # to open, to warm up, three rounds
    assert samples.count(last[1]) >= 4
    assert len([run for run in runs if run.pid == last[1]]) > 8 * 2


def test_engine_that_fails_midway_is_reported_and_the_rest_goes_on(
    stand_in: Callable[[], list[Run]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MISCHIEF", "raise")
    folder = write_bundle(tmp_path / "bundle")
    report = bench_bundle(folder, BenchOptions(threads=(1,), batches=(1, 2), rounds=2))
    assert [row.batch for row in report.rows] == [1]
    assert report.failures == ("bundle/model.onnx on onnx, 1 thread, batch 2: onnxruntime failed: out of luck",)


def test_two_bundles_in_the_same_rounds(stand_in: Callable[[], list[Run]], tmp_path: Path) -> None:
    """The second is what ratios are formed against, and rows name their bundle."""
    mine, other = write_bundle(tmp_path / "mine"), write_bundle(tmp_path / "other")
    options = BenchOptions(threads=(1,), batches=(1,), rounds=3, against=other)
    report = bench_bundle(mine, options)
    assert [row.artifact for row in report.rows] == ["mine/model.onnx", "other/model.onnx"]
    assert report.rows[1].ratio_to_onnxruntime == 1.0
    assert report.rows[0].ratio_to_onnxruntime == pytest.approx(1.0, abs=0.3)
    with pytest.raises(BundleError, match="no bundle at"):
        bench_bundle(mine, dataclasses.replace(options, against=tmp_path / "missing"))


def test_progress_rises_to_the_end(stand_in: Callable[[], list[Run]], tmp_path: Path) -> None:
    heard: list[tuple[float, str]] = []
    folder = write_bundle(tmp_path / "bundle")
    bench_bundle(folder, BenchOptions(threads=(1,), batches=(1,), rounds=3), lambda *news: heard.append(news))
    parts = [part for part, _ in heard]
    assert parts == sorted(parts) and parts[0] == 0 and 0.8 < parts[-1] < 1
    assert heard[0][1] == "starting bundle/model.onnx on onnx, 1 thread, batch 1"


# --- what is measured


def test_defaults_are_the_preferred_artifact_one_and_all_cores_batch_1_and_16(lite_home: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    bundle = Bundle.open(write_bundle(tmp_path / "bundle", ("mindir_v1", "ms", "onnx")))
    found, obstacles = plan(bundle, BenchOptions())
    cores = sorted({1, default_threads()})
    preferred = (("lite", "model.ms"), ("onnx", "model.onnx"), ("openvino", "model.onnx"))
    expected = itertools.product(preferred, cores, (1, 16))
    assert [
        ((each.variant.engine, each.variant.artifact.file), each.variant.threads, each.batch) for each in found
    ] == list(expected)
    assert obstacles == []


def test_all_artifacts(lite_home: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(write_bundle(tmp_path / "bundle", ("onnx", "mindir_v1", "ms")))
    found, _ = plan(bundle, BenchOptions(engines=("lite",), all_artifacts=True, threads=(1,), batches=(1,)))
    assert [each.variant.artifact.file for each in found] == ["model.ms", "model.mindir_v1"]


def test_fixed_batch_is_the_only_one(stand_in: Callable[[], list[Run]], tmp_path: Path) -> None:
    bundle = Bundle.open(write_bundle(tmp_path / "bundle", batch=3))
    for batches in (None, (3,)):
        found, _ = plan(bundle, BenchOptions(engines=("onnx",), threads=(2,), batches=batches))
        assert [(each.variant.threads, each.batch) for each in found] == [(2, 3)]
    with pytest.raises(ValueError, match="exported for batches of 3 only: leave the batches out"):
        plan(bundle, BenchOptions(batches=(1, 3)))


def test_engine_asked_for_by_name_but_missing_is_reported(stand_in: Callable[[], list[Run]], tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    chosen = BenchOptions(engines=("lite", "onnx"), threads=(1,), batches=(1,), rounds=1)
    report = bench_bundle(folder, chosen)
    assert [row.engine for row in report.rows] == ["onnx"]
    assert report.failures == ("lite: MindSpore Lite is not installed: run `synergy lite install`",)


def test_engine_without_an_artifact_is_reported_if_asked_for(lite_home: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    bundle = Bundle.open(write_bundle(tmp_path / "bundle", ("onnx",)))
    found, obstacles = plan(bundle, BenchOptions(engines=("lite", "onnx")))
    assert {each.variant.engine for each in found} == {"onnx"}
    assert obstacles == ["lite: reads ms, mindir_v1; the bundle has no such file"]


def test_no_engine_at_all_says_why(stand_in: Callable[[], list[Run]], tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle", ("ms",))
    with pytest.raises(EngineUnavailableError, match=r"no engine here runs .*run `synergy lite install`.*onnx: reads"):
        bench_bundle(folder, BenchOptions())


def test_altered_artifact_is_refused(stand_in: Callable[[], list[Run]], tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    (folder / "model.onnx").write_bytes(b"THIS IS ONNX")
    with pytest.raises(BundleError, match="was altered"):
        bench_bundle(folder, BenchOptions())


def test_missing_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle at"):
        bench_bundle(tmp_path / "none", BenchOptions())


def test_device_that_is_not_here_is_a_failure_line(stand_in: Callable[[], list[Run]], tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    report = bench_bundle(folder, BenchOptions(device="ascend", threads=(1,), batches=(1,)))
    assert report.rows == ()
    assert "CANNExecutionProvider for ascend:0" in report.failures[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"engines": ("tensorrt",)}, "unknown engine 'tensorrt': use one of lite, onnx, openvino, mindspore"),
        ({"engines": ()}, "no engine named: use lite, onnx, openvino, mindspore"),
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


def test_json_is_the_contract(stand_in: Callable[[], list[Run]], tmp_path: Path) -> None:
    report = bench_bundle(write_bundle(tmp_path / "b"), BenchOptions(threads=(1,), batches=(1,), rounds=1))
    decoded = msgspec.json.decode(msgspec.json.encode(report))
    assert list(decoded) == ["host", "rows", "failures"]
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


def test_every_engine_on_a_real_bundle(bundles: dict[str, Path]) -> None:
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
