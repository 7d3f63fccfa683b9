"""A picture without colour for a detector: turned, shrunk, mirrored, or a window of it, each with the way back.

The way back is a (2,3) matrix that takes x, y, 1 there to pixels of the picture.
"""

from __future__ import annotations

import cv2
import numpy as np

WINDOW_FACE = 64  # pixels: what a proposed square measures in its window, if the picture has as many
WINDOW_SIDE = 2.0  # of the proposed square


class GreyPicture:
    """A picture without colour, and smaller copies of it."""

    def __init__(self, image: np.ndarray) -> None:
        self.image = image
        self._halves = [image]

    def turned(self, long_side: int, degrees: int) -> tuple[np.ndarray, np.ndarray]:
        """The picture at `long_side` pixels, turned about its centre on a canvas that holds all of it; and the (2,3)
        map from there to the picture."""
        scale = long_side / max(self.image.shape)
        width, height = (max(1, round(side * scale)) for side in self.image.shape[::-1])
        small = cv2.resize(self.image, (width, height), interpolation=cv2.INTER_AREA) if scale < 1 else self.image
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
        cos, sin = np.abs(turn[0, :2])
        canvas = np.ceil([width * cos + height * sin, width * sin + height * cos])
        turn[:, 2] += (canvas - (width, height)) / 2
        turned = cv2.warpAffine(small, turn, canvas.astype(int).tolist()) if degrees else small
        return turned, cv2.invertAffineTransform(turn) / scale

    def window(self, centre: np.ndarray, side: float, degrees: int) -> tuple[np.ndarray, np.ndarray, float]:
        """What is around a square of that centre (2,) and side, turned and at most as large as in the picture; the map
        from there to the picture, and the square's side there."""
        scale = min(1.0, WINDOW_FACE / side)
        step = 0
        while scale * 2 ** (step + 1) <= 1:  # bilinear sampling of a picture more than twice as large skips pixels
            step += 1
        pixels = round(WINDOW_SIDE * scale * side)
        turn = cv2.getRotationMatrix2D(centre.tolist(), degrees, scale)
        turn[:, 2] += pixels / 2 - centre
        to_image = cv2.invertAffineTransform(turn)
        half = self._half(step)
        to_half = to_image / 2**step
        to_half[:, 2] += 0.5**step / 2 - 0.5  # pixel centres: 0 of the half lies between 0 and 1 of the whole
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        window = cv2.warpAffine(half, to_half, (pixels, pixels), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        return window, to_image, scale * side

    def _half(self, times: int) -> np.ndarray:
        while len(self._halves) <= times:
            self._halves.append(cv2.pyrDown(self._halves[-1]))
        return self._halves[times]


def mirrored(view: np.ndarray, to_image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mirror image of a view, and its own map to the picture."""
    mirror = np.array([[-1.0, 0, view.shape[1]], [0, 1, 0], [0, 0, 1]])
    return cv2.flip(view, 1), to_image @ mirror
