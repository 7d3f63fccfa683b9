"""The examples in docstrings of the public API, and the Python example of README.md, run."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import synergy
from synergy.runtime.engines import available
from synergy.runtime.media.image import write_image

ROOT = Path(__file__).resolve().parent.parent
BOX_XYXY = [180.0, 72.0, 270.0, 184.0]  # the face in the portrait

pytestmark = pytest.mark.skipif(not available("onnx").ok, reason="the examples run on onnxruntime")


@pytest.fixture
def names(tiny_bundle: Path, portrait_bgr: np.ndarray) -> dict[str, Any]:
    """What the examples may use besides their own names."""
    return {"np": np, "bundle": tiny_bundle, "image_bgr": portrait_bgr}


def examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder()
    objects = {"synergy": synergy} | {name: getattr(synergy, name) for name in synergy.__all__}
    return [test for name, each in objects.items() for test in finder.find(each, name) if test.examples]


def test_there_are_examples() -> None:
    assert {"synergy", "FaceAligner", "FacePool"} <= {example.name for example in examples()}


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_docstring(example: doctest.DocTest, names: dict[str, Any]) -> None:
    example.globs.update(names)
    report: list[str] = []
    assert doctest.DocTestRunner().run(example, out=report.append).failed == 0, "".join(report)


def test_readme(
    names: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of its Python examples, one after the other, with the portrait as photo.jpg."""
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "photo.jpg", names["image_bgr"])
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    code = "".join(blocks).replace('"dist/synergynet"', "bundle").replace('engine="lite"', 'engine="onnx"')
    code = code.replace("FaceAligner.load()", 'FaceAligner.load(engine="onnx")')
    crops = np.zeros((2, 120, 120, 3), np.uint8)
    names |= {"boxes_xyxy": [BOX_XYXY], "crops_bgr_u8": crops}
    exec(compile(code, "README.md", "exec"), names)
    assert len(blocks) == 2 and "Pose(yaw=" in capsys.readouterr().out
    assert names["faces"][0].landmarks.shape == (68, 3) and names["pred"].landmarks.shape == (2, 3, 68)
