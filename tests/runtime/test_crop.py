"""Boxes, regions and crops are bitwise equal to those of the official 3DDFA_V2 and SynergyNet code."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from synergy.runtime import crop
from synergy.runtime.crop import DDFA_V2_CROP, SYNERGYNET_CROP, CropRule, crop_resize, roi_from_box, roi_to_image


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)


class TestRoiFromBox:
    @pytest.mark.parametrize(
        ("rule", "box", "roi"),
        [
            (SYNERGYNET_CROP, [0, 0, 100, 100], [-10, -10, 110, 110]),
            (SYNERGYNET_CROP, [0, 0, 40, 99], [-39, -9.5, 79, 108.5]),  # 99 * 1.2 // 2 = 59
            (DDFA_V2_CROP, [0, 0, 100, 100], [-29, -15, 129, 143]),
            (DDFA_V2_CROP, [10, 20, 11, 21], [10, 20.14, 11, 21.14]),  # int(1.58) = 1
        ],
    )
    def test_by_hand(self, rule: CropRule, box: list[float], roi: list[float]) -> None:
        np.testing.assert_allclose(roi_from_box(np.array(box), rule), roi, atol=1e-12)

    def test_no_boxes(self) -> None:
        assert roi_from_box(np.zeros((0, 4)), SYNERGYNET_CROP).shape == (0, 4)

    @pytest.mark.parametrize("name", ["emma", "JianzhuGuo"])
    def test_as_3ddfa_v2(self, shared: Path, name: str) -> None:
        real = np.load(shared / "reference" / f"real_{name}.npz")
        assert np.array_equal(roi_from_box(real["box"][:, :4], DDFA_V2_CROP), real["roi_box"])

    def test_the_boxes_are_not_changed(self) -> None:
        boxes = np.array([[0.0, 0, 10, 10]])
        roi_from_box(boxes, DDFA_V2_CROP)
        assert boxes.tolist() == [[0, 0, 10, 10]]

    @pytest.mark.parametrize(
        ("box", "reason"),
        [
            ([0, 0, 0, 10], "x1 < x2"),
            ([0, 10, 10, 5], "y1 < y2"),
            ([0, 0, np.nan, 10], "not finite"),
            ([0, 0, np.inf, 10], "not finite"),
            ([0, 0, 0.1, 0.1], "smaller than one pixel"),
            ([0, 0, 10], "x1, y1, x2, y2"),
            (3.0, "x1, y1, x2, y2"),
        ],
    )
    def test_useless_boxes(self, box: list[float], reason: str) -> None:
        with pytest.raises(ValueError, match=reason):
            roi_from_box(np.array(box), SYNERGYNET_CROP)

    def test_the_bad_one_of_many_is_named(self) -> None:
        with pytest.raises(ValueError, match=r"\[7\.0, 0\.0, 5\.0, 9\.0\]"):
            roi_from_box(np.array([[0, 0, 9, 9], [7, 0, 5, 9]]), DDFA_V2_CROP)


class TestCropRule:
    @pytest.mark.parametrize(
        ("field", "value"),
        [("side_of", "width"), ("interpolation", "cubic"), ("scale", 0.0), ("scale", float("nan")), ("round_to", 0)],
    )
    def test_nonsense(self, field: str, value: object) -> None:
        fields = {"side_of": "mean", "scale": 1.5, "round_to": 1, "shift_y": 0.0, field: value}
        with pytest.raises(ValueError, match="a crop rule has"):
            CropRule(**fields)


class TestCropResize:
    @pytest.mark.parametrize("interpolation", ["linear", "lanczos4"])
    def test_as_the_official_code(self, shared: Path, interpolation: str) -> None:
        reference = np.load(shared / "reference" / "crop_resize.npz")
        image, rois = reference["image_bgr_u8"], reference["roi_box"]
        crops = np.stack([crop_resize(image, roi, interpolation=interpolation) for roi in rois])
        assert np.array_equal(crops, reference[f"crop_{interpolation}_u8"])

    @pytest.mark.parametrize("name", ["emma", "JianzhuGuo"])
    def test_real_photos(self, shared: Path, name: str) -> None:
        real = np.load(shared / "reference" / f"real_{name}.npz")
        image = cv2.imread(str(shared / "images" / f"{name}.jpg"))
        if hashlib.sha256(image.tobytes()).hexdigest() != str(real["image_pixels_sha256"]):
            pytest.skip("this OpenCV decodes the JPEG to other pixels")
        crops = [crop_resize(image, roi) for roi in roi_from_box(real["box"][:, :4], DDFA_V2_CROP)]
        assert np.array_equal(crops, real["crop_bgr_u8"])

    def test_same_size_inside_is_a_copy(self, picture: np.ndarray) -> None:
        cut = crop_resize(picture, np.array([10, 5, 30, 25]), size=20)
        assert np.array_equal(cut, picture[5:25, 10:30])
        cut[:] = 0
        assert picture[5:25, 10:30].any()

    @pytest.mark.parametrize(
        ("left", "top"), [(-5, 3), (70, 3), (3, -5), (3, 50), (-5, -5), (70, 50)], ids=lambda at: str(at)
    )
    def test_outside_is_black(self, picture: np.ndarray, left: int, top: int) -> None:
        padded = np.zeros((160, 180, 3), np.uint8)
        padded[50:110, 50:130] = picture
        cut = crop_resize(picture, np.array([left, top, left + 20, top + 20]), size=20)
        assert np.array_equal(cut, padded[50 + top : 70 + top, 50 + left : 70 + left])

    @pytest.mark.parametrize("roi", [[-50, 0, -30, 20], [1e9, 0, 1e9 + 500, 500], [0, 60, 20, 80]])
    def test_wholly_outside_is_black(self, picture: np.ndarray, roi: list[float]) -> None:
        assert not crop_resize(picture, np.array(roi)).any()

    def test_corners_round_half_to_even(self, picture: np.ndarray) -> None:
        assert np.array_equal(crop_resize(picture, np.array([0.5, 1.5, 20.5, 22.5]), size=20), picture[2:22, 0:20])

    @pytest.mark.parametrize(
        ("roi", "reason"),
        [
            ([0, 0, 0.4, 0.4], "has no pixel"),
            ([0, 0, np.nan, 9], "not finite"),
            ([0, 0, crop.MAX_ROI_SIDE + 1, 9], "is the box in image pixels"),
            ([-1e300, 0, 1e300, 9], "is the box in image pixels"),
            ([[0, 0, 9, 9]], "one ROI"),
        ],
    )
    def test_useless_regions(self, picture: np.ndarray, roi: list[float], reason: str) -> None:
        with pytest.raises(ValueError, match=reason):
            crop_resize(picture, np.array(roi))

    def test_unknown_interpolation(self, picture: np.ndarray) -> None:
        with pytest.raises(ValueError, match="use linear or lanczos4"):
            crop_resize(picture, np.array([0, 0, 9, 9]), interpolation="cubic")


class TestRoiToImage:
    def test_no_faces(self) -> None:
        assert roi_to_image(np.zeros((0, 3, 68), np.float32), np.zeros((0, 4))).shape == (0, 3, 68)

    def test_by_hand(self) -> None:
        points = np.array([[[0.0, 60], [0, 120], [0, 12]]], np.float32)
        moved = roi_to_image(points, np.array([[10.5, 20, 250.5, 140]]))
        assert moved.dtype == np.float32
        assert moved[0].tolist() == [[10.5, 130.5], [20, 140], [0, 18]]  # z by the mean of 2 and 1

    def test_as_synergynet(self, shared: Path) -> None:
        reference = np.load(shared / "reference" / "io_mobilenet_v2.npz")
        rois = np.load(shared / "reference" / "input_batch.npz")["roi_box"][:, :4]
        np.testing.assert_allclose(roi_to_image(reference["lm68"], rois), reference["lm68_image"], atol=1e-3)

    def test_numbers_must_fit(self) -> None:
        with pytest.raises(ValueError, match="do not match"):
            roi_to_image(np.zeros((2, 3, 68)), np.array([[0, 0, 9, 9]]))
