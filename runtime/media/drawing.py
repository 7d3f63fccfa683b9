"""Draw faces on an image: contours coloured by depth, head axes, box, pose label and mesh."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache
from typing import Protocol

import numpy as np

from synergy.runtime.crop import check_image
from synergy.runtime.media.layers import DEFAULT_LAYERS, Layers
from synergy.runtime.media.surface import Surface, draw_surface
from synergy.runtime.opencv import cv2

Colour = tuple[int, int, int]  # blue, green, red

# Curves through the 68 points of iBUG 300-W: name -> (first, last, closed).
CONTOURS = {
    "jaw": (0, 16, False),
    "right_brow": (17, 21, False),
    "left_brow": (22, 26, False),
    "nose_bridge": (27, 30, False),
    "nose_base": (31, 35, False),
    "right_eye": (36, 41, True),
    "left_eye": (42, 47, True),
    "outer_lips": (48, 59, True),
    "inner_lips": (60, 67, True),
}
NOSE_TIP = 30
FAR_COLOUR, NEAR_COLOUR = (225, 130, 40), (120, 240, 255)  # blue, light yellow
DEPTH_COLOURS: list[list[float]] = np.linspace(FAR_COLOUR, NEAR_COLOUR, 32).tolist()
SHADE: Colour = (30, 20, 20)
WHITE: Colour = (255, 255, 255)
AXIS_COLOURS: tuple[Colour, ...] = ((60, 60, 240), (80, 210, 60), (250, 140, 50))  # x red, y green, z blue
AXIS_LENGTH = 0.45  # of the face's size
SPLINE_STEPS = 6  # line segments from one landmark to the next
SUBPIXEL_BITS = 4  # OpenCV draws at 1/16 pixel
MAX_COORDINATE = 1e6  # pixels; OpenCV's fixed-point numbers overflow beyond
FONT = cv2.FONT_HERSHEY_DUPLEX


class PoseLike(Protocol):
    """Head pose in degrees."""

    @property
    def yaw(self) -> float: ...
    @property
    def pitch(self) -> float: ...
    @property
    def roll(self) -> float: ...


class FaceLike(Protocol):
    """The attributes of a face that are drawn.

    landmarks (68,3): image pixels, y down, larger z nearer. box_xyxy (4,). rotation (3,3): its rows are the image's
    x, y (up) and z axes in the head's coordinates.
    """

    @property
    def landmarks(self) -> np.ndarray: ...
    @property
    def box_xyxy(self) -> np.ndarray: ...
    @property
    def rotation(self) -> np.ndarray: ...
    @property
    def pose(self) -> PoseLike: ...


def draw_faces(
    image_bgr: np.ndarray,
    faces: Sequence[FaceLike],
    layers: Layers | None = None,
    surfaces: Sequence[Surface] = (),
    copy: bool = True,
) -> np.ndarray:
    """A copy of the image (H,W,3) uint8 BGR with the faces drawn on it; strokes and text scale with the face's size.

    surfaces: the mesh of each face, for the layers `mesh` and `depth`. copy: if false, draw on the image itself, where
    its memory is writable and contiguous.
    Raises ValueError if the image is not (H,W,3) uint8, an array of a face has another shape or is not finite, or a
    surface is missing.
    """
    check_image(image_bgr)
    canvas = np.ascontiguousarray(image_bgr)
    if canvas is image_bgr and (copy or not canvas.flags.writeable):
        canvas = canvas.copy()
    layers = layers or DEFAULT_LAYERS
    if layers.need_mesh:
        if len(surfaces) != len(faces):
            raise ValueError(f"the layers mesh and depth need one surface per face: {len(faces)}, not {len(surfaces)}")
        for surface in surfaces:
            draw_surface(canvas, surface, layers.mesh, layers.depth)
    for face in faces:
        _draw_face(canvas, face, layers)
    return canvas


def head_axes(rotation: np.ndarray) -> np.ndarray:
    """The head's unit axes projected on the image, (3,2): x to the head's left, y up, z out of the nose.

    Computed from the rotation matrix, so the same for every pose convention.
    """
    return rotation[:2].T * (1.0, -1.0)  # image y points down, the rotation's up


def _draw_face(canvas: np.ndarray, face: FaceLike, layers: Layers) -> None:
    points = _checked(face.landmarks, (68, 3), "landmarks")
    box = _checked(face.box_xyxy, (4,), "box_xyxy")
    rotation = _checked(face.rotation, (3, 3), "rotation")
    size = float(np.sqrt(np.prod(np.ptp(points[:, :2], axis=0))))
    if layers.box:
        _draw_box(canvas, box, size)
    if layers.landmarks:
        _draw_contours(canvas, points, size)
    if layers.axes:
        _draw_axes(canvas, points[NOSE_TIP, :2], rotation, size)
    if layers.label:
        _draw_label(canvas, face.pose, box, size)


def _checked(values: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
    array = np.asarray(values, np.float64)
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"{name} of a face to draw must be finite, of shape {shape}")
    return array


def _draw_contours(canvas: np.ndarray, points: np.ndarray, size: float) -> None:
    """Draw the nearest line segments last, over a dark outline that separates them from any background."""
    width = _stroke(size)
    curves = [weights @ points for weights in _curve_weights()]
    _shade(canvas, curves, width + 2)
    starts, ends = (np.concatenate([curve[part] for curve in curves]) for part in (slice(-1), slice(1, None)))
    middle_z, z = (starts[:, 2] + ends[:, 2]) / 2, points[:, 2]
    levels = np.rint(np.interp(middle_z, (z.min(), z.max()), (0, len(DEPTH_COLOURS) - 1))).astype(int)
    order = np.argsort(levels)
    segments = list(_fixed(np.stack([starts[:, :2], ends[:, :2]], axis=1))[order])
    edges = [0, *np.cumsum(np.bincount(levels, minlength=len(DEPTH_COLOURS))).tolist()]
    for colour, (first, last) in zip(DEPTH_COLOURS, itertools.pairwise(edges), strict=True):  # one call per colour
        cv2.polylines(canvas, segments[first:last], False, colour, width, cv2.LINE_AA, SUBPIXEL_BITS)
    radius = size / 110
    if radius >= 1:  # smaller dots would only blur the lines
        whole = round(radius * (1 << SUBPIXEL_BITS))
        for centre in _fixed(points[:, :2]).tolist():
            cv2.circle(canvas, centre, whole, WHITE, cv2.FILLED, cv2.LINE_AA, SUBPIXEL_BITS)


@cache
def _curve_weights() -> tuple[np.ndarray, ...]:
    """For each contour a matrix (M,68): its product with the landmarks is a smooth curve through them."""
    landmarks = np.eye(68)
    return tuple(_spline(landmarks[first : last + 1], closed) for first, last, closed in CONTOURS.values())


def _shade(canvas: np.ndarray, curves: Sequence[np.ndarray], width: int) -> None:
    """Darken the canvas by half along the curves."""
    edges = np.concatenate(curves)[:, :2]
    low, high = edges.min(axis=0) - width, edges.max(axis=0) + width
    limits = np.rint([low, high]).clip(0, (canvas.shape[1], canvas.shape[0])).astype(int)
    (left, top), (right, bottom) = limits.tolist()
    if left >= right or top >= bottom:
        return
    part = canvas[top:bottom, left:right]
    dark = part.copy()
    lines = [_fixed(curve[:, :2] - (left, top)) for curve in curves]
    cv2.polylines(dark, lines, False, SHADE, width, cv2.LINE_AA, SUBPIXEL_BITS)
    part[:] = cv2.addWeighted(part, 0.5, dark, 0.5, 0)


def _draw_axes(canvas: np.ndarray, origin: np.ndarray, rotation: np.ndarray, size: float) -> None:
    """Draw arrows from the nose tip, the one that points farthest away first."""
    ends = origin + head_axes(rotation) * size * AXIS_LENGTH
    width = _stroke(size) + 1
    for axis in np.argsort(rotation[2]):
        stroke = np.stack([origin, ends[axis]])
        _arrow(canvas, stroke, SHADE, width + 2)
        _arrow(canvas, stroke, AXIS_COLOURS[axis], width)


def _draw_box(canvas: np.ndarray, box_xyxy: np.ndarray, size: float) -> None:
    left, top, right, bottom = box_xyxy
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom], [left, top]])
    width = _stroke(size / 2)
    _shade(canvas, [corners], width + 2)
    cv2.polylines(canvas, [_fixed(corners)], False, WHITE, width, cv2.LINE_AA, SUBPIXEL_BITS)


def _draw_label(canvas: np.ndarray, pose: PoseLike, box_xyxy: np.ndarray, size: float) -> None:
    """Draw white text on a dark strip above the box, moved inside the image; nothing if the image is too small."""
    text = f"yaw {round(pose.yaw)}  pitch {round(pose.pitch)}  roll {round(pose.roll)}"
    scale = float(np.clip(size / 300, 0.4, 3.0))
    thickness = max(1, round(scale * 1.3))
    (text_width, text_height), below = cv2.getTextSize(text, FONT, scale, thickness)
    margin = below
    width, height = text_width + 2 * margin, text_height + below + 2 * margin
    room_x, room_y = canvas.shape[1] - width, canvas.shape[0] - height
    if room_x < 0 or room_y < 0:
        return
    left = int(np.clip(box_xyxy[0], 0, room_x))
    top = int(np.clip(box_xyxy[1] - height, 0, room_y))
    strip = canvas[top : top + height, left : left + width]
    strip //= 4
    at = (left + margin, top + margin + text_height)
    cv2.putText(canvas, text, at, FONT, scale, WHITE, thickness, cv2.LINE_AA)


def _spline(points: np.ndarray, closed: bool) -> np.ndarray:
    """A Catmull-Rom curve (M,D) through points (P,D)."""
    ends = (points[-1:], points[:2]) if closed else (points[:1], points[-1:])
    padded = np.concatenate([ends[0], points, ends[1]])
    before, start, end, after = (padded[i : len(padded) - 3 + i, None] for i in range(4))
    t = np.linspace(0, 1, SPLINE_STEPS, endpoint=False)[None, :, None]
    linear, square, cube = end - before, 2 * before - 5 * start + 4 * end - after, 3 * (start - end) + after - before
    curve = start + t / 2 * (linear + t * (square + t * cube))
    return np.concatenate([curve.reshape(-1, points.shape[1]), end[-1]])


def _stroke(size: float) -> int:
    """Line width in pixels for a face of `size` pixels."""
    return max(1, round(size / 130))


def _fixed(points: np.ndarray) -> np.ndarray:
    """Pixel positions as OpenCV's fixed-point integers."""
    return np.rint(points.clip(-MAX_COORDINATE, MAX_COORDINATE) * (1 << SUBPIXEL_BITS)).astype(np.int32)


def _arrow(canvas: np.ndarray, ends: np.ndarray, colour: Colour, width: int) -> None:
    start, end = _fixed(ends).tolist()
    cv2.arrowedLine(canvas, start, end, colour, width, cv2.LINE_AA, SUBPIXEL_BITS, 0.18)
