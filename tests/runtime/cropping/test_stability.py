"""Whether there is a face in a box: boxes outside the image, and the confidence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from synergy.runtime.aligner import FaceAligner
from synergy.runtime.crop import MAX_ROI_SIDE, check_inside
from synergy.runtime.cropping.stability import HALF_SURE, check_roi, confidence

BOX = [180.0, 72.0, 270.0, 184.0]  # of the astronaut's face


@pytest.fixture(scope="module")
def aligner() -> Iterator[FaceAligner]:
    pytest.importorskip("onnxruntime")
    with FaceAligner.load(engine="onnx", threads=1) as opened:
        yield opened


def test_share_of_a_box_in_the_image() -> None:
    boxes = np.array([[0, 0, 20, 10], [-10, 5, 10, 15], [5, 5, 10, 10], [-40, -40, 120, 60.0]])
    np.testing.assert_allclose(check_inside(boxes, (10, 20, 3)), [1, 0.25, 1, 1 / 80])
    assert check_inside(np.zeros((0, 4)), (10, 20, 3)).shape == (0,)


@pytest.mark.parametrize("box", [[2000, 2000, 2100, 2100], [-90, 10, 0, 100], [10, 512, 50, 560], [-9, -9, -1, -1]])
def test_a_box_outside_the_image_is_refused(aligner: FaceAligner, portrait_bgr: np.ndarray, box: list[float]) -> None:
    expected = rf"\[{float(box[0])}, .*\] is outside the image of 512x512 pixels"
    with pytest.raises(ValueError, match=expected):
        aligner.align(portrait_bgr, [BOX, box])
    with pytest.raises(ValueError, match=expected):
        aligner.align_rois(portrait_bgr, [box])


def test_confidence(aligner: FaceAligner, portrait_bgr: np.ndarray) -> None:
    (plain,) = aligner.align(portrait_bgr, [BOX])
    face, background = aligner.align(portrait_bgr, [BOX, [400, 200, 500, 310]], confidence=True)
    assert plain.confidence is None and np.abs(face.landmarks - plain.landmarks).max() < 1e-3
    noise = np.random.default_rng(0).integers(0, 256, portrait_bgr.shape, np.uint8)
    none = [aligner.align(image, [BOX], confidence=True)[0] for image in (np.zeros_like(portrait_bgr), noise)]
    assert face.confidence is not None and face.confidence > 0.9
    assert all(other.confidence is not None and other.confidence < 0.5 for other in [background, *none])


def test_confidence_falls_with_instability() -> None:
    assert [confidence(each) for each in (0.0, HALF_SURE, np.inf)] == [1.0, 0.5, 0.0]


def test_the_largest_region_can_be_checked() -> None:
    left, _, right, _ = check_roi(np.array([0.0, 0, MAX_ROI_SIDE, MAX_ROI_SIDE]))
    assert right - left == MAX_ROI_SIDE


def test_record(synergy, portrait_bgr: np.ndarray, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), portrait_bgr)
    cv2.imwrite(str(tmp_path / "b.png"), portrait_bgr)
    boxes = {"a.png": [BOX, [505, 400, 600, 520]], "b.png": [[600, 0, 700, 100]]}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    command = ("infer", tmp_path, "--engine", "onnx", "--boxes", tmp_path / "boxes.json", "--json", tmp_path / "o.json")
    code, out, err = synergy(*command)
    good, bad = json.loads((tmp_path / "o.json").read_text())["images"]
    face, edge = good["faces"]
    assert code == 1 and face["confidence"] > 0.9 and "warning" not in face and edge["confidence"] < 0.5
    assert edge["warning"] == "only 6.9% of the box is inside the image" and edge["warning"] in err
    assert out.count("probably no face") == 1
    assert bad["faces"] == [] and "outside the image of 512x512 pixels" in bad["error"]
    assert synergy(*command, "--no-confidence")[0] == 1
    assert "confidence" not in json.loads((tmp_path / "o.json").read_text())["images"][0]["faces"][0]
