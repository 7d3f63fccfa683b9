from __future__ import annotations

import numpy as np
import pytest

from synergy.synergy_model.training.augmentation import ADJUSTMENTS, WINDOWS, AugmentOptions, augment, blackout


def _picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (120, 120, 3), np.uint8)


def _rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def test_no_jitter_and_no_blackout_change_nothing() -> None:
    picture = _picture()
    assert (augment(picture, AugmentOptions(jitter=0.0, blackout=0.0), _rng(1)) == picture).all()


def test_the_same_generator_gives_the_same_picture_and_the_input_stays() -> None:
    picture = _picture()
    before = picture.copy()
    first, second = (augment(picture, AugmentOptions(), _rng(3)) for _ in range(2))
    other = augment(picture, AugmentOptions(), _rng(4))
    assert (first == second).all() and (first != other).any()
    assert (picture == before).all() and first.dtype == np.uint8 and first.shape == picture.shape


def test_adjustments_by_hand() -> None:
    picture = np.array([[[10, 20, 30], [50, 60, 70]]], np.float32)
    brightness, contrast, saturation = (adjust(picture, np.float32(0.5)) for adjust in ADJUSTMENTS)
    grey = np.array([0.114 * 10 + 0.587 * 20 + 0.299 * 30, 0.114 * 50 + 0.587 * 60 + 0.299 * 70])
    assert brightness == pytest.approx(picture / 2)
    assert contrast == pytest.approx(grey.mean() + (picture - grey.mean()) / 2, rel=1e-5)
    assert saturation == pytest.approx((picture + grey[None, :, None]) / 2, rel=1e-5)


def test_saturation_leaves_grey_pictures_alone() -> None:
    grey = np.full((4, 4, 3), 77.0, np.float32)
    assert ADJUSTMENTS[2](grey, np.float32(1.4)) == pytest.approx(grey, abs=1e-3)


@pytest.mark.parametrize("window", range(len(WINDOWS)))
def test_blackout_keeps_one_window_and_nothing_else(window: int) -> None:
    picture = np.full((120, 120, 3), 9, np.uint8)
    top, bottom, left, right = WINDOWS[window]
    kept = blackout(picture, window)
    assert (kept == 9).all(axis=2).sum() == round((bottom - top) * (right - left) * 120 * 120)
    assert set(np.unique(kept)) == {0, 9} and (picture == 9).all()


def test_blackout_has_the_given_probability() -> None:
    picture = np.full((8, 8, 3), 200, np.uint8)
    rng = _rng(0)
    dark = sum((augment(picture, AugmentOptions(0.0, 0.25), rng) == 0).any() for _ in range(400))
    assert 70 <= dark <= 130
