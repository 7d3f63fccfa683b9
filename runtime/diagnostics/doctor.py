"""`synergy doctor`: check what works on this machine, what does not, and how to get it.

Packages are tested by use, not by version: libraries are opened and models are run, each in a child process, so that a
broken or hanging one gives one line of the report. This module itself needs neither OpenCV nor any engine.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import msgspec

from synergy.runtime.detection.install import INSTALL_HINT as DETECTOR_INSTALL_HINT
from synergy.runtime.detection.install import find_yunet
from synergy.runtime.diagnostics.probes import OPENCV_RANGE, run_probe
from synergy.runtime.engines import available, engine_class
from synergy.runtime.engines.mindspore import install_hint
from synergy.runtime.engines.onnx import INSTALL_HINTS
from synergy.runtime.errors import LIBRARY_CURE, EngineUnavailableError, MediaError
from synergy.runtime.lite.build import COMPILER_HINT, find_compiler
from synergy.runtime.lite.checks import CURES
from synergy.runtime.lite.locate import INSTALL_HINT, lite_folder
from synergy.runtime.lite.vendor import package_version
from synergy.runtime.processes import programs
from synergy.runtime.specs import Device
from synergy.runtime.text import last_line

OLDEST_PYTHON = (3, 10)
LITE_BYTES = 1e9  # disk space to install MindSpore Lite: the wheel and its content
ONNX_HINT = "pip install 'synergy-mindir[onnx]'"
# Without these nothing runs; the other checks are optional.
REQUIRED = ("python", "opencv", "engine")

PACKAGES = {  # by engine
    "lite": "mindspore-lite",
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "mindspore": "mindspore",
}


@dataclass(frozen=True)
class Accelerator:
    """A kind of accelerator card.

    nodes: pattern of its device files in /dev. engines: those that can run on it. libraries: those that MindSpore Lite
    2.0 opens for it, without Lite's own. fix: what to do if there is a card that no engine can use.
    """

    nodes: str
    engines: tuple[str, ...]
    libraries: tuple[str, ...]
    fix: str


ACCELERATORS = {
    "ascend": Accelerator(
        "davinci[0-9]*", ("lite", "onnx", "mindspore"), ("libascendcl.so", "libgraph.so"), CURES["ascend"]
    ),
    "gpu": Accelerator(
        "nvidia[0-9]*",
        ("lite", "onnx"),
        (
            "libcudart.so.11.0",
            "libcublas.so.11",
            "libcudnn.so.8",
            "libcurand.so.10",
            "libnvinfer.so.8",
            "libnccl.so.2",
            "libmpi.so.40",
        ),
        INSTALL_HINTS["gpu"],
    ),
}


class CheckResult(msgspec.Struct, frozen=True):
    """The result of one check. fix: how to get it, empty if nothing is to be done."""

    name: str
    ok: bool
    detail: str
    fix: str = ""

    @property
    def required(self) -> bool:
        """Whether this check must pass for anything to run."""
        return self.name in REQUIRED


class DoctorReport(msgspec.Struct, frozen=True):
    """All checks, in the order of the report."""

    checks: tuple[CheckResult, ...]

    @property
    def ok(self) -> bool:
        """Whether all required checks passed."""
        return all(check.ok for check in self.checks if check.required)


def run_doctor() -> DoctorReport:
    """Run all checks in parallel; this takes as long as the import of MindSpore."""
    checks: tuple[Callable[[], CheckResult], ...] = (
        check_python,
        check_opencv,
        check_lite,
        check_onnxruntime,
        check_openvino,
        check_mindspore,
        check_onnx,
        check_compiler,
        check_data_folder,
        check_yunet,
        lambda: check_accelerator("ascend"),
        lambda: check_accelerator("gpu"),
    )
    with ThreadPoolExecutor(len(checks)) as pool:
        results = list(pool.map(lambda check: check(), checks))
    return DoctorReport((*results[:2], judge_engines(results[2 : 2 + len(PACKAGES)]), *results[2:]))


def check_python() -> CheckResult:
    """The Python interpreter's version."""
    detail = f"{platform.python_implementation()} {platform.python_version()} at {sys.executable}"
    ok = sys.version_info[:2] >= OLDEST_PYTHON
    return CheckResult("python", ok, detail, "" if ok else f"use Python {_dotted(OLDEST_PYTHON)} or newer")


