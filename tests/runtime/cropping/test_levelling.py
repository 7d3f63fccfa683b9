"""Tilted heads: the crop is turned upright and the results are turned back."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from synergy.runtime.aligner import FaceAligner
from synergy.runtime.crop import crop_resize
from synergy.runtime.cropping.levelling import FIVE_POINTS, crop_levelled, roll_of, turn_back
from synergy.runtime.decode import (
    COMMON_POSE,
    LANDMARK_FRAMES,
    LandmarkFrame,
    dewhiten,
    euler_deg,
    euler_deg_to_rotation,
    vertices,
)
from synergy.runtime.faces import Detection, PoseDecoder, Prediction

BOX = np.array([180.0, 72.0, 270.0, 184.0])  # of the astronaut's face
CENTRE = (225.0, 128.0)


def turned(image: np.ndarray, roll_deg: float) -> tuple[np.ndarray, np.ndarray]:
    """The image turned clockwise about the face, and the matrix (2,3) that did it."""
    matrix = cv2.getRotationMatrix2D(CENTRE, -roll_deg, 1.0)
    return cv2.warpAffine(image, matrix, image.shape[1::-1]), matrix


@pytest.mark.parametrize("roll", [-170, -60, 0, 25, 90])
def test_roll_of_five_points(roll: float) -> None:
    matrix = cv2.getRotationMatrix2D((3.0, 5.0), -roll, 0.7)
    assert roll_of(FIVE_POINTS @ matrix[:, :2].T + matrix[:, 2]) == pytest.approx(roll)
    profile = FIVE_POINTS * [0.05, 1.0]  # the eyes nearly coincide
    assert roll_of(profile @ matrix[:, :2].T) == pytest.approx(roll, abs=0.1)


def test_a_levelled_crop_of_a_turned_image_is_the_crop_of_the_image(portrait_bgr: np.ndarray) -> None:
    roi = np.array([158.0, 61.0, 292.0, 195.0])
    upright = crop_resize(portrait_bgr, roi)
    assert np.array_equal(crop_levelled(portrait_bgr, roi, 0.0, 120, "linear"), upright)
    levelled = crop_levelled(turned(portrait_bgr, 30)[0], roi, 30.0, 120, "linear")
    tilted = crop_resize(turned(portrait_bgr, 30)[0], roi)
    errors = [np.abs(crop.astype(int) - upright).mean() for crop in (levelled, tilted)]
    assert errors[0] < 5 < 25 < errors[1], errors


@pytest.mark.parametrize("frame", LANDMARK_FRAMES.values(), ids=LANDMARK_FRAMES)
def test_points_and_parameters_turn_alike(frame: LandmarkFrame) -> None:
    random = np.random.default_rng(3)
    mean, std = random.normal(size=62).astype(np.float32), random.uniform(0.5, 2, 62).astype(np.float32)
    basis = [random.normal(size=(204, count)).astype(np.float32) for count in (1, 40, 10)]
    camera = np.concatenate([euler_deg_to_rotation(np.array([[0.0, 0, 5], [4, -8, 0]])), np.ones((2, 3, 1))], axis=2)
    physical = np.concatenate([camera.reshape(2, 12), random.normal(size=(2, 50))], axis=1)
    params = ((physical - mean) / std).astype(np.float32)
    points = vertices(dewhiten(params, mean, std), *basis, frame)
    pose = PoseDecoder(mean, std, COMMON_POSE)
    manifest = SimpleNamespace(landmark_frame=frame, preprocessing=SimpleNamespace(size=120))
    before = Prediction(params, points, vertices=points, pose=pose)
    after = turn_back(before, [Detection(BOX, 1.0, roll) for roll in (30.0, 0.0)], manifest)
    np.testing.assert_allclose(after.landmarks, vertices(dewhiten(after.params, mean, std), *basis, frame), atol=1e-3)
    assert np.array_equal(after.vertices, after.landmarks)
    assert np.array_equal(after.params[1], params[1]) and np.array_equal(after.landmarks[1], points[1])
    angles = [euler_deg(dewhiten(each, mean, std), COMMON_POSE)[0] for each in (params, after.params)]
    np.testing.assert_allclose(angles[1] - angles[0], (0, 0, 30), atol=1e-3)  # without yaw and pitch


@pytest.mark.parametrize("roll", [-50.0, 40.0])
def test_a_tilted_head(portrait_bgr: np.ndarray, roll: float) -> None:
    pytest.importorskip("onnxruntime")
    image, matrix = turned(portrait_bgr, roll)
    with FaceAligner.load(engine="onnx", threads=1) as aligner:
        (upright,) = aligner.align(portrait_bgr, [BOX])
        (face,) = aligner.align_crops([aligner.cut(image, [Detection(BOX, 1.0, roll)])])[0]
        mesh = aligner.mesh(face)
    expected = upright.landmarks[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    assert np.linalg.norm(face.landmarks[:, :2] - expected, axis=1).mean() < 3  # px; the face is 90 px wide
    assert face.pose.roll - upright.pose.roll == pytest.approx(roll, abs=6)
    assert face.pose.yaw == pytest.approx(upright.pose.yaw, abs=12)
    assert (np.abs(mesh[:, :2].mean(axis=0) - CENTRE) < 40).all()
