"""Shared fixtures: reference data, converted checkpoints and exported bundles, each made once per session."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
REFERENCE_ARCHS = ("mobilenet_v2", "mobilenet_1")


def _absent(reason: str, required_by: str) -> None:
    if os.environ.get(required_by) == "1":
        pytest.fail(f"{reason}, and {required_by}=1 forbids skipping", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The reference data, which is not part of the project."""
    if not SHARED.is_dir():
        _absent("the reference data is not here", "SYNERGY_REQUIRE_SHARED")
    return SHARED


@pytest.fixture(scope="session")
def lite_home() -> Path:
    """An installed MindSpore Lite."""
    from synergy.runtime.engines import available

    status = available("lite")
    if not status.ok:
        _absent(f"{status.detail} ({status.fix})", "SYNERGY_REQUIRE_LITE")
    from synergy.runtime.lite.locate import locate

    return locate().root


@pytest.fixture(scope="session")
def checkpoints(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Converted checkpoints by architecture: mb05 (real weights), mobilenet_v2 and mobilenet_1 (random)."""
    from synergy.synergy_model.checkpoints.checkpoint import save_checkpoint
    from synergy.synergy_model.checkpoints.torch_conversion import convert_checkpoint

    folder = tmp_path_factory.mktemp("ckpt")
    morphable = shared / "morphable" / "sparse68.npz"
    real = shared / "checkpoints" / "real"
    paths = {}
    for arch in ("mb05", *REFERENCE_ARCHS):
        if arch == "mb05":
            whitening = real / "param_mean_std_62d_120x120.pkl"
            done = convert_checkpoint(real / "mb05_120x120.pth", whitening=whitening, morphable=morphable)
        else:
            done = convert_checkpoint(shared / "checkpoints" / "reference" / f"synergynet_{arch}.pth.tar")
        paths[arch] = folder / f"{arch}.ckpt"
        save_checkpoint(paths[arch], done.checkpoint)
    return paths


@pytest.fixture(scope="session")
def bundles(checkpoints: dict[str, Path], lite_home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Proved bundles with every format, by architecture."""
    from synergy.benchmarks.parity.gate import gate
    from synergy.export.artifacts import ExportOptions
    from synergy.export.bundle import export_bundle

    folder = tmp_path_factory.mktemp("bundles")
    for arch, ckpt in checkpoints.items():
        export_bundle(ckpt, folder / arch, ExportOptions(), gate, say=lambda _: None)
    return {arch: folder / arch for arch in checkpoints}


@pytest.fixture(scope="session")
def portrait_bgr() -> np.ndarray:
    """A real photograph with one face (scikit-image's astronaut, public domain)."""
    from skimage import data

    return np.ascontiguousarray(data.astronaut()[:, :, ::-1])


@pytest.fixture
def synergy(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process: (exit code, stdout, stderr)."""
    from synergy import cli

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["synergy", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
            sys.exit(0)
        out, err = capfd.readouterr()
        return int(end.value.code or 0), out, err

    return run
