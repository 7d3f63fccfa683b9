"""Drawn meshes: which pixels they cover, from where they are lit, and what the colours of depth mean."""

from __future__ import annotations

import numpy as np
import pytest

from synergy.runtime.media.drawing import draw_faces
from synergy.runtime.media.layers import Layers
from synergy.runtime.media.surface import Surface, draw_surface

RADIUS, CENTRE = 40, 60


def ball(at: tuple[float, float] = (CENTRE, CENTRE)) -> Surface:
    """A closed sphere, finer than the pixels."""
    around, down = np.meshgrid(np.arange(96), np.arange(49))
    longitude, latitude = around * (2 * np.pi / 96), down * (np.pi / 48)
    flat = np.sin(latitude)
    unit = np.stack([flat * np.cos(longitude), np.cos(latitude), flat * np.sin(longitude)], axis=-1).reshape(-1, 3)
    corner = (np.arange(48)[:, None] * 96 + np.arange(96)).ravel()
    right = corner - corner % 96 + (corner + 1) % 96
    triangles = np.concatenate(
        [np.stack([corner, right, corner + 96], 1), np.stack([right, right + 96, corner + 96], 1)]
    )
    return Surface((unit * RADIUS + (*at, 500)).astype(np.float32), triangles)


def drawn(surface: Surface, **options: bool) -> np.ndarray:
    canvas = np.full((120, 130, 3), 100, np.uint8)
    draw_surface(canvas, surface, **options)
    return canvas.astype(int)


def test_a_ball_covers_a_disc_and_is_lit_from_the_upper_left() -> None:
    image = drawn(ball())
    rows, columns = np.indices(image.shape[:2])
    distance = np.hypot(columns - CENTRE, rows - CENTRE)
    changed = (image != 100).any(axis=2)
    assert changed[distance < RADIUS - 1].mean() > 0.98 and not changed[distance > RADIUS + 1].any()
    brightness = np.where(distance < RADIUS - 1, image.sum(axis=2), 0)
    row, column = np.unravel_index(brightness.argmax(), brightness.shape)
    assert row < CENTRE and column < CENTRE
    assert image[CENTRE + 25, CENTRE + 25].sum() < image[CENTRE - 25, CENTRE - 25].sum() - 100


def test_the_winding_of_the_triangles_does_not_matter() -> None:
    surface = ball()
    np.testing.assert_array_equal(drawn(surface), drawn(Surface(surface.vertices, surface.triangles[:, ::-1])))


def test_depth_is_red_where_near_and_blue_where_far() -> None:
    image = drawn(ball(), is_lit=False, shows_depth=True)
    near, far = image[CENTRE, CENTRE], image[CENTRE, CENTRE + RADIUS - 1]
    assert near[2] > near[0] and far[0] > far[2]


@pytest.mark.parametrize("at", [(-10.0, 50.0), (125.5, 119.0), (500.0, 500.0), (-500.0, 60.0)])
def test_a_mesh_may_leave_the_image(at: tuple[float, float]) -> None:
    is_outside = max(abs(at[0] - 65), abs(at[1] - 60)) > 200
    assert (drawn(ball(at)) == 100).all() == is_outside


def test_vertices_that_are_not_finite_are_refused() -> None:
    surface = ball()
    surface.vertices[7, 1] = np.nan
    with pytest.raises(ValueError, match=r"finite, of shape \(V, 3\)"):
        drawn(surface)


def test_layers_by_name() -> None:
    assert Layers.parse("mesh, axes") == Layers(landmarks=False, axes=True, box=False, label=False, mesh=True)
    for text in ("", "mesh,", "meshes"):
        with pytest.raises(ValueError, match="use landmarks, axes, box, label, mesh, depth"):
            Layers.parse(text)


def test_every_face_needs_its_surface() -> None:
    with pytest.raises(ValueError, match="one surface per face: 0, not 1"):
        draw_faces(np.zeros((8, 8, 3), np.uint8), [], Layers(depth=True), [ball()])