def check_opencv() -> CheckResult:
    """OpenCV of a supported version, and of OpenCV 4 its cascades."""
    ok, answer = run_probe("opencv")
    if ok:
        return CheckResult("opencv", True, f"OpenCV {answer}")
    detail, _, fix = answer.partition(LIBRARY_CURE)
    return CheckResult("opencv", False, detail, fix or f"pip install 'opencv-python{OPENCV_RANGE}'")


def check_yunet() -> CheckResult:
    """The model file of the recommended face detector is installed, and OpenCV runs it."""
    try:
        path = find_yunet()
    except MediaError as error:
        detail, _, fix = str(error).rpartition(": ")
        return CheckResult("yunet", False, detail, fix)
    if path is None:
        detail = "the YuNet face detector is not installed; OpenCV's cascades find fewer faces, and OpenCV 5 has none"
        return CheckResult("yunet", False, detail, DETECTOR_INSTALL_HINT)
    ok, answer = run_probe("yunet", str(path))
    if not ok:
        return CheckResult("yunet", False, answer, DETECTOR_INSTALL_HINT)
    return CheckResult("yunet", True, f"YuNet face detector at {path}")


def check_lite() -> CheckResult:
    """MindSpore Lite is installed and runs a model."""
    if os.environ.get("SYNERGY_LITE_HOME"):
        fix = "correct or unset SYNERGY_LITE_HOME"
    elif package_version() is not None:
        fix = "pip uninstall mindspore-lite, so that this program's own binding is used"
    else:
        fix = f"remove {lite_folder()} and {INSTALL_HINT}"
    return _check_engine("mindspore-lite", "lite", "without it .ms files do not run and cannot be made", fix)


def check_onnxruntime() -> CheckResult:
    """onnxruntime is installed and runs a model."""
    fix = "pip uninstall onnxruntime, then pip install 'synergy-mindir[onnx]'"
    return _check_engine("onnxruntime", "onnx", "without it .onnx files do not run", fix)


def check_openvino() -> CheckResult:
    """OpenVINO is installed and runs a model."""
    fix = "pip uninstall openvino, then pip install 'synergy-mindir[openvino]'"
    return _check_engine("openvino", "openvino", "without it .onnx files run on onnxruntime alone", fix)


def check_mindspore() -> CheckResult:
    """MindSpore is installed and runs a model."""
    fix = install_hint()
    if find_spec("mindspore") is None and not fix.startswith("pip"):
        return CheckResult("mindspore", False, "mindspore is not installed; bundles run without it", fix)
    fix = f"pip uninstall mindspore, then {fix}"
    return _check_engine("mindspore", "mindspore", "without it nothing can be exported", fix)


def check_onnx() -> CheckResult:
    """The onnx package, which MindSpore's ONNX export needs."""
    fix = "pip install 'synergy-mindir[export]'"
    if find_spec("onnx") is None:
        return CheckResult("onnx", False, "onnx is not installed; without it no .onnx file can be made", fix)
    ok, answer = run_probe("onnx")
    return CheckResult("onnx", ok, f"onnx {answer}" if ok else answer, "" if ok else f"pip uninstall onnx, then {fix}")


def check_compiler() -> CheckResult:
    """A C++17 compiler with its standard library, which is needed to build the binding of MindSpore Lite."""
    try:
        compiler = find_compiler()
        command = [*compiler, "-std=c++17", "-fsyntax-only", "-x", "c++", "-"]
        done = programs.run(command, text="#include <vector>\n")
        ok, detail, fix = done.returncode == 0, " ".join(compiler), COMPILER_HINT
        if not ok:
            detail = f"{detail} cannot compile C++17: {last_line(done.stderr, default='no reason given')}"
    except EngineUnavailableError as error:
        ok, (detail, _, fix) = False, str(error).rpartition(": ")
    if not ok and available("lite").ok:
        return CheckResult("c++ compiler", True, f"{detail}, but it is not needed: MindSpore Lite is ready")
    return CheckResult("c++ compiler", ok, detail, "" if ok else fix)


