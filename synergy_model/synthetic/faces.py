"""Synthetic face images with exact labels, without licence restrictions.

The image and the label of a face depend only on `seed` and `index`, not on batch, process or order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from synergy.runtime.decode import (
    SYNERGYNET_FRAME,
    SYNERGYNET_POSE,
    euler_deg,
    model_points,
    vertices,
)
from synergy.runtime.media.rasterizer import product
from synergy.synergy_model.synthetic.appearance import Appearance, draw_appearance
from synergy.synergy_model.synthetic.camera_effects import background, develop, occlude, occlude_by_hand
from synergy.synergy_model.synthetic.distribution import STANDARD, Distribution
from synergy.synergy_model.synthetic.morphable_bases import (
    CAMERA_DIM,
    MICROMETRES,
    PARAM_DIM,
    SHAPE_DIM,
    procedural_morphable,
)
from synergy.synergy_model.synthetic.shading import draw

SIDE = 120  # crop pixels
SUPERSAMPLING = 1.5
HEADS_AT_ONCE = 8
FLIP = SYNERGYNET_FRAME.y_from  # y = 121 - y: the official data's y axis points up from a 1-based bottom row
CROP_FACTOR = np.sqrt(2)  # crop side over the longer side of the landmarks' box, as the training crops are cut
SHAPE_LIMIT = 2.5  # standard deviations
HEAD_CENTRE_Z = 60.0  # mm: the depth that the camera's offset puts at z = 0
OCCLUDED_SHARE = 0.25
HAND_SHARE = 0.12  # of the wide distribution
WHITENING_SEED, WHITENING_DRAWS = 2024, 4000


@dataclass(frozen=True)
class Labels:
    """`params` (62,) float32 unwhitened; `landmarks` (3, 68) float32 crop px, y down; `euler_deg` (3,) float32
    yaw, pitch, roll in degrees, official order and signs: yaw > 0 faces image left, pitch > 0 looks up,
    roll > 0 tilts the crown to image right.
    """

    params: np.ndarray
    landmarks: np.ndarray
    euler_deg: np.ndarray


@dataclass(frozen=True)
class Batch:
    """`images` (N, 120, 120, 3) uint8 BGR and the stacked `Labels`: (N, 62), (N, 3, 68), (N, 3)."""

    images: np.ndarray
    params: np.ndarray
    landmarks: np.ndarray
    euler_deg: np.ndarray


@dataclass(frozen=True)
class SyntheticFaces:
    """An unlimited set of faces, numbered from 0, determined by `seed` and `distribution`."""

    seed: int
    distribution: Distribution = STANDARD

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}: give 0 or a positive whole number")

    def labels(self, index: int) -> Labels:
        """The label of face `index` without rendering the image."""
        return draw_labels(self._rng(index, 0), self.distribution)

    def image(self, index: int) -> np.ndarray:
        """Face `index`: (120, 120, 3) uint8 BGR."""
        return render(self.labels(index).params, self._rng(index, 1), self.distribution)

    def appearance(self, index: int) -> Appearance:
        """The appearance in which face `index` is rendered."""
        rotation = rotation_of(self.labels(index).params)
        return _draw_appearance(rotation, self._rng(index, 1), self.distribution)

    def batch(self, indices: Iterable[int]) -> Batch:
        """Images and labels of the faces `indices`. Raises ValueError when there are none."""
        chosen = [int(index) for index in indices]
        if not chosen:
            raise ValueError("indices are empty: give at least one")
        labels = [self.labels(index) for index in chosen]
        params = np.stack([label.params for label in labels])
        images = [
            _render(head, one, self._rng(index, 1), self.distribution)
            for head, one, index in zip(heads_of(params), params, chosen, strict=True)
        ]
        return Batch(
            images=np.stack(images),
            params=params,
            landmarks=np.stack([label.landmarks for label in labels]),
            euler_deg=np.stack([label.euler_deg for label in labels]),
        )

    def _rng(self, index: int, stream: int) -> np.random.Generator:
        if index < 0:
            raise ValueError(f"index is {index}: faces count from 0")
        return np.random.Generator(np.random.PCG64([self.seed, index, stream]))


def draw_labels(rng: np.random.Generator, distribution: Distribution = STANDARD) -> Labels:
    """One random face: identity, expression, pose, framing."""
    shape = np.clip(rng.standard_normal(SHAPE_DIM), -SHAPE_LIMIT, SHAPE_LIMIT)
    expression = distribution.draw_expression(rng)
    rotation = distribution.rotation_of(rng)
    params = np.concatenate([np.zeros(CAMERA_DIM), shape, expression])
    params[:CAMERA_DIM] = _frame(rng, params, rotation).ravel()
    rounded = params.astype(np.float32)
    exact = rounded[None].astype(np.float64)
    landmarks = vertices(exact, *_sparse(), SYNERGYNET_FRAME)[0]
    return Labels(rounded, landmarks, euler_deg(exact, SYNERGYNET_POSE)[0].astype(np.float32))


def _frame(rng: np.random.Generator, params: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """(3, 4) camera that frames the landmarks' box as the official crops do, with random scale and offset."""
    unframed = params.copy()
    unframed[:CAMERA_DIM] = np.column_stack([rotation, np.zeros(3)]).ravel()
    points = model_points(unframed[None], *_sparse())[0, :2]
    low, high = points.min(axis=1), points.max(axis=1)
    scale = SIDE / (CROP_FACTOR * (high - low).max()) * np.exp(rng.uniform(-0.13, 0.09))
    middle = SIDE / 2 + rng.uniform(-0.05, 0.05, 2) * SIDE
    middle[1] = FLIP - middle[1]  # the camera's y axis points up
    x, y = middle - scale * (low + high) / 2
    return np.column_stack([scale * rotation, [x, y, -scale * HEAD_CENTRE_Z * MICROMETRES]])


