"""Bundles on disk: hashes are verified before use, and every error is one line."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synergy.runtime.bundle import SPARSE_SHAPES, Bundle
from synergy.runtime.errors import BundleError, EngineUnavailableError
from synergy.runtime.manifest import MANIFEST_NAME, Artifact, FileEntry
from synergy.runtime.specs import Device

MODELS = {"model.mindir": "mindir", "model.v1.mindir": "mindir_v1", "model.onnx": "onnx", "model.ms": "ms"}


def npz(**changes: Any) -> bytes:
    """A morphable file; a change of None leaves the array out."""
    arrays = {name: np.full(shape, number, np.float32) for number, (name, shape) in enumerate(SPARSE_SHAPES.items())}
    buffer = io.BytesIO()
    np.savez(buffer, **{name: value for name, value in {**arrays, **changes}.items() if value is not None})
    return buffer.getvalue()


def entry(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {"file": path.name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def tensor(name: str, shape: list[int], dtype: str) -> dict[str, Any]:
    return {"name": name, "shape": shape, "dtype": dtype, "layout": "", "meaning": ""}


def write_manifest(folder: Path) -> None:
    """A manifest that fits the files in `folder`."""
    artifacts = [
        {**entry(folder / name), "format": kind, "precision": "fp32"}
        for name, kind in MODELS.items()
        if (folder / name).is_file()
    ]
    content = {
        "schema": 1,
        "arch": "mb05",
        "convention": "3ddfa_v2",
        "inputs": [tensor("images", [-1, 120, 120, 3], "uint8")],
        "outputs": [tensor("params", [-1, 62], "float32"), tensor("landmarks", [-1, 3, 68], "float32")],
        "preprocessing": {"size": 120, "colour": "BGR", "mean": 127.5, "scale": 128.0, "in_graph": True},
        "crop": {"side_of": "mean", "scale": 1.58, "round_to": 1, "shift_y": 0.14, "interpolation": "linear"},
        "pose": {"pitch_rc": [2, 1], "roll_rc": [1, 0]},
        "landmark_frame": {"y_from": 120.0, "x_shift": -1.0, "z_shift": -1.0, "z_min_to_zero": True},
        "toolchain": {},
        "source": {"file": "mb05.ckpt", "sha256": "0" * 64},
        "artifacts": artifacts,
        "morphable": entry(folder / "morphable.npz"),
        "parity": entry(folder / "parity.json"),
    }
    (folder / MANIFEST_NAME).write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle whose models are a few bytes each."""
    path = tmp_path / "bundle"
    path.mkdir()
    for name in MODELS:
        (path / name).write_bytes(f"the bytes of {name}".encode())
    (path / "morphable.npz").write_bytes(npz())
    (path / "parity.json").write_bytes(b"{}")
    write_manifest(path)
    return path


@pytest.fixture
def with_morphable(folder: Path) -> Callable[[bytes], Bundle]:
    """A bundle with this morphable file, and a manifest with its hash."""

    def make(data: bytes) -> Bundle:
        (folder / "morphable.npz").write_bytes(data)
        write_manifest(folder)
        return Bundle.open(folder)

    return make


def one_line(error: pytest.ExceptionInfo[BundleError]) -> bool:
    return "\n" not in str(error.value) and len(str(error.value)) < 1000


# --- opening ---


