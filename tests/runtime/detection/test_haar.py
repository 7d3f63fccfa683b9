"""OpenCV's cascades on real photographs and on images without faces."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from synergy.runtime.detection.boxes import iou
from synergy.runtime.detection.haar import HaarDetector
from synergy.runtime.errors import MediaError

# Forehead to chin and side to side of the astronaut's face, measured by hand.
ASTRONAUT_XYXY = np.array([175.0, 65, 272, 178])


pytestmark = pytest.mark.skipif(not hasattr(cv2, "CascadeClassifier"), reason="this OpenCV has no cascades")


@pytest.fixture(scope="module")
def haar() -> HaarDetector:
    return HaarDetector()


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (10, 10), (23, 400), (120, 120)])
@pytest.mark.parametrize("value", [0, 255])
def test_uniform_images_have_no_face(haar: HaarDetector, shape: tuple[int, int], value: int) -> None:
    assert haar.detect(np.full((*shape, 3), value, np.uint8)) == []


def test_noise_has_no_face(haar: HaarDetector) -> None:
    assert haar.detect(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)) == []


@pytest.mark.parametrize("scale", [1, 5])
def test_portrait(haar: HaarDetector, portrait_bgr: np.ndarray, scale: int) -> None:
    image = cv2.resize(portrait_bgr, None, fx=scale, fy=scale)
    before = image.copy()
    (face,) = haar.detect(image)
    assert iou(face.box_xyxy / scale, ASTRONAUT_XYXY) > 0.65
    assert 0 < face.score < 1
    assert np.array_equal(image, before)


def test_two_faces_are_sorted_and_limited(portrait_bgr: np.ndarray) -> None:
    small = cv2.resize(portrait_bgr, (256, 256), interpolation=cv2.INTER_AREA)
    image = np.hstack([np.vstack([small, small * 0]), portrait_bgr])
    faces = HaarDetector().detect(image)
    assert len(faces) == 2 and faces[0].score >= faces[1].score
    (best,) = HaarDetector(max_faces=1).detect(image)
    assert np.array_equal(best.box_xyxy, faces[0].box_xyxy)


def test_min_score_drops_faces(portrait_bgr: np.ndarray) -> None:
    assert HaarDetector(min_score=0.99).detect(portrait_bgr) == []


def test_profiles_in_both_directions(haar: HaarDetector, shared: Path) -> None:
    """The frontal cascade finds nothing in this photo; the profile cascade finds the face and its mirror image."""
    image = cv2.imread(str(shared / "aflw2000" / "raw" / "image00475.jpg"))
    (face,) = haar.detect(image)
    (mirrored,) = haar.detect(np.ascontiguousarray(image[:, ::-1]))
    left, top, right, bottom = mirrored.box_xyxy
    unmirrored = np.array([image.shape[1] - right, top, image.shape[1] - left, bottom])
    assert iou(face.box_xyxy, unmirrored) > 0.7


def test_frontal_boxes_have_the_size_of_faceboxes(haar: HaarDetector, shared: Path) -> None:
    """The crop rules expect FaceBoxes' boxes: the same size within 15 %, the same centre within 6 % of it."""
    (reference,) = np.load(shared / "reference" / "real_JianzhuGuo.npz")["box"][:, :4]
    (face,) = haar.detect(cv2.imread(str(shared / "images" / "JianzhuGuo.jpg")))
    size = (reference[2:] - reference[:2]).mean()
    assert abs((face.box_xyxy[2:] - face.box_xyxy[:2]).mean() / size - 1) < 0.15
    centres = (face.box_xyxy[:2] + face.box_xyxy[2:] - reference[:2] - reference[2:]) / 2
    assert np.abs(centres).max() < 0.06 * size


@pytest.mark.parametrize("name", ["brick", "coffee", "coins", "gravel"])
def test_objects_and_textures_have_no_face(haar: HaarDetector, name: str) -> None:
    image = getattr(pytest.importorskip("skimage.data"), name)()
    assert haar.detect(np.ascontiguousarray(image if image.ndim == 3 else np.dstack([image] * 3))) == []


@pytest.mark.parametrize("image", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3)), np.zeros((0, 9, 3), np.uint8)])
def test_wrong_input_is_refused(haar: HaarDetector, image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"must be .*\(H, W, 3\)"):
        haar.detect(image)


def test_missing_cascade_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(MediaError, match=r"without haarcascade_frontalface_alt\.xml: install opencv-python again"):
        HaarDetector()


def test_damaged_cascade_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, portrait_bgr: np.ndarray) -> None:
    (tmp_path / "data").mkdir()
    for file in (Path(cv2.__file__).parent / "data").glob("*face*.xml"):
        (tmp_path / "data" / file.name).write_bytes(file.read_bytes()[:5000])
    monkeypatch.setattr(cv2, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(MediaError, match=r"frontalface_alt\.xml is damaged: install opencv-python again"):
        HaarDetector().detect(portrait_bgr)


def test_opencv_without_cascades(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "CascadeClassifier")
    with pytest.raises(MediaError, match=r"only the yunet detector: run `synergy detector install`"):
        HaarDetector()
