"""The interface of face detectors, and a detector by name.

All boxes are tight face boxes in image pixels, as FaceBoxes gives them: forehead to chin, side to side of the visible
face. The crop rules of SynergyNet and 3DDFA_V2 are made for such boxes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from synergy.runtime.detection.limits import check_limits
from synergy.runtime.errors import MediaError
from synergy.runtime.faces import Detection

if TYPE_CHECKING:
    from synergy.runtime.detection.haar import HaarDetector
    from synergy.runtime.detection.yunet import YuNetDetector

DETECTORS = ("auto", "haar", "yunet")


class Detector(Protocol):
    """Finds faces. A detector of your own must be safe to share between threads if its aligner is shared."""

    def detect(self, image_bgr: np.ndarray) -> list[Detection]:
        """The faces of an image (H,W,3) uint8 BGR, highest score first, then largest; empty if there are none.

        Raises ValueError unless the image is (H,W,3) uint8.
        """
        ...


def make_detector(
    name: str = "auto", model: Path | None = None, min_score: float | None = None, max_faces: int | None = None
) -> YuNetDetector | HaarDetector:
    """The detector called `name`; the class and the attribute `name` of the result say which one "auto" chose.

    name: "yunet", "haar", or "auto" for YuNet where its model file is found and the cascades otherwise.
    model: YuNet's ONNX file; None for the one that `runtime.detection.install.find_yunet` finds.
    min_score: drop faces below this score; None for the detector's own default, 0.7 for yunet and 0 for haar.
    max_faces: keep only so many faces, those with the highest scores; None for all.
    Raises ValueError for another name, a model with haar, or as `check_limits`; MediaError if the model is missing or
    cannot be loaded.
    """
    if name not in DETECTORS:
        raise ValueError(f"unknown detector {name!r}: use one of {', '.join(DETECTORS)}")
    if name == "haar" and model is not None:
        raise ValueError("the haar detector takes no model: use --detector yunet, or leave --detector-model out")
    check_limits(min_score, max_faces)
    from synergy.runtime.detection.install import INSTALL_HINT, find_yunet

    if model is None and name != "haar":
        model = find_yunet()
    if model is not None:
        from synergy.runtime.detection.yunet import MIN_SCORE, YuNetDetector

        return YuNetDetector(model, MIN_SCORE if min_score is None else min_score, max_faces)
    if name == "yunet":
        raise MediaError(f"the yunet detector's model is not installed: {INSTALL_HINT}, or give --detector-model FILE")
    from synergy.runtime.detection.haar import HaarDetector

    return HaarDetector(0.0 if min_score is None else min_score, max_faces)
