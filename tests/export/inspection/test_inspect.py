"""`inspect` on models with known content; every other file is refused with a one-line message."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from synergy.export.inspection import inspect as inspection
from synergy.export.inspection.inspect import EngineInfo, InspectionError, ModelInfo, TensorInfo, inspect_path
from synergy.export.inspection.ms_file import OPERATORS, MsFileError, read_ms
from synergy.runtime.errors import BundleError
from synergy.runtime.lite.convert import convert
from synergy.runtime.manifest import read_manifest
from synergy.runtime.specs import Availability
from synergy.runtime.verification.parity_record import file_hashes

ROOT = Path(__file__).resolve().parents[3]
KERNEL = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)

WRITE_MINDIR = """
import sys
import mindspore as ms
from mindspore import nn, ops
from pathlib import Path
from synergy.export.lowering.lower import lower_mindir

folder = Path(sys.argv[1])
example = ms.Tensor(shape=[None, 3, 8, 8], dtype=ms.float32)

def write(cell, name):
    ms.export(cell, example, file_name=str(folder / name), file_format="MINDIR")

conv = nn.SequentialCell(nn.Conv2d(3, 4, 3, weight_init="ones"), nn.ReLU(), nn.Conv2d(4, 2, 1, weight_init="ones"))
write(conv, "plain.mindir")
lower_mindir(folder / "plain.mindir", folder / "lowered.mindir")
write(nn.SequentialCell(nn.ReLU(), nn.Sigmoid()), "refused.mindir")
"""


def write_onnx(path: Path, dtype: type = np.float32, *, with_branch: bool = False, **options: Any) -> Path:
    """images uint8 (N,8,8,3) -> scores (N,4): Cast, Transpose, Conv, Relu, ReduceMean."""
    window = {"kernel_shape": [3, 3], "strides": [1, 1], "dilations": [1, 1], "pads": [0, 0, 0, 0], "group": 1}
    kernel = KERNEL if dtype is np.float32 else (KERNEL * 20).astype(dtype)
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel"], ["features"], **window),
        helper.make_node("Relu", ["features"], ["positive"]),
        helper.make_node("ReduceMean", ["positive"], ["scores"], axes=[2, 3], keepdims=0),
    ]
    if with_branch:
        branch = helper.make_graph([helper.make_node("Identity", ["positive"], ["same"])], "branch", [], [])
        nodes.append(helper.make_node("If", ["flag"], ["other"], then_branch=branch, else_branch=branch))
        nodes.append(helper.make_node("Gelu", ["other"], ["unused"], domain="com.microsoft"))
    inputs = [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 8, 8, 3])]
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 4])]
    opsets = [helper.make_opsetid("", 11)] + ([helper.make_opsetid("com.microsoft", 1)] if with_branch else [])
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, [numpy_helper.from_array(kernel, "kernel")])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=6, producer_name="tests")
    onnx.save(model, str(path), **options)
    return path


def only(path: Path) -> ModelInfo:
    found = inspect_path(path)
    assert found.bundle is None
    (model,) = found.models
    assert (model.file, model.bytes) == (path.name, path.stat().st_size)
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    return model


@pytest.fixture(scope="module")
def mindirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """plain.mindir, lowered.mindir, refused.mindir."""
    pytest.importorskip("mindspore")
    folder = tmp_path_factory.mktemp("mindirs")
    subprocess.run([sys.executable, "-c", WRITE_MINDIR, str(folder)], check=True, capture_output=True, cwd=ROOT)
    return folder


@pytest.fixture(scope="module")
def lite_files(lite_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """full.ms and half.ms."""
    folder = tmp_path_factory.mktemp("lite")
    source = write_onnx(folder / "tiny.onnx")
    convert(source, "onnx", folder / "full.ms", input_format="NHWC")
    convert(source, "onnx", folder / "half.ms", input_format="NHWC", weight_fp16=True)
    return folder


# --- MindIR ---


def test_mindir(mindirs: Path) -> None:
    model = only(mindirs / "plain.mindir")
    assert (model.format, model.precision, model.weights, model.values) == ("mindir", "fp32", 2, 4 * 3 * 9 + 2 * 4)
    assert model.versions["MindIR"] == "3" and model.versions["MindSpore"].startswith("2.")
    (taken,) = model.inputs
    assert (taken.dtype, taken.shape) == ("float32", (-1, 3, 8, 8)) and ":" not in taken.name
    assert [(output.dtype, output.shape) for output in model.outputs] == [("float32", (-1, 2, 8, 8))]
    assert model.operators == {"Conv2D": 2, "ReLU": 1}
    assert model.lowering == ""


def test_lowered_mindir(mindirs: Path) -> None:
    plain, lowered = only(mindirs / "plain.mindir"), only(mindirs / "lowered.mindir")
    assert (lowered.format, lowered.versions["MindIR"], lowered.lowering) == ("mindir_v1", "1", None)
    for field in ("inputs", "outputs", "weights", "values", "operators"):
        assert getattr(lowered, field) == getattr(plain, field)


def test_a_mindir_that_cannot_be_lowered_says_why(mindirs: Path) -> None:
    lowering = only(mindirs / "refused.mindir").lowering
    assert lowering is not None and "Sigmoid in 1 (Sigmoid)" in lowering


def test_engines_of_a_mindir(mindirs: Path) -> None:
    engines = {engine.name: engine for engine in only(mindirs / "plain.mindir").engines}
    assert list(engines) == ["lite", "onnx", "openvino", "mindspore"]
    assert engines["mindspore"].runs and not engines["onnx"].runs
    assert engines["onnx"].detail == "reads ONNX, not MindIR 3"


def test_a_mindir_in_parts_is_refused(mindirs: Path, tmp_path: Path) -> None:
    from mindspore.train.mind_ir_pb2 import ModelProto

    model = ModelProto.FromString((mindirs / "plain.mindir").read_bytes())
    model.graph.parameter[0].external_data.location = "data_0"
    path = tmp_path / "model_graph.mindir"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InspectionError, match=r"model_graph\.mindir has its weights in other files"):
        inspect_path(path)


# --- ONNX ---


def test_onnx(tmp_path: Path) -> None:
    model = only(write_onnx(tmp_path / "tiny.onnx"))
    assert (model.format, model.precision, model.weights, model.values) == ("onnx", "fp32", 1, 108)
    assert model.versions == {"opset": "11", "IR": "6", "producer": "tests"}
    assert model.inputs == (TensorInfo("images", "uint8", (-1, 8, 8, 3)),)
    assert model.outputs == (TensorInfo("scores", "float32", (-1, 4)),)
    assert model.operators == {"Cast": 1, "Transpose": 1, "Conv": 1, "Relu": 1, "ReduceMean": 1}
    assert model.lowering is None


def test_onnx_with_branches_and_another_domain(tmp_path: Path) -> None:
    model = only(write_onnx(tmp_path / "tiny.onnx", with_branch=True))
    assert model.operators["Identity"] == 2 and model.operators["com.microsoft.Gelu"] == 1
    assert model.versions["opset com.microsoft"] == "1"


@pytest.mark.parametrize(
    ("dtype", "precision"), [(np.float16, "fp16"), (np.int8, "int8"), (np.float64, "float64"), (np.int32, "int32")]
)
def test_precision(tmp_path: Path, dtype: type, precision: str) -> None:
    assert only(write_onnx(tmp_path / "tiny.onnx", dtype)).precision == precision


def test_no_weights_no_precision(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["x"])], "relu", [value], [value])
    onnx.save(helper.make_model(graph), str(tmp_path / "relu.onnx"))
    model = only(tmp_path / "relu.onnx")
    assert (model.precision, model.weights, model.values, model.inputs[0].shape) == (None, 0, 0, None)


def test_an_onnx_in_parts_is_refused(tmp_path: Path) -> None:
    options = {"save_as_external_data": True, "location": "weights", "size_threshold": 0}
    path = write_onnx(tmp_path / "tiny.onnx", **options)
    with pytest.raises(InspectionError, match=r"tiny\.onnx has its weights in other files"):
        inspect_path(path)


# --- MindSpore Lite ---


def test_ms(lite_files: Path) -> None:
    model = only(lite_files / "full.ms")
    assert (model.format, model.precision, model.lowering) == ("ms", "fp32", None)
    assert model.versions["schema"] == "MSL2"
    assert model.inputs == (TensorInfo("images", "uint8", (-1, 8, 8, 3)),)
    assert [(output.dtype, output.shape) for output in model.outputs] == [("float32", None)]
    assert model.operators["Conv2DFusion"] == 1 and model.operators["ReduceFusion"] == 1
    assert set(model.operators) <= set(OPERATORS)
    assert 108 <= model.values < 150  # the kernel, its bias, and axes of transpositions and the mean


def test_half_precision_ms(lite_files: Path) -> None:
    assert only(lite_files / "half.ms").precision == "fp16"


def test_engines_of_ms(lite_files: Path) -> None:
    engines = {engine.name: engine for engine in only(lite_files / "full.ms").engines}
    assert engines["lite"].runs and "MindSpore Lite" in engines["lite"].detail
    assert engines["mindspore"].detail == "reads MindIR 2 and newer, not .ms"


def test_a_cut_ms_file_is_refused_wherever_it_ends(lite_files: Path) -> None:
    data = (lite_files / "full.ms").read_bytes()
    for end in range(len(data)):
        with pytest.raises(MsFileError):
            read_ms(data[:end])


def test_a_damaged_ms_file_breaks_nothing(lite_files: Path) -> None:
    """It is read with other content or refused, without long loops."""
    data, random = (lite_files / "full.ms").read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(500):
        damaged = bytearray(data)
        for position in random.integers(8, len(data), 20):
            damaged[position] = random.integers(256)
        try:
            read_ms(bytes(damaged))
        except MsFileError:
            refused += 1
    assert refused > 100


# --- engines ---


def test_an_engine_that_is_missing_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = Availability(False, "onnxruntime is not installed", "pip install it")
    monkeypatch.setattr(inspection, "available", lambda name: missing)
    engines = only(write_onnx(tmp_path / "tiny.onnx")).engines
    assert EngineInfo("onnx", False, "onnxruntime is not installed: pip install it") in engines


@pytest.mark.parametrize("suffix", [".onnx", ".ms"])
def test_mindspore_is_not_imported_where_it_is_not_needed(lite_files: Path, suffix: str) -> None:
    path = lite_files / ("tiny.onnx" if suffix == ".onnx" else "full.ms")
    program = (
        "import sys; from pathlib import Path; from synergy.export.inspection.inspect import inspect_path; "
        f"inspect_path(Path({str(path)!r})); sys.exit('mindspore' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


# --- what is refused ---


@pytest.mark.parametrize("suffix", [".mindir", ".onnx", ".ms"])
@pytest.mark.parametrize(
    "content",
    [b"", b"a text file\n", bytes(500), b"\xff" * 500, b"\x08\x06", b"    MSL2"],
    ids=["empty", "text", "zeros", "ones", "version", "identifier"],
)
def test_other_content(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    with pytest.raises(InspectionError, match=rf"file\{suffix} is ") as raised:
        inspect_path(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("suffix", [".mindir", ".onnx", ".ms"])
@pytest.mark.parametrize("cut", [False, True])
def test_cut_and_foreign_models(mindirs: Path, lite_files: Path, tmp_path: Path, suffix: str, cut: bool) -> None:
    sources = {
        ".mindir": mindirs / "plain.mindir",
        ".onnx": lite_files / "tiny.onnx",
        ".ms": lite_files / "full.ms",
    }
    for kind, source in sources.items():
        if (kind == suffix) == cut:
            path = tmp_path / f"{kind[1:]}{suffix}"
            data = source.read_bytes()
            path.write_bytes(data[:-20] if cut else data)
            with pytest.raises(InspectionError, match=r"is (not an?|a) \w+"):
                inspect_path(path)


@pytest.mark.parametrize("suffix", [".mindir", ".onnx"])
def test_damaged_models(mindirs: Path, tmp_path: Path, suffix: str) -> None:
    """They are read with other content or refused, and no other error is raised."""
    source = mindirs / "plain.mindir" if suffix == ".mindir" else write_onnx(tmp_path / "tiny.onnx", with_branch=True)
    data, random, path = source.read_bytes(), np.random.default_rng(0), tmp_path / f"damaged{suffix}"
    refused = 0
    for _ in range(100):
        damaged = bytearray(data)
        for position in random.integers(0, len(data), 5):
            damaged[position] = random.integers(256)
        path.write_bytes(damaged)
        try:
            inspect_path(path)
        except InspectionError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("name", ["none.onnx", "none.ms", "none.mindir"])
def test_missing_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(InspectionError, match="is not a file"):
        inspect_path(tmp_path / name)


@pytest.mark.parametrize("name", ["model.ckpt", "none", "model"])
def test_other_suffixes_name_those_that_work(tmp_path: Path, name: str) -> None:
    (tmp_path / "model.ckpt").write_bytes(b"x")
    with pytest.raises(InspectionError, match=r"\.mindir, \.onnx, \.ms file or a bundle"):
        inspect_path(tmp_path / name)


def test_a_folder_without_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a bundle"):
        inspect_path(tmp_path)


def test_a_file_too_long_for_its_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "FILE_LIMIT", 10)
    with pytest.raises(InspectionError, match="over 10 bytes"):
        inspect_path(write_onnx(tmp_path / "tiny.onnx"))


# --- bundles ---


def entry(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {"file": path.name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def write_manifest(folder: Path, **changes: Any) -> None:
    tensor = {"layout": "", "meaning": ""}
    onnx_file = {**entry(folder / "model.onnx"), "format": "onnx", "precision": "fp32"}
    content = {
        "schema": 1,
        "arch": "mb05",
        "convention": "3ddfa_v2",
        "inputs": [{"name": "images", "shape": [-1, 120, 120, 3], "dtype": "uint8", **tensor, "layout": "NHWC"}],
        "outputs": [
            {"name": "params", "shape": [-1, 62], "dtype": "float32", **tensor},
            {"name": "landmarks", "shape": [-1, 3, 68], "dtype": "float32", **tensor},
        ],
        "preprocessing": {"size": 120, "colour": "BGR", "mean": 127.5, "scale": 128.0, "in_graph": True},
        "crop": {"side_of": "mean", "scale": 1.58, "round_to": 1, "shift_y": 0.14, "interpolation": "linear"},
        "pose": {"pitch_rc": [2, 1], "roll_rc": [1, 0]},
        "landmark_frame": {"y_from": 120.0, "x_shift": -1.0, "z_shift": -1.0, "z_min_to_zero": True},
        "toolchain": {"mindspore": "2.10.0"},
        "source": {"file": "mb05.ckpt", "sha256": "0" * 64},
        "artifacts": [onnx_file],
        "morphable": entry(folder / "morphable.npz"),
        "parity": entry(folder / "parity.json"),
    }
    (folder / "manifest.json").write_text(json.dumps({**content, **changes}))


PARITY = (
    '{"pass": true, "checks": [{"artifact": "model.onnx", "engine": "onnx", "output": "params", "max_abs": 0.1, '
    '"spread": 9, "tolerance": 0.2, "pass": true}]}'
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle of one artifact."""
    path = tmp_path / "bundle"
    path.mkdir()
    write_onnx(path / "model.onnx")
    (path / "morphable.npz").write_bytes(b"bases")
    write_parity(path)
    return path


