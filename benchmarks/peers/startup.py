"""Time from process start to first result, compared with minimal scripts.

A whole process is timed, from its start to its end. The scripts open a library's session and run it once, on a
picture's crop where there is one; they decode no landmarks and check nothing. `photo_script.py` also detects the face
and prints JSON, as `synergy infer PHOTO --json -` does; it needs onnxruntime and YuNet. All samples are interleaved.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from synergy.benchmarks.peers.pipeline import square
from synergy.benchmarks.sample_crops import PORTRAIT, PORTRAIT_BOX_XYXY
from synergy.benchmarks.speed.engine_process import BARE
from synergy.benchmarks.speed.interleave import (
    BenchmarkCase,
    Progress,
    ignore_progress,
    ratio_by_round,
    run_interleaved,
)
from synergy.runtime.autotune import TuneRequest, tune
from synergy.runtime.bundle import Bundle
from synergy.runtime.detection.install import find_yunet
from synergy.runtime.diagnostics.host import Host, describe_host
from synergy.runtime.engines import available, default_threads, readable
from synergy.runtime.errors import EngineError
from synergy.runtime.files import TemporaryFolder
from synergy.runtime.processes import programs
from synergy.runtime.specs import DYNAMIC, Device, engine_label

CROP, PICTURE, COMMAND, PHOTO = "crop", "picture", "command line", "photo"
PHOTO_SCRIPT = Path(__file__).with_name("photo_script.py")
ENGINES = ("onnx", "openvino", "lite")  # without MindSpore, which takes seconds
LIBRARIES = {"onnx": "onnxruntime", "openvino": "OpenVINO"}  # engine: the library that its script uses
ROUNDS = 11
NO_LIMIT_S = 1e9  # every case takes part in every round
START_LIMIT_S = 120

READ = "import json, sys; given = json.loads(sys.argv[1]); batch = given['batch']; import numpy as np; "
SCRIPT_SESSIONS = {
    "onnx": """
import os
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = given["threads"]
session = onnxruntime.InferenceSession(given["model"], options, providers=["CPUExecutionProvider"])
run = lambda crops: session.run(None, {given["input"]: crops})
""",
    "openvino": """
sys.modules["openvino_telemetry"] = None
import openvino
settings = {"INFERENCE_NUM_THREADS": given["threads"], "INFERENCE_PRECISION_HINT": "f32"}
run = openvino.Core().compile_model(given["model"], "CPU", settings)
""",
}
SCRIPT_INPUTS = {
    CROP: "run(np.zeros((batch, given['size'], given['size'], 3), np.uint8))",
    PICTURE: """
