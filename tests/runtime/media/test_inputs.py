"""Outputs that are whole, inputs found, and box files with their mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from synergy.runtime.errors import MediaError
from synergy.runtime.media.inputs import BoxFile, expand_inputs, output_paths, read_image, write_image

COLOUR = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


class TestWrite:
    def test_comes_back(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "sub" / "a.png"
        write_image(path, COLOUR)
        assert np.array_equal(read_image(path), COLOUR)
        assert [file.name for file in path.parent.iterdir()] == ["a.png"]

    def test_a_file_where_a_folder_should_be(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"")
        with pytest.raises(MediaError, match="cannot write"):
            write_image(tmp_path / "a" / "b.png", COLOUR)

    @pytest.mark.parametrize("name", ["a.xyz", "a"])
    def test_unknown_formats(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(MediaError, match=r"a name ending in \.png"):
            write_image(tmp_path / name, COLOUR)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.PNG", "a.jpg", "notes.txt", ".hidden.jpg", "deep/c.jpeg", "deep/er/d.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


class TestExpandInputs:
    @pytest.mark.parametrize(
        ("asked", "found"),
        [
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

    def test_a_file_with_brackets_is_no_pattern(self, folder: Path) -> None:
        (folder / "a[1].jpg").write_bytes(b"")
        assert expand_inputs([str(folder / "a[1].jpg")]) == [folder / "a[1].jpg"]

    @pytest.mark.parametrize(
        ("asked", "reason"),
        [([], "no pictures were given"), (["empty"], "has no pictures"), (["*.gif"], "no file fits")],
    )
    def test_nothing_found(self, folder: Path, asked: list[str], reason: str) -> None:
        (folder / "empty").mkdir()
        with pytest.raises(MediaError, match=reason):
            expand_inputs([folder / name for name in asked])

    def test_links_to_one_file_count_once(self, folder: Path) -> None:
        (folder / "z.jpg").symlink_to(folder / "a.jpg")
        assert expand_inputs([folder]) == [folder / "a.jpg", folder / "b.PNG"]

    def test_a_link_to_itself_is_left_to_reading(self, tmp_path: Path) -> None:
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


ONE, TWO = [1, 2, 3, 4.5], [10, 20, 30, 40]


class TestBoxFile:
    def boxes(self, tmp_path: Path, content: object, picture: str | Path) -> list[list[float]]:
        path = tmp_path / "boxes"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return BoxFile.read(path).boxes_for(Path(picture)).tolist()

    @pytest.mark.parametrize(
        ("content", "picture", "expected"),
        [
            ({"a.jpg": []}, "a.jpg", []),
            ({"a.jpg": [ONE, TWO], "b.jpg": []}, "x/a.jpg", [ONE, TWO]),
            ({"x/a.jpg": [ONE], "a.jpg": [TWO]}, "w/x/a.jpg", [ONE]),
            ({"x/a.jpg": [ONE], "a.jpg": [TWO]}, "y/a.jpg", [TWO]),
            ({"./x/../a.jpg": [ONE]}, "a.jpg", [ONE]),
            ({"images": [ONE]}, "images", [ONE]),
            ([], "a.jpg", []),
            ([ONE, TWO], "any.jpg", [ONE, TWO]),
            ("a b.jpg 1 2 3 4.5\n\nb.jpg 0 0 1 1\n a b.jpg\t10 20 30 40\n", "x/a b.jpg", [ONE, TWO]),
            ("\ufeffa.jpg 1 2 3 4.5\r\n", "a.jpg", [ONE]),
            (
                {"images": [{"path": "x/a.jpg", "width": 9, "faces": [{"box_xyxy": ONE, "score": 0.5}]}]},
                "x/a.jpg",
                [ONE],
            ),
            ({"images": [{"path": "a.jpg", "faces": [], "error": "is empty"}]}, "a.jpg", []),
        ],
    )
    def test_table(self, tmp_path: Path, content: object, picture: str, expected: list[list[float]]) -> None:
        assert self.boxes(tmp_path, content, picture) == expected

    def test_no_boxes_have_the_shape_of_boxes(self, tmp_path: Path) -> None:
        (tmp_path / "b").write_text('{"a.jpg": []}')
        assert BoxFile.read(tmp_path / "b").boxes_for(Path("a.jpg")).shape == (0, 4)

    def test_full_paths(self, tmp_path: Path) -> None:
        assert self.boxes(tmp_path, {str(tmp_path / "a.jpg"): [ONE]}, tmp_path / "a.jpg") == [ONE]
        with pytest.raises(MediaError, match="has no entry"):
            self.boxes(tmp_path, {str(tmp_path / "a.jpg"): [ONE]}, tmp_path / "x" / "a.jpg")

    @pytest.mark.parametrize("name", ["b.jpg", "A.jpg", "aa.jpg", "y/a.jpg"])
    def test_a_picture_without_an_entry(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(MediaError, match=rf"has no entry for {name}"):
            self.boxes(tmp_path, {"x/a.jpg": [ONE]}, name)

    def test_a_plain_list_serves_one_picture(self, tmp_path: Path) -> None:
        (tmp_path / "b").write_text(json.dumps([ONE]))
        boxes = BoxFile.read(tmp_path / "b")
        for _ in range(2):
            assert len(boxes.boxes_for(Path("a.jpg"))) == 1
        with pytest.raises(MediaError, match="for one picture"):
            boxes.boxes_for(Path("b.jpg"))

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ("", "is empty"),
            ('{"a.jpg": [[1, 2, 3, 4]]', "truncated"),
            ("[" * 100_000, "is no list of boxes"),
            ({"a.jpg": [ONE], "b.jpg": [ONE, [1, 2, 3]]}, r"entry b\.jpg: .*length 4.*\$\[1\]"),
            ({"a.jpg": [[1, 2, 3, "4"]]}, r"entry a\.jpg: Expected `float`, got `str` - at `\$\[0\]\[3\]`"),
            ({"a.jpg": ONE}, r"entry a\.jpg: Expected `array`"),
            ({"a.jpg": None}, r"entry a\.jpg"),
            ({"a.jpg": [[3, 2, 1, 4]]}, r"entry a\.jpg: box \[3\.0, 2\.0, 1\.0, 4\.0\] is not finite with x1 < x2"),
            ([ONE, [1, 2, 3]], r"length 4.*\$\[1\]"),
            ([ONE, [1, 9, 3, 4]], r"box \[1\.0, 9\.0"),
            ({"images": [{"path": "a.jpg"}]}, r"`faces` - at `\$\[0\]`"),
            ({"images": [{"path": "a.jpg", "faces": [{"box_xyxy": [1]}]}]}, r"\$\[0\]\.faces\[0\]\.box_xyxy"),
            ("a.jpg 1 2 3 4\na.jpg 1 2 3\n", "line 2 is not NAME x1 y1 x2 y2"),
            ("a.jpg 1 2 3 four", "line 1 is not"),
            ("a.jpg 1 2 nan 4", r"entry a\.jpg: box .* is not finite"),
        ],
    )  # fmt: skip
    def test_mistakes_are_named(self, tmp_path: Path, content: object, reason: str) -> None:
        with pytest.raises(MediaError, match=reason) as caught:
            self.boxes(tmp_path, content, "a.jpg")
        assert "\n" not in str(caught.value)

    def test_files_that_are_no_text(self, tmp_path: Path) -> None:
        (tmp_path / "b").write_bytes(b"\x80\x81")
        with pytest.raises(MediaError, match="is no list of boxes"):
            BoxFile.read(tmp_path / "b")
        with pytest.raises(MediaError, match="does not exist"):
            BoxFile.read(tmp_path / "none")
