"""Detectors on real photographs, and on pictures in which there is nothing to find."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime import detection
from runtime.crop import DDFA_V2_CROP, roi_from_box
from runtime.detection import Detection, HaarDetector, YuNetDetector, make_detector
from runtime.errors import MediaError

# Forehead to chin and side to side of the astronaut's face, read off the picture.
ASTRONAUT_XYXY = np.array([175.0, 65, 272, 178])


@pytest.fixture(scope="module")
def haar() -> HaarDetector:
    return HaarDetector()


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    sides = (np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])).clip(0)
    areas = sum((box[2:] - box[:2]).prod() for box in (one, other))
    return float(sides.prod() / (areas - sides.prod()))


class TestHaar:
    @pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (10, 10), (23, 400), (120, 120)])
    @pytest.mark.parametrize("value", [0, 255])
    def test_nothing_there(self, haar: HaarDetector, shape: tuple[int, int], value: int) -> None:
        assert haar.detect(np.full((*shape, 3), value, np.uint8)) == []

    def test_noise(self, haar: HaarDetector) -> None:
        assert haar.detect(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)) == []

    def test_a_portrait(self, haar: HaarDetector, portrait_bgr: np.ndarray) -> None:
        before = portrait_bgr.copy()
        (face,) = haar.detect(portrait_bgr)
        assert overlap(face.box_xyxy, ASTRONAUT_XYXY) > 0.7
        assert 0.44 < face.score <= 1
        assert np.array_equal(portrait_bgr, before)

    def test_a_huge_portrait_gives_the_same_face(self, haar: HaarDetector, portrait_bgr: np.ndarray) -> None:
        (face,) = haar.detect(cv2.resize(portrait_bgr, None, fx=5, fy=5))
        assert overlap(face.box_xyxy / 5, ASTRONAUT_XYXY) > 0.65

    def test_two_faces(self, haar: HaarDetector, portrait_bgr: np.ndarray) -> None:
        """The surer, then the larger one first."""
        small = cv2.resize(portrait_bgr, (256, 256), interpolation=cv2.INTER_AREA)
        faces = haar.detect(np.hstack([np.vstack([small, small * 0]), portrait_bgr]))
        assert len(faces) == 2
        ranks = [(-face.score, -(face.box_xyxy[2] - face.box_xyxy[0])) for face in faces]
        assert ranks == sorted(ranks)
        places = {int(face.box_xyxy[0] > 256): face.box_xyxy for face in faces}
        assert overlap(places[1], ASTRONAUT_XYXY + np.array([256, 0, 256, 0])) > 0.65
        assert overlap(places[0], ASTRONAUT_XYXY / 2) > 0.6

    def test_three_quarter_profiles(self, haar: HaarDetector, shared: Path) -> None:
        """All three of emma.jpg, one of them tilted by 20 degrees, and no fourth."""
        boxes = np.load(shared / "reference" / "real_emma.npz")["box"][:, :4]
        faces = haar.detect(cv2.imread(str(shared / "images" / "emma.jpg")))
        assert len(faces) == 3
        found = [np.argmax([overlap(face.box_xyxy, box) for box in boxes]) for face in faces]
        assert sorted(found) == [0, 1, 2]
        for face, index in zip(faces, found, strict=True):
            regions = roi_from_box(np.stack([face.box_xyxy, boxes[index]]), DDFA_V2_CROP)
            assert overlap(*regions) > 0.7

    def test_the_network_gets_the_region_it_was_trained_on(self, haar: HaarDetector, shared: Path) -> None:
        """Boxes of frontal faces agree with FaceBoxes' in size to 15 % and in place to 6 % of it."""
        (reference,) = np.load(shared / "reference" / "real_JianzhuGuo.npz")["box"][:, :4]
        (face,) = haar.detect(cv2.imread(str(shared / "images" / "JianzhuGuo.jpg")))
        size = (reference[2:] - reference[:2]).mean()
        assert abs((face.box_xyxy[2:] - face.box_xyxy[:2]).mean() / size - 1) < 0.15
        centres = (face.box_xyxy[:2] + face.box_xyxy[2:] - reference[:2] - reference[2:]) / 2
        assert np.abs(centres).max() < 0.06 * size

    @pytest.mark.parametrize("name", ["brick", "coffee"])
    def test_no_faces_in_things(self, haar: HaarDetector, name: str) -> None:
        data = pytest.importorskip("skimage.data")
        image = getattr(data, name)()
        assert haar.detect(np.ascontiguousarray(image if image.ndim == 3 else np.dstack([image] * 3))) == []

    @pytest.mark.parametrize("image", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3)), np.zeros((0, 9, 3), np.uint8)])
    def test_other_images(self, haar: HaarDetector, image: np.ndarray) -> None:
        with pytest.raises(ValueError, match=r"must be \(H, W, 3\) uint8"):
            haar.detect(image)

    def test_opencv_without_its_cascades(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(detection.cv2, "__file__", str(tmp_path / "__init__.py"))
        with pytest.raises(MediaError, match="install opencv-python again"):
            HaarDetector()


class TestParts:
    """A hit inside a surer face is a part of it; hits side by side are two faces."""

    @pytest.mark.parametrize(
        ("boxes", "kept"),
        [
            ([], []),
            ([[0, 0, 10, 10], [2, 2, 6, 6]], [0]),
            ([[2, 2, 6, 6], [0, 0, 10, 10]], [0]),
            ([[0, 0, 10, 10], [8, 0, 18, 10]], [0, 1]),
        ],
    )
    def test_table(self, boxes: list[list[float]], kept: list[int]) -> None:
        found = [Detection(np.array(box, float), 1.0) for box in boxes]
        assert detection._without_parts(found) == [found[index] for index in kept]


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