import cv2
left, top, side = given["square"]
region = cv2.imread(given["picture"])[top:top + side, left:left + side]
run(np.repeat(cv2.resize(region, (given["size"], given["size"]))[None], batch, axis=0))
""",
}
PACKAGE_SESSION = """
from synergy import FaceAligner
aligner = FaceAligner.load(given["bundle"], engine=given["engine"], threads=given["threads"])
"""
PACKAGE_INPUTS = {
    CROP: "aligner.predict(np.zeros((1, given['size'], given['size'], 3), np.uint8)).landmarks",
    PICTURE: "import cv2; aligner.align(cv2.imread(given['picture']), [given['box']])[0].landmarks",
}
COMMAND_CODE = "from synergy.cli import main; main()"


class StartupRow(msgspec.Struct, frozen=True):
    """Median seconds of a whole process.

    work: the input, which is a crop in memory, a picture file with a box, the same on the command line, or a photo in
    which the face is detected. method: what is called. ratio: over the minimal script with the same engine and input
    (of a photo with onnxruntime), median over the rounds.
    """

    work: str
    method: str = msgspec.field(name="who")
    engine: str
    seconds: float
    ratio: float | None


class StartupReport(msgspec.Struct, frozen=True):
    """The JSON of `synergy bench startup`; `failures` has a line for each process that failed."""

    host: Host
    threads: int
    rows: tuple[StartupRow, ...]
    failures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Script:
    """Python code, or the path of a Python file, and its arguments."""

    code: str | Path
    arguments: tuple[str, ...]

    @property
    def command(self) -> list[str]:
        """How to start it."""
        program = [str(self.code)] if isinstance(self.code, Path) else ["-c", self.code]
        return [sys.executable, *program, *self.arguments]


class StartupCase(BenchmarkCase):
    """A process from its start to its end. baseline: the engine whose minimal script the ratio is over."""

    def __init__(self, work: str, method: str, engine: str, baseline: str, script: Script) -> None:
        super().__init__()
        self.work, self.method, self.engine, self.baseline, self.script = work, method, engine, baseline, script

    @property
    def is_bare(self) -> bool:
        """Whether it is a minimal script."""
        return self.method in LIBRARIES.values()

    def __str__(self) -> str:
        return f"{self.method} on {self.engine}, {self.work}"

    def run_sample(self, number: int) -> list[float]:
        start = time.perf_counter()
        try:
            done = programs.run(self.script.command, timeout_s=START_LIMIT_S)
        except subprocess.TimeoutExpired:
            raise EngineError(f"took more than {START_LIMIT_S} s") from None
        taken = time.perf_counter() - start
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            raise EngineError(lines[-1] if lines else f"exit status {done.returncode}")
        return [taken]


def bench_startup(
    folder: str | Path, threads: int | None = None, progress: Progress = ignore_progress
) -> StartupReport:
    """Measure a bundle on `ENGINES`.

    Raises BundleError for a bad bundle, EngineUnavailableError if no engine can run it.
    """
    host, bundle, threads = describe_host(), Bundle.open(folder), threads or default_threads()
    failures: list[str] = []
    progress(0.0, "tuning")  # stored beside the bundle, so that "auto" measures nothing in the processes below
    best = tune(bundle, Device(), TuneRequest(threads))[0]
    with TemporaryFolder() as output:
        selected = engine_label(best.engine, best.compute_precision)  # no script computes in less than float32
        cases = [*_cases(bundle, threads, selected, Path(output)), *_photo_cases(bundle, threads)]
        finished = run_interleaved(cases, ROUNDS, failures, progress, NO_LIMIT_S)
    return StartupReport(host, threads, tuple(startup_rows(finished)), tuple(failures))


def _cases(bundle: Bundle, threads: int, selected: str, folder: Path) -> Iterator[StartupCase]:
    """For each input the minimal scripts, then the package. selected: what engine `auto` selects."""
    engines = [name for name in ENGINES if readable(name, bundle.manifest.artifacts) and available(name).ok]
    boxes = folder / "boxes.json"
    boxes.write_bytes(msgspec.json.encode([PORTRAIT_BOX_XYXY]))
    for work in (CROP, PICTURE):
        for name in (name for name in engines if name in LIBRARIES):
            code = READ + SCRIPT_SESSIONS[name] + SCRIPT_INPUTS[work]
            yield StartupCase(work, LIBRARIES[name], name, name, _script(code, bundle, name, threads))
        for name in [*engines, "auto"]:
            script = _script(READ + PACKAGE_SESSION + PACKAGE_INPUTS[work], bundle, name, threads)
            method = "predict" if work == CROP else "align"
            yield StartupCase(work, method, name, selected if name == "auto" else name, script)
    for name in [*engines, "auto"]:
        files = (str(bundle.folder), str(PORTRAIT), "--boxes", str(boxes), "--json", str(folder / f"{name}.json"))
        script = Script(COMMAND_CODE, ("infer", *files, "--engine", name, "--threads", str(threads)))
        yield StartupCase(COMMAND, "synergy infer", name, selected if name == "auto" else name, script)


def _photo_cases(bundle: Bundle, threads: int) -> Iterator[StartupCase]:
    """The photo script, then the command. None without YuNet or onnxruntime: the script has them."""
    if find_yunet() is None or not (readable("onnx", bundle.manifest.artifacts) and available("onnx").ok):
        return
    yield StartupCase(PHOTO, LIBRARIES["onnx"], "onnx", "onnx", _script(PHOTO_SCRIPT, bundle, "onnx", threads))
    for name in ("onnx", "auto"):
        files = (str(bundle.folder), str(PORTRAIT), "--json", "-")
        script = Script(COMMAND_CODE, ("infer", *files, "--engine", name, "--threads", str(threads)))
        yield StartupCase(PHOTO, "synergy infer", name, "onnx", script)


def _script(code: str | Path, bundle: Bundle, engine: str, threads: int) -> Script:
    tensor = bundle.manifest.inputs[0]
    given: dict[str, Any] = {
        "bundle": str(bundle.folder),
        "engine": engine,
        "threads": threads,
        "input": tensor.name,
        "batch": 1 if tensor.shape[0] == DYNAMIC else tensor.shape[0],
        "size": bundle.manifest.preprocessing.size,
        "picture": str(PORTRAIT),
        "box": PORTRAIT_BOX_XYXY,
        "detector": str(find_yunet()),
        "crop": msgspec.to_builtins(bundle.manifest.crop),
        "outputs": [output.name for output in bundle.manifest.outputs],
        "square": [round(part) for part in square(PORTRAIT_BOX_XYXY, bundle.manifest.crop)],
    }
    if engine in LIBRARIES:
        given["model"] = str(bundle.folder / bundle.artifact_for(engine, Device()).file)
    return Script(code, (json.dumps(given),))


def startup_rows(cases: Sequence[StartupCase]) -> Iterator[StartupRow]:
    """The command line is compared with the script for a picture, which does the same work."""
    scripts: Mapping[tuple[str, str], StartupCase] = {(case.work, case.engine): case for case in cases if case.is_bare}
    for case in cases:
        baseline = scripts.get((PICTURE if case.work == COMMAND else case.work, case.baseline))
        yield StartupRow(
            work=case.work,
            method=f"{case.method}{BARE}" if case.is_bare else case.method,
            engine=case.engine,
            seconds=case.median_s,
            ratio=None if baseline is None else ratio_by_round(case.samples, baseline.samples),
        )
