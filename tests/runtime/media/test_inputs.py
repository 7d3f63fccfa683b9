"""Files named on a command line, and the names of output files."""

from __future__ import annotations

from pathlib import Path

import pytest

from synergy.runtime.errors import MediaError
from synergy.runtime.inference.pictures import overlay_suffix
from synergy.runtime.media.image import read_image
from synergy.runtime.media.inputs import expand_inputs, output_paths

PHONE = ("phone/a.HEIC", "phone/b.png", "phone/c.dng", "phone/d.pdf")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.PNG", "a.jpg", "notes.txt", ".hidden.jpg", "deep/c.jpeg", "deep/er/d.jpg", *PHONE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


class TestExpandInputs:
    @pytest.mark.parametrize(
        ("asked", "found"),
        [
            (["phone"], ["phone/a.HEIC", "phone/b.png", "phone/c.dng"]),
            ([""], ["a.jpg", "b.PNG"]),
            (["deep"], ["deep/c.jpeg"]),
            (["*.jpg"], ["a.jpg"]),
            (["**/*.jp*g"], ["a.jpg", "deep/c.jpeg", "deep/er/d.jpg"]),
            (["deep/c.jpeg", "", "a.jpg", "deep/../a.jpg"], ["deep/c.jpeg", "a.jpg", "b.PNG"]),
            (["notes.txt"], ["notes.txt"]),
            (["none.jpg", "a.jpg"], ["none.jpg", "a.jpg"]),
        ],
    )
    def test_table(self, folder: Path, asked: list[str], found: list[str]) -> None:
        assert expand_inputs([folder / name for name in asked]) == [folder / name for name in found]

    def test_a_file_name_with_brackets_is_not_a_pattern(self, folder: Path) -> None:
        (folder / "a[1].jpg").write_bytes(b"")
        assert expand_inputs([str(folder / "a[1].jpg")]) == [folder / "a[1].jpg"]

    @pytest.mark.parametrize(
        ("asked", "reason"),
        [([], "no images were given"), (["empty"], "has no images"), (["*.gif"], "no file matches")],
    )
    def test_nothing_found(self, folder: Path, asked: list[str], reason: str) -> None:
        (folder / "empty").mkdir()
        with pytest.raises(MediaError, match=reason):
            expand_inputs([folder / name for name in asked])

    def test_links_to_one_file_count_once(self, folder: Path) -> None:
        (folder / "z.jpg").symlink_to(folder / "a.jpg")
        assert expand_inputs([folder]) == [folder / "a.jpg", folder / "b.PNG"]

    def test_a_link_to_itself_is_reported_when_it_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "a.jpg").symlink_to(tmp_path / "a.jpg")
        (path,) = expand_inputs([tmp_path / "a.jpg"])
        with pytest.raises(MediaError, match="cannot read"):
            read_image(path)


class TestOutputPaths:
    @pytest.mark.parametrize(
        ("inputs", "names"),
        [
            ([], []),
            (["x/a.jpg"], ["a.png"]),
            (["x/a.jpg", "y/a.jpg", "x/a.png", "b.jpg"], ["a.png", "a-2.png", "a-3.png", "b.png"]),
            (["x/a.jpg", "y/A.jpg"], ["a.png", "A-2.png"]),
            (["x/a-2.jpg", "x/a.jpg", "y/a.jpg"], ["a-2.png", "a.png", "a-3.png"]),
            (["out/a.png"], ["a-2.png"]),
            (["out/a.jpg"], ["a.png"]),
            (["x/a.tar.jpg"], ["a.tar.png"]),
        ],
    )
    def test_table(self, tmp_path: Path, inputs: list[str], names: list[str]) -> None:
        outputs = output_paths([tmp_path / name for name in inputs], tmp_path / "out", ".png")
        assert outputs == [tmp_path / "out" / name for name in names]

    def test_a_suffix_per_input(self, tmp_path: Path) -> None:
        """A face's mesh is named after the stem of the overlay, so stems differ."""
        inputs = [tmp_path / name for name in ("x/a.JPG", "x/a.png", "x/b.jpeg", "out/c.jpg", "x/c.png")]
        outputs = output_paths(inputs, tmp_path / "out", overlay_suffix)
        assert [path.name for path in outputs] == ["a.jpg", "a-2.png", "b.jpg", "c-2.jpg", "c.png"]
