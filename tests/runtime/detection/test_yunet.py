"""YuNet, with a small network that has the same outputs and with the published model."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from synergy.runtime.detection.yunet import YuNetDetector
from synergy.runtime.errors import MediaError


class TestYuNet:
    @pytest.mark.parametrize(("height", "width", "scale"), [(640, 480, 1), (200, 300, 1), (960, 1280, 2)])
    def test_boxes_are_in_image_pixels(self, yunet_model: Path, height: int, width: int, scale: int) -> None:
        (face,) = YuNetDetector(yunet_model, min_score=0.5).detect(np.zeros((height, width, 3), np.uint8))
        np.testing.assert_allclose(face.box_xyxy, np.array([64, 80, 128, 176]) * scale, rtol=1e-5)
        assert face.score == pytest.approx(0.6)  # the root of 0.9 * 0.4

    def test_faces_below_min_score_are_dropped(self, yunet_model: Path) -> None:
        assert YuNetDetector(yunet_model, min_score=0.7).detect(np.zeros((640, 640, 3), np.uint8)) == []

    def test_missing_model(self, tmp_path: Path) -> None:
        with pytest.raises(MediaError, match=r"no YuNet model at .*: run `synergy detector install`"):
            YuNetDetector(tmp_path / "yunet.onnx")

    def test_damaged_model(self, tmp_path: Path) -> None:
        path = tmp_path / "yunet.onnx"
        path.write_bytes(b"this is not a network")
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

    def test_published_model(self, published_yunet: Path, portrait_bgr: np.ndarray) -> None:
        (face,) = YuNetDetector(published_yunet).detect(portrait_bgr)
        assert np.abs(face.box_xyxy - (175, 65, 272, 178)).max() < 15
        assert 0.7 < face.score <= 1

    def test_max_faces_keeps_the_highest_scores(self, published_yunet: Path, shared: Path) -> None:
        image = cv2.imread(str(shared / "images" / "emma.jpg"))
        faces = YuNetDetector(published_yunet).detect(image)
        assert len(faces) >= 3
        (best,) = YuNetDetector(published_yunet, max_faces=1).detect(image)
        assert best.score == max(face.score for face in faces)

    @pytest.mark.parametrize("size_wh", [(640, 640), (333, 257), (50, 100), (1200, 500)])
    def test_the_same_faces_in_onnxruntime(
        self, published_yunet: Path, shared: Path, monkeypatch: pytest.MonkeyPatch, size_wh: tuple[int, int]
    ) -> None:
        """It is used where it is loaded; low scores give many candidates, some of them at the border of the image."""
        pytest.importorskip("onnxruntime")
        image = cv2.resize(cv2.imread(str(shared / "images" / "emma.jpg")), size_wh, interpolation=cv2.INTER_AREA)
        fast = YuNetDetector(published_yunet, min_score=0.05)
        found = fast.detect(image)
        with monkeypatch.context() as patched:
            patched.delitem(sys.modules, "onnxruntime")
            plain = YuNetDetector(published_yunet, min_score=0.05)
            expected = plain.detect(image)
        assert fast.uses_onnxruntime and not plain.uses_onnxruntime
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one.box_xyxy, other.box_xyxy, atol=2e-3 * max(image.shape) / 640)
            assert one.score == pytest.approx(other.score, abs=1e-5)
            assert one.roll_deg == pytest.approx(other.roll_deg, abs=1e-2)

    def test_no_face_in_onnxruntime(self, published_yunet: Path) -> None:
        pytest.importorskip("onnxruntime")
        detector = YuNetDetector(published_yunet)
        assert detector.detect(np.zeros((64, 32, 3), np.uint8)) == [] and detector.uses_onnxruntime

    def test_a_forked_process_uses_opencv(self, published_yunet: Path, portrait_bgr: np.ndarray) -> None:
        pytest.importorskip("onnxruntime")
        detector = YuNetDetector(published_yunet)
        before = detector.detect(portrait_bgr)
        detector.after_fork()
        (face,) = detector.detect(portrait_bgr)
        assert not detector.uses_onnxruntime and np.allclose(face.box_xyxy, before[0].box_xyxy, atol=1e-3)
