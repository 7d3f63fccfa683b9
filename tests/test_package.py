"""The built package: an sdist, the wheel made from it, and the wheel as it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from synergy import __version__

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("runtime", "synergy_model", "export", "benchmarks", "synergy", "tests")
FILES = ("cli.py", "setup.py", "pyproject.toml", "README.md", "LICENSE")
DATA = (
    "synergy/py.typed",
    "synergy/cli.py",
    "synergy/runtime/lite/shim.cpp",
    "synergy/runtime/lite/gpu/single_card.cpp",
    "synergy/benchmarks/assets/report.css",
    "synergy/benchmarks/assets/astronaut.jpg",
    "synergy/synergy_model/assets/synthetic.ckpt",
    "synergy/runtime/assets/builtin/manifest.json",
    "synergy/runtime/assets/builtin/model.onnx",
    "synergy/runtime/assets/builtin/golden.npz",
    "synergy/benchmarks/report/report.html.j2",
)


def run(*command: object, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    return subprocess.run(
        [*map(str, command)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in a copy of the tree, first as an sdist and from that as a wheel."""
    pytest.importorskip("build")
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    for name in SOURCES:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, tree)
    done = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, folder=tree)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (sdist,) = out.glob("*.tar.gz")
    assert sdist.name == f"synergy_mindir-{__version__}.tar.gz"
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel is installed in; its dependencies are those of this environment."""
    target = tmp_path_factory.mktemp("installed")
    command = (
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-compile",
        "--target",
        target,
        wheel,
    )
    done = run(*command, folder=target)
    assert done.returncode == 0, done.stderr
    return target


def test_contents_of_the_wheel(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    outside = [name for name in names if not name.startswith(("synergy/", "synergy_mindir-"))]
    assert outside == [] and set(DATA) <= set(names)
    assert not [name for name in names if "tests" in name.split("/")]
    modules = {f"synergy/{path.relative_to(ROOT)}" for name in SOURCES[:4] for path in (ROOT / name).rglob("*.py")}
    assert modules <= set(names)


@pytest.mark.parametrize(
    ("code", "works"),
    [
        ("import synergy, sys; assert synergy.__path__[0].startswith(sys.argv[1]), synergy.__path__", True),
        ("from synergy import FaceAligner, FacePool, FaceTracker", True),
        *((f"import {name}", False) for name in ("runtime", "synergy_model", "export", "benchmarks", "cli")),
    ],
)
def test_imports_of_the_installed_package(installed: Path, code: str, works: bool) -> None:
    done = run(sys.executable, "-c", code, installed, folder=installed / "bin", PYTHONPATH=str(installed))
    assert (done.returncode == 0) == works, done.stderr
    assert works or "ModuleNotFoundError" in done.stderr


@pytest.mark.parametrize("program", ["script", "module"])
def test_installed_command(installed: Path, program: str) -> None:
    command = [installed / "bin" / "synergy"] if program == "script" else [sys.executable, "-m", "synergy"]
    done = run(*command, "--version", folder=installed / "bin", PYTHONPATH=str(installed))
    assert (done.returncode, done.stdout) == (0, f"synergy {__version__}\n"), done.stderr
