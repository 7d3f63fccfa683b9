"""Every head in every format, against the Cell; heads that a checkpoint lacks are refused with the fix."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import mindspore as ms
import msgspec
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from numpy.random import default_rng

from synergy.benchmarks.parity.check import check_bundle
from synergy.benchmarks.parity.golden import make_golden
from synergy.benchmarks.parity.report import summary
from synergy.export.artifacts import ExportOptions
from synergy.export.bundle import ParityResult, export_bundle
from synergy.export.graph import DeployGraph, HeadError, check_head
from synergy.runtime.aligner import FaceAligner
from synergy.runtime.bundle import Bundle
from synergy.runtime.decode import dewhiten, vertices
from synergy.runtime.engines import available
from synergy.runtime.manifest import HEADS
from synergy.runtime.variants import VariantEngines
from synergy.synergy_model.backbones import BACKBONES
from synergy.synergy_model.checkpoints.checkpoint import Checkpoint, DenseMorphable, load_checkpoint, save_checkpoint
from synergy.synergy_model.synergynet import SynergyNet

VERTICES = 40
ROUTES = [("onnx", "onnx"), ("openvino", "onnx"), ("lite", "ms"), ("lite", "mindir_v1"), ("mindspore", "mindir")]
# The refined head needs mobilenet_v2's refiner; the others are quicker on a backbone of one layer.
SOURCES = {"params": "one_layer", "landmarks": "one_layer", "refined": "mobilenet_v2", "mesh": "one_layer"}
VERIFIED = "refined"


class OneLayer(nn.Cell):
    """Mean of one convolution -> 62 parameters, and the mean itself."""

    pooled_dim = 8

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.SequentialCell([nn.Conv2d(3, 8, 7, 4, has_bias=False), nn.BatchNorm2d(8), nn.ReLU6()])
        self.head = nn.Dense(8, 62)

    def construct(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pooled = ops.mean(self.features(images), (2, 3))
        return self.head(pooled), pooled


@pytest.fixture(scope="module", autouse=True)
def one_layer() -> Iterator[None]:
    BACKBONES["one_layer"] = OneLayer
    yield
    del BACKBONES["one_layer"]


def dense_basis(sparse: dict[str, np.ndarray]) -> DenseMorphable:
    """A mesh whose first 40 vertices are landmarks, so that its values are those of a face."""
    rows = slice(0, 3 * VERTICES)
    triangles = np.arange(VERTICES - 1, dtype=np.int32)[:, None] + np.array([0, 1, 1], np.int32)
    return DenseMorphable(
        sparse["u_base"][rows], sparse["w_shp_base"][rows], sparse["w_exp_base"][rows], triangles.astype(np.int32)
    )


@pytest.fixture(scope="module")
def small(checkpoints: dict[str, Path], one_layer: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights on one layer, with mb05's whitening and bases, and a dense basis."""
    morphable = load_checkpoint(checkpoints["mb05"]).network.morphable
    arrays = {name: getattr(morphable, name).asnumpy() for name in morphable.ARRAYS}
    network, random = SynergyNet("one_layer", morphable.convention, refiner=False, regressor=False), default_rng(0)
    for name, parameter in network.parameters_and_names():
        known = arrays.get(name.rpartition(".")[2])
        if known is None and "moving_variance" not in name:
            known = random.normal(0, 0.3, parameter.shape).astype(np.float32)
        if known is not None:
            parameter.set_data(Tensor(known))
    path = tmp_path_factory.mktemp("small") / "small.ckpt"
    save_checkpoint(path, Checkpoint(network, dense_basis(arrays)))
    return path


def prove(folder: Path, checkpoint: Checkpoint) -> ParityResult:
    """Compares outputs on ONNX only: the other formats are compared with the official outputs below, and accuracy is
    tested elsewhere."""
    bundle = Bundle.open(folder)
    onnx = tuple(artifact for artifact in bundle.manifest.artifacts if artifact.format == "onnx")
    bundle = Bundle(folder, msgspec.structs.replace(bundle.manifest, artifacts=onnx))
    with VariantEngines(bundle) as engines:
        report = check_bundle(engines, checkpoint, make_golden(checkpoint))
    assert report.passed, summary(report)
    graphs = [check for check in report.checks if check.artifact.startswith("model")]
    assert len({(check.artifact, check.engine) for check in graphs}) == 1 + available("openvino").ok
    outputs = {check.output for check in graphs} - {"picture_landmarks", "picture_pose"}
    return ParityResult(json.dumps(sorted(outputs)).encode())


