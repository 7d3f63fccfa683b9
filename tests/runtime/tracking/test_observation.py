"""Regions around landmarks, and which landmarks can be those of a face."""

from __future__ import annotations

import numpy as np
import pytest

from synergy.runtime.cropping.stability import check_roi
from synergy.runtime.faces import Face, Pose
from synergy.runtime.tracking.observation import MAX_INSTABILITY, TrackObservation, box_of, roi_around

FRAME = (480, 640, 3)


def landmarks(left: float, top: float, width: float, height: float) -> np.ndarray:
    points = np.random.default_rng(0).uniform(0, 1, (68, 3))
    points[:2, :2] = (0, 0), (1, 1)
    with np.errstate(invalid="ignore"):
        return (points * (width, height, 20) + (left, top, 0)).astype(np.float32)


def face(points: np.ndarray, roi_xyxy: np.ndarray | None = None) -> Face:
    roi = roi_around(box_of(points)) if roi_xyxy is None else roi_xyxy
    return Face(points, Pose(0, 0, 0), np.eye(3), roi, roi, 1.0, np.zeros(62, np.float32))


def test_the_region_is_a_square_root_two_times_the_longer_side() -> None:
    side = 100 * np.sqrt(2)
    expected = [240 - side / 2, 250 - side / 2, 240 + side / 2, 250 + side / 2]
    assert np.allclose(roi_around(box_of(landmarks(200, 200, 80, 100))), expected, atol=1e-3)
    assert np.allclose(roi_around(box_of(landmarks(190, 210, 100, 80))), expected, atol=1e-3)


def test_the_box_ignores_depth() -> None:
    assert np.allclose(box_of(landmarks(200, 210, 80, 100)), [200, 210, 280, 310])


def test_the_check_region_is_shifted_and_enlarged() -> None:
    assert np.allclose(check_roi(np.array([100.0, 200, 200, 300])), [100, 200, 220, 320])


def test_offset_is_in_sides_of_the_region_that_was_cropped() -> None:
    points = landmarks(200, 200, 80, 100)
    roi = roi_around(box_of(points))
    assert TrackObservation.of(face(points), FRAME).offset == pytest.approx(0, abs=1e-6)
    moved = roi + 0.1 * (roi[2] - roi[0])
    assert TrackObservation.of(face(points, moved), FRAME).offset == pytest.approx(0.1)


def test_instability_is_the_distance_in_face_sizes() -> None:
    points = landmarks(200, 200, 64, 100)  # of size 80
    observation = TrackObservation.of(face(points), FRAME, checked=face(points + np.float32([3.2, 2.4, 50])))
    assert observation.instability == pytest.approx(4 / 80, rel=1e-4) and observation.is_stable
    assert not TrackObservation.of(
        face(points), FRAME, checked=face(points + np.float32(80 * MAX_INSTABILITY))
    ).is_stable
    assert not TrackObservation.of(face(points), FRAME).is_stable


@pytest.mark.parametrize(
    ("points", "can_be"),
    [
        (landmarks(200, 200, 80, 100), True),
        (landmarks(-38, 200, 80, 100), True),  # half of it is in the picture
        (landmarks(-60, 200, 80, 100), False),
        (landmarks(200, 450, 80, 100), False),
        (landmarks(600, 440, 80, 80), False),
        (landmarks(200, 200, 42, 100), True),
        (landmarks(200, 200, 38, 100), False),
        (landmarks(200, 200, 100, 38), False),
        (landmarks(200, 200, 14, 18), True),
        (landmarks(200, 200, 14, 16), False),  # of a region of 23 px
        (landmarks(-30000, -30000, 60000, 60000), False),
        (landmarks(200, 200, np.nan, 100), False),
        (landmarks(200, 200, 80, np.inf), False),
        (np.where(np.arange(68)[:, None] == 9, (240, 250, np.nan), landmarks(200, 200, 80, 100)), False),
    ],
)
def test_what_can_be_a_face(points: np.ndarray, can_be: bool) -> None:
    with np.errstate(invalid="ignore"):
        observation = TrackObservation.of(face(points.astype(np.float32), np.array([100.0, 100, 300, 300])), FRAME)
    assert observation.can_be_face == can_be and (observation.offset < np.inf) == can_be
