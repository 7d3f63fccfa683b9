"""Detectors by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synergy.runtime.detection.detector import make_detector
from synergy.runtime.detection.haar import HaarDetector
from synergy.runtime.detection.install import install_yunet
from synergy.runtime.detection.yunet import YuNetDetector
from synergy.runtime.errors import MediaError


@pytest.mark.parametrize("name", ["auto", "yunet"])
def test_yunet_with_a_model(yunet_model: Path, name: str) -> None:
    detector = make_detector(name, yunet_model)
    assert isinstance(detector, YuNetDetector) and detector.name == "yunet"


def test_auto_takes_yunet_once_it_is_installed(data_home: Path, published_yunet: Path) -> None:
    detector = make_detector()
    assert isinstance(detector, HaarDetector) and detector.name == "haar"
    install_yunet(published_yunet)
    assert isinstance(make_detector(), YuNetDetector)
    assert isinstance(make_detector("yunet"), YuNetDetector)
    assert isinstance(make_detector("haar"), HaarDetector)


def test_min_score_and_max_faces(yunet_model: Path, portrait_bgr: np.ndarray) -> None:
    image = np.zeros((640, 640, 3), np.uint8)
    assert len(make_detector("yunet", yunet_model, min_score=0.5).detect(image)) == 1  # its score is 0.6
    assert make_detector("yunet", yunet_model).detect(image) == []
    assert make_detector("haar", min_score=0.99).detect(portrait_bgr) == []
    both = np.hstack([portrait_bgr, portrait_bgr])
    for max_faces, count in ((None, 2), (1, 1)):
        assert len(make_detector("haar", max_faces=max_faces).detect(both)) == count
    with pytest.raises(ValueError, match="max_faces must be 1 or more, not 0"):
        make_detector("haar", max_faces=0)


def test_yunet_without_a_model(data_home: Path) -> None:
    with pytest.raises(MediaError, match=r"not installed: run `synergy detector install`, or give --detector-model"):
        make_detector("yunet")


@pytest.mark.parametrize(
    ("name", "model", "reason"),
    [("haar", Path("m.onnx"), "takes no model"), ("mtcnn", None, "'mtcnn': use one of auto, haar, yunet")],
)
def test_wrong_arguments(name: str, model: Path | None, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        make_detector(name, model)