@pytest.fixture(scope="module")
def headed(
    checkpoints: dict[str, Path], small: Path, lite_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Bundles by head. To save time one of them is compared with the Cell, the others with each other and with
    formulas in NumPy.
    """
    folder = tmp_path_factory.mktemp("heads")
    for head, arch in SOURCES.items():
        ckpt = small if arch == "one_layer" else checkpoints[arch]
        options = ExportOptions(head=head) if head == "refined" else ExportOptions(head=head, formats=("onnx", "lite"))
        verify = prove if head == VERIFIED else lambda *_: ParityResult(b"{}")
        export_bundle(ckpt, folder / head, options, verify, lambda _: None)
    return {head: folder / head for head in SOURCES}


@pytest.mark.parametrize("head", SOURCES)
def test_every_output_was_compared(headed: dict[str, Path], head: str) -> None:
    if head == VERIFIED:
        assert json.loads((headed[head] / "parity.json").read_text()) == sorted(HEADS[head])
    manifest = Bundle.open(headed[head]).manifest
    assert manifest.head == head and tuple(tensor.name for tensor in manifest.outputs) == HEADS[head]


@pytest.mark.parametrize(
    ("head", "engine", "artifact"), [("mesh", *ROUTES[0]), *(("params", *route) for route in ROUTES[:-1])]
)
def test_other_outputs_do_not_depend_on_the_head(
    headed: dict[str, Path], shared: Path, head: str, engine: str, artifact: str
) -> None:
    """The params head has no landmarks: the runtime decodes them, as the graph of the others does."""
    with np.load(shared / "reference" / "real_emma.npz") as reference:
        crops = reference["crop_bgr_u8"]
    with FaceAligner.load(headed[head], engine, artifact=artifact) as aligner:
        found = aligner.predict(crops)
    with FaceAligner.load(headed["landmarks"], engine, artifact=artifact) as aligner:
        expected = aligner.predict(crops)
    np.testing.assert_allclose(found.params, expected.params, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.landmarks, expected.landmarks, rtol=0, atol=1e-2)
    np.testing.assert_allclose(found.euler_deg, expected.euler_deg, rtol=0, atol=1e-3)
    assert found.refined_landmarks is None and (found.vertices is None) == (head == "params")


@pytest.mark.parametrize(("engine", "artifact"), ROUTES[:-1])
def test_vertices_are_those_of_the_formula(headed: dict[str, Path], shared: Path, engine: str, artifact: str) -> None:
    """u + w_shp shape + w_exp expression, rotated, scaled and moved in NumPy."""
    with np.load(shared / "reference" / "real_emma.npz") as reference:
        crops = reference["crop_bgr_u8"]
    with FaceAligner.load(headed["mesh"], engine, artifact=artifact) as aligner:
        found, basis, frame = aligner.predict(crops), aligner.dense_basis(), aligner.bundle.manifest.landmark_frame
        physical = dewhiten(found.params, aligner.morphable.param_mean, aligner.morphable.param_std)
    expected = vertices(physical, basis.u, basis.w_shp, basis.w_exp, frame)
    assert found.vertices is not None and found.vertices.shape == (len(crops), 3, VERTICES)
    np.testing.assert_allclose(found.vertices, expected, rtol=0, atol=1e-2)


@pytest.mark.parametrize(("engine", "artifact"), ROUTES)
def test_refined_landmarks_are_the_official_ones(
    headed: dict[str, Path], shared: Path, engine: str, artifact: str
) -> None:
    with np.load(shared / "reference" / "input_batch.npz") as batch:
        crops = batch[next(name for name in batch.files if batch[name].dtype == np.uint8)]
    with np.load(shared / "reference" / "io_mobilenet_v2.npz") as reference:
        expected = {name: reference[name] for name in reference.files}
    with FaceAligner.load(headed["refined"], engine, artifact=artifact) as aligner:
        found = aligner.predict(crops)
    assert found.refined_landmarks is not None and found.vertices is None
    refined = next(value for name, value in expected.items() if "refined" in name)
    scale = max(1.0, float(np.abs(refined).max()) / 120)
    np.testing.assert_allclose(found.refined_landmarks, refined, rtol=0, atol=0.01 * scale)
    assert np.abs(found.refined_landmarks - found.landmarks).max() > 0.01


@pytest.mark.parametrize("engine", ["onnx", "lite"])
def test_faces_carry_what_the_head_gives(headed: dict[str, Path], portrait_bgr: np.ndarray, engine: str) -> None:
    """In image pixels. The first vertices of this mesh are the landmarks, except for the origin of z."""
    box = [[180, 72, 270, 184]]
    with FaceAligner.load(headed["mesh"], engine) as aligner:
        (face,) = aligner.align(portrait_bgr, box)
        assert face.vertices is not None and face.vertices.shape == (VERTICES, 3)
        np.testing.assert_allclose(face.vertices[:, :2], face.landmarks[:VERTICES, :2], atol=1e-2)
        assert aligner.mesh(face) is face.vertices
    with FaceAligner.load(headed["refined"], engine) as aligner:
        (face,) = aligner.align(portrait_bgr, box)
        assert face.refined_landmarks is not None and face.refined_landmarks.shape == (68, 3)
        assert face.vertices is None


# --- what a checkpoint cannot give ---


def test_heads_that_the_checkpoint_lacks(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    for head, cure in (("refined", "mobilenet_v2"), ("mesh", "--morphable")):
        with pytest.raises(HeadError, match=cure):
            export_bundle(checkpoints["mb05"], tmp_path / "b", ExportOptions(head=head), prove, lambda _: None)
    assert not list(tmp_path.iterdir())


def test_unknown_head(checkpoints: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="use params, landmarks, refined, mesh"):
        ExportOptions(head="texture")
    with pytest.raises(ValueError, match="use params, landmarks, refined, mesh"):
        check_head(load_checkpoint(checkpoints["mb05"]), "texture")


def test_preprocessing_is_the_graphs(checkpoints: dict[str, Path], shared: Path) -> None:
    """uint8 pixels in, official parameters out, without preprocessing code."""
    ms.set_context(mode=ms.GRAPH_MODE)
    with np.load(shared / "reference" / "real_emma.npz") as reference:
        crops, expected = reference["crop_bgr_u8"], reference["param_whitened"]
    graph = DeployGraph(load_checkpoint(checkpoints["mb05"]).network).set_train(False)
    params, _ = graph(Tensor(crops))
    np.testing.assert_allclose(params.asnumpy(), expected, rtol=0, atol=1e-4)
