"""The built-in bundle: `FaceAligner.load()` and `synergy infer photo.jpg` work without a bundle of the user's own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from synergy.benchmarks.parity.verify import VerifyOptions, verify_bundle
from synergy.runtime.aligner import FaceAligner
from synergy.runtime.bundle import BUILTIN, Bundle
from synergy.runtime.detection import detector
from synergy.runtime.faces import Detection
from synergy.runtime.inference.worker import WorkerSetup
from synergy.runtime.media.image import read_image, write_image

ROOT = Path(__file__).resolve().parents[2]
NOSE_TIP = 30
BOX = (180.0, 72.0, 270.0, 184.0)  # of the astronaut's face


@pytest.fixture(autouse=True)
def onnxruntime_is_here() -> None:
    pytest.importorskip("onnxruntime")


def test_it_was_exported_from_the_checkpoint_in_the_tree() -> None:
    manifest = Bundle.open(BUILTIN).manifest
    checkpoint = ROOT / "synergy_model" / "assets" / "synthetic.ckpt"
    assert manifest.source.sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert manifest.golden is not None and not manifest.golden.real_faces


def test_it_agrees_with_its_golden_values() -> None:
    report = verify_bundle(BUILTIN, VerifyOptions(("onnx",), threads=1))
    assert report.passed and {row.artifact for row in report.accuracy} == {"model.onnx"}


def test_limits_of_the_default_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    """In Python, and as worker processes open it."""
    made: list[tuple[object, ...]] = []

    def make_detector(*arguments: object) -> Fixed:
        made.append(arguments)
        return Fixed()

    monkeypatch.setattr(detector, "make_detector", make_detector)
    image = np.zeros((50, 50, 3), np.uint8)
    model = Path("yunet.onnx")
    with FaceAligner.load(engine="onnx", min_score=0.9, max_faces=2) as aligner:
        aligner(image)
    with WorkerSetup(BUILTIN, "onnx", min_score=0.9, max_faces=2).open() as aligner:
        aligner(image)
    with WorkerSetup(BUILTIN, "onnx", detector="yunet", detector_model=model, min_score=0.9, max_faces=2).open():
        pass
    assert made == [("auto", None, 0.9, 2)] * 2 + [("yunet", model, 0.9, 2)]
    for wrong in (
        {"min_score": 1.1},
        {"min_score": float("nan")},
        {"max_faces": 0},
        {"detector": Fixed(), "max_faces": 1},
    ):
        with pytest.raises(ValueError, match=r"min_score|max_faces"):
            FaceAligner.load(engine="onnx", **wrong)


class Fixed:
    def detect(self, image_bgr: np.ndarray) -> list[Detection]:
        return []


def test_three_lines_of_python(portrait_bgr: np.ndarray, tmp_path: Path) -> None:
    """A photograph of a frontal face: the nose tip is found in the middle of it, to a tenth of its size."""
    path = tmp_path / "photo.png"
    write_image(path, portrait_bgr)
    with FaceAligner.load(engine="onnx") as aligner:
        face, *_ = aligner(path)
        (known,) = aligner.align(portrait_bgr, [BOX])
        assert aligner.mesh(known).shape[1] == 3
    assert face.landmarks.shape == (68, 3)
    assert abs(face.landmarks[NOSE_TIP, :2] - known.landmarks[NOSE_TIP, :2]).max() < 12
    assert 180 < known.landmarks[NOSE_TIP, 0] < 270 and 110 < known.landmarks[NOSE_TIP, 1] < 160
    assert abs(known.pose.yaw) < 30 and abs(known.pose.pitch) < 30 and abs(known.pose.roll) < 20


def test_the_mesh_is_drawn_where_the_face_is(
    synergy: Callable[..., tuple[int, str, str]], portrait_bgr: np.ndarray, tmp_path: Path
) -> None:
    write_image(tmp_path / "photo.png", portrait_bgr)
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps([list(BOX)]))
    infer = ("infer", tmp_path / "photo.png", "--engine", "onnx", "--boxes", boxes, "--out", tmp_path / "out")
    code, _, err = synergy(*infer, "--draw", "mesh")
    assert code == 0, err
    changed = (read_image(tmp_path / "out" / "photo.png") != portrait_bgr).any(axis=2)
    left, top, right, bottom = map(int, BOX)
    assert changed[top + 10 : bottom - 10, left + 10 : right - 10].mean() > 0.95 and not changed[300:].any()


def test_the_command_without_a_bundle(
    synergy: Callable[..., tuple[int, str, str]], portrait_bgr: np.ndarray, tmp_path: Path
) -> None:
    write_image(tmp_path / "photo.png", portrait_bgr)
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps([list(BOX)]))
    code, out, err = synergy("infer", tmp_path / "photo.png", "--engine", "onnx", "--boxes", boxes)
    assert code == 0, err
    assert "1 face" in out and "model.onnx on onnx" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((BUILTIN,), "is a bundle: name images"),
        (("dist_missing", "photo.png"), "no bundle at dist_missing"),
        (("missing.png",), "missing.png"),
    ],
)
def test_wrong_arguments(
    synergy: Callable[..., tuple[int, str, str]], arguments: tuple[object, ...], words: str
) -> None:
    code, _, err = synergy("infer", *arguments, "--engine", "onnx")
    assert code and words in " ".join(err.replace("│", " ").split())
