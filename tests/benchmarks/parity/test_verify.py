"""`synergy verify`: a bundle's golden values are repeated without MindSpore, and every kind of change is named."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from synergy.benchmarks.parity.verify import VerifyOptions, VerifyReport, verify_bundle
from synergy.runtime.engines import available
from synergy.runtime.errors import BundleError, EngineUnavailableError

ROOT = Path(__file__).resolve().parents[3]
ONNX = VerifyOptions(("onnx",), threads=1)


@pytest.fixture
def copied(bundles: dict[str, Path], tmp_path: Path) -> Path:
    pytest.importorskip("onnxruntime")
    return Path(shutil.copytree(bundles["mb05"], tmp_path / "bundle"))


def rehash(folder: Path, *files: str) -> None:
    """What somebody does who wants a changed bundle to be accepted."""
    content = json.loads((folder / "manifest.json").read_text())
    for entry in (*content["artifacts"], content["morphable"], content["golden"]):
        if entry["file"] in files:
            data = (folder / entry["file"]).read_bytes()
            entry.update(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
    (folder / "manifest.json").write_text(json.dumps(content))


def test_a_sound_bundle_passes(bundles: dict[str, Path]) -> None:
    report = verify_bundle(bundles["mb05"], VerifyOptions(("lite", "onnx", "openvino"), threads=1))
    assert report.passed and not report.failures
    ran = {(row.artifact, row.engine) for row in report.accuracy}
    assert {("model.onnx", "onnx"), ("model.ms", "lite"), ("model.v1.mindir", "lite")} <= ran
    outputs = {check.output for check in report.checks if check.engine == "onnx"}
    assert outputs == {"params", "landmarks", "picture_landmarks", "picture_pose"}
    assert {check.output for check in report.checks if check.artifact == "morphable.npz"} == {"landmarks"}
    assert all(row.median_ms > 0 for row in report.latency) and len(report.latency) == len(report.accuracy)
    assert all(0 <= row.nme_drift < 1e-3 and row.mae is not None for row in report.accuracy)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("model.onnx", "model.onnx on onnx: params differs"),
        ("morphable.npz", "morphable.npz on numpy: landmarks differs"),
    ],
)
def test_files_of_another_network_are_found(copied: Path, bundles: dict[str, Path], file: str, words: str) -> None:
    shutil.copy(bundles["mobilenet_v2"] / file, copied / file)
    rehash(copied, file)
    report = verify_bundle(copied, ONNX)
    assert not report.passed and any(words in failure for failure in report.failures)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content["crop"].update(scale=1.2), "picture_landmarks"),
        (lambda content: content["landmark_frame"].update(y_from=121.0), "morphable.npz on numpy: landmarks"),
        (lambda content: content["pose"].update(pitch_rc=[1, 2], roll_rc=[0, 1]), "picture_pose"),
    ],
    ids=["crop rule", "landmark frame", "pose rule"],
)
def test_a_manifest_that_lies_is_found(copied: Path, change: Callable[[dict], None], words: str) -> None:
    content = json.loads((copied / "manifest.json").read_text())
    change(content)
    (copied / "manifest.json").write_text(json.dumps(content))
    assert any(words in failure for failure in verify_bundle(copied, ONNX).failures)


def test_an_engine_that_fails_is_named_and_the_others_go_on(copied: Path) -> None:
    (copied / "model.ms").write_bytes(b"no model")
    rehash(copied, "model.ms")
    report = verify_bundle(copied, VerifyOptions(("lite", "onnx"), threads=1))
    assert not report.passed and [each.split(":")[0] for each in report.failures] == ["model.ms on lite"]
    assert {row.artifact for row in report.accuracy} == {"model.v1.mindir", "model.onnx"}


def test_an_altered_file_is_refused(copied: Path) -> None:
    with (copied / "model.onnx").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(BundleError, match=r"model\.onnx"):
        verify_bundle(copied, ONNX)


def test_an_older_bundle_says_what_it_lacks(copied: Path) -> None:
    content = json.loads((copied / "manifest.json").read_text())
    content["schema"], content["golden"] = 2, None
    (copied / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(BundleError, match=r"no golden values \(schema 2\): export it again"):
        verify_bundle(copied, ONNX)


def test_a_device_that_no_engine_has(copied: Path) -> None:
    with pytest.raises(EngineUnavailableError, match=r"no engine here runs .* on ascend:0: "):
        verify_bundle(copied, VerifyOptions(("openvino",), "ascend"))


def test_the_command(synergy: Callable[..., tuple[int, str, str]], copied: Path, tmp_path: Path) -> None:
    code, out, err = synergy("verify", copied, "--engine", "onnx", "--json", tmp_path / "v.json")
    assert code == 0, err
    assert "model.onnx" in out and "pass" in out and "procedural faces" in " ".join(out.split())
    content = json.loads((tmp_path / "v.json").read_text())
    assert content["pass"] is True and content["bundle"] == "bundle" and content["device"] == "cpu"
    assert str(tmp_path) not in (tmp_path / "v.json").read_text()
    content = json.loads((copied / "manifest.json").read_text())
    content["crop"]["scale"] = 1.2
    (copied / "manifest.json").write_text(json.dumps(content))
    code, out, err = synergy("verify", copied, "--engine", "onnx")
    assert code == 1 and "FAIL" in out and "failed: model.onnx on onnx: picture_landmarks differs" in err


def test_neither_mindspore_nor_onnx_is_needed(bundles: dict[str, Path]) -> None:
    if not available("onnx").ok:
        pytest.skip("onnxruntime is not installed")
    code = (
        "import sys\n"
        "for name in ('mindspore', 'onnx', 'scipy', 'matplotlib', 'jinja2'): sys.modules[name] = None\n"
        "from synergy import cli\n"
        f"sys.argv = ['synergy', 'verify', {str(bundles['mb05'])!r}, '--engine', 'onnx']\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_report_is_json_of_known_form() -> None:
    fields = set(VerifyReport.__struct_encode_fields__)
    assert {"pass", "bundle", "device", "host", "checks", "accuracy", "latency", "skipped", "failures"} <= fields
