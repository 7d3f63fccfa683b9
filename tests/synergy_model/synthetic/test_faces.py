"""Synthetic faces: exact labels, determinism, framing, and images that agree with the labels."""

from __future__ import annotations

import subprocess
import sys
import time
import zlib

import cv2
import numpy as np
import pytest

from synergy.runtime.decode import SYNERGYNET_FRAME, euler_deg_to_rotation, vertices
from synergy.synergy_model.synthetic.appearance import draw_appearance, light_directions
from synergy.synergy_model.synthetic.faces import (
    HEADS_AT_ONCE,
    SIDE,
    SUPERSAMPLING,
    SyntheticFaces,
    _frame,
    render,
    to_pixels,
    whitening,
)
from synergy.synergy_model.synthetic.morphable_bases import procedural_morphable
from synergy.synergy_model.synthetic.scene import scene
from synergy.synergy_model.synthetic.shading import draw

FACES = SyntheticFaces(5)
LABELS = [FACES.labels(index) for index in range(400)]
SPARSE = procedural_morphable().sparse()


def decode_landmarks(params: np.ndarray) -> np.ndarray:
    """(62,) unwhitened -> (3, 68) crop px, y down."""
    return vertices(params[None], SPARSE.u_base, SPARSE.w_shp_base, SPARSE.w_exp_base, SYNERGYNET_FRAME)[0]


def _posed_params(euler_deg: tuple[float, float, float]) -> np.ndarray:
    """A mean face, framed, at a pose."""
    params = np.zeros(62)
    params[:12] = _frame(np.random.default_rng(3), params, euler_deg_to_rotation(np.array([euler_deg]))[0]).ravel()
    return params


def _decoded_euler(params: np.ndarray) -> np.ndarray:
    """The official formula, written out with its divisions by cos yaw."""
    rows = params[:12].reshape(3, 4)[:2, :3].astype(np.float64)
    first, second = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    third = np.cross(first, second)
    yaw = np.arcsin(third[0])
    cos = np.cos(yaw)
    pitch, roll = np.arctan2(second[2] / cos, third[2] / cos), np.arctan2(first[1] / cos, first[0] / cos)
    return np.degrees([yaw, pitch, roll])


def _silhouette(params: np.ndarray) -> np.ndarray:
    """Which supersampled pixels show anything of the head or bust."""
    camera = params[:12].reshape(3, 4).astype(np.float64)
    rotation = camera[:, :3] / np.linalg.norm(camera[0, :3])
    appearance = draw_appearance(np.random.default_rng(0), rotation)
    morph = procedural_morphable()
    head = (morph.u[:, 0] + morph.w_shp @ params[12:52] + morph.w_exp @ params[52:]).reshape(-1, 3) / 1e3
    side = round(SIDE * SUPERSAMPLING)
    pixel, colour = draw(head, rotation, to_pixels(camera), appearance, side)
    assert np.isfinite(colour).all() and colour.min() >= 0
    covered = np.zeros(side * side, dtype=np.uint8)
    covered[pixel] = 1
    return covered.reshape(side, side)


def test_batch_shapes_types_and_range() -> None:
    batch = FACES.batch(range(3))
    assert batch.images.shape == (3, 120, 120, 3) and batch.images.dtype == np.uint8
    assert batch.params.shape == (3, 62) and batch.landmarks.shape == (3, 3, 68) and batch.euler_deg.shape == (3, 3)
    assert {batch.params.dtype, batch.landmarks.dtype, batch.euler_deg.dtype} == {np.dtype(np.float32)}
    assert all(image.std() > 10 for image in batch.images)


def test_a_face_does_not_depend_on_its_batch() -> None:
    together, alone = FACES.batch([4, 9, 2]), FACES.batch([9])
    np.testing.assert_array_equal(together.images[1], alone.images[0])
    np.testing.assert_array_equal(together.params[1], alone.params[0])
    np.testing.assert_array_equal(alone.images[0], FACES.image(9))
    np.testing.assert_array_equal(FACES.batch(range(HEADS_AT_ONCE + 2)).images[9], alone.images[0])
    assert not np.array_equal(together.images[0], together.images[2])
    assert not np.array_equal(alone.params[0], SyntheticFaces(6).labels(9).params)