def render(params: np.ndarray, rng: np.random.Generator, distribution: Distribution = STANDARD) -> np.ndarray:
    """Render the face of unwhitened `params` (62,) with a random look: (120, 120, 3) uint8 BGR.

    Raises ValueError for parameters of another shape.
    """
    if params.shape != (PARAM_DIM,):
        raise ValueError(f"params are of shape {params.shape}: give one face's ({PARAM_DIM},), unwhitened")
    return _render(next(heads_of(params[None])), params, rng, distribution)


def heads_of(params: np.ndarray) -> Iterator[np.ndarray]:
    """(N, 62) unwhitened -> N times (V, 3) float32 mm.

    HEADS_AT_ONCE faces share one pass over the bases, which are larger than the CPU's cache. The product always has
    that many columns, some of them zero, so that its rounding does not depend on the batch.
    """
    morph = procedural_morphable()
    for start in range(0, len(params), HEADS_AT_ONCE):
        chunk = params[start : start + HEADS_AT_ONCE]
        codes = np.zeros((PARAM_DIM - CAMERA_DIM, HEADS_AT_ONCE), dtype=np.float32)
        codes[:, : len(chunk)] = chunk[:, CAMERA_DIM:].T
        flat = morph.u + product(morph.w_shp, codes[:SHAPE_DIM]) + product(morph.w_exp, codes[SHAPE_DIM:])
        heads = cv2.transpose(flat)[: len(chunk)] / np.float32(MICROMETRES)
        yield from heads.reshape(len(chunk), -1, 3)


def _render(head: np.ndarray, params: np.ndarray, rng: np.random.Generator, distribution: Distribution) -> np.ndarray:
    camera = params[:CAMERA_DIM].reshape(3, 4).astype(np.float64)
    rotation = rotation_of(params)
    side = round(SIDE * SUPERSAMPLING)
    appearance = _draw_appearance(rotation, rng, distribution)
    pixel, colour = draw(head, rotation, to_pixels(camera), appearance, side)
    behind = background(rng, SIDE)
    picture = cv2.resize(behind, (side, side), interpolation=cv2.INTER_LINEAR)
    for channel, values in zip(picture.reshape(-1, 3).T, colour, strict=True):
        channel[pixel] = values
    picture = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    if rng.random() < OCCLUDED_SHARE:
        occlude(rng, picture)
    if distribution.wide and rng.random() < HAND_SHARE:
        occlude_by_hand(rng, picture, appearance.skin)
    return develop(rng, picture)


def rotation_of(params: np.ndarray) -> np.ndarray:
    """(62,) unwhitened -> (3, 3) from the head's axes to the camera's."""
    scaled = params[:CAMERA_DIM].reshape(3, 4)[:, :3].astype(np.float64)
    return np.asarray(scaled / np.cbrt(np.linalg.det(scaled)))


def _draw_appearance(rotation: np.ndarray, rng: np.random.Generator, distribution: Distribution) -> Appearance:
    return distribution.vary(draw_appearance(rng, rotation), rng)


def to_pixels(camera: np.ndarray) -> np.ndarray:
    """Camera of a crop with y up, in micrometres -> supersampled pixels with y down, in mm."""
    pixels = camera * np.array([MICROMETRES, MICROMETRES, MICROMETRES, 1.0])
    pixels[1] *= -1
    pixels[1, 3] += FLIP
    pixels *= SUPERSAMPLING
    pixels[:2, 3] += 0.5 * SUPERSAMPLING - 0.5  # pixel centres are at whole numbers in both images
    return pixels


@cache
def _sparse() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """u_base, w_shp_base, w_exp_base of the 68 landmarks."""
    bases = procedural_morphable().sparse()
    return bases.u_base, bases.w_shp_base, bases.w_exp_base


@cache
def whitening() -> tuple[np.ndarray, np.ndarray]:
    """`param_mean` and `param_std` (62,) float32 of the sampler, every std > 0: from a fixed seeded draw."""
    faces = SyntheticFaces(WHITENING_SEED)
    params = np.stack([faces.labels(index).params for index in range(WHITENING_DRAWS)]).astype(np.float64)
    return params.mean(axis=0).astype(np.float32), params.std(axis=0).astype(np.float32)
