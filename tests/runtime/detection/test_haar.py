"""The cascades on real photographs, and on pictures in which there is nothing to find."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from synergy.runtime.crop import DDFA_V2_CROP, roi_from_box
from synergy.runtime.detection.haar import HaarDetector
from synergy.runtime.errors import MediaError

# Forehead to chin and side to side of the astronaut's face, read off the picture.
ASTRONAUT_XYXY = np.array([175.0, 65, 272, 178])


@pytest.fixture(scope="module")
def haar() -> HaarDetector:
    return HaarDetector()


def iou(one: np.ndarray, other: np.ndarray) -> float:
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
        assert iou(face.box_xyxy, ASTRONAUT_XYXY) > 0.7
        assert 0.44 < face.score <= 1
        assert np.array_equal(portrait_bgr, before)

    def test_a_huge_portrait_gives_the_same_face(self, haar: HaarDetector, portrait_bgr: np.ndarray) -> None:
        (face,) = haar.detect(cv2.resize(portrait_bgr, None, fx=5, fy=5))
        assert iou(face.box_xyxy / 5, ASTRONAUT_XYXY) > 0.65

    def test_two_faces(self, haar: HaarDetector, portrait_bgr: np.ndarray) -> None:
        """The surer, then the larger one first."""
        small = cv2.resize(portrait_bgr, (256, 256), interpolation=cv2.INTER_AREA)
        faces = haar.detect(np.hstack([np.vstack([small, small * 0]), portrait_bgr]))
        assert len(faces) == 2
        ranks = [(-face.score, -(face.box_xyxy[2] - face.box_xyxy[0])) for face in faces]
        assert ranks == sorted(ranks)
        places = {int(face.box_xyxy[0] > 256): face.box_xyxy for face in faces}
        assert iou(places[1], ASTRONAUT_XYXY + np.array([256, 0, 256, 0])) > 0.65
        assert iou(places[0], ASTRONAUT_XYXY / 2) > 0.6

    def test_three_quarter_profiles(self, haar: HaarDetector, shared: Path) -> None:
        """All three of emma.jpg, one of them tilted by 20 degrees, and no fourth."""
        boxes = np.load(shared / "reference" / "real_emma.npz")["box"][:, :4]
        faces = haar.detect(cv2.imread(str(shared / "images" / "emma.jpg")))
        assert len(faces) == 3
        found = [np.argmax([iou(face.box_xyxy, box) for box in boxes]) for face in faces]
        assert sorted(found) == [0, 1, 2]
        for face, index in zip(faces, found, strict=True):
            regions = roi_from_box(np.stack([face.box_xyxy, boxes[index]]), DDFA_V2_CROP)
            assert iou(*regions) > 0.7

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
        with pytest.raises(ValueError, match=r"must be .*\(H, W, 3\)"):
            haar.detect(image)

    def test_opencv_without_its_cascades(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cv2, "__file__", str(tmp_path / "__init__.py"))
        with pytest.raises(MediaError, match="install opencv-python again"):
            HaarDetector()

    @pytest.mark.parametrize("degrees", [-25, -12, 12, 25])
    def test_a_tilted_portrait(self, haar: HaarDetector, portrait_bgr: np.ndarray, degrees: int) -> None:
        height, width = portrait_bgr.shape[:2]
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
        (face,) = haar.detect(cv2.warpAffine(portrait_bgr, turn, (width, height)))
        centre = turn @ (*(ASTRONAUT_XYXY[:2] + ASTRONAUT_XYXY[2:]) / 2, 1.0)
        half = (ASTRONAUT_XYXY[2:] - ASTRONAUT_XYXY[:2]) / 2
        assert iou(face.box_xyxy, np.concatenate([centre - half, centre + half])) > 0.6

    @pytest.mark.parametrize("share", [1 / 18, 1 / 12, 1 / 8, 1 / 5, 1 / 3, 1 / 1.5])
    def test_faces_of_every_size(self, haar: HaarDetector, portrait_bgr: np.ndarray, share: float) -> None:
        """Each of the pictures, the next half the last, finds its own; nothing falls between two."""
        left, top, right, bottom = (ASTRONAUT_XYXY + np.array([-20, -30, 20, 20])).astype(int)
        cut = portrait_bgr[top:bottom, left:right]
        scale = 900 * share / (ASTRONAUT_XYXY[3] - ASTRONAUT_XYXY[1])
        small = cv2.resize(
            cut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        )
        image = np.full((900, 900, 3), 128, np.uint8)
        y, x = (900 - small.shape[0]) // 2, (900 - small.shape[1]) // 3
        image[y : y + small.shape[0], x : x + small.shape[1]] = small
        (face,) = haar.detect(image)
        box = (ASTRONAUT_XYXY - np.array([left, top] * 2)) * scale + np.array([x, y] * 2)
        assert iou(face.box_xyxy, box) > 0.6

    def test_a_damaged_cascade(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, portrait_bgr: np.ndarray) -> None:
        (tmp_path / "data").mkdir()
        for file in (Path(cv2.__file__).parent / "data").glob("*face*.xml"):
            (tmp_path / "data" / file.name).write_bytes(file.read_bytes()[:5000])
        monkeypatch.setattr(cv2, "__file__", str(tmp_path / "__init__.py"))
        with pytest.raises(MediaError, match=r"frontalface_alt.xml is damaged: install opencv-python again"):
            HaarDetector().detect(portrait_bgr)
