"""OpenCV's Haar cascades (Viola and Jones, CVPR 2001): a face detector that needs no download.

YuNet finds more faces and is faster; see `runtime.detection.yunet`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from synergy.runtime.crop import check_image
from synergy.runtime.detection.boxes import sort_by_score, suppress_nested
from synergy.runtime.detection.install import INSTALL_HINT
from synergy.runtime.detection.scaling import shrink
from synergy.runtime.errors import MediaError
from synergy.runtime.faces import Detection
from synergy.runtime.opencv import cv2
from synergy.runtime.processes.sharing import CallGuard, ProcessBound


@dataclass(frozen=True)
class CascadeFile:
    """A cascade that OpenCV ships. last_threshold: of its last stage, which a detection's level weight exceeds."""

    name: str
    last_threshold: float


# "alt" has far fewer false detections than "default", and as many true ones, without an equalised histogram.
FRONTAL = CascadeFile("haarcascade_frontalface_alt.xml", 105.761)
PROFILE = CascadeFile("haarcascade_profileface.xml", -1.274)  # of faces that look to the left
LONG_SIDE = 480  # px of the image that is searched
SMALLEST = 24  # px: side of the smallest square that is searched for
SCALE_STEP, MIN_NEIGHBOURS = 1.1, 5
# A tight face box relative to the frontal cascades' square of side s, mean and standard deviation of 49 detections:
# width 0.86 +- 0.09 s, height 1.13 +- 0.12 s, centre 0.01 +- 0.05 s lower. It is less exact for profiles.
BOX_WIDTH, BOX_HEIGHT, BOX_SHIFT_Y = 0.86, 1.13, 0.01


class HaarDetector(ProcessBound):
    """The frontal cascade and, where it finds no face, the profile cascade in both directions.

    Safe to share between threads: calls wait for each other.

    Misses faces that are tilted by more than about 10 degrees or smaller than 1/15 of the longer side of the image.
    `score` is m / (m + 1), 0 to 1, where m is the margin of the last stage over its threshold. It is not a probability.
    """

    name: ClassVar[str] = "haar"

    def __init__(self, min_score: float = 0.0, max_faces: int | None = None) -> None:
        """Raises MediaError if OpenCV has no cascades. They are loaded when the first image comes."""
        self.min_score = min_score
        self.max_faces = max_faces
        self._calls = CallGuard("this detector", survives_fork=True)
        if not hasattr(cv2, "CascadeClassifier"):
            raise MediaError(f"OpenCV {cv2.__version__} has no cascades, only the yunet detector: {INSTALL_HINT}")
        self._paths = {cascade: _path(cascade) for cascade in (FRONTAL, PROFILE)}

    def detect(self, image_bgr: np.ndarray) -> list[Detection]:
        """As `runtime.detection.detector.Detector.detect`. Raises MediaError if a cascade file is damaged."""
        check_image(image_bgr)
        grey, scale = shrink(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY), LONG_SIDE)
        with self._calls:
            found = self._search(FRONTAL, grey)
            if not found:
                width = grey.shape[1]
                mirrored = self._search(PROFILE, cv2.flip(grey, 1))
                found = self._search(PROFILE, grey) + [(width - x - side, y, side, m) for x, y, side, m in mirrored]
        faces = [_detection(x / scale, y / scale, side / scale, margin) for x, y, side, margin in found]
        kept = suppress_nested(sort_by_score(face for face in faces if face.score >= self.min_score))
        return kept[: self.max_faces]

    def _search(self, cascade: CascadeFile, grey: np.ndarray) -> list[tuple[float, float, float, float]]:
        """Squares that the cascade accepts: left, top, side, and margin over the last stage's threshold."""
        boxes, _, weights = self._cascades[cascade].detectMultiScale3(
            grey, SCALE_STEP, MIN_NEIGHBOURS, minSize=(SMALLEST, SMALLEST), outputRejectLevels=True
        )
        rows = np.asarray(boxes, np.float64).reshape(-1, 4)[:, :3].tolist()
        margins = (np.asarray(weights, np.float64).ravel() - cascade.last_threshold).tolist()
        return [(x, y, side, margin) for (x, y, side), margin in zip(rows, margins, strict=True)]

    @cached_property
    def _cascades(self) -> dict[CascadeFile, cv2.CascadeClassifier]:
        """Loading takes about 20 ms, which known boxes need not cost."""
        return {cascade: _load(path) for cascade, path in self._paths.items()}


def _detection(x: float, y: float, side: float, margin: float) -> Detection:
    """A cascade's square as a tight face box with a score."""
    centre = np.array([x + side / 2, y + side / 2 + BOX_SHIFT_Y * side])
    half = np.array([BOX_WIDTH, BOX_HEIGHT]) * side / 2
    margin = max(margin, 0.0)
    return Detection(np.concatenate([centre - half, centre + half]), margin / (margin + 1))


def _path(cascade: CascadeFile) -> Path:
    path = Path(cv2.__file__).parent / "data" / cascade.name
    if not path.is_file():
        raise MediaError(f"OpenCV came without {cascade.name}: install opencv-python again, or {INSTALL_HINT}")
    return path


def _load(path: Path) -> cv2.CascadeClassifier:
    cascade = cv2.CascadeClassifier()
    try:
        is_loaded = cascade.load(str(path))
    except (cv2.error, SystemError):
        is_loaded = False
    if not is_loaded:
        raise MediaError(f"{path} is damaged: install opencv-python again, or {INSTALL_HINT}")
    return cascade
