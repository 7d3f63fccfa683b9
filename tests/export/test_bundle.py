"""Bundles: manifests describe the files, and a bundle is created complete and compared, or not at all.

Contents are tested on real exports (the `bundles` fixture, and one with a fixed batch); creation and replacement with
writers that write a few bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mindspore import Tensor

from synergy.export import artifacts, bundle
from synergy.export.artifacts import FORMATS, ExportOptions
from synergy.export.bundle import ParityResult, export_bundle, write_morphable
from synergy.export.lowering.lower import LoweringError
from synergy.runtime.bundle import Bundle
from synergy.runtime.errors import BundleError, EngineUnavailableError
from synergy.runtime.manifest import MANIFEST_NAME
from synergy.synergy_model.checkpoints.checkpoint import (
    Checkpoint,
    CheckpointError,
    DenseMorphable,
    load_checkpoint,
    save_checkpoint,
)

ARCHS = ("mb05", "mobilenet_v2")
FILES = ["manifest.json", "model.mindir", "model.ms", "model.onnx", "model.v1.mindir", "morphable.npz", "parity.json"]
GOLDEN = {"mb05": ["golden.npz"], "mobilenet_v2": []}  # the other one is exported without the parity check
PARAMS_ATOL, LANDMARKS_ATOL = 2e-4, 0.01


class UnprovedError(Exception):
    """Raised by a failing parity check in these tests."""


def quiet(_: str) -> None:
    pass


def proved(folder: Path, checkpoint: object) -> ParityResult:
    return ParityResult(b'{"pass": true}')


def unproved(folder: Path, checkpoint: object) -> ParityResult:
    raise UnprovedError("the artifacts differ")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_whitening_without_spread_is_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """Cell and artifacts would agree on parameters that are the same for all faces."""
    checkpoint = load_checkpoint(checkpoints["mb05"])
    checkpoint.network.morphable.param_std.set_data(Tensor(np.zeros(62, np.float32)))
    save_checkpoint(tmp_path / "zero.ckpt", checkpoint)
    with pytest.raises(CheckpointError, match="standard deviation that is not above 0"):
        export_bundle(tmp_path / "zero.ckpt", tmp_path / "bundle", ExportOptions(), proved, quiet)
    assert names(tmp_path) == ["zero.ckpt"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Writers that write a few bytes, and a MindSpore Lite that counts as installed."""

    def write(graph: object, path: Path, *_: object) -> None:
        path.write_bytes(f"content of {path.name}".encode())

    for name in ("write_mindir", "write_onnx", "lower_mindir", "write_ms"):
        monkeypatch.setattr(artifacts, name, write)
    monkeypatch.setattr(artifacts, "quantize_onnx", lambda path, crops: path.write_bytes(b"int8"))
    monkeypatch.setattr(bundle, "mind_ir_version", lambda path: 1 if "v1" in path.name else 3)
    content = SimpleNamespace(outputs=(SimpleNamespace(name="params"), SimpleNamespace(name="landmarks")))
    monkeypatch.setattr(bundle, "READERS", dict.fromkeys((".mindir", ".onnx", ".ms"), lambda data: content))
    for module in (artifacts, bundle):
        monkeypatch.setattr(module, "locate", lambda: type("Home", (), {"version": "2.0.0"}))


# --- real bundles ---


@pytest.mark.parametrize("arch", ARCHS)
def test_files(bundles: dict[str, Path], arch: str) -> None:
    expected = sorted([*FILES, *GOLDEN[arch]])
    assert names(bundles[arch]) == expected
    assert all((bundles[arch] / name).stat().st_mode & 0o444 == 0o444 for name in expected)
    assert set(names(bundles[arch].parent)) <= {arch, f"{arch}.tuning.json"}  # no temporary folder is left


