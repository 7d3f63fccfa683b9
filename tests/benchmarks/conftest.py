"""A bundle small enough to compute by hand, which real engines run in a moment."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from synergy.runtime.bundle import SPARSE_SHAPES
from synergy.runtime.crop import CropRule
from synergy.runtime.decode import SYNERGYNET_FRAME, SYNERGYNET_POSE
from synergy.runtime.manifest import Artifact, FileEntry, Manifest, Preprocessing, Source, Tensor, encode_manifest


def _network() -> bytes:
    """Mean features, mixed: images uint8 (N,120,120,3) -> params (N,62), landmarks (N,3,68)."""
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(7)
    weights = {
        "kernel": random.normal(0, 0.01, (4, 3, 3, 3)).astype(np.float32),
        "to_params": random.normal(0, 0.1, (4, 62)).astype(np.float32),
        "to_points": random.normal(0, 0.1, (4, 204)).astype(np.float32),
        "face": random.uniform(20, 100, 204).astype(np.float32),
        "shape": np.array([-1, 3, 68], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel"], ["features"], kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("ReduceMean", ["features"], ["pooled"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["pooled", "to_params"], ["params"]),
        helper.make_node("Gemm", ["pooled", "to_points", "face"], ["points"]),
        helper.make_node("Reshape", ["points", "shape"], ["landmarks"]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 120, 120, 3])
    params = helper.make_tensor_value_info("params", TensorProto.FLOAT, ["N", 62])
    landmarks = helper.make_tensor_value_info("landmarks", TensorProto.FLOAT, ["N", 3, 68])
    arrays = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "tiny", [images], [params, landmarks], arrays)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6).SerializeToString()


def _entry(folder: Path, name: str, data: bytes) -> FileEntry:
    (folder / name).write_bytes(data)
    return FileEntry(name, hashlib.sha256(data).hexdigest(), len(data))


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A valid bundle of one ONNX file, whose landmarks are no face."""
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("tiny") / "tiny"
    folder.mkdir()
    np.savez(folder / "bases.npz", **{name: np.ones(shape, np.float32) for name, shape in SPARSE_SHAPES.items()})
    morphable = _entry(folder, "morphable.npz", (folder / "bases.npz").read_bytes())
    model = _entry(folder, "model.onnx", _network())
    manifest = Manifest(
        schema=1,
        arch="tiny",
        convention="synergynet",
        inputs=(Tensor("images", (-1, 120, 120, 3), "uint8", "NHWC", ""),),
        outputs=(
            Tensor("params", (-1, 62), "float32", "NC", ""),
            Tensor("landmarks", (-1, 3, 68), "float32", "NCP", ""),
        ),
        preprocessing=Preprocessing(120, "BGR", 127.5, 128.0, in_graph=True),
        crop=CropRule("height", 1.2, 2, 0.0),
        pose=SYNERGYNET_POSE,
        landmark_frame=SYNERGYNET_FRAME,
        toolchain={},
        source=Source("none.ckpt", hashlib.sha256(b"").hexdigest()),
        artifacts=(Artifact(model.file, model.sha256, model.bytes, format="onnx", precision="fp32"),),
        morphable=morphable,
    )
    (folder / "manifest.json").write_bytes(encode_manifest(manifest))
    return folder