def test_a_face_does_not_depend_on_the_process() -> None:
    code = (
        "import zlib; "
        "from synergy.synergy_model.synthetic.faces import SyntheticFaces; b = SyntheticFaces(5).batch([9]);"
        "print(zlib.crc32(b.images.tobytes() + b.params.tobytes()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    batch = FACES.batch([9])
    assert int(done.stdout) == zlib.crc32(batch.images.tobytes() + batch.params.tobytes())


@pytest.mark.parametrize(
    ("seed", "indices", "message"),
    [(5, [], "indices are empty"), (5, [-1], "index is -1"), (-2, [0], "seed is -2")],
)
def test_invalid_seeds_and_indices_are_refused(seed: int, indices: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SyntheticFaces(seed).batch(indices)


def test_render_refuses_parameters_of_another_shape() -> None:
    with pytest.raises(ValueError, match=r"\(1, 62\)"):
        render(np.zeros((1, 62)), np.random.default_rng(0))


def test_landmarks_are_the_parameters_decoded() -> None:
    for label in LABELS:
        flat = (
            SPARSE.u_base + SPARSE.w_shp_base @ label.params[12:52, None] + SPARSE.w_exp_base @ label.params[52:, None]
        )
        camera = label.params[:12].reshape(3, 4)
        points = camera[:, :3] @ flat.reshape(68, 3).T + camera[:, 3:]
        points[1] = 121 - points[1]
        np.testing.assert_allclose(label.landmarks, points, atol=1e-3)


def test_pose_is_the_parameters_decoded() -> None:
    for label in LABELS:
        np.testing.assert_allclose(_decoded_euler(label.params), label.euler_deg, atol=0.01)


@pytest.mark.parametrize(
    ("index", "chin", "nose_tip", "euler_deg"),
    [
        (0, [82.83205, 105.3183, 7.618746], [98.4398, 52.09007, 14.23762], [-48.41384, 11.28515, -2.711423]),
        (7, [79.62356, 96.36558, 10.17504], [67.0825, 50.02228, 34.31508], [-4.657437, -6.553717, -17.09441]),
        (399, [69.82932, 107.22, 34.33565], [68.78259, 48.71511, 37.63203], [-7.363753, 15.80108, -3.961157]),
    ],
)
def test_labels_keep_their_recorded_values(
    index: int, chin: list[float], nose_tip: list[float], euler_deg: list[float]
) -> None:
    """Seed 5: landmarks 8 and 30 in crop px, angles in degrees. Training data must not change unnoticed."""
    label = FACES.labels(index)
    np.testing.assert_allclose(label.landmarks[:, [8, 30]], np.transpose([chin, nose_tip]), atol=1e-4)
    np.testing.assert_allclose(label.euler_deg, euler_deg, atol=1e-4)


def test_signs_of_the_pose() -> None:
    """Positive yaw faces image left, positive pitch looks up, positive roll tilts the crown to image right."""
    front = decode_landmarks(_posed_params((0, 0, 0)))
    assert abs(front[0, 30] - front[0, [0, 16]].mean()) < 0.1
    left = decode_landmarks(_posed_params((40, 0, 0)))
    assert left[0, 30] < left[0, [0, 16]].mean() - 10
    up = decode_landmarks(_posed_params((0, 20, 0)))
    assert up[1, 30] - up[1, [0, 16]].mean() < front[1, 30] - front[1, [0, 16]].mean() - 5
    tilted = decode_landmarks(_posed_params((0, 0, 20)))
    assert tilted[0, 27] > tilted[0, 8] + 10


def test_landmark_order_of_a_frontal_face() -> None:
    x, y, z = decode_landmarks(_posed_params((0, 0, 0)))
    assert (np.diff(x[:17]) > 0).all()
    assert x[36] < x[39] < x[42] < x[45] and x[48] < x[54]
    assert y[19] < y[37] < y[41] < y[30] < y[33] < y[51] < y[57] < y[8]
    assert z.argmax() == 30


def test_faces_are_framed_as_the_official_crops() -> None:
    for label in LABELS:
        low, high = label.landmarks[:2].min(axis=1), label.landmarks[:2].max(axis=1)
        assert low.min() >= 0 and high.max() <= SIDE - 1
        assert np.abs((low + high) / 2 - SIDE / 2).max() <= 0.05 * SIDE + 1e-3
        assert np.exp(-0.13) - 1e-3 <= (high - low).max() * np.sqrt(2) / SIDE <= np.exp(0.09) + 1e-3


def test_all_yaw_bins_are_populated_and_poses_moderate() -> None:
    euler = np.stack([label.euler_deg for label in LABELS])
    yaw = np.abs(euler[:, 0])
    counts = [(yaw <= 30).sum(), ((yaw > 30) & (yaw <= 60)).sum(), (yaw > 60).sum()]
    assert min(counts) > 0.1 * len(LABELS) and counts[0] > counts[2]
    assert yaw.max() < 90 and np.abs(euler[:, 1:]).max() < 40
    assert abs(euler[:, 0].mean()) < 10


def test_whitening_describes_the_sampler() -> None:
    mean, std = whitening()
    assert mean.shape == std.shape == (62,) and mean.dtype == std.dtype == np.float32
    assert (std > 0).all()
    white = (np.stack([label.params for label in LABELS]) - mean) / std
    np.testing.assert_allclose(white.mean(axis=0), 0.0, atol=0.25)
    np.testing.assert_allclose(white.std(axis=0), 1.0, atol=0.35)


@pytest.mark.parametrize("yaw", [-85, -40, 0, 40, 85])
def test_the_silhouette_contains_the_landmarks(yaw: float) -> None:
    params = _posed_params((yaw, 5, 0))
    covered = cv2.dilate(_silhouette(params), np.ones((3, 3), np.uint8))
    points = (decode_landmarks(params)[:2] + 0.5) * SUPERSAMPLING - 0.5
    column, row = np.round(points).astype(int)
    assert covered[row, column].all()


def test_the_silhouette_ends_at_the_nose_in_profile() -> None:
    """In profile, the edge of the rendered head is at the nose tip's landmark, within 1.5 px."""
    params = _posed_params((85, 0, 0))
    covered = _silhouette(params)
    x, y, _ = decode_landmarks(params)
    row = round((y[30] + 0.5) * SUPERSAMPLING - 0.5)
    edge = (np.flatnonzero(covered[row]).min() + 0.5) / SUPERSAMPLING - 0.5
    assert abs(edge - x[:68].min()) < 1.5 and x.argmin() == 30


def test_the_picture_shows_the_mouth_open_where_the_label_says() -> None:
    """The open mouth is darker than the lips around it; averaged over appearances, between landmarks 62 and 66."""
    params = _posed_params((0, 0, 0))
    opened = params.copy()
    opened[52] = 1.5
    x, y, _ = decode_landmarks(opened)
    column, row = round(x[[62, 66]].mean()), round(y[[62, 66]].mean())
    grey = [
        np.mean([render(face, np.random.default_rng(seed)).mean(axis=2)[row, column] for seed in range(12)])
        for face in (params, opened)
    ]
    assert grey[1] < 0.6 * grey[0]


def test_nose_and_chin_cast_shadows() -> None:
    """Light from above reaches the bridge of the nose but not the skin under nose and chin."""
    above = light_directions()[:, 1].argmax()
    marks = procedural_morphable().landmark_indices
    visibility = scene().visibility[:, above]
    assert visibility[marks[29]] > 0.4
    assert visibility[marks[33]] < 0.1
    under_chin = np.abs(scene().canonical - np.array([0.0, -95.0, 55.0])).sum(axis=1).argmin()
    assert visibility[under_chin] < 0.2


def test_appearances_differ() -> None:
    params = _posed_params((20, 0, 0))
    means = [render(params, np.random.default_rng(seed)).mean() for seed in range(12)]
    assert np.std(means) > 8


def test_throughput() -> None:
    """Loose: a busy machine must pass; unloaded, one core renders more than 80 faces a second."""
    FACES.batch(range(2))
    start = time.thread_time()
    FACES.batch(range(20))
    assert 20 / (time.thread_time() - start) > 30
