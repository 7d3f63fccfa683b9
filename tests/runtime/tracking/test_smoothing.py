"""The One-Euro filter against its formulas, how much jitter it removes, how far it lags; and the jitter metric."""

from __future__ import annotations

import numpy as np
import pytest

from synergy.runtime.tracking.smoothing import OneEuro, OneEuroFilter, jitter

FPS = 30


def smoothed(values: np.ndarray, constants: OneEuro | None = None, unit: float = 1.0) -> np.ndarray:
    """One coordinate (T,) through the filter at 30 frames per second."""
    run = OneEuroFilter(constants or OneEuro())
    return np.array([run(np.array([[value, 0.0, 0.0]]), t / FPS, unit)[0, 0] for t, value in enumerate(values)])


def test_a_still_point_stays_and_the_first_is_as_given() -> None:
    assert np.array_equal(smoothed(np.full(20, 7.25)), np.full(20, 7.25))


def test_without_beta_it_is_an_exponential_filter_of_the_cutoff() -> None:
    cutoff, step = 2.0, 1 / FPS
    weight = 1 / (1 + 1 / (2 * np.pi * cutoff) / step)  # tau / Te, as the paper writes it
    expected = [0.0, weight, weight + weight * (1 - weight)]
    assert np.allclose(smoothed(np.array([0.0, 1.0, 1.0]), OneEuro(min_cutoff=cutoff, beta=0.0)), expected, atol=1e-12)


def test_beta_raises_the_cutoff_with_the_filtered_speed() -> None:
    constants, step = OneEuro(min_cutoff=1.0, beta=2.0, d_cutoff=1.0), 1 / FPS
    speed = 3.0 * FPS / (1 + 1 / (2 * np.pi * 1.0) / step)
    weight = 1 / (1 + 1 / (2 * np.pi * (1.0 + 2.0 * speed)) / step)
    assert smoothed(np.array([0.0, 3.0]), constants)[1] == pytest.approx(3.0 * weight)


def test_coordinates_of_a_point_share_their_speed_and_points_do_not() -> None:
    run = OneEuroFilter(OneEuro())
    run(np.zeros((2, 3)), 0.0)
    found = run(np.array([[1.0, 10.0, 0.0], [1.0, 0.0, 0.0]]), 0.1)
    assert found[0, 0] == pytest.approx(found[0, 1] / 10) and found[0, 0] > found[1, 0]


def test_speeds_count_in_units_for_all_points_or_each() -> None:
    path = np.cumsum(np.random.default_rng(0).normal(size=40))
    assert np.allclose(smoothed(path * 50, unit=50.0), smoothed(path) * 50)
    run, points = OneEuroFilter(OneEuro()), np.array([[1.0, 0.0], [50.0, 0.0]])
    run(points * 0, 0.0, np.array([[1.0], [50.0]]))
    found = run(points, 0.1, np.array([[1.0], [50.0]]))
    assert np.allclose(found[1], found[0] * 50)


def test_step_response_reaches_90_percent_in_the_third_frame() -> None:
    found = smoothed(np.where(np.arange(20) < 5, 0.0, 0.1))
    assert found[4] == 0 and found[7] >= 0.09 and found[11] >= 0.098 and found.max() <= 0.1


def test_lag_at_speed_one_is_at_most_three_hundredths() -> None:
    path = np.maximum(np.arange(60) - 10, 0) / FPS
    behind = path - smoothed(path)
    assert behind.max() <= 0.03 and behind[-1] <= 0.01


def test_jitter_of_a_still_point_is_removed() -> None:
    noise = np.random.default_rng(0).normal(0, 0.003, 300)  # what the network's landmarks do, in face sizes
    assert np.abs(np.diff(smoothed(noise)[10:])).mean() < np.abs(np.diff(noise[10:])).mean() / 4


def test_returned_arrays_are_copies() -> None:
    run, points = OneEuroFilter(OneEuro()), np.ones((2, 3), np.float32)
    run(points, 0.0)[:] = 9
    points[:] = 1
    run(points, 0.1)[:] = 9
    assert np.array_equal(run(points, 0.2), np.ones((2, 3))) and (points == 1).all()


@pytest.mark.parametrize("later", [0.5, 0.4, float("nan")])
def test_time_must_increase(later: float) -> None:
    run = OneEuroFilter(OneEuro())
    run(np.zeros((1, 3)), 0.5)
    with pytest.raises(ValueError, match="time must increase"):
        run(np.zeros((1, 3)), later)


@pytest.mark.parametrize("constants", [{"min_cutoff": 0}, {"d_cutoff": -1}, {"beta": -0.1}, {"min_cutoff": np.nan}])
def test_invalid_constants(constants: dict) -> None:
    with pytest.raises(ValueError, match="One-Euro"):
        OneEuro(**constants)


# --- jitter ---


@pytest.fixture
def face() -> np.ndarray:
    """68 points whose box is 40 x 90 px: of size 60."""
    points = np.random.default_rng(0).uniform(0, 1, (68, 3)) * (40, 90, 30)
    points[:2, :2] = (0, 0), (40, 90)
    return points


def test_jitter_of_a_face_that_swings_by_five_pixels(face: np.ndarray) -> None:
    frames = np.stack([face + np.array([3 * (t % 2), 4 * (t % 2), 100 * t]) for t in range(6)])  # depth does not count
    found = jitter(frames)
    assert found.px == pytest.approx(5.0) and found.percent == pytest.approx(100 * 5 / 60)
    assert jitter(frames[:, :, :2]) == found


def test_jitter_is_the_mean_over_landmarks_and_frames(face: np.ndarray) -> None:
    frames = np.stack([face] * 3)
    frames[2, :17, 0] += 8
    assert jitter(frames).px == pytest.approx(8 * 17 / 68 / 2)


def test_a_still_face_has_no_jitter(face: np.ndarray) -> None:
    assert jitter(np.stack([face] * 4)).px == 0 == jitter(np.stack([face] * 4)).percent


@pytest.mark.parametrize("shape", [(1, 68, 3), (0, 68, 2), (5, 68), (5, 68, 4)])
def test_jitter_needs_two_frames_of_landmarks(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="two frames or more"):
        jitter(np.zeros(shape))
