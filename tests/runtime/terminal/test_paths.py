"""An output that would damage an input, a bundle or a file of another kind is refused, and `~` is expanded."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path
from typing import Annotated

import pytest

from synergy.runtime.bundle import BUILTIN
from synergy.runtime.errors import MediaError
from synergy.runtime.terminal.paths import STDOUT, PathUse, only_writer, prepare_paths


def command(
    inputs: Annotated[list[str], PathUse.READ],
    root: Path | None = None,
    names: list[Path] | None = None,
    label: str = "~",
    json_file: Annotated[Path | None, PathUse.WRITE_JSON] = None,
    csv: Annotated[Path | None, PathUse.WRITE_TEXT] = None,
    montage: Annotated[Path | None, PathUse.WRITE_FILE] = None,
    out: Annotated[Path | None, PathUse.WRITE_FOLDER] = None,
) -> None:
    """A command with paths of every kind."""


SIGNATURE = inspect.signature(command, eval_str=True)


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name in ("a.jpg", "b.jpg", "photos/c.jpg", "b.csv"):
        Path(name).write_bytes(b"x")
    Path("photos/faces.json").write_bytes(b"\n{}")
    Path("binary").write_bytes(b"\xff\xd8\0")
    Path("empty").touch()
    Path("link.jpg").symlink_to("a.jpg")
    shutil.copytree(BUILTIN, "bundle")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"inputs": ["a.jpg"], "json_file": "a.jpg"}, "a.jpg is given twice"),
        ({"inputs": ["a.jpg"], "json_file": "./photos/../a.jpg"}, "which is a.jpg"),
        ({"inputs": ["link.jpg"], "json_file": "a.jpg"}, "given twice"),
        ({"inputs": ["a.jpg"], "json_file": "link.jpg"}, "given twice"),
        ({"names": ["b.jpg"], "montage": "b.jpg"}, "given twice"),
        ({"json_file": "new", "montage": "new"}, "given twice"),
        ({"inputs": ["photos"], "montage": "photos/c.jpg"}, "exists in the folder photos"),
        ({"inputs": ["bundle"], "json_file": "bundle/manifest.json"}, "is a file of the bundle"),
        ({"json_file": "bundle/model.onnx"}, "is a file of the bundle"),
        ({"json_file": "a.jpg"}, "a.jpg exists and is not a JSON file"),
        ({"csv": "binary"}, "binary exists and is not a text file"),
        ({"json_file": "photos"}, "photos is a folder: name a file"),
        ({"out": "a.jpg"}, "a.jpg is not a folder"),
        ({"out": "a.jpg/x/y"}, "a.jpg is a file, not a folder"),
        ({"json_file": "a.jpg/x.json"}, "a.jpg is a file, not a folder"),
        ({"root": "bundle/morphable.npz", "out": "bundle"}, "is read and is in bundle"),
    ],
)
def test_refused(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(MediaError, match=words):
        prepare_paths(SIGNATURE, as_typer_gives(arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        {"inputs": ["photos"], "json_file": "photos/faces.json", "out": "photos"},  # what an earlier run wrote
        {"inputs": ["a.jpg"], "json_file": "b.json", "montage": "new/b.jpg", "out": "new/folder"},
        {"inputs": ["bundle"], "json_file": "bundle/verify.json"},
        {"inputs": ["/dev/null"], "json_file": "/dev/null"},
        {"inputs": ["a.jpg"], "json_file": None, "out": None},
        {"json_file": "photos/faces.json", "csv": "b.csv"},
        {"json_file": "empty", "montage": "a.jpg"},
    ],
)
def test_accepted(arguments: dict[str, object]) -> None:
    given = as_typer_gives(arguments)
    assert prepare_paths(SIGNATURE, given) == given


def test_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    given = {"inputs": ["~/a.jpg"], "names": ["~/b.jpg"], "out": "~/faces", "label": "~", "json_file": "~nobody-here/x"}
    found = prepare_paths(SIGNATURE, as_typer_gives(given))
    assert found["inputs"] == [str(tmp_path / "a.jpg")] and found["names"] == [tmp_path / "b.jpg"]
    assert (found["out"], found["label"], found["json_file"]) == (tmp_path / "faces", "~", Path("~nobody-here/x"))


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1"])
def test_names_of_stdout(name: str) -> None:
    assert prepare_paths(SIGNATURE, {"json_file": Path(name)})["json_file"] == STDOUT


def test_one_report_has_one_writer(tmp_path: Path) -> None:
    with only_writer(Path("photos/../o.json")):
        with (
            pytest.raises(MediaError, match=r"another run is writing .*o\.json: wait"),
            only_writer(tmp_path / "o.json"),
        ):
            pass
        with only_writer(Path("other.json")), only_writer(None), only_writer(None), only_writer(STDOUT):
            pass
    with only_writer(tmp_path / "o.json"):
        pass


def as_typer_gives(arguments: dict[str, object]) -> dict[str, object]:
    values = {"inputs": ["b.jpg"], **arguments}
    for name, value in values.items():
        if name in ("json_file", "csv", "montage", "out", "root") and value is not None:
            values[name] = Path(str(value))
        elif name == "names":
            values[name] = [Path(each) for each in value]  # type: ignore[attr-defined]
    return values
