"""Augmentations: the label follows the picture, and the result depends on seed, step and place alone."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from synergy.runtime.decode import SYNERGYNET_FRAME, vertices
from synergy.synergy_model.synthetic.faces import SyntheticFaces
from synergy.synergy_model.synthetic.morphable_bases import procedural_morphable
from synergy.synergy_model.training.augmentation import (
    ADJUSTMENTS,
    PAPER,
    UNCHANGED,
    WIDE,
    WINDOWS,
    AugmentOptions,
    augment,
    augment_batch,
    blackout,
    draw_similarity,
    gamma,
    transform_camera,
    warp,
)

GEOMETRY = ("rotation_deg", "scale", "shift_px")


def _picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (120, 120, 3), np.uint8)


def _rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def _params(count: int) -> np.ndarray:
    return np.stack([SyntheticFaces(3).labels(index).params for index in range(count)])


def _landmarks(params: np.ndarray) -> np.ndarray:
    bases = procedural_morphable().sparse()
    return vertices(params.astype(np.float64), bases.u_base, bases.w_shp_base, bases.w_exp_base, SYNERGYNET_FRAME)


def _similarity(angle_deg: float, scale: float, x: float, y: float) -> np.ndarray:
    cosine, sine = scale * np.cos(np.radians(angle_deg)), scale * np.sin(np.radians(angle_deg))
    return np.array([[cosine, -sine, x], [sine, cosine, y]])


@pytest.mark.parametrize(
    "similarity",
    [_similarity(0, 1, 0, 0), _similarity(0, 1, 5, -3), _similarity(0, 1.15, 0, 0), _similarity(20, 0.87, -4, 6)],
    ids=["identity", "shift", "scale", "all"],
)
def test_landmarks_of_the_transformed_label_are_the_transformed_landmarks(similarity: np.ndarray) -> None:
    params = _params(8)
    before = _landmarks(params)
    after = _landmarks(np.stack([transform_camera(one, similarity) for one in params]))
    expected = similarity[:, :2] @ before[:, :2] + similarity[:, 2:]
    assert after[:, :2] == pytest.approx(expected, abs=0.01)
    assert after[:, 2] == pytest.approx(before[:, 2] * np.hypot(*similarity[:, 0]), abs=0.01)


def test_random_similarities_stay_within_the_options() -> None:
    params, rng = _params(1)[0], _rng(0)
    for _ in range(50):
        similarity = draw_similarity(120, 120, WIDE, rng)
        (cosine, _, _), (sine, _, _) = similarity
        assert abs(np.degrees(np.arctan2(sine, cosine))) <= 20
        assert np.exp(-0.14) <= np.hypot(cosine, sine) <= np.exp(0.14)
        centre = np.array([59.5, 59.5])
        assert np.abs(similarity[:, :2] @ centre + similarity[:, 2] - centre).max() <= 5 + 1e-9
        assert transform_camera(params, similarity)[12:] == pytest.approx(params[12:], abs=0)


def test_a_transform_that_is_not_a_similarity_is_refused() -> None:
    with pytest.raises(ValueError, match="similarity"):
        transform_camera(_params(1)[0], np.array([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]))


def test_dots_at_the_landmarks_are_found_at_the_transformed_landmarks() -> None:
    """A white dot is drawn at one landmark at a time; its centre of mass moves with the label."""
    params = _params(1)[0]
    similarity = draw_similarity(120, 120, WIDE, _rng(7))
    before = _landmarks(params[None])[0, :2]
    after = _landmarks(transform_camera(params, similarity)[None])[0, :2]
    fixed_point = 4  # fractional bits of OpenCV's drawing coordinates
    for start, end in zip(before.T, after.T, strict=True):
        if not (start.min() > 15 and start.max() < 105 and end.min() > 10 and end.max() < 110):
            continue
        picture = np.zeros((120, 120, 3), np.uint8)
        centre = tuple(int(v) for v in np.rint(start * 2**fixed_point))
        cv2.circle(picture, centre, 3 << fixed_point, (255, 255, 255), -1, cv2.LINE_AA, fixed_point)
        moments = cv2.moments(warp(picture, similarity)[:, :, 0])
        assert [moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]] == pytest.approx(end, abs=0.15)


def test_batches_depend_on_seed_step_and_place_and_the_input_stays() -> None:
    images, params = np.stack([_picture(0), _picture(0)]), np.repeat(_params(1), 2, axis=0)
    kept = images.copy(), params.copy()
    first, again = (augment_batch(images, params, WIDE, 1, 5) for _ in range(2))
    assert all((one == two).all() for one, two in zip(first, again, strict=True))
    assert (images == kept[0]).all() and (params == kept[1]).all()
    assert first[0].dtype == np.uint8 and first[0].shape == images.shape and first[1].dtype == np.float32
    assert (first[0][0] != first[0][1]).any() and (first[1][0] != first[1][1]).any()
    for seed, step in ((2, 5), (1, 6)):
        other = augment_batch(images, params, WIDE, seed, step)
        assert (other[0] != first[0]).any() and (other[1] != first[1]).any()


def test_nothing_changes_without_augmentations() -> None:
    images, params = np.stack([_picture(0), _picture(1)]), _params(2)
    pictures, labels = augment_batch(images, params, UNCHANGED, 0, 0)
    assert (pictures == images).all()
    assert labels == pytest.approx(params, abs=1e-4)


def test_the_papers_augmentations_leave_the_label() -> None:
    images, params = np.stack([_picture(0), _picture(1)]), _params(2)
    pictures, labels = augment_batch(images, params, PAPER, 0, 0)
    assert (pictures != images).any() and labels == pytest.approx(params, abs=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"saturation": (0.3, 0.5)},
        {"grey": 1.0},
        {"colour_cast": 0.2},
        {"contrast": (0.5, 0.6)},
        {"brightness": (0.5, 0.6)},
        {"gamma": (1.4, 1.5)},
        {"uneven_light": 1.0},
        {"low_resolution": 1.0},
        {"blurred": 1.0},
        {"noise": 18.0},
        {"hidden": 1.0},
        {"jitter": 0.4},
        {"blackout": 1.0},
    ],
    ids=lambda options: next(iter(options)),
)
def test_each_option_has_its_own_effect(options: dict) -> None:
    chosen = AugmentOptions(**{**UNCHANGED.__dict__, **options})
    assert (augment(_picture(), _picture(1), chosen, _rng(1)) != _picture()).any()


def test_a_hidden_rectangle_shows_one_colour_or_the_other_picture() -> None:
    chosen = AugmentOptions(**{**UNCHANGED.__dict__, "hidden": 1.0})
    dark, light = np.zeros((120, 120, 3), np.uint8), np.full((120, 120, 3), 255, np.uint8)
    for seed in range(10):
        picture = augment(dark, light, chosen, _rng(seed))
        colours = np.unique(picture.reshape(-1, 3), axis=0)
        assert 2 <= len(colours) <= 3  # black, and two rectangles
        assert (picture == 0).all(axis=2).any()


def test_gamma_by_hand() -> None:
    grey = np.full((2, 2, 3), 63.75, np.float32)
    assert gamma(grey, 0.5) == pytest.approx(np.full((2, 2, 3), 127.5), abs=0.1)


def test_adjustments_by_hand() -> None:
    picture = np.array([[[10, 20, 30], [50, 60, 70]]], np.float32)
    brightness, contrast, saturation = (adjust(picture, 0.5) for adjust in ADJUSTMENTS)
    grey = np.array([0.114 * 10 + 0.587 * 20 + 0.299 * 30, 0.114 * 50 + 0.587 * 60 + 0.299 * 70])
    assert brightness == pytest.approx(picture / 2)
    assert contrast == pytest.approx(grey.mean() + (picture - grey.mean()) / 2, rel=1e-5)
    assert saturation == pytest.approx((picture + grey[None, :, None]) / 2, rel=1e-5)


def test_saturation_leaves_grey_pictures_alone() -> None:
    grey = np.full((4, 4, 3), 77.0, np.float32)
    assert ADJUSTMENTS[2](grey, 1.4) == pytest.approx(grey, abs=1e-3)


@pytest.mark.parametrize("window", range(len(WINDOWS)))
def test_blackout_keeps_one_window_and_nothing_else(window: int) -> None:
    picture = np.full((120, 120, 3), 9, np.uint8)
    top, bottom, left, right = WINDOWS[window]
    kept = blackout(picture, window)
    assert (kept == 9).all(axis=2).sum() == round((bottom - top) * (right - left) * 120 * 120)
    assert set(np.unique(kept)) == {0, 9} and (picture == 9).all()


def test_blackout_has_the_given_probability() -> None:
    picture, rng = np.full((8, 8, 3), 200, np.uint8), _rng(0)
    chosen = AugmentOptions(**{**UNCHANGED.__dict__, "blackout": 0.25})
    dark = sum((augment(picture, picture, chosen, rng) == 0).any() for _ in range(400))
    assert 70 <= dark <= 130
