"""YuNet (Wu et al., Machine Intelligence Research 2023): a small face detection network, run by OpenCV."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np

from synergy.runtime.crop import check_image
from synergy.runtime.cropping.levelling import LEVEL_FROM_DEG, roll_of
from synergy.runtime.detection.boxes import sort_by_score
from synergy.runtime.detection.install import INSTALL_HINT, is_published
from synergy.runtime.detection.scaling import shrink
from synergy.runtime.errors import MediaError
from synergy.runtime.faces import Detection
from synergy.runtime.opencv import cv2
from synergy.runtime.processes.sharing import CallGuard, ProcessBound, call_after_fork

LONG_SIDE = 640  # px of the image that YuNet sees; its authors state 10 to 300 px as the range of face sizes
MIN_SCORE = 0.7
TEST_SIZE_WH = (320, 320)


class YuNetDetector(ProcessBound):
    """OpenCV's `FaceDetectorYN`. Safe to share between threads: calls wait for each other.

    Finds small, turned and partly covered faces that the cascades miss, and is faster. `score` is the geometric mean
    of the network's class and object probabilities, 0 to 1.

    Where onnxruntime is loaded when the first image comes, because the aligner uses it, the published model runs there,
    which takes less than half of the time. The faces are the same up to rounding.
    """

    name: ClassVar[str] = "yunet"

    def __init__(self, model: str | Path, min_score: float = MIN_SCORE, max_faces: int | None = None) -> None:
        """Raises MediaError if the file is missing or is not YuNet."""
        path = Path(model)
        if not path.is_file():
            raise MediaError(f"no YuNet model at {path}: {INSTALL_HINT}")
        self.min_score, self.max_faces = min_score, max_faces
        self._calls = CallGuard("this detector", survives_fork=True)
        self._path = path
        self.uses_onnxruntime = self._is_forked = False
        self._run: Callable[[np.ndarray], np.ndarray | None] | None = None
        if not is_published(path):  # only a run shows whether it is YuNet
            self._run = self._open_opencv()
            try:
                self._run(np.zeros((*TEST_SIZE_WH, 3), np.uint8))
            except cv2.error:
                raise self._unfit() from None
        call_after_fork(self)

    def after_fork(self) -> None:
        """In the child: threads of onnxruntime do not survive a fork, so OpenCV runs the network there."""
        if self.uses_onnxruntime:
            self._run, self.uses_onnxruntime = None, False
        self._is_forked = True

    def _open(self) -> Callable[[np.ndarray], np.ndarray | None]:
        if "onnxruntime" not in sys.modules or self._is_forked:
            return self._open_opencv()
        from synergy.runtime.detection.yunet_session import YuNetSession  # imports onnxruntime

        session = YuNetSession(self._path.read_bytes(), cv2.getNumThreads())
        self.uses_onnxruntime = True
        return lambda image_bgr: session.detect(image_bgr, self.min_score)

    def _open_opencv(self) -> Callable[[np.ndarray], np.ndarray | None]:
        try:
            network = cv2.FaceDetectorYN.create(str(self._path), "", TEST_SIZE_WH, self.min_score)
        except cv2.error:
            raise self._unfit() from None

        def run(image_bgr: np.ndarray) -> np.ndarray | None:
            network.setInputSize((image_bgr.shape[1], image_bgr.shape[0]))
            faces: np.ndarray | None = network.detect(image_bgr)[1]
            return faces

        return run

    def _unfit(self) -> MediaError:
        return MediaError(f"{self._path} is not a YuNet model that OpenCV can run: {INSTALL_HINT}")

    def detect(self, image_bgr: np.ndarray) -> list[Detection]:
        """As `runtime.detection.detector.Detector.detect`; YuNet's boxes are tight face boxes already.

        `roll_deg` comes from YuNet's five points, for heads that are tilted by 10 degrees or more.
        """
        check_image(image_bgr)
        small, scale = shrink(image_bgr, LONG_SIDE)
        with self._calls:
            self._run = self._run or self._open()
            rows = self._run(small)
        if rows is None:
            return []
        corners = rows[:, :2].astype(np.float64)
        boxes = np.concatenate([corners, corners + rows[:, 2:4]], axis=1) / scale
        rolls = [roll_of(points) for points in rows[:, 4:14].reshape(-1, 5, 2).astype(np.float64)]
        faces = sort_by_score(
            Detection(box, float(score), roll if abs(roll) >= LEVEL_FROM_DEG else 0.0)
            for box, score, roll in zip(boxes, rows[:, -1], rolls, strict=True)
        )
        return faces[: self.max_faces]
