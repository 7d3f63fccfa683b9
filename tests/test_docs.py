"""What the documentation shows works: commands, Python snippets, the notebook, links, and the Chinese README."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import cv2
import numpy as np
import pytest
import typer

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *ROOT.rglob("docs/*.md")])
READMES = ("README.md", "README.zh-CN.md")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOTEBOOK = ROOT / "examples" / "notebook" / "first_steps.ipynb"


def blocks(page: str, language: str) -> list[str]:
    return [text for name, text in FENCE.findall((ROOT / page).read_text("utf-8")) if name == language]


def commands(page: str) -> list[str]:
    """The command lines of a page that are typed as they are, without comments."""
    lines = "\n".join(blocks(page, "")).replace("\\\n", " ").splitlines()
    return [line.partition(" #")[0].strip() for line in lines if line.startswith(("synergy ", "make ", "pip ", "git "))]


def parse(group: click.Command, words: list[str]) -> None:
    """Parse as the command line does, but run nothing. Raises click.UsageError."""
    context = group.make_context(group.name, list(words), resilient_parsing=False)
    while isinstance(context.command, click.Group):
        name, command, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None, name
        context = command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("page", PAGES)
def test_commands_have_these_options(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from synergy.cli import app

    group = typer.main.get_command(app)
    monkeypatch.setattr(click.Path, "convert", lambda _self, value, *_: Path(os.fspath(value)))
    for line in commands(page):
        if line.startswith("synergy "):
            line = re.split(r" [|&>] ?", line)[0]
            try:
                parse(group, shlex.split(line)[1:])
            except click.UsageError as error:
                pytest.fail(f"{page}: {line}: {error.format_message()}")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http", "mailto:")):
            name, _, anchor = target.partition("#")
            linked = (ROOT / page).parent / name if name else ROOT / page
            assert linked.exists(), f"{page}: {target}"
            if anchor:
                assert anchor in anchors(linked), f"{page}: {target}"


def anchors(page: Path) -> set[str]:
    """The link targets of the headings, by GitHub's rule."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_chinese_readme_has_the_same_commands_and_code() -> None:
    english, chinese = (commands(page) for page in READMES)
    assert english == chinese
    first, second = ([re.sub(r"\s*#.*", "", block) for block in blocks(page, "python")] for page in READMES)
    assert first == second


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def test_the_readmes_python(
    bundles: dict[str, Path], portrait_bgr: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(tmp_path / "photo.jpg"), portrait_bgr)
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "synergynet").symlink_to(bundles["mb05"])
    inputs = {
        "image_bgr": portrait_bgr,
        "boxes_xyxy": [[180, 72, 270, 184]],
        "crops_bgr_u8": np.zeros((2, 120, 120, 3), np.uint8),
    }
    three_lines, whole = (block.replace(".load()", '.load(engine="onnx")') for block in blocks("README.md", "python"))
    with inside(tmp_path):
        exec(three_lines, {})
        names: dict[str, object] = dict(inputs)
        exec(whole, names)
    assert "Pose(yaw=" in capsys.readouterr().out
    assert len(names["faces"]) == 1 and names["pred"].params.shape == (2, 62)


def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    cells = [cell for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 6 and not any(cell["outputs"] for cell in cells)
    program = "\n".join("".join(cell["source"]) for cell in cells)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "yaw, pitch, roll in degrees: Pose(" in done.stdout and "agrees with the golden values" in done.stdout
    assert (tmp_path / "face.obj").read_text().startswith("v ")


@pytest.mark.parametrize(
    "use",
    [
        "from synergy import FaceAligner; FaceAligner.load(engine='onnx')('photo.jpg')",
        "from synergy.cli import main; main()",
    ],
    ids=["python", "command line"],
)
def test_a_missing_libgl_is_named_with_the_cure(use: str, tmp_path: Path) -> None:
    """As in slim containers."""
    (tmp_path / "cv2.py").write_text(
        "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')"
    )
    (tmp_path / "photo.jpg").touch()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    program = f"import sys; sys.argv = ['synergy', 'infer', 'photo.jpg']; {use}"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "OpenCV cannot load libGL.so.1" in last and "opencv-python-headless" in last
