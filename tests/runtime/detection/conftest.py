"""Fixtures of the detector tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def yunet_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with YuNet's outputs, which finds the same face, 64x96 pixels at (64, 80), in every image.

    OpenCV takes for each stride s and cell a box from centre (cell + b0, b1) s, size exp(b2, b3) s.
    """
    onnx = pytest.importorskip("onnx")
    helper, tensor, floats = onnx.helper, onnx.numpy_helper, onnx.TensorProto.FLOAT
    face = {"cls": [0.9], "obj": [0.4], "bbox": [3, 4, np.log(2), np.log(3)], "kps": [0] * 10}
    constants = [tensor.from_array(np.zeros(1, np.float32), "zero")]
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["pooled"]),
        helper.make_node("ReduceMean", ["pooled"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
    ]
    outputs = []
    for stride in (8, 16, 32):
        for name, values in face.items():
            answer = np.zeros((1, (640 // stride) ** 2, len(values)), np.float32)
            answer[0, 0] = values if stride == 32 else 0
            constants.append(tensor.from_array(answer, f"answer_{name}_{stride}"))
            nodes.append(helper.make_node("Add", [f"answer_{name}_{stride}", "nothing"], [f"{name}_{stride}"]))
            outputs.append(helper.make_tensor_value_info(f"{name}_{stride}", floats, answer.shape))
    images = [helper.make_tensor_value_info("input", floats, [1, 3, 640, 640])]
    graph = helper.make_graph(nodes, "yunet", images, outputs, constants)
    path = tmp_path_factory.mktemp("yunet") / "yunet.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6), path)
    return path


@pytest.fixture
def data_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, and no SYNERGY_DETECTOR."""
    monkeypatch.setenv("SYNERGY_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("SYNERGY_DETECTOR", raising=False)
    return tmp_path / "data"


@pytest.fixture
def published_yunet(shared: Path) -> Path:
    """The published model file."""
    return shared / "detector" / "face_detection_yunet_2026may.onnx"
