"""Where the faces are: OpenCV's detectors, and boxes read from a file.

All boxes are tight face boxes in image pixels, as FaceBoxes gives them: forehead to chin, side to side of the visible
face. The crop rules of SynergyNet and 3DDFA_V2 are made for such boxes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from runtime.association import overlap
from runtime.errors import MediaError
from runtime.faces import Detection


class Detector(Protocol):
    """Finds faces."""

    def detect(self, image_bgr: np.ndarray) -> list[Detection]:
        """The faces of an image (H,W,3) uint8, surest first, then largest; an empty list if there are none."""
        ...


@dataclass(frozen=True)
class Look:
    """One search of a cascade through the picture, which is done twice: as it is and mirrored.

    long_side: the picture is shrunk to this many pixels; smallest: side of the smallest square looked for, in pixels
    after shrinking; degrees: turned by these, counter-clockwise; votes: what a hit counts.
    """

    cascade: str
    long_side: int
    smallest: int
    degrees: int
    votes: float


# Measured on 13 faces (yaw 0 to 90 degrees, roll to 25) in 11 photos, and on 21 pictures without faces: the cascade
# "alt" is precise but misses full profiles; "default" with "profileface" finds these, yet each alone sees faces in
# coins and gravel. Of a true face, nearly always, the picture and its mirror image both give a hit, of texture they do
# not. These votes found all 13 and nothing else; in the same pictures turned by 90 and 180 degrees, 96 in all, they saw
# 4 false faces, 3 of them in coins with portraits.
LOOKS = (
    Look("frontalface_alt", 1280, 24, 0, votes=2.0),
    Look("frontalface_default", 640, 36, 0, votes=1.0),
    Look("profileface", 640, 36, 0, votes=1.5),
    Look("frontalface_alt", 640, 36, 25, votes=2.0),
    Look("frontalface_alt", 640, 36, -25, votes=2.0),
)
NEEDED_VOTES = 3.5  # from looks at the same angle: both of "alt", or "default" twice and "profileface"
FULL_VOTES = 8.0  # more makes no one surer
SCALE_STEP = 1.1
NEIGHBOURS = 4
SAME_FACE = 0.4  # overlap (intersection over union) of two hits on one face
INSIDE = 0.6  # of the smaller box: a mouth or an eye in a face, not another face
# A tight box (FaceBoxes' own for 4 faces, from the landmarks' box for 8) against the frontal cascades' square of side
# s, mean and standard deviation of 49 hits: width 0.86 +- 0.09 s, height 1.13 +- 0.12 s, centre 0.01 +- 0.05 s lower.
# Sideways it is off by up to 0.2 s, away from where the face looks, which a square does not tell.
BOX_WIDTH, BOX_HEIGHT, BOX_SHIFT_Y = 0.86, 1.13, 0.01

# YuNet's authors give faces of 10 to 300 pixels as its range.
YUNET_LONG_SIDE = 640
YUNET_PROBE = (320, 320)


@dataclass(frozen=True)
class _Hit:
    """A square found by one look: centre (2,) and side in image pixels."""

    centre: np.ndarray
    side: float
    look: Look


@dataclass(frozen=True)
class _Face:
    """Hits on one face."""

    hits: list[_Hit]

    @property
    def votes(self) -> float:
        return sum(hit.look.votes for hit in self.hits)

    @property
    def box_xyxy(self) -> np.ndarray:
        """The tight box: the mean of the frontal hits, since the squares of "profileface" are of no one size."""
        frontal = [hit for hit in self.hits if hit.look.cascade != "profileface"] or self.hits
        centre = np.mean([hit.centre for hit in frontal], axis=0)
        half = np.mean([hit.side for hit in frontal]) * np.array([BOX_WIDTH, BOX_HEIGHT]) / 2
        return np.concatenate([centre - half, centre + half])

    def detection(self) -> Detection:
        return Detection(self.box_xyxy, min(self.votes / FULL_VOTES, 1.0))


class HaarDetector:
    """OpenCV's own cascades, which need no download. Not thread-safe.

    Several looks at the picture vote (see `LOOKS`); `score` is the share of the votes, 0.44 to 1, no probability.
    Faces below about 1/20 of the longer side are often missed; tilted ones and profiles are sought from 1/18 only.
    """

    def __init__(self) -> None:
        self._cascades = {look.cascade: _cascade(look.cascade) for look in LOOKS}

    def detect(self, image_bgr: np.ndarray) -> list[Detection]:
        """As `Detector.detect`. Raises ValueError unless the image is (H,W,3) uint8."""
        _check_image(image_bgr)
        grey = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY)
        candidates: list[_Face] = []
        for _, looks in groupby(LOOKS, key=lambda look: look.degrees):
            faces = _grouped(_Face([hit]) for look in looks for hit in self._hits(grey, look))
            candidates += [face for face in faces if face.votes >= NEEDED_VOTES]
        return _without_parts(_sorted(face.detection() for face in _grouped(candidates)))

    def _hits(self, grey: np.ndarray, look: Look) -> Iterator[_Hit]:
        turned, to_image = _turned(*_shrunk(grey, look.long_side), look.degrees)
        for mirrored in (False, True):
            view = cv2.flip(turned, 1) if mirrored else turned
            for left, top, side, _ in self._squares(view, look):
                x = left + side / 2
                centre = to_image @ (view.shape[1] - x if mirrored else x, top + side * (0.5 + BOX_SHIFT_Y), 1.0)
                yield _Hit(centre, side * float(np.hypot(*to_image[0, :2])), look)

    def _squares(self, view: np.ndarray, look: Look) -> list[list[int]]:
        smallest = (look.smallest, look.smallest)
        found = self._cascades[look.cascade].detectMultiScale(view, SCALE_STEP, NEIGHBOURS, 0, smallest)
        return np.asarray(found).reshape(-1, 4).tolist()


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
        _check_image(image_bgr)
        small, scale = _shrunk(image_bgr, YUNET_LONG_SIDE)
        self._net.setInputSize((small.shape[1], small.shape[0]))
        _, rows = self._net.detect(small)
        if rows is None:
            return []
        corners = rows[:, :2].astype(np.float64)
        boxes = np.concatenate([corners, corners + rows[:, 2:4]], axis=1) / scale
        return _sorted(Detection(box, float(score)) for box, score in zip(boxes, rows[:, -1], strict=True))


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


def _check_image(image_bgr: np.ndarray) -> None:
    if image_bgr.dtype != np.uint8 or image_bgr.ndim != 3 or image_bgr.shape[2] != 3 or 0 in image_bgr.shape:
        raise ValueError(f"the image must be (H, W, 3) uint8 BGR, not {image_bgr.dtype} {image_bgr.shape}")


def _cascade(name: str) -> cv2.CascadeClassifier:
    path = Path(cv2.__file__).parent / "data" / f"haarcascade_{name}.xml"
    cascade = cv2.CascadeClassifier(str(path))
    if cascade.empty():
        raise MediaError(f"OpenCV came without {path.name}: install opencv-python again, or give face boxes")
    return cascade


def _shrunk(image: np.ndarray, long_side: int) -> tuple[np.ndarray, float]:
    """The image at no more than `long_side` pixels, and its scale, at most 1."""
    scale = min(1.0, long_side / max(image.shape[:2]))
    if scale == 1.0:
        return image, scale
    size_wh = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    return cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA), scale


def _turned(image: np.ndarray, scale: float, degrees: int) -> tuple[np.ndarray, np.ndarray]:
    """The image turned about its centre on a canvas that holds all of it; and the (2,3) map from the result to
    the picture of which the image is a copy at `scale`."""
    height, width = image.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    cos, sin = np.abs(turn[0, :2])
    canvas = np.ceil([width * cos + height * sin, width * sin + height * cos])
    turn[:, 2] += (canvas - (width, height)) / 2
    turned = cv2.warpAffine(image, turn, canvas.astype(int).tolist()) if degrees else image
    return turned, cv2.invertAffineTransform(turn) / scale


def _grouped(faces: Iterable[_Face]) -> list[_Face]:
    """Join those that overlap, the one with most votes first."""
    groups: list[_Face] = []
    for face in sorted(faces, key=lambda face: -face.votes):
        overlaps = [overlap(face.box_xyxy, group.box_xyxy) for group in groups]
        best = int(np.argmax(overlaps)) if overlaps else -1
        if overlaps and overlaps[best] > SAME_FACE:
            groups[best] = _Face(groups[best].hits + face.hits)
        else:
            groups.append(face)
    return groups


def _without_parts(detections: list[Detection]) -> list[Detection]:
    """Drop what lies mostly inside a surer face."""
    kept: list[Detection] = []
    for detection in detections:
        area = _area(detection.box_xyxy)
        shared = (_shared(detection.box_xyxy, other.box_xyxy) / min(area, _area(other.box_xyxy)) for other in kept)
        if all(part < INSIDE for part in shared):
            kept.append(detection)
    return kept


def _sorted(detections: Iterable[Detection]) -> list[Detection]:
    return sorted(detections, key=lambda found: (-found.score, -_area(found.box_xyxy)))


def _shared(one_xyxy: np.ndarray, other_xyxy: np.ndarray) -> float:
    sides = np.minimum(one_xyxy[2:], other_xyxy[2:]) - np.maximum(one_xyxy[:2], other_xyxy[:2])
    return float(sides.clip(0).prod())


def _area(box_xyxy: np.ndarray) -> float:
    return float((box_xyxy[2:] - box_xyxy[:2]).prod())
