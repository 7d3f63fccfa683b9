"""OBJ files, written and parsed again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synergy.runtime.errors import MediaError
from synergy.runtime.media.obj import outward, write_obj

SQUARE = np.array([[0, 0, 0], [4, 0, 0], [4, 3, 0], [0, 3, 0.0]])
TRIANGLES = np.array([[0, 1, 2], [0, 2, 3]])


def bowl() -> tuple[np.ndarray, np.ndarray]:
    """Half a sphere that bulges towards +z, as a face does, all triangles wound outwards."""
    size = 9
    x, y = (axis.ravel() for axis in np.meshgrid(np.linspace(-0.7, 0.7, size), np.linspace(-0.7, 0.7, size)))
    corner = np.array([row * size + column for row in range(size - 1) for column in range(size - 1)])
    lower = np.stack([corner, corner + 1, corner + size], axis=1)
    upper = np.stack([corner + 1, corner + size + 1, corner + size], axis=1)
    return np.stack([x, y, np.sqrt(1 - x**2 - y**2)], axis=1), np.concatenate([lower, upper])


def parse(path: Path) -> tuple[np.ndarray, np.ndarray]:
    rows = [line.split() for line in path.read_text().splitlines()]
    vertices = [[float(number) for number in row[1:]] for row in rows if row[0] == "v"]
    return np.array(vertices), np.array([[int(index) for index in row[1:]] for row in rows if row[0] == "f"])


class TestWriteObj:
    def test_points_without_triangles(self, tmp_path: Path) -> None:
        write_obj(tmp_path / "m.obj", SQUARE, np.zeros((0, 3), int))
        vertices, triangles = parse(tmp_path / "m.obj")
        assert len(vertices) == 4
        assert len(triangles) == 0

    def test_y_goes_up_and_indices_start_at_one(self, tmp_path: Path) -> None:
        write_obj(tmp_path / "new" / "m.obj", SQUARE + 0.25, TRIANGLES)
        vertices, triangles = parse(tmp_path / "new" / "m.obj")
        np.testing.assert_allclose(vertices, (SQUARE + 0.25) * (1, -1, 1))
        assert sorted(map(sorted, triangles.tolist())) == [[1, 2, 3], [1, 3, 4]]
        assert [file.name for file in (tmp_path / "new").iterdir()] == ["m.obj"]

    def test_colours_follow_the_coordinates(self, tmp_path: Path) -> None:
        colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [51, 102, 153]], np.uint8)
        write_obj(tmp_path / "m.obj", SQUARE, TRIANGLES, colours)
        np.testing.assert_allclose(parse(tmp_path / "m.obj")[0][:, 3:], colours / 255, atol=1e-3)

    @pytest.mark.parametrize("turned", [False, True])
    def test_normals_point_to_the_viewer(self, tmp_path: Path, turned: bool) -> None:
        vertices, triangles = bowl()
        image_vertices = vertices * (100, -100, 100) + (200, 150, 0)
        write_obj(tmp_path / "m.obj", image_vertices, triangles[:, ::-1] if turned else triangles)
        written, faces = parse(tmp_path / "m.obj")
        corners = written[faces - 1]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        assert (normals[:, 2] > 0).all()

    @pytest.mark.parametrize(
        ("vertices", "triangles", "reason"),
        [
            (np.zeros((0, 3)), np.zeros((0, 3), int), "V above 0"),
            (np.zeros((3, 2)), TRIANGLES, "vertices must be"),
            (np.full((4, 3), np.nan), TRIANGLES, "finite"),
            (SQUARE, TRIANGLES.astype(float), "triangles must be integers"),
            (SQUARE, TRIANGLES + 1, "use vertices 1 to 4 of 4"),
            (SQUARE, TRIANGLES - 1, "use vertices -1 to 2"),
        ],
    )
    def test_arrays_must_match(self, tmp_path: Path, vertices: np.ndarray, triangles: np.ndarray, reason: str) -> None:
        with pytest.raises(ValueError, match=reason):
            write_obj(tmp_path / "m.obj", vertices, triangles)
        assert not list(tmp_path.iterdir())

    def test_colours_must_match(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="do not match"):
            write_obj(tmp_path / "m.obj", SQUARE, TRIANGLES, np.zeros((3, 3), np.uint8))

    def test_a_folder_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "m.obj").mkdir()
        with pytest.raises(MediaError, match="cannot write"):
            write_obj(tmp_path / "m.obj", SQUARE, TRIANGLES)
        assert [file.name for file in tmp_path.iterdir()] == ["m.obj"]


class TestOutward:
    def test_either_winding_ends_the_same(self) -> None:
        vertices, triangles = bowl()
        assert np.array_equal(outward(vertices, triangles), triangles)
        assert np.array_equal(outward(vertices, triangles[:, ::-1]), triangles)

    def test_the_real_face(self, shared: Path) -> None:
        io = pytest.importorskip("scipy.io")
        vertices = np.load(shared / "morphable" / "u_shp.npy").reshape(-1, 3)
        triangles = io.loadmat(shared / "morphable" / "tri.mat")["tri"].T.astype(int) - 1
        corners = vertices[outward(vertices, triangles)]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        assert normals[:, 2].sum() > 0.5 * np.abs(normals[:, 2]).sum()  # the mean face looks along +z
