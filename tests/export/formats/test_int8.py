"""int8 ONNX: backbone in 8 bits, geometry in float32, results close to those of float32."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from synergy.benchmarks.sample_crops import real_crops
from synergy.export.artifacts import ExportOptions, kept_fp32
from synergy.export.formats.int8 import (
    CALIBRATION_SEED,
    QuantizationError,
    calibration_crops,
    quantize_onnx,
)
from synergy.runtime.engines.openvino import OpenVinoEngine
from synergy.runtime.specs import Device, ModelFile, TensorSpec
from synergy.synergy_model.synthetic.faces import SyntheticFaces

onnxruntime = pytest.importorskip("onnxruntime")
FACTS = ("layerType", "runtimePrecision")  # what OpenVINO tells of each operator it made


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return SyntheticFaces(CALIBRATION_SEED).batch(range(32)).images


@pytest.fixture(scope="module")
def quantised(bundles: dict[str, Path], crops: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("int8") / "model.onnx"
    shutil.copy(bundles["mb05"] / "model.onnx", path)
    quantize_onnx(path, np.concatenate([crops, real_crops()]))
    return path


def run(path: Path, crops: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": crops}), strict=True))


def test_real_faces_move_little(bundles: dict[str, Path], quantised: Path) -> None:
    """Real weights on a real face, cropped in several ways: about one pixel of 120."""
    exact, found = (run(path, real_crops()) for path in (bundles["mb05"] / "model.onnx", quantised))
    off = np.linalg.norm((found["landmarks"] - exact["landmarks"])[:, :2], axis=1).mean(axis=1)
    assert off.shape == (10,) and off.mean() < 2.0 and off.max() < 5.0
    assert off.mean() > 0  # it is another model


def test_weights_are_in_8_bits_and_the_file_smaller(bundles: dict[str, Path], quantised: Path) -> None:
    assert quantised.stat().st_size < 0.4 * (bundles["mb05"] / "model.onnx").stat().st_size
    graph = onnx.load(str(quantised)).graph
    makers = {output: node.op_type for node in graph.node for output in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) > 20
    assert {makers[name] for node in convolutions for name in node.input[:2]} == {"DequantizeLinear"}
    large = [weight for weight in graph.initializer if np.prod(weight.dims) > 10000 and len(weight.dims) == 4]
    assert large and all(weight.data_type == TensorProto.INT8 for weight in large)


def test_equal_constants_are_one(quantised: Path) -> None:
    weights = onnx.load(str(quantised)).graph.initializer
    contents = {(w.data_type, tuple(w.dims), onnx.numpy_helper.to_array(w).tobytes()) for w in weights}
    assert len(contents) == len(weights) > 50


def test_openvino_agrees(quantised: Path) -> None:
    """It computes with the same integers, but rounds differently."""
    if not OpenVinoEngine.available().ok:
        pytest.skip("openvino is not installed")
    inputs = (TensorSpec("images", (-1, 120, 120, 3), "uint8"),)
    outputs = (TensorSpec("params", (-1, 62), "float32"), TensorSpec("landmarks", (-1, 3, 68), "float32"))
    with OpenVinoEngine(ModelFile(quantised.read_bytes(), "onnx", inputs, outputs), Device(), 1) as engine:
        found = engine.run({"images": real_crops()})["landmarks"]
        operators = engine.model_for(1).compiled.get_runtime_model().get_ops()
    facts = [{name: str(each.get_rt_info()[name].astype(str)) for name in FACTS} for each in operators]
    assert {each["runtimePrecision"] for each in facts if each["layerType"] == "Convolution"} == {"u8"}
    off = np.linalg.norm((found - run(quantised, real_crops())["landmarks"])[:, :2], axis=1).mean(axis=1)
    assert off.max() < 2.0


def test_no_cpu_can_overflow(quantised: Path) -> None:
    """Without VNNI, two products of 8-bit numbers are summed in 16 bits: only 7-bit weights never overflow."""
    graph = onnx.load(str(quantised)).graph
    weights = [onnx.numpy_helper.to_array(w) for w in graph.initializer if w.data_type == TensorProto.INT8]
    peak = max(int(np.abs(weight.astype(int)).max()) for weight in weights)
    assert 60 <= peak <= 64 and 2 * 255 * peak < 2**15


def test_geometry_stays_in_float(quantised: Path) -> None:
    """8 bits are too few for coordinates up to 100,000 micrometres."""
    graph = onnx.load(str(quantised)).graph
    makers = {output: node for node in graph.node for output in node.output}
    waiting, seen = ["landmarks"], []
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and node.op_type != "ReduceMean":
            seen.append(node.op_type)
            waiting += node.input
    assert "MatMul" in seen and "Gemm" in seen and not any("Linear" in kind for kind in seen)


def test_only_domains_in_use_are_imported(quantised: Path) -> None:
    """onnxruntime lists all domains it supports, and other readers may reject unknown ones."""
    model = onnx.load(str(quantised))
    used = {node.domain for node in model.graph.node}
    assert {entry.domain for entry in model.opset_import} == used | {""} and used == {""}


def test_names_batch_and_place_stay(bundles: dict[str, Path], quantised: Path) -> None:
    assert [path.name for path in quantised.parent.iterdir()] == ["model.onnx"]
    assert quantised.stat().st_mode & 0o777 == 0o644
    one, two = run(quantised, real_crops()[:1]), run(quantised, real_crops()[:2])
    assert set(one) == {"params", "landmarks"} and two["landmarks"].shape == (2, 3, 68)
    np.testing.assert_allclose(one["landmarks"][0], two["landmarks"][0], atol=0.5)


@pytest.mark.parametrize(
    "crops",
    [
        np.zeros((4, 120, 120, 3), np.float32),
        np.zeros((4, 3, 120, 120), np.uint8),
        np.zeros((0, 120, 120, 3), np.uint8),
        np.zeros((120, 120, 3), np.uint8),
    ],
)
def test_wrong_crops_leave_the_file(bundles: dict[str, Path], tmp_path: Path, crops: np.ndarray) -> None:
    path = Path(shutil.copy(bundles["mb05"] / "model.onnx", tmp_path / "model.onnx"))
    before = path.read_bytes()
    with pytest.raises(QuantizationError, match=r"uint8 \(N, 120, 120, 3\) BGR"):
        quantize_onnx(path, crops)
    assert path.read_bytes() == before


def test_without_onnxruntime(bundles: dict[str, Path], crops: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime.quantization", None)
    with pytest.raises(QuantizationError, match=r"synergy-mindir\[onnx\]"):
        quantize_onnx(bundles["mb05"] / "model.onnx", crops)


def test_default_calibration_and_evaluation_use_different_faces() -> None:
    from synergy.benchmarks.accuracy.data import HELD_OUT_SEED

    assert CALIBRATION_SEED != HELD_OUT_SEED
    assert calibration_crops.__module__ and not np.array_equal(
        SyntheticFaces(CALIBRATION_SEED).image(0), SyntheticFaces(HELD_OUT_SEED).image(0)
    )


# --- which artifact gets which precision ---


@pytest.mark.parametrize(
    ("precision", "formats", "reduced", "kept"),
    [
        ("fp32", ("mindir", "onnx", "lite"), [], ()),
        ("fp16", ("mindir", "onnx", "lite"), ["ms"], ("model.mindir", "model.onnx", "model.v1.mindir")),
        ("fp16", ("lite",), ["ms"], ("model.v1.mindir",)),
        ("int8", ("onnx", "lite"), ["onnx"], ("model.v1.mindir", "model.ms")),
        ("int8", ("onnx",), ["onnx"], ()),
        ("bf16", ("onnx", "lite"), [], ()),
    ],
)
def test_precision_of_formats(precision: str, formats: tuple, reduced: list[str], kept: tuple[str, ...]) -> None:
    options = ExportOptions(formats, precision=precision)
    kinds = ("mindir", "mindir_v1", "onnx", "ms")
    assert [kind for kind in kinds if options.precision_of(kind) != "fp32"] == reduced
    assert kept_fp32(options) == kept


@pytest.mark.parametrize(("precision", "formats"), [("fp16", ("onnx",)), ("fp16", ("mindir",)), ("int8", ("lite",))])
def test_a_precision_that_no_format_has(precision: str, formats: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=f"{precision} is stored in"):
        ExportOptions(formats, precision=precision)


def test_bfloat16_is_computed_from_onnx() -> None:
    options = ExportOptions(precision="bf16")
    assert [(each.engine, each.precision) for each in options.compute_precisions_of("onnx")] == [("openvino", "bf16")]
    assert options.compute_precisions_of("ms") == () and ExportOptions().compute_precisions_of("onnx") == ()
    with pytest.raises(ValueError, match="bf16 is computed from onnx: add it"):
        ExportOptions(("mindir", "lite"), precision="bf16")


def test_unknown_precision() -> None:
    with pytest.raises(ValueError, match="use fp32, fp16, int8, bf16"):
        ExportOptions(precision="int4")