def check_data_folder() -> CheckResult:
    """Whether there is a writable folder with space for MindSpore Lite. Nothing is created."""
    folder = lite_folder()
    fix = "set SYNERGY_DATA_HOME to a writable folder with 1 GB free"
    try:
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        with tempfile.TemporaryFile(dir=existing):
            free = shutil.disk_usage(existing).free
    except OSError as error:
        return CheckResult("data folder", False, f"cannot write to {folder}: {error.strerror}", fix)
    enough = free >= LITE_BYTES or available("lite").ok
    return CheckResult("data folder", enough, f"{folder}, {free / 1e9:.1f} GB free", "" if enough else fix)


def check_accelerator(kind: str) -> CheckResult:
    """An accelerator card and the engines that run on it. The check passes if there is no card."""
    card = ACCELERATORS[kind]
    has_card = any(Path("/dev").glob(card.nodes))
    obstacles = {PACKAGES[name]: device_obstacle(kind, name, has_card) for name in card.engines}
    return judge_accelerator(kind, has_card, obstacles)


def judge_accelerator(kind: str, has_card: bool, obstacles: Mapping[str, str]) -> CheckResult:
    """The result for a kind of card. obstacles: why each package cannot run on it, empty if it can."""
    faults = ", ".join(f"{name} ({obstacle})" for name, obstacle in obstacles.items() if obstacle)
    if not has_card:
        missing = f"; also missing: {faults}" if faults else ""
        return CheckResult(kind, True, f"no card: only needed for --device {kind}{missing}")
    working = ", ".join(name for name, obstacle in obstacles.items() if not obstacle)
    if not working:
        return CheckResult(kind, False, f"there is a card, but nothing runs on it: {faults}", ACCELERATORS[kind].fix)
    return CheckResult(
        kind, True, f"a model ran on the card with {working}" + (f"; not with {faults}" if faults else "")
    )


def device_obstacle(kind: str, engine: str, has_card: bool) -> str:
    """Why an engine cannot run on a card, empty if it can. Without a card only its libraries are looked for."""
    status = available(engine)
    if not status.ok:
        return status.detail
    environment = engine_class(engine).environment(Device(kind))
    if has_card:
        ok, answer = run_probe("engine", engine, kind, environment=environment)
        return "" if ok else answer.partition("; ")[0]  # without the cure, which `fix` contains
    if engine == "onnx":
        return run_probe("provider", kind)[1]
    if engine == "lite":
        missing = run_probe("libraries", *ACCELERATORS[kind].libraries, environment=environment)[1]
        return f"no {missing}" if missing else ""
    return ""  # MindSpore cannot be checked without a card


def judge_engines(results: Sequence[CheckResult]) -> CheckResult:
    """Whether at least one of the engines works."""
    working = [result.name for result in results if result.ok]
    if working:
        return CheckResult("engine", True, f"bundles run on {', '.join(working)}")
    return CheckResult("engine", False, "no engine works, so no bundle can run", f"{INSTALL_HINT}, or {ONNX_HINT}")


def _check_engine(name: str, engine: str, without: str, fix: str) -> CheckResult:
    status = available(engine)
    if not status.ok:
        return CheckResult(name, False, f"{status.detail}; {without}", status.fix)
    ok, answer = run_probe("engine", engine)
    if not ok:
        return CheckResult(name, False, f"{status.detail}, but does not work: {answer}", fix)
    return CheckResult(name, True, f"{status.detail if engine == 'lite' else f'{name} {answer}'}, a model ran")


def _dotted(numbers: Sequence[int]) -> str:
    return ".".join(map(str, numbers))