@pytest.mark.parametrize("arch", ARCHS)
def test_hashes_and_sizes_are_those_of_the_files(bundles: dict[str, Path], arch: str) -> None:
    manifest = json.loads((bundles[arch] / MANIFEST_NAME).read_text())
    entries = [*manifest["artifacts"], manifest["morphable"], manifest["parity"], manifest["golden"]]
    entries = [entry for entry in entries if entry is not None]
    expected = sorted([*FILES, *GOLDEN[arch]])
    assert sorted(entry["file"] for entry in entries) == [name for name in expected if name != MANIFEST_NAME]
    for entry in entries:
        data = (bundles[arch] / entry["file"]).read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())


def test_formats_and_versions(bundles: dict[str, Path]) -> None:
    artifacts = json.loads((bundles["mb05"] / MANIFEST_NAME).read_text())["artifacts"]
    assert {a["file"]: (a["format"], a["mind_ir_version"], a["precision"]) for a in artifacts} == {
        "model.mindir": ("mindir", 3, "fp32"),
        "model.v1.mindir": ("mindir_v1", 1, "fp32"),
        "model.onnx": ("onnx", None, "fp32"),
        "model.ms": ("ms", None, "fp32"),
    }


@pytest.mark.parametrize("arch", ARCHS)
def test_the_source_is_named(bundles: dict[str, Path], checkpoints: dict[str, Path], arch: str) -> None:
    manifest = json.loads((bundles[arch] / MANIFEST_NAME).read_text())
    data = checkpoints[arch].read_bytes()
    assert manifest["source"] == {"file": f"{arch}.ckpt", "sha256": hashlib.sha256(data).hexdigest()}
    assert manifest["arch"] == arch
    assert str(checkpoints[arch].parent) not in (bundles[arch] / MANIFEST_NAME).read_text()


def test_toolchain(bundles: dict[str, Path]) -> None:
    tools = json.loads((bundles["mb05"] / MANIFEST_NAME).read_text())["toolchain"]
    assert {name: tools[name] for name in ("mindspore", "onnx", "numpy")} == {
        name: version(name) for name in ("mindspore", "onnx", "numpy")
    }
    assert tools["mindspore-lite"][0].isdigit() and tools["python"] == sys.version.split()[0]


def test_graph_and_preprocessing(bundles: dict[str, Path]) -> None:
    manifest = json.loads((bundles["mobilenet_v2"] / MANIFEST_NAME).read_text())
    tensors = [(t["name"], t["shape"], t["dtype"]) for t in (*manifest["inputs"], *manifest["outputs"])]
    assert tensors == [
        ("images", [-1, 120, 120, 3], "uint8"),
        ("params", [-1, 62], "float32"),
        ("landmarks", [-1, 3, 68], "float32"),
    ]
    assert manifest["inputs"][0]["layout"] == "NHWC"
    assert manifest["preprocessing"] == {"size": 120, "colour": "BGR", "mean": 127.5, "scale": 128.0, "in_graph": True}


@pytest.mark.parametrize(
    ("arch", "convention", "crop", "pose", "frame"),
    [
        ("mobilenet_v2", "synergynet", ("height", 1.2, 0.0), ([1, 2], [0, 1]), (121.0, 0.0, 0.0, False)),
        ("mb05", "3ddfa_v2", ("mean", 1.58, 0.14), ([2, 1], [1, 0]), (120.0, -1.0, -1.0, True)),
    ],
)
def test_conventions_are_data(
    bundles: dict[str, Path], arch: str, convention: str, crop: tuple, pose: tuple, frame: tuple
) -> None:
    manifest = json.loads((bundles[arch] / MANIFEST_NAME).read_text())
    assert manifest["convention"] == convention
    assert tuple(manifest["crop"][key] for key in ("side_of", "scale", "shift_y")) == crop
    assert (manifest["pose"]["pitch_rc"], manifest["pose"]["roll_rc"]) == pose
    keys = ("y_from", "x_shift", "z_shift", "z_min_to_zero")
    assert tuple(manifest["landmark_frame"][key] for key in keys) == frame


