"""The doctor on broken installations, made with the environment or with fake packages on the import path."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import cv2
import msgspec
import pytest

from synergy import cli
from synergy.runtime.detection.install import MODEL_NAME, install_yunet
from synergy.runtime.diagnostics import doctor, probes
from synergy.runtime.diagnostics.doctor import (
    CheckResult,
    DoctorReport,
    check_accelerator,
    check_compiler,
    check_data_folder,
    check_lite,
    check_mindspore,
    check_onnx,
    check_onnxruntime,
    check_opencv,
    check_openvino,
    check_python,
    check_yunet,
    judge_accelerator,
    judge_engines,
)
from synergy.runtime.engines import mindspore as mindspore_engine
from synergy.runtime.errors import MediaError
from synergy.runtime.lite import locate
from synergy.runtime.lite.build import COMPILER_HINT

ROOT = Path(__file__).resolve().parents[3]
NAMES = (
    "python opencv engine mindspore-lite onnxruntime openvino mindspore onnx",
    "c++ compiler",
    "data folder yunet",
    "ascend gpu",
)

# an onnxruntime that gives wrong numbers
WRONG = """
SessionOptions = type("SessionOptions", (), {})
get_available_providers = lambda: ["CPUExecutionProvider"]
class InferenceSession:
    def __init__(self, data, options, providers, enable_fallback): pass
    def disable_fallback(self): pass
    def get_providers(self): return ["CPUExecutionProvider"]
    def run(self, names, feed): return [feed["x"]]
