"""`synergy export --precision bf16`: proved where the CPU computes in bfloat16, refused before work where it does not;
and everything after it that runs such a bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from synergy import FaceAligner
from synergy.runtime.autotune import TuneRequest, tune
from synergy.runtime.bundle import Bundle
from synergy.runtime.engines.openvino import OpenVinoEngine
from synergy.runtime.manifest import read_manifest
from synergy.runtime.specs import Availability, Device, EngineOptions, engine_label

pytest.importorskip("mindspore", reason="exports need MindSpore")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def exported(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """The exit status of an export of the real network, and where its bundle would be."""
    import subprocess
    import sys

    folder = tmp_path_factory.mktemp("computing") / "mb05"
    root = Path(__file__).resolve().parents[3]
    arguments = ("export", checkpoints["mb05"], folder, "--formats", "onnx", "--precision", "bf16")
    command = [sys.executable, str(root / "cli.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, folder


@pytest.fixture
def bundle(exported: tuple[int, Path]) -> Path:
    code, folder = exported
    if not OpenVinoEngine.computes("bf16", Device()).ok:
        assert code == 1 and not folder.exists()
        pytest.skip("this CPU does not compute in bfloat16; that the export refused it was checked")
    assert code == 0
    return folder


def test_the_manifest_says_what_was_proved(bundle: Path) -> None:
    (artifact,) = read_manifest(bundle).artifacts
    (compute_precision,) = artifact.compute_precision
    assert (artifact.precision, compute_precision.engine, compute_precision.precision) == ("fp32", "openvino", "bf16")
    assert artifact.drift is not None and artifact.drift.nme < 0.001
    assert (
        compute_precision.drift is not None
        and 0 < compute_precision.drift.nme <= 0.05
        and compute_precision.drift.data.startswith("256")
    )
    proof = json.loads((bundle / "parity.json").read_text())
    reduced = [check for check in proof["checks"] if check.get("computing") == "bf16"]
    assert {check["engine"] for check in reduced} == {"openvino"} and all(check["pass"] for check in reduced)
    assert max(check["max_abs"] for check in reduced) > 1e-3  # it was not float32 that ran
    assert [row["engine"] for row in proof["accuracy"]] == ["mindspore", "onnx", "openvino", "openvino"]


def test_auto_takes_it_and_who_asks_for_float32_gets_it(bundle: Path, shared: Path) -> None:
    crops = np.load(shared / "reference" / "real_emma.npz")["crop_bgr_u8"]
    best = tune(Bundle.open(bundle), Device(), TuneRequest())[0]
    with (
        FaceAligner.load(bundle) as auto,
        FaceAligner.load(bundle, "openvino") as named,
        FaceAligner.load(bundle, options=EngineOptions("fp32")) as exact,
    ):
        assert auto.engine.compute_precision == best.compute_precision
        assert (named.engine.compute_precision, exact.engine.compute_precision) == ("fp32", "fp32")
        expected = exact.predict(crops).landmarks
        assert np.abs(named.predict(crops).landmarks - expected).max() < 0.01
        off = np.abs(auto.predict(crops).landmarks - expected).max()
    assert off < 2.0 and (best.compute_precision == "fp32" or off > 0.01)


def test_benchmarks_name_it(bundle: Path, synergy: Run, tmp_path: Path) -> None:
    options = ("--engine", "openvino", "--threads", 1, "--batch", 1, "--rounds", 2)
    code, out, _ = synergy("bench", bundle, *options, "--json", tmp_path / "bench.json")
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert code == 0 and "openvino bf16" in out
    assert [(row["engine"], row.get("computing", "fp32")) for row in rows] == [
        ("openvino", "fp32"),
        ("openvino", "bf16"),
    ]


def test_eval_says_in_what_it_computed(bundle: Path, synergy: Run) -> None:
    best = tune(Bundle.open(bundle), Device(), TuneRequest())[0]
    code, _, err = synergy("eval", bundle)
    assert code == 0 and f"model.onnx on {engine_label(best.engine, best.compute_precision)}" in err
    assert (
        "model.onnx on openvino bf16"
        in synergy("eval", bundle, "--engine", "openvino", "--device-precision", "bf16")[2]
    )


def test_parity_is_repeated(bundle: Path, checkpoints: dict[str, Path], synergy: Run, tmp_path: Path) -> None:
    code, out, _ = synergy("parity", bundle, "--ckpt", checkpoints["mb05"], "--json", tmp_path / "parity.json")
    assert code == 0 and "openvino bf16" in out
    rows = json.loads((tmp_path / "parity.json").read_text())["accuracy"]
    assert [row["engine"] for row in rows if row.get("computing") == "bf16"] == ["openvino"]


def test_a_cpu_without_bfloat16_is_said_before_work(
    synergy: Run, checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = Availability(False, "this CPU does not compute in bfloat16", "use a CPU that has it")
    monkeypatch.setattr(OpenVinoEngine, "computes", classmethod(lambda cls, precision, device: absent))
    code, out, err = synergy("export", checkpoints["mb05"], tmp_path / "b", "--formats", "onnx", "--precision", "bf16")
    assert code == 1 and not (tmp_path / "b").exists() and "freezing" not in out
    reason = "this CPU does not compute in bfloat16: use a CPU that has it"
    assert err == f"error: bf16 cannot be verified on this machine: {reason}\n"
