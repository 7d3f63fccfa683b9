"""Records survive an interrupted run, and the JSON file is written whole or not at all."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import msgspec
import pytest

from synergy.runtime.errors import MediaError
from synergy.runtime.inference.journal import Journal
from synergy.runtime.inference.records import FaceRecord, ImageRecord, InferReport, PoseRecord, failed_record


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{name}.jpg" for name in ("b", "a", 'with "quotes"\n and a line\'s end', "ä")]
    for number, path in enumerate(paths):
        path.write_bytes(bytes(number))
    return paths


def record(path: Path, faces: int = 2) -> ImageRecord:
    face = FaceRecord([0.1, 1e-9, 3.0, 4.5], 1.0, [[1 / 3, 2.0, -0.0]] * 68, PoseRecord(-1.5, 0.25, 1e300), [0.7] * 62)
    return ImageRecord(str(path), 640, 480, [face] * faces)


def written(path: Path) -> InferReport:
    return msgspec.json.decode(path.read_bytes(), type=InferReport)


def test_the_file_equals_a_report_written_at_once(tmp_path: Path, pictures: list[Path]) -> None:
    records = [
        record(pictures[0]),
        record(pictures[1], 0),
        failed_record(str(pictures[2]), "no\npicture"),
        record(pictures[3]),
    ]
    target = tmp_path / "new" / "faces.json"
    with Journal(target, "key", pictures) as journal:
        for each in reversed(records):  # they come in any order, and stand in that of the pictures
            journal.add(each)
            assert not target.exists()
        journal.finish()
    assert target.read_bytes() == msgspec.json.format(msgspec.json.encode(InferReport(records)), indent=2)
    assert [path.name for path in target.parent.iterdir()] == ["faces.json"]


def test_no_pictures_are_an_empty_list(tmp_path: Path) -> None:
    with Journal(tmp_path / "faces.json", "key", []) as journal:
        journal.finish()
    assert written(tmp_path / "faces.json") == InferReport([])


def test_the_next_run_continues(tmp_path: Path, pictures: list[Path]) -> None:
    target = tmp_path / "faces.json"
    with Journal(target, "key", pictures) as journal:
        assert not journal.done
        journal.add(record(pictures[0]))
        journal.add(failed_record(str(pictures[1]), "was not there"))
        journal.add(record(pictures[2]))
    assert not target.exists()
    with Journal(target, "key", pictures) as journal:
        assert journal.done == {str(pictures[0]), str(pictures[2])}  # what failed is tried again
        for path in (pictures[1], pictures[3]):
            journal.add(record(path, 1))
        journal.finish()
    found = written(target).images
    assert [each.path for each in found] == [str(path) for path in pictures]
    assert [len(each.faces) for each in found] == [2, 1, 2, 1]


def test_a_changed_picture_is_done_again(tmp_path: Path, pictures: list[Path]) -> None:
    with Journal(tmp_path / "faces.json", "key", pictures) as journal:
        for path in pictures:
            journal.add(record(path))
    pictures[0].write_bytes(b"longer than before")
    os.utime(pictures[1], ns=(1, 1))
    pictures[2].unlink()
    with Journal(tmp_path / "faces.json", "key", pictures) as journal:
        assert journal.done == {str(pictures[3])}


@pytest.mark.parametrize("key", ["other", ""])
def test_another_key_starts_again(tmp_path: Path, pictures: list[Path], key: str) -> None:
    for each in ("key", key):
        with Journal(tmp_path / "faces.json", each, pictures) as journal:
            assert not journal.done
            journal.add(record(pictures[0]))
    with Journal(tmp_path / "faces.json", key, pictures) as journal:
        assert journal.done == {str(pictures[0])}


def test_records_with_unknown_fields_are_kept(tmp_path: Path, pictures: list[Path]) -> None:
    """Not a number is null in JSON; and whether a picture is done does not hang on what later versions write."""
    face = FaceRecord([0.0] * 4, 1.0, [], PoseRecord(float("nan"), 0.0, 0.0), [float("nan")] * 62)
    with Journal(tmp_path / "faces.json", "key", pictures[:1]) as journal:
        journal.add(ImageRecord(str(pictures[0]), 1, 1, [face]))
    with Journal(tmp_path / "faces.json", "key", pictures[:1]) as journal:
        assert journal.done == {str(pictures[0])}
        journal.finish()
    assert b"null" in (tmp_path / "faces.json").read_bytes()


@pytest.mark.parametrize("cut", [1, 40, 2000])
def test_a_picture_with_an_incomplete_line_is_done_again(tmp_path: Path, pictures: list[Path], cut: int) -> None:
    with Journal(tmp_path / "faces.json", "key", pictures) as journal:
        for path in pictures[:2]:
            journal.add(record(path))
    os.truncate(journal.partial, journal.partial.stat().st_size - cut)
    with Journal(tmp_path / "faces.json", "key", pictures) as journal:
        assert journal.done == {str(pictures[0])}
        for path in pictures[1:]:
            journal.add(record(path))
        journal.finish()
    assert len(written(tmp_path / "faces.json").images) == 4


HEADER = b'{"key":"key"}\n'
STAMP = b'"stamp":[1,1]'


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"\n", 1),
        (b"precious notes", 1),
        (b"\xff\x00\n", 1),
        (b'{"key":1}\n', 1),
        (b"[1]\n", 1),
        (HEADER + b'{"path":1}\n', 2),
        (HEADER + b"5\n", 2),
        (HEADER + b'{"path":"a",' + STAMP + b',"record":5}\n', 2),
        (HEADER + b'{"path":"a",' + STAMP + b',"record":{"path":"b","faces":[]}}\n', 2),
        (HEADER + b'{"path":"a",' + STAMP + b',"record":{"path":"a","faces":[{"box_xyxy":"x"}]}}\n', 2),
        (HEADER + b'{"path":"a",' + STAMP + b',"record":' + b"[" * 100_000 + b"}\n", 2),
    ],
)
def test_a_damaged_partial_file_is_named(tmp_path: Path, pictures: list[Path], content: bytes, line: int) -> None:
    partial = tmp_path / "faces.json.partial"
    partial.write_bytes(content)
    with pytest.raises(MediaError, match=rf"faces\.json\.partial.* is damaged in line {line} .*remove it"):
        Journal(tmp_path / "faces.json", "key", pictures)
    assert partial.read_bytes() == content


@pytest.mark.parametrize("content", [b"", b'{"ke', b'{"key":"k', HEADER, HEADER + b'{"path":1'])
def test_a_partial_file_without_a_record_is_replaced(tmp_path: Path, pictures: list[Path], content: bytes) -> None:
    (tmp_path / "faces.json.partial").write_bytes(content)
    with Journal(tmp_path / "faces.json", "key", pictures) as journal:
        assert not journal.done
        for path in pictures:
            journal.add(record(path))
        journal.finish()
    assert len(written(tmp_path / "faces.json").images) == 4


def test_a_partial_file_that_is_a_link_is_refused(tmp_path: Path, pictures: list[Path]) -> None:
    (tmp_path / "mine").write_bytes(HEADER)
    (tmp_path / "faces.json.partial").symlink_to("mine")
    with pytest.raises(MediaError, match=r"faces\.json\.partial is not a file that an earlier run wrote"):
        Journal(tmp_path / "faces.json", "key", pictures)
    assert (tmp_path / "mine").read_bytes() == HEADER


def test_a_target_that_is_a_link_is_kept(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to("faces.json")
    with Journal(tmp_path / "link.json", "key", []) as journal:
        journal.finish()
    assert (tmp_path / "link.json").is_symlink() and written(tmp_path / "faces.json") == InferReport([])


def test_a_second_run_is_refused(tmp_path: Path, pictures: list[Path]) -> None:
    target = tmp_path / "faces.json"
    with Journal(target, "key", pictures[:1]) as journal:
        journal.add(record(pictures[0]))
        with pytest.raises(MediaError, match=r"another run is writing .*faces\.json: wait"):
            Journal(target, "other", pictures)
        journal.finish()
    with Journal(target, "key", pictures[:1]) as journal:
        assert not journal.done


def test_an_earlier_result_is_kept_until_the_next_is_complete(tmp_path: Path, pictures: list[Path]) -> None:
    (tmp_path / "faces.json").write_text("earlier")
    with Journal(tmp_path / "faces.json", "key", pictures) as journal:
        journal.add(record(pictures[0]))
    assert (tmp_path / "faces.json").read_text() == "earlier"


def test_paths_that_cannot_be_written(tmp_path: Path, pictures: list[Path]) -> None:
    with pytest.raises(MediaError, match=r"cannot write .*faces\.json"):
        Journal(pictures[0] / "faces.json", "key", pictures)
    with pytest.raises(MediaError, match="it is a folder"):
        Journal(tmp_path, "key", pictures)


def test_records_are_not_kept_in_memory(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.jpg" for number in range(600)]
    tracemalloc.start()
    try:
        with Journal(tmp_path / "faces.json", "key", paths) as journal:
            for path in paths:
                journal.add(record(path))
            journal.finish()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / "faces.json").stat().st_size > 10e6 > 10 * peak