"""

Fake = Callable[[str, str], None]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Put a package of one's own in the place of an installed one."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))

    def put(name: str, text: str) -> None:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(text)

    return put


@pytest.fixture
def no_lite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without MindSpore Lite; returns its empty data folder."""
    monkeypatch.delenv("SYNERGY_LITE_HOME", raising=False)
    monkeypatch.setenv("SYNERGY_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def empty_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of one empty folder; returns the folder."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CXX", raising=False)
    return folder


def write_tool(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


# --- the whole


def test_report_on_this_machine(lite_home: Path) -> None:
    """In a process of its own, which must import nothing heavy: its children do."""
    heavy = "{'cv2', 'onnx', 'onnxruntime', 'openvino', 'mindspore', 'mindspore_lite'}"
    program = (
        "import sys, msgspec; from synergy.runtime.diagnostics.doctor import run_doctor; report = run_doctor(); "
        f"from synergy.runtime.engines.lite import is_loaded; assert not ({heavy} & set(sys.modules) or is_loaded()); "
        "print(msgspec.json.encode(report).decode())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    report = msgspec.json.decode(done.stdout, type=DoctorReport)
    assert " ".join(check.name for check in report.checks) == " ".join(NAMES)
    by_name = {check.name: check for check in report.checks}
    assert report.ok and by_name["opencv"].ok and by_name["engine"].ok
    assert by_name["mindspore"].ok == (find_spec("mindspore") is not None)
    assert by_name["mindspore-lite"].ok and str(lite_home) in by_name["mindspore-lite"].detail
    for check in report.checks:
        assert check.detail and "\n" not in check.detail
        assert (check.fix == "") == check.ok


def test_bare_installation_lists_what_to_install(no_lite: Path, tmp_path: Path) -> None:
    """Only what the doctor itself needs is importable, and it imports nothing else: its children do."""
    packages = tmp_path / "packages"
    packages.mkdir()
    for name in ("numpy", "msgspec", "platformdirs"):
        spec = find_spec(name)
        assert spec is not None and spec.origin is not None
        folder = Path(spec.origin).parent
        (packages / name).symlink_to(folder)
        libraries = folder.with_name(f"{name}.libs")
        if libraries.is_dir():
            (packages / libraries.name).symlink_to(libraries)
    program = (
        f"import sys; sys.path += {[str(ROOT), str(packages)]}\n"
        "from synergy.runtime.diagnostics.doctor import run_doctor; "
        "import msgspec; print(msgspec.json.encode(run_doctor()).decode())"
    )
    done = subprocess.run([sys.executable, "-S", "-E", "-c", program], capture_output=True, text=True, check=True)
    report = msgspec.json.decode(done.stdout, type=DoctorReport)
    missing = {check.name: check for check in report.checks if not check.ok}
    assert list(missing)[:7] == ["opencv", "engine", "mindspore-lite", "onnxruntime", "openvino", "mindspore", "onnx"]
    assert not report.ok
    assert missing["opencv"].detail == "No module named 'cv2'"
    assert missing["opencv"].fix == "pip install 'opencv-python>=4.8,<6'"
    assert missing["onnxruntime"].fix == "pip install 'synergy-mindir[onnx]'"
    assert missing["mindspore-lite"].fix == "run `synergy lite install`"


def test_json_is_the_contract() -> None:
    report = DoctorReport((CheckResult("opencv", False, "gone", "get it"), CheckResult("gpu", True, "no card")))
    assert msgspec.json.decode(msgspec.json.encode(report)) == {
        "checks": [
            {"name": "opencv", "ok": False, "detail": "gone", "fix": "get it"},
            {"name": "gpu", "ok": True, "detail": "no card", "fix": ""},
        ]
    }


@pytest.mark.parametrize(
    ("name", "required"), [("python", True), ("opencv", True), ("engine", True), ("mindspore", False), ("gpu", False)]
)
def test_only_required_checks_make_it_fail(name: str, required: bool) -> None:
    check = CheckResult(name, False, "gone", "get it")
    assert check.required == required
    assert DoctorReport((CheckResult("python", True, "3.11"), check)).ok == (not required)


# --- interpreter and OpenCV


def test_python(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_python().ok and sys.executable in check_python().detail
    monkeypatch.setattr(doctor, "OLDEST_PYTHON", (99, 1))
    assert not check_python().ok and check_python().fix == "use Python 99.1 or newer"


def test_opencv() -> None:
    assert check_opencv().ok


def test_opencv_5_has_no_cascades(fake: Fake) -> None:
    fake("cv2", "__version__ = '5.0.0'")
    check = check_opencv()
    assert check.ok and check.detail == "OpenCV 5.0.0 without face cascades"


class TestYuNet:
    """The recommended face detector; not required."""

    @pytest.fixture(autouse=True)
    def data_home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SYNERGY_DATA_HOME", str(tmp_path))
        monkeypatch.delenv("SYNERGY_DETECTOR", raising=False)

    def test_not_installed(self) -> None:
        check = check_yunet()
        assert not check.ok and not check.required
        assert "not installed" in check.detail and check.fix == "run `synergy detector install`"

    def test_installed(self, shared: Path) -> None:
        path = install_yunet(shared / "detector" / MODEL_NAME)
        check = check_yunet()
        assert check.ok and str(path) in check.detail

    def test_altered(self, shared: Path) -> None:
        path = install_yunet(shared / "detector" / MODEL_NAME)
        path.write_bytes(b"something else")
        check = check_yunet()
        assert not check.ok and "was changed" in check.detail and check.fix == "run `synergy detector install`"

    def test_another_model(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "own.onnx").write_bytes(b"not a network")
        monkeypatch.setenv("SYNERGY_DETECTOR", str(tmp_path / "own.onnx"))
        check = check_yunet()
        assert not check.ok and "is not a YuNet model" in check.detail


def test_opencv_with_damaged_cascades(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    for file in (Path(cv2.__file__).parent / "data").glob("*face*.xml"):
        (tmp_path / "data" / file.name).write_bytes(file.read_bytes()[:5000])
    monkeypatch.setattr(cv2, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(MediaError, match="is damaged: install opencv-python again"):
        probes.probe_opencv()


@pytest.mark.parametrize("version", ["6.0.0", "4.7.0"])
def test_unsupported_opencv_version(fake: Fake, version: str) -> None:
    fake("cv2", f"__version__ = {version!r}")
    check = check_opencv()
    assert not check.ok and f"OpenCV {version} is installed, this program needs >=4.8,<6" in check.detail
    assert check.fix == "pip install 'opencv-python>=4.8,<6'"


def test_opencv_without_a_system_library(fake: Fake) -> None:
    reason = "libGL.so.1: cannot open shared object file: No such file or directory"
    fake("cv2", f"raise ImportError({reason!r})")
    check = check_opencv()
    assert not check.ok and check.detail == "OpenCV cannot load libGL.so.1"
    assert check.fix.startswith("pip uninstall -y opencv-python && pip install 'opencv-python-headless<5'")


# --- engines


def test_lite(lite_home: Path) -> None:
    check = check_lite()
    assert check.ok and "MindSpore Lite" in check.detail and check.detail.endswith(", a model ran")


def test_no_lite(no_lite: Path) -> None:
    check = check_lite()
    assert not check.ok and check.detail.startswith("MindSpore Lite is not installed; without it")
    assert check.fix == "run `synergy lite install`"


def test_lite_home_without_lite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNERGY_LITE_HOME", str(tmp_path))
    check = check_lite()
    assert not check.ok and f"SYNERGY_LITE_HOME={tmp_path} contains no MindSpore Lite" in check.detail
    assert check.fix == "correct it or unset it"


def test_lite_whose_binding_does_not_open(lite_home: Path, no_lite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from synergy.runtime.lite.locate import describe_installation

    monkeypatch.setenv("SYNERGY_LITE_HOME", str(lite_home))
    home = describe_installation(lite_home)
    assert home is not None and no_lite in home.shim.parents
    home.shim.parent.mkdir(parents=True)
    home.shim.write_bytes(b"no library")
    check = check_lite()
    assert not check.ok and "but does not work: " in check.detail and check.fix == "correct or unset SYNERGY_LITE_HOME"


def test_vendor_package_that_does_not_import(fake: Fake, no_lite: Path) -> None:
    fake("mindspore_lite", "raise ImportError('built for another Python')")
    check = check_lite()
    assert not check.ok and "built for another Python" in check.detail
    assert check.fix.startswith("pip uninstall mindspore-lite")


def test_onnxruntime_and_onnx() -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from importlib.metadata import version

    assert check_onnxruntime() == CheckResult("onnxruntime", True, f"onnxruntime {version('onnxruntime')}, a model ran")
    assert check_onnx() == CheckResult("onnx", True, f"onnx {version('onnx')}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise ImportError('half installed')", "half installed"),
        (WRONG, "came out as [[-1.0, 2.0, -3.0, 4.0]]"),
        (
            "import os; print('words before the end', file=__import__('sys').stderr); os.abort()",
            "(signal SIGABRT): words",
        ),
        ("import os; os._exit(3)", "it crashed (exit status 3): no reason given"),
        ("print('probe was here'); raise RuntimeError", "RuntimeError"),
    ],
)
def test_broken_onnxruntime(fake: Fake, text: str, reason: str) -> None:
    fake("onnxruntime", text)
    check = check_onnxruntime()
    assert not check.ok and reason in check.detail and "but does not work: " in check.detail
    assert check.fix == "pip uninstall onnxruntime, then pip install 'synergy-mindir[onnx]'"


def test_a_hanging_package_times_out(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "TIMEOUT_S", 0.5)
    fake("onnxruntime", "import time; time.sleep(60)")
    assert "no answer within 0 s" in check_onnxruntime().detail


def test_broken_onnx(fake: Fake) -> None:
    fake("onnx", "raise ImportError('protobuf is too old')")
    assert check_onnx() == CheckResult(
        "onnx", False, "protobuf is too old", "pip uninstall onnx, then pip install 'synergy-mindir[export]'"
    )


def test_openvino() -> None:
    from importlib.metadata import version

    pytest.importorskip("openvino")
    check = check_openvino()
    assert check.ok and check.detail.startswith(f"openvino {version('openvino')}")
    assert check.detail.endswith(", a model ran")


@pytest.mark.parametrize("name", ["onnx", "onnxruntime", "openvino", "mindspore"])
def test_missing_package(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # how Python itself marks what is not to be imported
    checks = {"onnxruntime": check_onnxruntime, "openvino": check_openvino, "mindspore": check_mindspore}
    check = checks.get(name, check_onnx)()
    extra = {"onnxruntime": "onnx", "openvino": "openvino"}.get(name, "export")
    assert not check.ok and check.detail.startswith(f"{name} is not installed; without it")
    assert check.fix == f"pip install 'synergy-mindir[{extra}]'"


def test_python_version_without_a_mindspore_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mindspore", None)
    monkeypatch.setattr(mindspore_engine, "MINDSPORE_PYTHONS", ((3, 7), (3, 8)))
    check = check_mindspore()
    assert not check.ok and check.fix.startswith("MindSpore has no wheel for Python 3.")
    assert check.fix.endswith(": to export, use Python 3.7 to 3.8")
    error = ModuleNotFoundError("No module named 'mindspore'", name="mindspore")
    assert cli.error_message(error) == f"mindspore is not installed: {check.fix}"


@pytest.mark.parametrize(
    ("working", "detail"),
    [
        ((), "no engine works, so no bundle can run"),
        (("onnxruntime",), "bundles run on onnxruntime"),
        (("mindspore-lite", "mindspore"), "bundles run on mindspore-lite, mindspore"),
    ],
)
def test_one_engine_is_enough(working: tuple[str, ...], detail: str) -> None:
    names = ("mindspore-lite", "onnxruntime", "mindspore")
    check = judge_engines([CheckResult(name, name in working, "") for name in names])
    assert (check.ok, check.detail) == (bool(working), detail)
    assert check.ok or ("synergy lite install" in check.fix and "synergy-mindir[onnx]" in check.fix)


# --- the compiler


def test_no_compiler(empty_path: Path, no_lite: Path) -> None:
    check = check_compiler()
    assert not check.ok and check.detail.endswith("none was found") and check.fix == COMPILER_HINT


def test_no_compiler_but_lite_is_ready(empty_path: Path, lite_home: Path) -> None:
    check = check_compiler()
    assert check.ok and check.detail.endswith("not needed: MindSpore Lite is ready") and check.fix == ""


def test_wrong_compiler_name(no_lite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    check = check_compiler()
    assert not check.ok and check.detail == "CXX=no-such-compiler -O2 is not an executable program"
    assert check.fix == f"unset CXX, or {COMPILER_HINT}"


def test_compiler_without_its_library(empty_path: Path, no_lite: Path) -> None:
    write_tool(empty_path / "g++", "echo '<stdin>:1:10: fatal error: vector: No such file' >&2; exit 1")
    check = check_compiler()
    assert not check.ok and check.fix == COMPILER_HINT
    assert check.detail == "g++ cannot compile C++17: <stdin>:1:10: fatal error: vector: No such file"


def test_compiler(no_lite: Path) -> None:
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("no C++ compiler here")
    assert check_compiler().ok


# --- data folder


def test_data_folder_is_not_created(no_lite: Path) -> None:
    check = check_data_folder()
    assert check.ok and str(no_lite) in check.detail and "GB free" in check.detail
    assert not no_lite.exists()


def test_data_folder_below_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("SYNERGY_DATA_HOME", str(file / "data"))
    check = check_data_folder()
    assert not check.ok and check.detail.startswith(f"cannot write to {file / 'data'}")
    assert check.fix.startswith("set SYNERGY_DATA_HOME")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_data_folder_that_may_not_be_written(no_lite: Path) -> None:
    no_lite.mkdir(mode=0o500)
    assert "Permission denied" in check_data_folder().detail


def test_full_disk(no_lite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LITE_BYTES", float("inf"))
    check = check_data_folder()
    assert not check.ok and "GB free" in check.detail and "1 GB" in check.fix


def test_full_disk_with_lite_installed(lite_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LITE_BYTES", float("inf"))
    assert check_data_folder().ok


# --- accelerators


@pytest.mark.parametrize(
    ("has_card", "obstacles", "ok", "detail"),
    [
        (
            False,
            {"a": "no libx.so", "b": ""},
            True,
            "no card: only needed for --device gpu; also missing: a (no libx.so)",
        ),
        (False, {"a": "", "b": ""}, True, "no card: only needed for --device gpu"),
        (True, {"a": "no x", "b": "no y"}, False, "there is a card, but nothing runs on it: a (no x), b (no y)"),
        (True, {"a": "no x", "b": ""}, True, "a model ran on the card with b; not with a (no x)"),
        (True, {"a": "", "b": ""}, True, "a model ran on the card with a, b"),
    ],
)
def test_accelerator(has_card: bool, obstacles: dict[str, str], ok: bool, detail: str) -> None:
    check = judge_accelerator("gpu", has_card, obstacles)
    assert (check.ok, check.detail) == (ok, detail)
    assert check.fix == ("" if ok else "pip uninstall onnxruntime, then pip install 'synergy-mindir[onnx-gpu]'")
    assert "CANN" in judge_accelerator("ascend", True, {"a": "no x"}).fix


def no_card(kind: str) -> None:
    if any(Path("/dev").glob(doctor.ACCELERATORS[kind].nodes)):
        pytest.skip("there is a card")


def test_libraries_are_found_on_the_library_path(
    lite_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_card("ascend")
    compiler = shutil.which("cc") or pytest.skip("no compiler to make libraries with")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    for missing in ("libascendcl.so, libgraph.so", "libgraph.so"):
        assert f"mindspore-lite (no {missing})" in check_accelerator("ascend").detail
        name = missing.partition(", ")[0]
        subprocess.run([compiler, "-shared", "-x", "c", "/dev/null", "-o", str(tmp_path / name)], check=True)
    assert "mindspore-lite" not in check_accelerator("ascend").detail


def test_installed_gpu_libraries_are_found(lite_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_card("gpu")
    compiler = shutil.which("cc") or pytest.skip("no compiler to make libraries with")
    monkeypatch.setattr(locate, "gpu_library_folder", lambda: tmp_path)
    library = tmp_path / "libcurand.so.10"
    subprocess.run([compiler, "-shared", "-x", "c", "/dev/null", "-o", str(library)], check=True)
    assert "libcurand.so.10" in doctor.device_obstacle("gpu", "lite", has_card=False)
    (tmp_path / locate.RECORD).write_text("{}")  # the installation is complete
    obstacle = doctor.device_obstacle("gpu", "lite", has_card=False)
    assert "libcudart.so.11.0" in obstacle and "libcurand" not in obstacle


@pytest.mark.parametrize(("kind", "provider"), [("gpu", "CUDA"), ("ascend", "CANN")])
def test_missing_onnxruntime_provider(fake: Fake, kind: str, provider: str, tmp_path: Path) -> None:
    no_card(kind)
    fake("onnxruntime", WRONG)
    assert f"onnxruntime (no {provider}ExecutionProvider)" in check_accelerator(kind).detail
    package = tmp_path / "packages" / "onnxruntime"
    library = package / "capi" / f"libonnxruntime_providers_{provider.lower()}.so"
    library.parent.mkdir()
    library.write_text("no library")
    (package / "__init__.py").write_text(f"get_available_providers = lambda: ['{provider}ExecutionProvider']")
    assert f"onnxruntime ({library}: " in check_accelerator(kind).detail


@pytest.mark.parametrize("kind", ["gpu", "ascend"])
def test_a_model_is_run_on_a_card(kind: str, lite_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device node alone is no card: the engines' own errors come out, without their cures."""
    (tmp_path / "card0").touch()
    nodes = f"..{tmp_path}/card[0-9]"
    monkeypatch.setitem(doctor.ACCELERATORS, kind, replace(doctor.ACCELERATORS[kind], nodes=nodes))
    check = check_accelerator(kind)
    assert not check.ok and check.detail.startswith("there is a card, but nothing runs on it: mindspore-lite (")
    assert re.search(rf"MindSpore Lite cannot use {kind}:0: lib[\w.]+: cannot open", check.detail)
    assert "--device cpu" not in check.detail and "\n" not in check.detail
