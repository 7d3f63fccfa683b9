"""The procedural 3DMM: shapes, symmetry, orientation, and landmarks where an annotator would put them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synergy.synergy_model.synthetic.head_mesh import EAR, MIRROR, MOUTH, SKIN, TEETH
from synergy.synergy_model.synthetic.morphable_bases import EXPRESSION_DIM, SHAPE_DIM, procedural_morphable
from synergy.synergy_model.synthetic.shape_bases import EXPRESSION_NAMES

MORPH = procedural_morphable()
VERTICES = MORPH.u.reshape(-1, 3).astype(np.float64)
MARKS = VERTICES[MORPH.landmark_indices]
FLIPPED = np.array([-1.0, 1.0, 1.0])


def _posed(expression: str, amount: float) -> np.ndarray:
    return (MORPH.u[:, 0] + amount * MORPH.w_exp[:, EXPRESSION_NAMES.index(expression)]).reshape(-1, 3)


def test_shapes_and_types() -> None:
    count = len(VERTICES)
    assert 2000 <= count <= 8000
    assert MORPH.u.shape == (3 * count, 1)
    assert MORPH.w_shp.shape == (3 * count, SHAPE_DIM) == (3 * count, 40)
    assert MORPH.w_exp.shape == (3 * count, EXPRESSION_DIM) == (3 * count, 10)
    assert {array.dtype for array in (MORPH.u, MORPH.w_shp, MORPH.w_exp)} == {np.dtype(np.float32)}
    assert MORPH.triangles.dtype == np.int32 and MORPH.triangles.shape == (len(MORPH.parts), 3)
    assert MORPH.triangles.min() == 0 and MORPH.triangles.max() == count - 1
    assert set(np.unique(MORPH.parts)) == {SKIN, MOUTH, TEETH, EAR}
    assert len(EXPRESSION_NAMES) == EXPRESSION_DIM


def test_sparse_rows_are_those_of_the_landmarks() -> None:
    sparse = MORPH.sparse()
    assert sparse.u_base.shape == (204, 1) and sparse.u_base.dtype == np.float32
    assert sparse.w_shp_base.shape == (204, 40) and sparse.w_exp_base.shape == (204, 10)
    np.testing.assert_array_equal(sparse.u_base.reshape(68, 3), MARKS.astype(np.float32))
    row = int(MORPH.landmark_indices[30]) * 3 + 2
    np.testing.assert_array_equal(sparse.w_shp_base[30 * 3 + 2], MORPH.w_shp[row])
    np.testing.assert_array_equal(sparse.w_exp_base[30 * 3 + 2], MORPH.w_exp[row])


def test_it_is_deterministic() -> None:
    again = procedural_morphable.__wrapped__()
    for name in ("u", "w_shp", "w_exp", "triangles", "landmark_indices"):
        np.testing.assert_array_equal(getattr(MORPH, name), getattr(again, name))


def test_arrays_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        MORPH.u[0] = 0.0


def test_the_mean_head_is_symmetric() -> None:
    skin = np.unique(MORPH.triangles[MORPH.parts == SKIN])
    cloud = np.round(VERTICES[skin], 0)
    mirrored = np.round(VERTICES[skin] * FLIPPED, 0)
    gaps = [np.abs(cloud - point).max(axis=1).min() for point in mirrored[::7]]
    assert max(gaps) <= 1.0  # micrometre


def test_the_landmarks_mirror_each_other() -> None:
    assert sorted(MIRROR) == list(range(68))
    np.testing.assert_array_equal(MIRROR[MIRROR], np.arange(68))
    np.testing.assert_allclose(MARKS[MIRROR] * FLIPPED, MARKS, atol=0.02)


def test_triangles_face_outwards() -> None:
    skin = MORPH.triangles[MORPH.parts == SKIN]
    first, second, third = (VERTICES[skin[:, k]] for k in range(3))
    normals = np.cross(second - first, third - first)
    outwards = (first + second + third) / 3 - np.array([0.0, 0.0, 30e3])  # the head is star-shaped about this point
    assert (np.einsum("ij,ij->i", normals, outwards) > 0).all()


def test_the_skin_is_closed_but_for_the_mouth() -> None:
    """Every edge has a triangle on both sides, with opposite directions; only the mouth's slit is open."""
    edges = MORPH.triangles[MORPH.parts == SKIN][:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    pairs = {tuple(edge) for edge in edges}
    assert len(pairs) == len(edges)
    open_ends = {vertex for a, b in pairs if (b, a) not in pairs for vertex in (a, b)}
    slit = VERTICES[sorted(open_ends)] / 1e3
    assert np.abs(slit[:, 0]).max() < 26 and slit[:, 1].min() > -46 and slit[:, 1].max() < -37


def test_proportions_are_human() -> None:
    """Adult averages in mm, with wide margins."""
    mm = MARKS / 1e3
    assert 28 < mm[42, 0] - mm[39, 0] < 40  # between the inner eye corners
    assert 24 < mm[45, 0] - mm[42, 0] < 32  # an eye's length
    assert 44 < mm[54, 0] - mm[48, 0] < 56  # the mouth
    assert 100 < mm[27, 1] - mm[8, 1] < 130  # nose root to chin
    assert 120 < mm[16, 0] - mm[0, 0] < 150  # across the ears


def test_landmark_order_is_ibug() -> None:
    x, y, z = MARKS.T
    assert (np.diff(x[:17]) > 0).all()  # jaw from image left to right
    assert (np.diff(x[17:27]) > 0).all()  # brows
    assert (np.diff(x[31:36]) > 0).all()  # nostrils
    assert (np.diff(y[27:31]) < 0).all()  # nose, root to tip
    assert x[36] < x[39] < 0 < x[42] < x[45]  # the subject's right eye stands image left
    assert x[48] < x[51] < x[54] and x[60] < x[62] < x[64]
    assert y[17:27].min() > y[36:48].max() > y[30] > y[33] > y[51] > y[57] > y[8]
    for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46), (50, 58), (51, 57), (52, 56)):
        assert y[upper] > y[lower]
    assert z.argmax() == 30 and z[[0, 16]].max() < z[8]