@pytest.mark.parametrize("as_text", [True, False])
def test_open(folder: Path, as_text: bool) -> None:
    bundle = Bundle.open(str(folder) if as_text else folder)
    assert bundle.folder == folder and bundle.manifest.arch == "mb05"


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no bundle at .*nowhere: make one with `synergy export") as raised:
        Bundle.open(tmp_path / "nowhere")
    assert one_line(raised)
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match="no bundle at"):
        Bundle.open(tmp_path / "file")
    with pytest.raises(BundleError, match="is not a bundle"):
        Bundle.open(tmp_path)


# --- files ---


@pytest.mark.parametrize("name", list(MODELS))
def test_read(folder: Path, name: str) -> None:
    bundle = Bundle.open(folder)
    assert bundle.read(bundle.artifact(name)) == f"the bytes of {name}".encode()


@pytest.mark.parametrize(
    "damage", ["flipped", "shorter", "longer", "empty", "gone", "folder", "link", "dangling", "pipe"]
)
@pytest.mark.parametrize("name", ["model.ms", "morphable.npz"])
def test_altered_file(folder: Path, tmp_path: Path, name: str, damage: str) -> None:
    bundle = Bundle.open(folder)
    path = folder / name
    data = path.read_bytes()
    path.unlink()
    if damage == "flipped":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage in ("shorter", "longer", "empty"):
        path.write_bytes({"shorter": data[:-1], "longer": data + b"\0", "empty": b""}[damage])
    elif damage == "folder":
        path.mkdir()
    elif damage == "link":  # with the right bytes behind it: a link may change later, or leave the bundle
        (tmp_path / "elsewhere").write_bytes(data)
        path.symlink_to(tmp_path / "elsewhere")
    elif damage == "dangling":
        path.symlink_to(tmp_path / "nowhere")
    elif damage == "pipe":
        os.mkfifo(path)
    with pytest.raises(BundleError, match=name) as raised:
        bundle.morphable() if name == "morphable.npz" else bundle.model_file(bundle.artifact(name))
    assert one_line(raised)


def test_altered_manifest_hash(folder: Path) -> None:
    text = (folder / MANIFEST_NAME).read_text()
    digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    (folder / MANIFEST_NAME).write_text(text.replace(digest, digest[::-1]))
    bundle = Bundle.open(folder)
    with pytest.raises(BundleError, match=r"model\.onnx was altered"):
        bundle.read(bundle.artifact("onnx"))
    assert bundle.read(bundle.artifact("ms"))  # the others are as they were


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "sub/model.onnx", "..", ""])
def test_no_way_out_of_the_bundle(folder: Path, tmp_path: Path, name: str) -> None:
    """Even with the right hash."""
    (tmp_path / "secret").write_bytes(b"secret")
    content = json.loads((folder / MANIFEST_NAME).read_text())
    content["artifacts"][0].update(file=name, sha256=hashlib.sha256(b"secret").hexdigest(), bytes=6)
    (folder / MANIFEST_NAME).write_text(json.dumps(content))
    with pytest.raises(BundleError, match="valid manifest"):
        Bundle.open(folder)


# --- choosing an artifact ---


@pytest.mark.parametrize(("name", "kind"), MODELS.items())
def test_artifact_by_file_or_format(folder: Path, name: str, kind: str) -> None:
    bundle = Bundle.open(folder)
    assert bundle.artifact(name).file == bundle.artifact(kind).file == name


@pytest.mark.parametrize("wanted", ["", "model", "tflite", "../model.onnx", "MODEL.ONNX", "parity.json"])
def test_unknown_artifact_names_those_there_are(folder: Path, wanted: str) -> None:
    with pytest.raises(BundleError, match=r"it has model\.mindir, model\.v1\.mindir, model\.onnx, model\.ms"):
        Bundle.open(folder).artifact(wanted)


def test_the_artifact_for_an_engine(folder: Path) -> None:
    bundle = Bundle.open(folder)
    assert bundle.artifact_for("onnx", Device()).file == bundle.artifact_for("openvino", Device()).file == "model.onnx"
    with pytest.raises(EngineUnavailableError, match="runs on cpu only, not on gpu:0"):
        bundle.artifact_for("openvino", Device("gpu"))


def test_no_artifact_for_an_engine(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    write_manifest(folder)
    with pytest.raises(BundleError, match=r"openvino reads onnx; .* has .*model.ms \(fp32\).*: use another"):
        Bundle.open(folder).artifact_for("openvino", Device())


def test_the_artifact_for_an_engine_is_of_those_there_are(folder: Path) -> None:
    assert Bundle.open(folder).artifact_for("lite", Device()).file == "model.ms"
    (folder / "model.ms").unlink()
    write_manifest(folder)
    assert Bundle.open(folder).artifact_for("lite", Device()).file == "model.v1.mindir"


def test_model_file_carries_bytes_and_shapes(folder: Path) -> None:
    bundle = Bundle.open(folder)
    model = bundle.model_file(bundle.artifact("onnx"))
    assert model.data == b"the bytes of model.onnx" and model.format == "onnx"
    assert [spec.shape for spec in (*model.inputs, *model.outputs)] == [(-1, 120, 120, 3), (-1, 62), (-1, 3, 68)]


def test_reading_ahead_hands_out_nothing_unverified(folder: Path) -> None:
    """An altered file is refused when the bytes are asked for, a missing one at once."""
    bundle = Bundle.open(folder)
    artifact = bundle.artifact("onnx")
    assert bundle.start_reading(artifact)() == bundle.model_file(artifact)
    path = folder / artifact.file
    path.write_bytes(path.read_bytes()[::-1])
    model = bundle.start_reading(artifact)
    with pytest.raises(BundleError, match="was altered"):
        model()
    path.unlink()
    with pytest.raises(BundleError, match="is missing"):
        bundle.start_reading(artifact)


def test_real_bundles_are_whole(bundles: dict[str, Path]) -> None:
    for folder in bundles.values():
        bundle = Bundle.open(folder)
        for part in (*bundle.manifest.artifacts, bundle.manifest.morphable, bundle.manifest.parity):
            assert isinstance(part, (Artifact, FileEntry)) and len(bundle.read(part)) == part.bytes
        assert bundle.morphable().dense is None


# --- the morphable file, which the manifest vouches for but anybody may have written ---


def test_morphable(folder: Path) -> None:
    morphable = Bundle.open(folder).morphable()
    for number, (name, shape) in enumerate(SPARSE_SHAPES.items()):
        value = getattr(morphable, name)
        assert value.shape == shape and (value == number).all()
    assert morphable.dense is None


def test_dense_morphable(with_morphable: Callable[[bytes], Bundle]) -> None:
    arrays = {"u": np.ones((6, 1)), "w_shp": np.ones((6, 40)), "w_exp": np.ones((6, 10))}
    dense = with_morphable(npz(**arrays, triangles=np.int32([[0, 1, 1]]))).morphable().dense
    assert dense is not None and dense.w_exp.shape == (6, 10) and dense.triangles.tolist() == [[0, 1, 1]]
    dense = with_morphable(npz(**arrays, triangles=np.zeros((0, 3), np.int32))).morphable().dense
    assert dense is not None and dense.triangles.shape == (0, 3)


@pytest.mark.parametrize("name", list(SPARSE_SHAPES))
@pytest.mark.parametrize("change", [None, np.zeros(3, np.float32), np.zeros((0,), np.float32)], ids=["none", "3", "0"])
def test_missing_or_misshaped_array(with_morphable: Callable[[bytes], Bundle], name: str, change: Any) -> None:
    with pytest.raises(BundleError, match=name) as raised:
        with_morphable(npz(**{name: change})).morphable()
    assert one_line(raised)


@pytest.mark.parametrize(
    "change",
    [
        {"param_mean": np.full(62, "x")},
        {"param_mean": np.full(62, 1j)},
        {"param_mean": np.array([{"a": 1}] * 62, object)},
        {"param_std": np.full(62, np.nan, np.float32)},
    ],
    ids=["text", "complex", "objects", "nan"],
)
def test_arrays_of_other_things(with_morphable: Callable[[bytes], Bundle], change: dict[str, np.ndarray]) -> None:
    with pytest.raises(BundleError):
        with_morphable(npz(**change)).morphable()


@pytest.mark.parametrize(
    "change",
    [
        {"u": np.ones((7, 1))},
        {"w_shp": np.ones((6, 39))},
        {"w_exp": np.ones((3, 10))},
        {"triangles": np.array([[0, 1, 2]])},
        {"triangles": np.array([[0, 1]])},
        {"triangles": np.array([[-1, 0, 1]])},
    ],
)
def test_inconsistent_dense_basis(with_morphable: Callable[[bytes], Bundle], change: dict[str, np.ndarray]) -> None:
    """Two vertices here: what does not fit them would end as an IndexError while drawing."""
    arrays = {
        "u": np.ones((6, 1)),
        "w_shp": np.ones((6, 40)),
        "w_exp": np.ones((6, 10)),
        "triangles": np.int32([[0, 1, 1]]),
    }
    with pytest.raises(BundleError, match=r"morphable\.npz"):
        with_morphable(npz(**{**arrays, **change})).morphable()


@pytest.mark.parametrize(
    "data",
    [b"x", b"a text file\n", b"PK\x03\x04 cut", npz()[:-1], npz()[: len(npz()) // 2], b"\x80\x04]\x94."],
    ids=["byte", "text", "zip magic", "cut", "half", "pickle"],
)
def test_no_archive(with_morphable: Callable[[bytes], Bundle], data: bytes) -> None:
    with pytest.raises(BundleError, match=r"morphable\.npz") as raised:
        with_morphable(data).morphable()
    assert one_line(raised)


def test_one_array_instead_of_an_archive(with_morphable: Callable[[bytes], Bundle]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(62))
    with pytest.raises(BundleError, match=r"morphable\.npz"):
        with_morphable(buffer.getvalue()).morphable()


def test_flipped_bytes(with_morphable: Callable[[bytes], Bundle]) -> None:
    """Damaged, with a matching hash."""
    sound, random = npz(), np.random.default_rng(0)
    for place in [*random.integers(0, len(sound), 60), *(len(sound) - random.integers(1, 400, 60))]:
        damaged = bytearray(sound)
        damaged[place] ^= 0xFF
        try:
            with_morphable(bytes(damaged)).morphable()
        except BundleError as error:
            assert "\n" not in str(error)