def write_parity(folder: Path, **changes: str) -> None:
    """A report about the files in `folder`, except for `changes`."""
    (folder / "parity.json").write_text("-")
    write_manifest(folder)
    hashes = file_hashes(read_manifest(folder)) | changes
    report = {**json.loads(PARITY), "sha256": hashes, "source_sha256": "0" * 64}
    (folder / "parity.json").write_text(json.dumps(report))
    write_manifest(folder)


def test_bundle(folder: Path) -> None:
    found = inspect_path(folder)
    (model,) = found.models
    assert model == only(folder / "model.onnx")
    about = found.bundle
    assert about is not None and about.folder == str(folder)
    assert (about.schema, about.arch, about.convention, about.head) == (1, "mb05", "3ddfa_v2", "landmarks")
    assert (about.source, about.source_sha256, about.proved) == ("mb05.ckpt", "0" * 64, True)
    assert about.inputs == (TensorInfo("images", "uint8", (-1, 120, 120, 3)),)
    assert about.outputs[1] == TensorInfo("landmarks", "float32", (-1, 3, 68))
    assert about.toolchain == {"mindspore": "2.10.0"}
    assert about.verified == ("model.onnx", "morphable.npz", "parity.json")
    assert msgspec.json.decode(msgspec.json.encode(found), type=inspection.Inspection) == found


