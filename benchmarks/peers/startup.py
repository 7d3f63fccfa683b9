"""The first face: from starting a process to its end, with one result in between, beside plain scripts.

The scripts open a bare session and run it once, on a picture's crop where there is one; they make no landmarks of the
result and check nothing. All take turns, as in `rounds`.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from synergy.benchmarks.peers.pipeline import square
from synergy.benchmarks.sample_crops import PORTRAIT, PORTRAIT_BOX_XYXY
from synergy.benchmarks.speed.interleave import BenchmarkCase, Progress, ratio_by_round, run_interleaved
from synergy.runtime.autotune import TuneRequest, tune
from synergy.runtime.bundle import Bundle
from synergy.runtime.diagnostics.host import Host, describe_host
from synergy.runtime.engines import available, default_threads, readable
from synergy.runtime.errors import EngineError
from synergy.runtime.specs import DYNAMIC, Device, engine_label

CROP, PICTURE, COMMAND = "a crop", "a picture", "the command"
ENGINES = ("onnx", "openvino", "lite")  # MindSpore takes seconds
BARE = {"onnx": "onnxruntime", "openvino": "OpenVINO"}
ROUNDS = 11
NO_LIMIT_S = 1e9  # every round is played
START_LIMIT_S = 120

READ = "import json, sys; given = json.loads(sys.argv[1]); batch = given['batch']; import numpy as np; "
BARE_SESSIONS = {
    "onnx": """
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
BARE_INPUTS = {
    CROP: "run(np.zeros((batch, given['size'], given['size'], 3), np.uint8))",
    PICTURE: """
import cv2
left, top, side = given["square"]
region = cv2.imread(given["picture"])[top:top + side, left:left + side]
run(np.repeat(cv2.resize(region, (given["size"], given["size"]))[None], batch, axis=0))
""",
}
OURS = """
from synergy import FaceAligner
aligner = FaceAligner.load(given["bundle"], engine=given["engine"], threads=given["threads"])
"""
OUR_INPUTS = {
    CROP: "aligner.predict(np.zeros((1, given['size'], given['size'], 3), np.uint8)).landmarks",
    PICTURE: "import cv2; aligner.align(cv2.imread(given['picture']), [given['box']])[0].landmarks",
}
OUR_COMMAND = "import sys; from cli import main; main()"


class StartupRow(msgspec.Struct, frozen=True):
    """Seconds of a process, median. work: what it is given, a ready crop, or a picture file with a box, or those on
    the command line. ratio: over the plain script with the same engine and input, median over the rounds."""

    work: str
    who: str
    engine: str
    seconds: float
    ratio: float | None


class StartupReport(msgspec.Struct, frozen=True):
    """All rows; `failures` what was tried in vain."""

    host: Host
    threads: int
    rows: tuple[StartupRow, ...]
    failures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Script:
    """Python code, and its arguments."""

    code: str
    arguments: tuple[str, ...]


class Start(BenchmarkCase):
    """A process from its start to its end. `alike`: the engine whose plain script does the same."""

    def __init__(self, work: str, who: str, engine: str, alike: str, script: Script) -> None:
        super().__init__()
        self.work, self.who, self.engine, self.alike, self.script = work, who, engine, alike, script

    @property
    def is_bare(self) -> bool:
        return self.who in BARE.values()

    def __str__(self) -> str:
        return f"{self.who} on {self.engine} from {self.work}"

    def run_sample(self, number: int) -> list[float]:
        start = time.perf_counter()
        command = [sys.executable, "-c", self.script.code, *self.script.arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=START_LIMIT_S, check=False)
        except subprocess.TimeoutExpired:
            raise EngineError(f"took more than {START_LIMIT_S} s") from None
        taken = time.perf_counter() - start
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            raise EngineError(lines[-1] if lines else f"exit status {done.returncode}")
        return [taken]


def bench_startup(folder: str | Path, threads: int | None = None, progress: Progress | None = None) -> StartupReport:
    """Measure a bundle on every engine here that starts in less than seconds.

    Raises BundleError for a bad bundle, EngineUnavailableError if no engine fits.
    """
    say = progress or (lambda part, doing: None)
    host, bundle, threads = describe_host(), Bundle.open(folder), threads or default_threads()
    failures: list[str] = []
    say(0.0, "choosing what auto takes")
    best = tune(bundle, Device(), TuneRequest(threads))[
        0
    ]  # so that "auto" finds it measured, as from the second start on
    with tempfile.TemporaryDirectory() as report:
        tuned = engine_label(best.engine, best.compute_precision)  # no plain script computes in less than float32
        starts = list(_starts(bundle, threads, tuned, Path(report)))
        finished = run_interleaved(starts, ROUNDS, failures, say, NO_LIMIT_S)
    return StartupReport(host, threads, tuple(_rows(finished)), tuple(failures))


def _starts(bundle: Bundle, threads: int, tuned: str, folder: Path) -> Iterator[Start]:
    """The plain scripts of each work first."""
    engines = [name for name in ENGINES if readable(name, bundle.manifest.artifacts) and available(name).ok]
    boxes = folder / "boxes.json"
    boxes.write_bytes(msgspec.json.encode([PORTRAIT_BOX_XYXY]))
    for work in (CROP, PICTURE):
        for name in (name for name in engines if name in BARE):
            code = READ + BARE_SESSIONS[name] + BARE_INPUTS[work]
            yield Start(work, BARE[name], name, name, _script(code, bundle, name, threads))
        for name in [*engines, "auto"]:
            script = _script(READ + OURS + OUR_INPUTS[work], bundle, name, threads)
            who = "predict" if work == CROP else "align"
            yield Start(work, who, name, tuned if name == "auto" else name, script)
    for name in [*engines, "auto"]:
        files = (str(bundle.folder), str(PORTRAIT), "--boxes", str(boxes), "--json", str(folder / f"{name}.json"))
        script = Script(OUR_COMMAND, ("infer", *files, "--engine", name, "--threads", str(threads)))
        yield Start(COMMAND, "synergy infer", name, tuned if name == "auto" else name, script)


def _script(code: str, bundle: Bundle, engine: str, threads: int) -> Script:
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
        "square": [round(part) for part in square(PORTRAIT_BOX_XYXY, bundle.manifest.crop)],
    }
    if engine in BARE:
        given["model"] = str(bundle.folder / bundle.artifact_for(engine, Device()).file)
    return Script(code, (json.dumps(given),))


def _rows(finished: Sequence[Start]) -> Iterator[StartupRow]:
    """A command is compared with the script for a picture, which is its work."""
    bare: Mapping[tuple[str, str], Start] = {(each.work, each.engine): each for each in finished if each.is_bare}
    for each in finished:
        base = bare.get((PICTURE if each.work == COMMAND else each.work, each.alike))
        ratio = None if base is None else ratio_by_round(each.samples, base.samples)
        seconds = statistics.median(taken for (taken,) in each.samples.values())
        yield StartupRow(each.work, f"{each.who} (bare)" if each.is_bare else each.who, each.engine, seconds, ratio)
