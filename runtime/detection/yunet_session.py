"""Run YuNet in onnxruntime: the faces of OpenCV's `FaceDetectorYN` in less than half of its time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synergy.runtime.engines.onnx import open_small_network
from synergy.runtime.opencv import cv2

STRIDES = (8, 16, 32)  # pixels from one anchor to the next
INPUT, OUTPUTS = "input", ("cls", "obj", "bbox", "kps")  # the outputs have their stride in the name
SIDE_MULTIPLE = 32
MAX_IOU, MAX_CANDIDATES = 0.3, 5000  # of the suppression; OpenCV's defaults


class YuNetSession:
    """The published model in a session of its own. Safe to share between threads."""

    def __init__(self, model: bytes, threads: int) -> None:
        """Raises EngineError if onnxruntime cannot load the model."""
        self._run = open_small_network(model, threads)

    def detect(self, image_bgr: np.ndarray, min_score: float) -> np.ndarray:
        """Faces (F,15) float32 of an image (H,W,3) uint8: left, top, width, height, five points x, y, and the score.

        As `FaceDetectorYN.detect` (modules/objdetect/src/face_detect.cpp of OpenCV 4.14).
        """
        height, width = image_bgr.shape[:2]
        missing = -height % SIDE_MULTIPLE, -width % SIDE_MULTIPLE
        padded = cv2.copyMakeBorder(image_bgr, 0, missing[0], 0, missing[1], cv2.BORDER_CONSTANT)
        names = [f"{name}_{stride}" for stride in STRIDES for name in OUTPUTS]
        found = self._run(names, {INPUT: cv2.dnn.blobFromImage(padded)})
        columns = padded.shape[1]
        faces = np.concatenate(
            [
                _decoded(found[len(OUTPUTS) * i : len(OUTPUTS) * (i + 1)], stride, columns // stride, min_score)
                for i, stride in enumerate(STRIDES)
            ]
        )
        boxes = faces[:, :4].astype(np.int32).tolist()
        kept = cv2.dnn.NMSBoxes(boxes, faces[:, 14].tolist(), min_score, MAX_IOU, 1.0, MAX_CANDIDATES)
        return faces[np.asarray(kept, np.int64).ravel()]


def _decoded(outputs: Sequence[np.ndarray], stride: int, columns: int, min_score: float) -> np.ndarray:
    """The faces (F,15) of one stride with at least `min_score`, before suppression; outputs as `OUTPUTS`."""
    classes, objects, boxes, points = outputs
    scores = np.sqrt(classes.ravel().clip(0, 1) * objects.ravel().clip(0, 1))
    chosen = np.flatnonzero(scores >= min_score)
    anchors = np.stack([chosen % columns, chosen // columns], axis=1).astype(np.float32)
    boxes, points = boxes[0, chosen], points[0, chosen].reshape(-1, 5, 2)
    size = np.exp(boxes[:, 2:]) * stride
    corner = (anchors + boxes[:, :2]) * stride - size / 2
    placed = (points + anchors[:, None]) * stride
    return np.concatenate([corner, size, placed.reshape(-1, 10), scores[chosen, None]], axis=1)
