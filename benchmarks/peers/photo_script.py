"""A photograph to JSON with OpenCV and onnxruntime alone: what `synergy infer PHOTO --json -` is compared with.

Run as a script. Its argument is JSON: picture, detector (YuNet's file), model, threads, batch (of the model), outputs
(their names), size and crop (the bundle's rule). Nothing is checked, and nothing of this package is imported.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import cv2
import numpy as np
import onnxruntime

LONG_SIDE = 640  # of the image for the detector, as in the command
MIN_SCORE = 0.7


def main() -> None:
    """Print the box, the score and the network's outputs of every face."""
    given = json.loads(sys.argv[1])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = given["threads"]
    session = onnxruntime.InferenceSession(given["model"], options, providers=["CPUExecutionProvider"])
    image: Any = cv2.imread(given["picture"])
    faces = []
    for x1, y1, x2, y2, score in detect(image, given["detector"]):
        left, top, side = square(x1, y1, x2, y2, given["crop"])
        crop = cv2.resize(cut(image, left, top, side), (given["size"], given["size"]))
        outputs = session.run(given["outputs"], {given["input"]: np.repeat(crop[None], given["batch"], axis=0)})
        found = {name: array[0] for name, array in zip(given["outputs"], outputs, strict=True)}
        if "landmarks" in found:
            found["landmarks"] = found["landmarks"].T * (side / given["size"]) + np.array([left, top, 0])
        faces.append({"box": [x1, y1, x2, y2], "score": score, **{name: found[name].tolist() for name in found}})
    json.dump(faces, sys.stdout)


def detect(image: np.ndarray, model: str) -> list[tuple[float, float, float, float, float]]:
    """Rows of x1, y1, x2, y2 and score."""
    scale = min(1.0, LONG_SIDE / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
    detector = cv2.FaceDetectorYN.create(model, "", (small.shape[1], small.shape[0]), MIN_SCORE)
    _, rows = detector.detect(small)
    found = [] if rows is None else [(*(row[:4] / scale).tolist(), float(row[-1])) for row in rows]
    return [(x, y, x + w, y + h, score) for x, y, w, h, score in found]


def square(x1: float, y1: float, x2: float, y2: float, rule: dict) -> tuple[int, int, int]:
    """Left, top and side of the region around a box."""
    base = y2 - y1 if rule["side_of"] == "height" else (x2 - x1 + y2 - y1) / 2
    side = rule["scale"] * base // rule["round_to"] * rule["round_to"]
    return round((x1 + x2 - side) / 2), round((y1 + y2 - side) / 2 + rule["shift_y"] * base), round(side)


def cut(image: np.ndarray, left: int, top: int, side: int) -> np.ndarray:
    """The square region, black outside the image."""
    height, width = image.shape[:2]
    pad = max(0, -left, -top, left + side - width, top + side - height)
    padded = cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_CONSTANT) if pad else image
    return padded[top + pad : top + pad + side, left + pad : left + pad + side]


if __name__ == "__main__":
    main()
