"""YuNet by a network with its outputs, and detectors by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synergy.runtime.detection.detector import YuNetDetector, make_detector
from synergy.runtime.detection.haar import HaarDetector
from synergy.runtime.errors import MediaError


@pytest.fixture(scope="module")
def yunet_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with YuNet's outputs, which sees the same face, 64x96 pixels at (64, 80), in any picture.

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


class TestYuNet:
    @pytest.mark.parametrize(("height", "width", "scale"), [(640, 480, 1), (200, 300, 1), (960, 1280, 2)])
    def test_boxes_are_in_image_pixels(self, yunet_model: Path, height: int, width: int, scale: int) -> None:
        (face,) = YuNetDetector(yunet_model, min_score=0.5).detect(np.zeros((height, width, 3), np.uint8))
        np.testing.assert_allclose(face.box_xyxy, np.array([64, 80, 128, 176]) * scale, rtol=1e-5)
        assert face.score == pytest.approx(0.6)  # the root of 0.9 * 0.4

    def test_unsure_faces_are_left_out(self, yunet_model: Path) -> None:
        assert YuNetDetector(yunet_model, min_score=0.7).detect(np.zeros((640, 640, 3), np.uint8)) == []

    def test_no_model(self, tmp_path: Path) -> None:
        with pytest.raises(MediaError, match=r"no YuNet model at .*download face_detection_yunet"):
            YuNetDetector(tmp_path / "yunet.onnx")

    def test_no_yunet(self, tmp_path: Path) -> None:
        path = tmp_path / "yunet.onnx"
        path.write_bytes(b"this is no network")
        with pytest.raises(MediaError, match="is not a YuNet model"):
            YuNetDetector(path)

    def test_another_network(self, tmp_path: Path) -> None:
        onnx = pytest.importorskip("onnx")
        ends = [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, 320, 320])
            for name in ("input", "output")
        ]
        graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["input"], ["output"])], "g", ends[:1], ends[1:])
        path = tmp_path / "relu.onnx"
        onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 11)], ir_version=6), path)
        with pytest.raises(MediaError, match="is not a YuNet model"):
            YuNetDetector(path)


class TestMakeDetector:
    def test_by_name(self, yunet_model: Path) -> None:
        assert isinstance(make_detector("haar"), HaarDetector)
        assert isinstance(make_detector("yunet", yunet_model), YuNetDetector)

    @pytest.mark.parametrize(
        ("name", "model", "reason"),
        [("yunet", None, "--detector-model"), ("haar", Path("m.onnx"), "without a model"), ("mtcnn", None, "use haar")],
    )
    def test_misuse(self, name: str, model: Path | None, reason: str) -> None:
        with pytest.raises(ValueError, match=reason):
            make_detector(name, model)
