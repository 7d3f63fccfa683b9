"""Faces by OpenCV's own cascades (Viola and Jones, CVPR 2001), which need no download.

A cascade that looks at every place of a large picture takes seconds. Here a coarse search proposes places, and
all cascades then look closely at a small window around each, and vote; what they agree on is looked at once more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np

from synergy.runtime.crop import check_image
from synergy.runtime.detection.boxes import iou, sort_by_score, suppress_nested
from synergy.runtime.detection.grey_image import GreyPicture, mirrored
from synergy.runtime.errors import MediaError
from synergy.runtime.faces import Detection

REINSTALL = "install opencv-python again, or give face boxes"
FRONTAL, STRICT_FRONTAL, PROFILE = "frontalface_default", "frontalface_alt", "profileface"


@dataclass(frozen=True)
class Search:
    """One search of the whole picture, shrunk to `long_side` pixels and turned by `degrees` counter-clockwise."""

    cascade: str
    long_side: int
    degrees: int


# Squares of at least this many pixels are sought, so faces from 1/27 of the longer side, tilted ones from 1/18.
SMALLEST = 24
SEARCHES = (
    Search(STRICT_FRONTAL, 640, 0),
    Search(FRONTAL, 427, 0),
    Search(STRICT_FRONTAL, 427, 25),
    Search(STRICT_FRONTAL, 427, -25),
)
# From twice the cascades' own size on (20 pixels, "default" 24) OpenCV looks at every pixel of the shrunk picture
# instead of every second one, which is four times the work. So larger faces are sought in a picture of half the size.
OCTAVE = 2
SEARCH_NEIGHBOURS, SEARCH_STEP = 1, 1.1


@dataclass(frozen=True)
class Look:
    """One cascade's look at a window, which is done twice: as it is and mirrored.

    degrees: of the search that proposed the window; votes: what a hit counts.
    """

    cascade: str
    degrees: int
    votes: float


# Measured on 13 faces (yaw 0 to 90 degrees, roll to 25) in 11 photos, and on 21 pictures without faces: the cascade
# "alt" is precise but misses full profiles; "default" with "profileface" finds these, yet each alone sees faces in
# coins and gravel. Of a true face, nearly always, the picture and its mirror image both give a hit, of texture they do
# not. These numbers find all 13 and nothing else. In 198 versions of the photos (mirrored, smaller, turned by 12 and 25
# degrees, small on gravel) they find 206 of 234 faces and see 3 false ones; in all 32 pictures turned by 90, 180 and
# 270 degrees they see 5.
LOOKS = (
    Look(STRICT_FRONTAL, 0, votes=2.0),
    Look(FRONTAL, 0, votes=1.0),
    Look(PROFILE, 0, votes=1.5),
    Look(STRICT_FRONTAL, 25, votes=2.0),
    Look(STRICT_FRONTAL, -25, votes=2.0),
)
NEEDED_VOTES = 3.5  # two of "alt", or one and one of "profileface", or one of that and two of "default"
FULL_VOTES = 8.0  # more makes no one surer
WINDOW_SIZES = (0.6, 1.6)  # of the proposed square: what is sought in its window
WINDOW_NEIGHBOURS, WINDOW_STEP = 4, 1.1
SAME_PLACE, SAME_SIZE = 0.2, 1.4  # two proposals of one face: distance in sides, and ratio of the sides
SAME_FACE = 0.4  # overlap (intersection over union) of two boxes of one face
# A tight box (FaceBoxes' own for 4 faces, from the landmarks' box for 8) against the frontal cascades' square of side
# s, mean and standard deviation of 49 hits: width 0.86 +- 0.09 s, height 1.13 +- 0.12 s, centre 0.01 +- 0.05 s lower.
# Sideways it is off by up to 0.2 s, away from where the face looks, which a square does not tell.
BOX_WIDTH, BOX_HEIGHT, BOX_SHIFT_Y = 0.86, 1.13, 0.01


@dataclass(frozen=True)
class _Square:
    """A square in the picture: centre (2,) and side in image pixels."""

    centre: np.ndarray
    side: float

    def is_near(self, other: _Square) -> bool:
        large, small = max(self.side, other.side), min(self.side, other.side)
        return large < SAME_SIZE * small and float(np.hypot(*(self.centre - other.centre))) < SAME_PLACE * large


@dataclass(frozen=True)
class _Hit:
    """What one look found."""

    square: _Square
    look: Look


@dataclass(frozen=True)
class _Face:
    """Hits on one face."""

    hits: list[_Hit]

    @property
    def votes(self) -> float:
        return sum(hit.look.votes for hit in self.hits)

    @property
    def is_one(self) -> bool:
        return self.votes >= NEEDED_VOTES

    @cached_property
    def square(self) -> _Square:
        """The mean of the frontal hits, since the squares of "profileface" are of no one size."""
        squares = [hit.square for hit in self.hits if hit.look.cascade != PROFILE]
        squares = squares or [hit.square for hit in self.hits]
        centre = np.mean([square.centre for square in squares], axis=0)
        return _Square(centre, float(np.mean([square.side for square in squares])))

    @cached_property
    def box_xyxy(self) -> np.ndarray:
        """The tight box."""
        side = self.square.side
        centre = self.square.centre + side * np.array([0, BOX_SHIFT_Y])
        half = side * np.array([BOX_WIDTH, BOX_HEIGHT]) / 2
        return np.concatenate([centre - half, centre + half])

    def detection(self) -> Detection:
        return Detection(self.box_xyxy, min(self.votes / FULL_VOTES, 1.0))


class HaarDetector:
    """Several cascades vote (see `LOOKS`); `score` is the share of the votes, 0.44 to 1, no probability.

    Faces below about 1/20 of the longer side are often missed, tilted ones and profiles below 1/18. Not thread-safe.
    """

    def __init__(self) -> None:
        """Raises MediaError if OpenCV came without its cascades, which are read when the first picture comes."""
        self._files = {name: _cascade_file(name) for name in (STRICT_FRONTAL, FRONTAL, PROFILE)}

    @cached_property
    def _cascades(self) -> dict[str, cv2.CascadeClassifier]:
        """They take 30 ms, which known boxes do not need."""
        return {name: _cascade(file) for name, file in self._files.items()}

    def detect(self, image_bgr: np.ndarray) -> list[Detection]:
        """As `runtime.detection.detector.Detector.detect`. Raises ValueError unless the image is (H,W,3) uint8."""
        check_image(image_bgr)
        grey = GreyPicture(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY))
        faces: list[_Face] = []
        for degrees, searches in groupby(SEARCHES, key=lambda search: search.degrees):
            proposals = _distinct(square for search in searches for square in self._proposals(grey, search))
            seen = (self._looked_at(grey, square, degrees) for square in proposals)
            again = (self._looked_at(grey, face.square, degrees) for face in seen if face.is_one)
            faces += _best([face for face in again if face.is_one])
        return suppress_nested(sort_by_score(face.detection() for face in _joined(faces)))

    def _proposals(self, grey: GreyPicture, search: Search) -> Iterator[_Square]:
        """Larger and larger squares, in a smaller and smaller picture."""
        long_side = min(search.long_side, max(grey.image.shape))
        while long_side >= SMALLEST:
            view, to_image = grey.turned(long_side, search.degrees)
            is_last = long_side < 2 * OCTAVE * SMALLEST
            largest = max(view.shape) if is_last else OCTAVE * SMALLEST
            for corner_side in self._squares(view, search.cascade, SEARCH_NEIGHBOURS, SMALLEST, largest, SEARCH_STEP):
                yield _moved(corner_side, to_image)
            if is_last:
                return
            long_side //= OCTAVE

    def _looked_at(self, grey: GreyPicture, proposal: _Square, degrees: int) -> _Face:
        """The hits on a square; fewer than there may be once they can no longer suffice."""
        window, to_image, side = grey.window(proposal.centre, proposal.side, degrees)
        smallest, largest = (int(side * share) for share in WINDOW_SIZES)
        views = [(window, to_image), mirrored(window, to_image)]
        looks = [(look, view) for look in LOOKS if look.degrees == degrees for view in views]
        hits: list[_Hit] = []
        missing = NEEDED_VOTES
        left = sum(look.votes for look, _ in looks)
        for look, (view, view_to_image) in looks:
            left -= look.votes
            found = self._squares(view, look.cascade, WINDOW_NEIGHBOURS, smallest, largest, WINDOW_STEP)
            if found:
                hits.append(_Hit(_moved(_most_central(found, view.shape[0]), view_to_image), look))
                missing -= look.votes
            if left < missing:
                break
        return _Face(hits)

    def _squares(
        self, view: np.ndarray, cascade: str, neighbours: int, smallest: int, largest: int, step: float
    ) -> list[tuple[int, int, int]]:
        """Left, top and side of squares in the view."""
        found = self._cascades[cascade].detectMultiScale(
            view, step, neighbours, 0, (smallest, smallest), (largest, largest)
        )
        return [(left, top, side) for left, top, side, _ in np.asarray(found).reshape(-1, 4).tolist()]


def _cascade_file(name: str) -> Path:
    path = Path(cv2.__file__).parent / "data" / f"haarcascade_{name}.xml"
    if not path.is_file():
        raise MediaError(f"OpenCV came without {path.name}: {REINSTALL}")
    return path


def _cascade(path: Path) -> cv2.CascadeClassifier:
    cascade = cv2.CascadeClassifier()
    try:
        is_loaded = cascade.load(str(path))
    except (cv2.error, SystemError):
        is_loaded = False
    if not is_loaded:
        raise MediaError(f"{path} is damaged: {REINSTALL}")
    return cascade


def _moved(found: tuple[int, int, int], to_image: np.ndarray) -> _Square:
    """A square of a view in the picture."""
    left, top, side = found
    return _Square(to_image @ (left + side / 2, top + side / 2, 1.0), side * float(np.hypot(*to_image[0, :2])))


def _most_central(found: list[tuple[int, int, int]], pixels: int) -> tuple[int, int, int]:
    return min(found, key=lambda one: abs(one[0] + one[2] / 2 - pixels / 2) + abs(one[1] + one[2] / 2 - pixels / 2))


def _distinct(squares: Iterable[_Square]) -> list[_Square]:
    """Without those near a larger one."""
    kept: list[_Square] = []
    for square in sorted(squares, key=lambda square: -square.side):
        if not any(square.is_near(other) for other in kept):
            kept.append(square)
    return kept


def _best(faces: list[_Face]) -> list[_Face]:
    """Of those that overlap, the one with most votes: they are the same hits, found from two proposals."""
    kept: list[_Face] = []
    for face in sorted(faces, key=lambda face: -face.votes):
        if all(iou(face.box_xyxy, other.box_xyxy) <= SAME_FACE for other in kept):
            kept.append(face)
    return kept


def _joined(faces: list[_Face]) -> list[_Face]:
    """Those that overlap joined into one, the one with most votes first: one face seen at several angles."""
    groups: list[_Face] = []
    for face in sorted(faces, key=lambda face: -face.votes):
        overlaps = [iou(face.box_xyxy, group.box_xyxy) for group in groups]
        best = int(np.argmax(overlaps)) if overlaps else -1
        if overlaps and overlaps[best] > SAME_FACE:
            groups[best] = _Face(groups[best].hits + face.hits)
        else:
            groups.append(face)
    return groups
