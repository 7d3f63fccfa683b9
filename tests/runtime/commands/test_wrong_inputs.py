"""Inputs that are easily confused: the error says what the file is and what to give instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from synergy.runtime.aligner import FaceAligner
from synergy.runtime.bundle import BUILTIN, Bundle
from synergy.runtime.errors import BundleError, MediaError
from synergy.runtime.media.image import read_image

MODEL = BUILTIN / "model.onnx"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("infer", MODEL, "a.jpg"), f"{MODEL} is not a bundle: give the folder {BUILTIN}"),
        (("infer", "none/model.mindir", "a.jpg"), "is not a bundle: give the folder that `synergy export` made"),
        (("infer", "face.CKPT", "a.jpg"), "is not a bundle: make one with `synergy export`"),
        (("infer", "net.pth.tar", "a.jpg"), "is not a bundle: make one with `synergy convert` and `synergy export`"),
        (("infer", "https://example.org/a.jpg"), "https://example.org/a.jpg is a URL: download the file first"),
        (("infer", "a.jpg", "rtsp://camera/1"), "is a URL"),
        (("infer", "a.jpg", "--boxes", "https://example.org/b.json"), "is a URL"),
        (("export", "https://example.org/a.ckpt", "out"), "is a URL"),
        (("convert", "https://example.org/a.pth", "out"), "is a URL"),
        (("verify", "s3://bucket/bundle"), "is a URL"),
        (("verify", MODEL), f"{MODEL} is a file of a bundle: give the bundle, which is the folder {BUILTIN}"),
    ],
)
def test_one_line(synergy, arguments: tuple[object, ...], reason: str) -> None:
    code, out, err = synergy(*arguments)
    assert code == 1 and out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert reason in err


def test_in_python(portrait_bgr) -> None:
    with pytest.raises(BundleError, match="is a file of a bundle: give the bundle"):
        FaceAligner.load(MODEL)
    with pytest.raises(BundleError, match="is a URL"):
        Bundle.open("https://example.org/bundle")
    with pytest.raises(MediaError, match="is a URL: download it first"):
        read_image(Path("https://example.org/a.jpg"))
    pytest.importorskip("onnxruntime")
    with FaceAligner.load(engine="onnx") as aligner:
        for call in (aligner, aligner.detect, lambda image: aligner.align(image, [[1, 1, 9, 9]])):
            with pytest.raises(ValueError, match=r"not None: cv2\.imread gives None for a file"):
                call(None)
