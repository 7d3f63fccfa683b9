"""Where the faces are: OpenCV's detectors.

All boxes are tight face boxes in image pixels, as FaceBoxes gives them: forehead to chin, side to side of the visible
face. The crop rules of SynergyNet and 3DDFA_V2 are made for such boxes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from synergy.runtime.crop import check_image
from synergy.runtime.detection.boxes import sort_by_score
from synergy.runtime.detection.haar import HaarDetector
from synergy.runtime.errors import MediaError
from synergy.runtime.faces import Detection


class Detector(Protocol):
    """Finds faces."""

    def detect(self, image_bgr: np.ndarray) -> list[Detection]:
        """The faces of an image (H,W,3) uint8, surest first, then largest; an empty list if there are none."""
        ...


# YuNet's authors give faces of 10 to 300 pixels as its range.
YUNET_LONG_SIDE = 640
YUNET_PROBE = (320, 320)


class YuNetDetector:
    """OpenCV's YuNet, better than the cascades on small, turned and covered faces. Not thread-safe.

    model: YuNet's ONNX file, which OpenCV does not ship; see OpenCV Zoo, face_detection_yunet.
    """

    def __init__(self, model: str | Path, min_score: float = 0.7) -> None:
        """Raises MediaError if the file is missing or is not YuNet."""
        path = Path(model)
        if not path.is_file():
            raise MediaError(f"no YuNet model at {path}: download face_detection_yunet_2023mar.onnx from OpenCV Zoo")
        try:
            self._net = cv2.FaceDetectorYN.create(str(path), "", YUNET_PROBE, min_score)
            self._net.detect(np.zeros((*YUNET_PROBE, 3), np.uint8))
        except cv2.error:
            raise MediaError(f"{path} is not a YuNet model that OpenCV can run: download it again") from None

    def detect(self, image_bgr: np.ndarray) -> list[Detection]:
        """As `Detector.detect`; its boxes are tight already. Raises ValueError unless the image is (H,W,3) uint8."""
        check_image(image_bgr)
        small, scale = _shrunk(image_bgr, YUNET_LONG_SIDE)
        self._net.setInputSize((small.shape[1], small.shape[0]))
        _, rows = self._net.detect(small)
        if rows is None:
            return []
        corners = rows[:, :2].astype(np.float64)
        boxes = np.concatenate([corners, corners + rows[:, 2:4]], axis=1) / scale
        return sort_by_score(Detection(box, float(score)) for box, score in zip(boxes, rows[:, -1], strict=True))


def make_detector(name: str, model: Path | None = None) -> Detector:
    """The detector called "haar" or "yunet"; only yunet takes, and needs, a model file.

    Raises ValueError for another name or a model that is missing or not wanted, MediaError for one that does not load.
    """
    if name == "haar" and model is None:
        return HaarDetector()
    if name == "yunet" and model is not None:
        return YuNetDetector(model)
    if name == "yunet":
        raise ValueError("the yunet detector needs its model: give --detector-model FILE")
    raise ValueError(f"detector {name!r} with model {model}: use haar without a model, or yunet with one")


def _shrunk(image: np.ndarray, long_side: int) -> tuple[np.ndarray, float]:
    """The image at no more than `long_side` pixels, and its scale, at most 1."""
    scale = min(1.0, long_side / max(image.shape[:2]))
    if scale == 1.0:
        return image, scale
    size_wh = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    return cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA), scale