def test_axes_and_units_are_those_of_the_reference(shared: Path) -> None:
    """Same axes, origin and scale within a centimetre or two: pose and camera mean the same."""
    with np.load(shared / "morphable" / "sparse68.npz") as data:
        reference = data["u_base"].reshape(68, 3)
    assert np.abs(MARKS - reference).max() < 20e3
    assert np.abs(MARKS - reference).mean() < 8e3


def test_shape_bases_do_not_move_the_landmarks_rigidly() -> None:
    """Translation and scaling belong to the camera: parameters of a face must be unique."""
    bases = MORPH.sparse().w_shp_base.reshape(68, 3, 40).astype(np.float64)
    size = np.abs(bases).max()
    assert np.abs(bases.mean(axis=0)).max() < 1e-4 * size
    growth = np.einsum("ij,ijk->k", MARKS - MARKS.mean(axis=0), bases)
    assert np.abs(growth).max() < 1e-4 * size * np.abs(MARKS).sum()


def test_every_basis_moves_something_by_millimetres() -> None:
    for bases in (MORPH.w_shp, MORPH.w_exp):
        moved = np.linalg.norm(bases.reshape(len(VERTICES), 3, -1), axis=1).max(axis=0) / 1e3
        assert (moved > 0.5).all() and (moved < 45).all()


def test_bases_are_independent() -> None:
    everything = np.concatenate([MORPH.w_shp, MORPH.w_exp], axis=1).astype(np.float64)
    everything /= np.linalg.norm(everything, axis=0)
    assert np.linalg.svd(everything, compute_uv=False).min() > 0.05


def test_jaw_open_parts_the_lips() -> None:
    marks = _posed("jaw_open", 1.0)[MORPH.landmark_indices] / 1e3
    assert marks[62, 1] - marks[66, 1] > 10
    np.testing.assert_allclose(marks[62], MARKS[62] / 1e3, atol=1.0)
    assert marks[8, 1] < MARKS[8, 1] / 1e3 - 10
    np.testing.assert_array_equal(marks[[27, 36, 45]], (MARKS[[27, 36, 45]] / 1e3).astype(np.float32))


def test_the_closed_mouth_is_closed() -> None:
    np.testing.assert_allclose(MARKS[[61, 62, 63]], MARKS[[67, 66, 65]], atol=1e-3)
    assert len(set(MORPH.landmark_indices)) == 68


def test_blink_closes_the_eyes() -> None:
    marks = _posed("blink", 1.0)[MORPH.landmark_indices] / 1e3
    gaps = marks[[37, 38, 43, 44], 1] - marks[[41, 40, 47, 46], 1]
    assert np.abs(gaps).max() < 1.0
    assert (MARKS[[37, 38, 43, 44], 1] - MARKS[[41, 40, 47, 46], 1]).min() / 1e3 > 7


def test_smile_lifts_and_widens_the_mouth() -> None:
    marks = _posed("smile", 1.0)[MORPH.landmark_indices]
    assert (marks[[48, 54], 1] > MARKS[[48, 54], 1] + 3e3).all()
    assert marks[54, 0] - marks[48, 0] > MARKS[54, 0] - MARKS[48, 0] + 5e3