@pytest.mark.parametrize("arch", ARCHS)
def test_morphable_file_is_the_checkpoints(bundles: dict[str, Path], checkpoints: dict[str, Path], arch: str) -> None:
    cell = load_checkpoint(checkpoints[arch]).network.morphable
    with np.load(bundles[arch] / "morphable.npz", allow_pickle=False) as arrays:
        assert set(arrays.files) == set(cell.ARRAYS)
        assert all(np.array_equal(arrays[name], getattr(cell, name).asnumpy()) for name in cell.ARRAYS)


def test_parity_report_is_in_the_bundle(bundles: dict[str, Path]) -> None:
    report = json.loads((bundles["mb05"] / "parity.json").read_text())
    assert report["pass"] is True
    ran = {(check["artifact"], check["engine"]) for check in report["checks"]}
    assert ran >= {
        ("model.mindir", "mindspore"),
        ("model.v1.mindir", "lite"),
        ("model.onnx", "onnx"),
        ("model.ms", "lite"),
    }


def test_dense_basis_is_written(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    network = load_checkpoint(checkpoints["mb05"]).network
    arrays = {"u": np.ones((6, 1)), "w_shp": np.ones((6, 40)), "w_exp": np.ones((6, 10))}
    dense = DenseMorphable(**{k: v.astype(np.float32) for k, v in arrays.items()}, triangles=np.int32([[0, 1, 1]]))
    write_morphable(Checkpoint(network, dense), tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz", allow_pickle=False) as stored:
        assert {"u", "w_shp", "w_exp", "triangles"} <= set(stored.files)
        assert stored["w_shp"].shape == (6, 40) and stored["triangles"].tolist() == [[0, 1, 1]]


# --- a real export with a fixed batch ---


@pytest.fixture(scope="module")
def pairs(checkpoints: dict[str, Path], lite_home: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """mb05 with a batch of 2, in a folder whose name has a space and a non-ASCII letter."""
    target = tmp_path_factory.mktemp("fixed") / "my bündle"
    export_bundle(checkpoints["mb05"], target, ExportOptions(batch=2), proved, quiet)
    return target


def test_fixed_batch_is_stated(pairs: Path) -> None:
    manifest = Bundle.open(pairs).manifest
    assert [tensor.shape[0] for tensor in (*manifest.inputs, *manifest.outputs)] == [2, 2, 2]


@pytest.mark.parametrize(
    ("engine", "artifact"), [("onnx", "onnx"), ("lite", "ms"), ("lite", "mindir_v1"), ("mindspore", "mindir")]
)
def test_fixed_batch_takes_any_number_of_crops(pairs: Path, shared: Path, engine: str, artifact: str) -> None:
    """The last batch is padded with the last crop; the outputs of the padding are dropped."""
    from synergy.runtime.aligner import FaceAligner

    expected = np.load(shared / "reference" / "real_emma.npz")
    with FaceAligner.load(pairs, engine=engine, artifact=artifact) as aligner:
        for count in (1, 2, 3):
            found = aligner.predict(expected["crop_bgr_u8"][:count])
            assert found.params.shape == (count, 62) and found.landmarks.shape == (count, 3, 68)
            assert np.allclose(found.params, expected["param_whitened"][:count], rtol=0, atol=PARAMS_ATOL)
        assert aligner.predict(expected["crop_bgr_u8"][:0]).params.shape == (0, 62)


# --- whole or not at all ---


@pytest.mark.parametrize("place", ["proof", "writer", "converter", "interrupt"])
def test_failure_leaves_nothing(
    quick: None, checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt if place == "interrupt" else LoweringError("no")

    if place != "proof":
        monkeypatch.setattr(artifacts, "write_onnx" if place == "writer" else "write_ms", fail)
    with pytest.raises((UnprovedError, LoweringError, KeyboardInterrupt)):
        export_bundle(checkpoints["mb05"], tmp_path / "b", ExportOptions(), unproved, quiet)
    assert names(tmp_path) == []


def test_parity_is_checked_on_a_complete_bundle(quick: None, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    seen = {}

    def prove(folder: Path, checkpoint: Checkpoint) -> ParityResult:
        opened = Bundle.open(folder)
        seen["files"] = [opened.read(artifact) for artifact in opened.manifest.artifacts]
        seen["arch"], seen["outside"] = checkpoint.network.arch, names(tmp_path)
        return ParityResult(b"{}")

    export_bundle(checkpoints["mb05"], tmp_path / "b", ExportOptions(), prove, quiet)
    assert len(seen["files"]) == 4 and seen["arch"] == "mb05"
    assert "b" not in seen["outside"]
    assert (tmp_path / "b" / "parity.json").read_bytes() == b"{}"


def test_existing_target_is_refused_before_work(quick: None, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").touch()
    heard: list[str] = []
    for replace in (False, True):
        with pytest.raises(BundleError, match=r"b exists"):
            export_bundle(checkpoints["mb05"], tmp_path / "b", ExportOptions(replace=replace), proved, heard.append)
    assert heard == [] and names(tmp_path / "b") == ["mine.txt"]


def test_replacing(quick: None, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    first = export_bundle(checkpoints["mb05"], tmp_path / "b", ExportOptions(), proved, quiet)
    assert first.arch == "mb05"
    with pytest.raises(BundleError, match="--force"):
        export_bundle(checkpoints["mobilenet_1"], tmp_path / "b", ExportOptions(), proved, quiet)
    with pytest.raises(UnprovedError):
        export_bundle(checkpoints["mobilenet_1"], tmp_path / "b", ExportOptions(replace=True), unproved, quiet)
    assert Bundle.open(tmp_path / "b").manifest.arch == "mb05"  # a failed export replaces nothing
    export_bundle(checkpoints["mobilenet_1"], tmp_path / "b", ExportOptions(("onnx",), replace=True), proved, quiet)
    assert Bundle.open(tmp_path / "b").manifest.arch == "mobilenet_1"
    assert names(tmp_path) == ["b"] and names(tmp_path / "b") == [
        MANIFEST_NAME,
        "model.onnx",
        "morphable.npz",
        "parity.json",
    ]


def test_a_folder_that_appears_meanwhile_is_kept(quick: None, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    def prove(folder: Path, checkpoint: object) -> ParityResult:
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "mine.txt").touch()
        return ParityResult(b"{}")

    with pytest.raises(BundleError):
        export_bundle(checkpoints["mb05"], tmp_path / "b", ExportOptions(replace=True), prove, quiet)
    assert names(tmp_path / "b") == ["mine.txt"] and names(tmp_path) == ["b"]


def test_two_exports_to_one_target(quick: None, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """One export succeeds; the other fails and does not change the bundle of the first."""
    meet, outcomes = threading.Barrier(2), []

    def prove(folder: Path, checkpoint: object) -> ParityResult:
        meet.wait()
        return ParityResult(b"{}")

    def export() -> None:
        try:
            export_bundle(checkpoints["mb05"], tmp_path / "b", ExportOptions(("onnx",)), prove, quiet)
        except BundleError as error:
            outcomes.append(str(error))
        else:
            outcomes.append("made")

    threads = [threading.Thread(target=export) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes, key=len)[0] == "made" and str(tmp_path / "b") in sorted(outcomes, key=len)[1]
    opened = Bundle.open(tmp_path / "b")
    assert names(tmp_path) == ["b"] and [opened.read(a) for a in opened.manifest.artifacts]


# --- options ---


@pytest.mark.parametrize(
    ("formats", "files"),
    [
        (("mindir",), {"model.mindir"}),
        (("onnx",), {"model.onnx"}),
        (("lite",), {"model.v1.mindir", "model.ms"}),
        (("lite", "onnx"), {"model.v1.mindir", "model.ms", "model.onnx"}),
        (("onnx", "mindir", "onnx"), {"model.mindir", "model.onnx"}),
        (FORMATS, {"model.mindir", "model.v1.mindir", "model.ms", "model.onnx"}),
    ],
)
def test_formats(
    quick: None, checkpoints: dict[str, Path], tmp_path: Path, formats: tuple[str, ...], files: set[str]
) -> None:
    manifest = export_bundle(checkpoints["mb05"], tmp_path / "b", ExportOptions(formats), proved, quiet)
    assert {artifact.file for artifact in manifest.artifacts} == files
    assert set(names(tmp_path / "b")) == files | {MANIFEST_NAME, "morphable.npz", "parity.json"}
    assert ("mindspore-lite" in manifest.toolchain) == ("lite" in formats)


@pytest.mark.parametrize("formats", [("tflite",), ("onnx", "ms"), (), ("ONNX",), "onnx"])
def test_unknown_formats_list_the_known(formats: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="use mindir, onnx, lite"):
        ExportOptions(formats)


@pytest.mark.parametrize("batch", [0, -1, -100])
def test_unusable_batch(batch: int) -> None:
    with pytest.raises(ValueError, match="batch must be 1 or more"):
        ExportOptions(batch=batch)


def test_steps_are_logged(quick: None, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    heard: list[str] = []
    export_bundle(checkpoints["mb05"], tmp_path / "b", ExportOptions(), proved, heard.append)
    assert [next(word for word in ("MindIR 1", "MindIR", "ONNX", "Cell") if word in line) for line in heard] == [
        "MindIR",
        "MindIR 1",
        "ONNX",
        "Cell",
    ]


# --- what is not there ---


def test_without_lite_the_error_comes_before_the_export(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNERGY_DATA_HOME", str(tmp_path / "empty"))
    monkeypatch.delenv("SYNERGY_LITE_HOME", raising=False)
    heard: list[str] = []
    with pytest.raises(EngineUnavailableError, match="synergy lite install"):
        export_bundle(checkpoints["mb05"], tmp_path / "b", ExportOptions(), proved, heard.append)
    assert heard == [] and not (tmp_path / "b").exists()


def test_without_lite_the_other_formats_work(
    quick: None, checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise EngineUnavailableError("MindSpore Lite is not installed: run `synergy lite install`")

    for module in (artifacts, bundle):
        monkeypatch.setattr(module, "locate", missing)
    manifest = export_bundle(checkpoints["mb05"], tmp_path / "b", ExportOptions(("mindir", "onnx")), proved, quiet)
    assert len(manifest.artifacts) == 2


@pytest.mark.parametrize("content", [None, b"", b"a text file\n"])
def test_unusable_checkpoint(quick: None, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.ckpt").write_bytes(content)
    with pytest.raises((FileNotFoundError, CheckpointError), match=r"a\.ckpt"):
        export_bundle(tmp_path / "a.ckpt", tmp_path / "b", ExportOptions(), proved, quiet)
    assert not (tmp_path / "b").exists()


FRESH = """
import sys
from pathlib import Path
from synergy.export.artifacts import ExportOptions
from synergy.export.bundle import ParityResult, export_bundle
options = ExportOptions(("onnx",), batch=1)
export_bundle(Path(sys.argv[1]), Path(sys.argv[2]), options, lambda *_: ParityResult(b"{}"), print)
from google.protobuf.internal import api_implementation
assert api_implementation.Type() != "python", "model files are parsed slowly"
"""


def test_export_in_a_new_process(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """In a new process, with a relative path and a fixed batch: nothing is printed by libraries."""
    set_by_mindspore = "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"
    environment = {name: value for name, value in os.environ.items() if name != set_by_mindspore}
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.path.remove('')\n" + FRESH, str(checkpoints["mb05"]), "bundle"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "NumPy" not in done.stderr and len(done.stdout.splitlines()) == 2
    assert "model.onnx" in names(tmp_path / "bundle") and names(tmp_path) == ["bundle"]


def test_morphable_is_plain_arrays(bundles: dict[str, Path]) -> None:
    """It can be read without unpickling."""
    with np.load(io.BytesIO((bundles["mb05"] / "morphable.npz").read_bytes()), allow_pickle=False) as arrays:
        assert all(arrays[name].dtype == np.float32 for name in arrays.files)
