"""Box files: JSON and text, and how mistakes in them are reported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from synergy.runtime.errors import MediaError
from synergy.runtime.media.box_file import BoxFile

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
    def test_an_image_without_an_entry(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(MediaError, match=rf"has no entry for {name}"):
            self.boxes(tmp_path, {"x/a.jpg": [ONE]}, name)

    def test_a_plain_list_is_for_one_image(self, tmp_path: Path) -> None:
        (tmp_path / "b").write_text(json.dumps([ONE]))
        boxes = BoxFile.read(tmp_path / "b")
        for _ in range(2):
            assert len(boxes.boxes_for(Path("a.jpg"))) == 1
        with pytest.raises(MediaError, match="for one image"):
            boxes.boxes_for(Path("b.jpg"))

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ("", "is empty"),
            ('{"a.jpg": [[1, 2, 3, 4]]', "truncated"),
            ("[" * 100_000, "is not a box file"),
            ({"a.jpg": [ONE], "b.jpg": [ONE, [1, 2, 3]]}, r"entry b\.jpg: .*length >= 4.*\$\[1\]"),
            ({"a.jpg": [[1, 2, 3, "4"]]}, r"entry a\.jpg: Expected `float`, got `str` - at `\$\[0\]\[3\]`"),
            ({"a.jpg": ONE}, r"entry a\.jpg: Expected `array`"),
            ({"a.jpg": None}, r"entry a\.jpg"),
            ({"a.jpg": [[3, 2, 1, 4]]}, r"entry a\.jpg: box \[3\.0, 2\.0, 1\.0, 4\.0\] is not finite with x1 < x2"),
            ([ONE, [1, 2, 3]], r"length >= 4.*\$\[1\]"),
            ([ONE, [1, 9, 3, 4]], r"box \[1\.0, 9\.0"),
            ({"images": [{"path": "a.jpg"}]}, r"`faces` - at `\$\[0\]`"),
            ({"images": [{"path": "a.jpg", "faces": [{"box_xyxy": [1]}]}]}, r"\$\[0\]\.faces\[0\]\.box_xyxy"),
            ("a.jpg 1 2 3 4\na.jpg 1 2 3\n", "line 2 does not have the form NAME x1 y1 x2 y2"),
            ("a.jpg 1 2 3 four", "line 1 does not have"),
            ("a.jpg 1 2 nan 4", r"entry a\.jpg: box .* is not finite"),
        ],
    )  # fmt: skip
    def test_mistakes_are_named(self, tmp_path: Path, content: object, reason: str) -> None:
        with pytest.raises(MediaError, match=reason) as caught:
            self.boxes(tmp_path, content, "a.jpg")
        assert "\n" not in str(caught.value)

    def test_binary_and_missing_files(self, tmp_path: Path) -> None:
        (tmp_path / "b").write_bytes(b"\x80\x81")
        with pytest.raises(MediaError, match="is not a box file"):
            BoxFile.read(tmp_path / "b")
        with pytest.raises(MediaError, match="does not exist"):
            BoxFile.read(tmp_path / "none")


BOX = [10.0, 20.0, 110.0, 140.0]


@pytest.mark.parametrize(
    ("text", "box_format"),
    [
        ("my face.jpg 10 20 110 140", "xyxy"),
        ("my face.jpg 10 20 110 140 0.93", "xyxy"),
        ("my face.jpg\t10\t20\t100\t120\t1e-3", "xywh"),
        ('{"my face.jpg": [[10, 20, 110, 140, 0.93]]}', "xyxy"),
        ('{"my face.jpg": [[10, 20, 100, 120]]}', "xywh"),
        ("[[10, 20, 100, 120, 1]]", "xywh"),
        ('{"images": [{"path": "my face.jpg", "faces": [{"box_xyxy": [10, 20, 110, 140]}]}]}', "xywh"),
        (
            '{"info": {}, "images": [{"id": 7, "file_name": "my face.jpg"}, {"id": 8, "file_name": "b.jpg"}], '
            '"annotations": [{"id": 1, "image_id": 7, "bbox": [10, 20, 100, 120], "category_id": 1}]}',
            "xyxy",
        ),
    ],
)
def test_scores_and_box_formats(tmp_path: Path, text: str, box_format: str) -> None:
    (tmp_path / "boxes").write_text(text)
    file = BoxFile.read(tmp_path / "boxes", box_format)
    assert file.boxes_for(Path("my face.jpg")).tolist() == [BOX]
    if "annotations" in text:
        assert file.boxes_for(Path("b.jpg")).shape == (0, 4)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a.jpg 50 60 20 30", "entry a.jpg: box .* is not finite .*; boxes x, y, width, height need --box-format xywh"),
        ("a.jpg 1 2 3 4 5 6", "line 1 does not have the form"),
        ("[[1, 2, 3, 4, 5, 6]]", "length"),
        ('{"images": [], "annotations": [{"image_id": 1, "bbox": [1, 2, 3, 4]}]}', "image 1, which is not listed"),
    ],
)
def test_wrong_numbers(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "boxes").write_text(text)
    with pytest.raises(MediaError, match=reason):
        BoxFile.read(tmp_path / "boxes")