@pytest.mark.parametrize("name", ["model.onnx", "morphable.npz", "parity.json"])
def test_an_altered_file_of_a_bundle(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[-1] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(BundleError, match=rf"{name} was altered"):
        inspect_path(folder)


def test_a_bundle_without_parity_report(folder: Path) -> None:
    write_manifest(folder, parity=None)
    about = inspect_path(folder).bundle
    assert about is not None and about.proved is None and "parity.json" not in about.verified


@pytest.mark.parametrize(
    ("text", "proved"),
    [
        (PARITY.replace("true", "false", 1), False),
        (PARITY.replace("0.1", "0.3"), False),  # beyond its tolerance, whatever it says
        ('{"pass": true, "checks": []}', False),
        ("[]", None),
        ("no json", None),
    ],
)
def test_other_parity_reports(folder: Path, text: str, proved: bool | None) -> None:
    (folder / "parity.json").write_text(text)
    write_manifest(folder)
    if proved is None:
        with pytest.raises(BundleError, match=r"parity\.json is not a parity report"):
            inspect_path(folder)
    else:
        about = inspect_path(folder).bundle
        assert about is not None and about.proved is proved


def test_a_parity_report_of_other_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> tuple[bool | None, str]:
        about = inspect_path(folder).bundle
        assert about is not None
        return about.proved, about.parity

    write_parity(folder, **{"model.onnx": "1" * 64})
    assert found() == (False, "failed")
    (folder / "parity.json").write_text(PARITY)  # an older version's has no hashes
    write_manifest(folder)
    assert found() == (None, "unchecked")
    write_parity(folder)
    assert found() == (True, "passed")
    no_engine = inspection.EngineInfo("onnx", False, "onnxruntime is not installed")
    monkeypatch.setattr(inspection, "engine_support", lambda name, content: no_engine)
    assert found() == (None, "passed")  # nothing can be checked here


def test_an_artifact_of_another_format_than_promised(folder: Path, mindirs: Path) -> None:
    (folder / "model.mindir").write_bytes((mindirs / "plain.mindir").read_bytes())
    promised = {**entry(folder / "model.mindir"), "format": "mindir_v1", "precision": "fp32"}
    write_manifest(folder, artifacts=[promised])
    with pytest.raises(BundleError, match=r"model\.mindir is mindir, not mindir_v1"):
        inspect_path(folder)


def missing(name: str) -> Callable[[bytes], Any]:
    def read(data: bytes) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    return read


def test_a_device_without_the_package_that_reads_an_artifact(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest is enough to list the engines that can run it."""
    expected = only(folder / "model.onnx")
    monkeypatch.setitem(inspection.READERS, ".onnx", missing("onnx"))
    (model,) = inspect_path(folder).models
    assert model.unread.startswith("onnx is not installed") and model.operators == {}
    assert (model.sha256, model.engines, model.precision) == (expected.sha256, expected.engines, "fp32")
    assert model.outputs[0] == TensorInfo("params", "float32", (-1, 62))


def test_a_file_alone_needs_the_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(inspection.READERS, ".onnx", missing("onnx"))
    with pytest.raises(ModuleNotFoundError):
        inspect_path(folder / "model.onnx")
