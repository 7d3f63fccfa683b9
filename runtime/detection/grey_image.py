"""A picture without colour for a detector: turned, shrunk, mirrored, or a window of it, each with the way back.

Coordinates count from the picture's edge: pixel 0 lies between 0 and 1. The way back is a (2,3) matrix that takes
x, y, 1 in the view to such coordinates in the picture.
"""

from __future__ import annotations

import cv2
import numpy as np

WINDOW_SQUARE = 64  # pixels: what a square measures in its window, if the picture has as many
WINDOW_SIDE = 2.0  # of the square


class GreyPicture:
    """A picture without colour (H,W) uint8, and smaller copies of it."""

    def __init__(self, image: np.ndarray) -> None:
        self.image = image
        self._halves = [image]
        self._shrunk: dict[int, np.ndarray] = {}

    def turned(self, long_side: int, degrees: int) -> tuple[np.ndarray, np.ndarray]:
        """The picture at `long_side` pixels, turned about its centre on a canvas that holds all of it; and the way
        back."""
        small = self._at(long_side)
        height, width = small.shape
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
        cos, sin = np.abs(turn[0, :2])
        canvas = np.ceil([width * cos + height * sin, width * sin + height * cos]).astype(int)
        turn[:, 2] += (canvas - (width, height)) / 2
        back = cv2.invertAffineTransform(turn)
        view = _warped(small, back, canvas.tolist(), cv2.BORDER_CONSTANT) if degrees else small
        return view, back * self._ratio(small)

    def window(self, centre: np.ndarray, side: float, degrees: int) -> tuple[np.ndarray, np.ndarray, float]:
        """What is around a square of that centre (2,) and side, turned, and no larger than in the picture; the way
        back, and the square's side in the window."""
        scale = min(1.0, WINDOW_SQUARE / side)
        pixels = round(WINDOW_SIDE * scale * side)
        turn = cv2.getRotationMatrix2D(centre.tolist(), degrees, scale)
        turn[:, 2] += pixels / 2 - centre
        back = cv2.invertAffineTransform(turn)
        half = self._half(int(np.log2(1 / scale)))  # bilinear sampling of more than twice the size skips pixels
        return _warped(half, back / self._ratio(half), [pixels, pixels], cv2.BORDER_REPLICATE), back, scale * side

    def _at(self, long_side: int) -> np.ndarray:
        """At most that many pixels long: from the half that is the nearest above, which saves most of the work."""
        largest = max(self.image.shape)
        if long_side >= largest:
            return self.image
        if long_side not in self._shrunk:
            size_wh = [max(1, round(side * long_side / largest)) for side in self.image.shape[::-1]]
            half = self._half(int(np.log2(largest / long_side)))
            self._shrunk[long_side] = cv2.resize(half, size_wh, interpolation=cv2.INTER_AREA)
        return self._shrunk[long_side]

    def _half(self, times: int) -> np.ndarray:
        """Halved so many times, by the mean of four pixels: edges stay edges."""
        while len(self._halves) <= times:
            last = self._halves[-1]
            size_wh = [-(-side // 2) for side in last.shape[::-1]]
            self._halves.append(cv2.resize(last, size_wh, interpolation=cv2.INTER_AREA))
        return self._halves[times]

    def _ratio(self, copy: np.ndarray) -> np.ndarray:
        """Pixels of the picture to one of a smaller copy, x above y: (2,1)."""
        return np.array(self.image.shape[::-1])[:, None] / np.array(copy.shape[::-1])[:, None]


def mirrored(view: np.ndarray, back: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mirror image of a view, and its own way back."""
    mirror = np.array([[-1.0, 0, view.shape[1]], [0, 1, 0], [0, 0, 1]])
    return cv2.flip(view, 1), back @ mirror


def _warped(image: np.ndarray, back: np.ndarray, size_wh: list[int], border: int) -> np.ndarray:
    """A view of the image, given the way back to it. OpenCV counts from the middle of the first pixel."""
    places = back.copy()
    places[:, 2] += back[:, :2] @ (0.5, 0.5) - 0.5
    return cv2.warpAffine(image, places, size_wh, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=border)
