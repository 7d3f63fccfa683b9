"""The wide distribution: how difficult its faces are, and that each of its details is visible."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from synergy.synergy_model.synthetic.appearance import CAP, FULL, LONG, SUNGLASSES, Appearance, Details, GlassesShape
from synergy.synergy_model.synthetic.distribution import MAX_WIDE_TILT, WIDE
from synergy.synergy_model.synthetic.faces import SIDE, SUPERSAMPLING, SyntheticFaces, heads_of, rotation_of, to_pixels
from synergy.synergy_model.synthetic.shading import draw

FACES = SyntheticFaces(5, WIDE)
JAW_OPEN = 52  # of the 62 parameters


def _picture(params: np.ndarray, appearance: Appearance) -> np.ndarray:
    """(N, 3) linear RGB of a square picture without background."""
    side = round(SIDE * SUPERSAMPLING)
    camera = params[:12].reshape(3, 4).astype(np.float64)
    pixel, colour = draw(next(heads_of(params[None])), rotation_of(params), to_pixels(camera), appearance, side)
    picture = np.zeros((side * side, 3))
    picture[pixel] = colour.T
    return picture


def _open_mouth() -> tuple[np.ndarray, Appearance]:
    """A nearly frontal standard face with its mouth open, a beard, full hair and no glasses."""
    faces = SyntheticFaces(5)
    index = next(index for index in range(100) if np.abs(faces.labels(index).euler_deg).max() < 12)
    params = faces.labels(index).params.copy()
    params[JAW_OPEN] = 2.0
    return params, replace(faces.appearance(index), style=FULL, hair_volume=8.0, glasses=0, beard=0.8, hairline=80.0)


def test_wide_faces_are_more_difficult_than_standard_ones() -> None:
    labels = [FACES.labels(index) for index in range(400)]
    yaw, pitch, roll = np.array([label.euler_deg for label in labels]).T
    jaw_open = np.array([label.params[JAW_OPEN] for label in labels])
    assert (np.abs(yaw) > 60).mean() > 0.2 and (pitch > 20).mean() > 0.15 and (jaw_open > 1.7).mean() > 0.05
    assert max(np.abs(pitch).max(), np.abs(roll).max()) < MAX_WIDE_TILT + 0.01
    assert all(np.isfinite(label.landmarks).all() for label in labels)


def test_wide_faces_depend_on_seed_and_index_only() -> None:
    batch = FACES.batch([3, 8])
    np.testing.assert_array_equal(batch.images[1], FACES.image(8))
    np.testing.assert_array_equal(batch.landmarks[1], FACES.labels(8).landmarks)
    assert FACES.appearance(8).details == FACES.appearance(8).details != Details()
    assert not np.array_equal(batch.images[0], SyntheticFaces(5).image(3))


@pytest.mark.parametrize(
    ("style", "glasses", "details"),
    [
        (LONG, 0, Details(opening_left_right=(0.5, 0.7), hair_width=0.85, hair_depth=1.2)),
        (LONG, 0, Details(cheek_hair=(30.0, 10.0))),
        (LONG, 0, Details(scarf=True)),
        (LONG, 0, Details(hair_end=-60.0)),
        (LONG, 0, Details(hair_wave=0.1)),
        (FULL, 0, Details(parting=0.3)),
        (CAP, 0, Details(brim=True)),
        (FULL, 0, Details(beard_length=12.0)),
        (FULL, SUNGLASSES, Details(glasses_shape=GlassesShape(29.0, 23.0, 0.85, drop=4.0))),
        (FULL, SUNGLASSES, Details(lens_rgb=(0.3, 0.3, 0.3))),
        (FULL, 0, Details(tongue=1.0)),
        (FULL, 0, Details(lower_teeth=1.0)),
    ],
)
def test_every_detail_changes_the_picture(style: int, glasses: int, details: Details) -> None:
    params, appearance = _open_mouth()
    plain = replace(appearance, style=style, glasses=glasses)
    changed = np.abs(_picture(params, plain) - _picture(params, replace(plain, details=details))).max(axis=1) > 0.02
    assert 3 <= changed.sum() < 0.7 * len(changed)
