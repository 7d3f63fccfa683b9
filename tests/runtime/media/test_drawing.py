"""Overlays: what is drawn, where, and which pixels stay unchanged."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from synergy.runtime.decode import DDFA_V2_POSE, euler_deg, rotation
from synergy.runtime.media.drawing import AXIS_COLOURS, CONTOURS, NOSE_TIP, draw_faces, head_axes
from synergy.runtime.media.layers import Layers

NOTHING = Layers(landmarks=False, axes=False, box=False, label=False)


@dataclass(frozen=True)
class Pose:
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0


@dataclass(frozen=True)
class Face:
    landmarks: np.ndarray
    box_xyxy: np.ndarray
    rotation: np.ndarray = field(default_factory=lambda: np.eye(3))
    pose: Pose = field(default_factory=Pose)


def a_face(size: float = 200, at: tuple[float, float] = (100, 80)) -> Face:
    """68 points on a circle, the nose tip in its middle."""
    angles = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    unit = np.stack([np.cos(angles), np.sin(angles), np.sin(angles)], axis=1) / 2
    unit[NOSE_TIP] = 0
    landmarks = unit * size + (at[0] + size / 2, at[1] + size / 2, 0)
    return Face(landmarks.astype(np.float32), np.array([*at, at[0] + size, at[1] + size]))


def grey(height: int = 400, width: int = 500) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def changed(image: np.ndarray, *faces: Face, layers: Layers | None = None) -> np.ndarray:
    """Where drawing changed the image, (H,W) bool."""
    return (draw_faces(image, faces, layers) != image).any(axis=2)


class TestDrawFaces:
    def test_no_faces_is_a_copy(self) -> None:
        image = grey()
        drawn = draw_faces(image, [])
        assert np.array_equal(drawn, image)
        assert not np.shares_memory(drawn, image)

    def test_the_input_is_not_changed(self) -> None:
        image, face = grey(), a_face()
        before = face.landmarks.copy(), face.box_xyxy.copy()
        draw_faces(image, [face])
        assert (image == 128).all()
        assert np.array_equal(face.landmarks, before[0])
        assert np.array_equal(face.box_xyxy, before[1])

    def test_on_the_image_itself(self) -> None:
        image, fixed = grey(), grey()
        fixed.flags.writeable = False
        wanted = draw_faces(image, [a_face()])
        for each in (image, fixed, grey()[:, ::-1]):
            assert np.array_equal(draw_faces(each, [a_face()], copy=False), wanted)
        assert np.array_equal(image, wanted) and (fixed == 128).all()

    def test_no_layers_change_nothing(self) -> None:
        assert not changed(grey(), a_face(), layers=NOTHING).any()

    @pytest.mark.parametrize("layer", ["landmarks", "axes", "box", "label"])
    def test_each_layer_by_itself(self, layer: str) -> None:
        fields = {"landmarks": False, "axes": False, "box": False, "label": False, layer: True}
        mask = changed(grey(), a_face(), layers=Layers(**fields))
        assert 0 < mask.mean() < 0.2

    def test_every_landmark_is_marked(self) -> None:
        face = a_face(300, (60.3, 50.7))
        mask = changed(grey(), face, layers=Layers(axes=False, box=False, label=False))
        columns, rows = np.rint(face.landmarks[:, :2]).astype(int).T
        assert mask[rows, columns].all()

    def test_strokes_grow_with_the_face(self) -> None:
        areas = [changed(grey(1500, 1500), a_face(size), layers=Layers(label=False)).sum() for size in (100, 1000)]
        assert areas[1] > 15 * areas[0]  # 10 times as long, and wider

    def test_landmarks_are_placed_between_pixels(self) -> None:
        one, other = (draw_faces(grey(), [a_face(at=(100 + shift, 80))]) for shift in (0, 0.4))
        assert not np.array_equal(one, other)

    @pytest.mark.parametrize("at", [(-150, -90), (400, 350), (-5000, 80), (1e7, -1e7)])
    @pytest.mark.parametrize("size", [3, 200])
    def test_faces_at_and_over_the_edge(self, at: tuple[float, float], size: float) -> None:
        assert draw_faces(grey(), [a_face(size, at)]).shape == (400, 500, 3)

    def test_all_landmarks_at_one_point(self) -> None:
        face = Face(np.full((68, 3), 50.0), np.array([40, 40, 60, 60.0]))
        assert draw_faces(grey(), [face]).shape == (400, 500, 3)

    def test_a_picture_too_small_for_the_label(self) -> None:
        assert draw_faces(grey(10, 10), [a_face(6, (2, 2))]).shape == (10, 10, 3)

    def test_views_and_reversed_channels(self) -> None:
        image = grey()[::-1, :, ::-1]
        assert changed(image, a_face()).any()

    @pytest.mark.parametrize("image", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3))])
    def test_other_images(self, image: np.ndarray) -> None:
        with pytest.raises(ValueError, match=r"must be .*\(H, W, 3\)"):
            draw_faces(image, [])

    @pytest.mark.parametrize(
        ("face", "name"),
        [
            (Face(np.full((68, 3), np.nan), np.zeros(4)), "landmarks"),
            (Face(np.zeros((3, 68)), np.zeros(4)), "landmarks"),
            (Face(np.zeros((68, 3)), np.full(4, np.inf)), "box_xyxy"),
            (Face(np.zeros((68, 3)), np.zeros(4), np.full((3, 3), np.nan)), "rotation"),
        ],
    )
    def test_faces_that_cannot_be_drawn(self, face: Face, name: str) -> None:
        with pytest.raises(ValueError, match=f"{name} of a face to draw must be finite"):
            draw_faces(grey(), [face])


def test_contours_join_every_point_once() -> None:
    joined = [index for first, last, _ in CONTOURS.values() for index in range(first, last + 1)]
    assert joined == list(range(68))


class TestLabel:
    layers = Layers(landmarks=False, axes=False, box=False)

    @pytest.mark.parametrize("background", [0, 128, 255])
    def test_is_readable_on_any_background(self, background: int) -> None:
        image = np.full((400, 500, 3), background, np.uint8)
        drawn = draw_faces(image, [a_face()], self.layers)
        assert drawn.max() == 255
        strip = drawn[(drawn != image).any(axis=2) if background else slice(None)]
        assert np.median(strip) <= 64

    @pytest.mark.parametrize("at", [(-50, -50), (450, 380)])
    def test_stays_inside_the_picture(self, at: tuple[float, float]) -> None:
        assert changed(grey(), a_face(100, at), layers=self.layers).sum() > 1000


class TestHeadAxes:
    def test_a_frontal_head(self) -> None:
        assert head_axes(np.eye(3)).tolist() == [[1, 0], [0, -1], [0, 0]]

    @pytest.mark.parametrize(("name", "faces"), [("emma", 3), ("JianzhuGuo", 1)])
    def test_the_nose_points_where_it_does_in_the_photo(self, shared: Path, name: str, faces: int) -> None:
        """From between the ears (jaw ends) to the nose tip is roughly the z axis; along the mouth, the x axis."""
        real = np.load(shared / "reference" / f"real_{name}.npz")
        rotations = rotation(real["param"])
        assert len(rotations) == faces
        for landmarks, turned in zip(real["landmarks"], rotations, strict=True):
            x_axis, y_axis, z_axis = head_axes(turned)
            nose = landmarks[:2, 30] - landmarks[:2, [0, 16]].mean(axis=1)
            mouth = landmarks[:2, 54] - landmarks[:2, 48]
            upward = landmarks[:2, 27] - landmarks[:2, 8]
            assert x_axis @ mouth > 0.8 * np.linalg.norm(x_axis) * np.linalg.norm(mouth)
            assert y_axis @ upward > 0.8 * np.linalg.norm(y_axis) * np.linalg.norm(upward)
            if abs(euler_deg(real["param"], DDFA_V2_POSE)[0, 0]) > 20:
                assert z_axis @ nose > 0.8 * np.linalg.norm(z_axis) * np.linalg.norm(nose)

    @pytest.mark.parametrize("axis", [0, 1])
    def test_colours(self, axis: int) -> None:
        """x red to the right, y green upwards."""
        face = a_face()
        drawn = draw_faces(grey(), [face], Layers(landmarks=False, box=False, label=False))
        rows, columns = np.nonzero((drawn == AXIS_COLOURS[axis]).all(axis=2))
        offset = np.array([columns.mean(), rows.mean()]) - face.landmarks[NOSE_TIP, :2]
        assert offset @ head_axes(np.eye(3))[axis] > 20
