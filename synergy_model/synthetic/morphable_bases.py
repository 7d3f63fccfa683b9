"""A 3DMM of our own: a mean head, 40 shape and 10 expression bases, all made by code, none taken from scans.

Convention (SynergyNet, 3DDFA): 62 parameters are a row-major 3x4 camera (P and an offset), 40 shape and 10 expression
coefficients; `vertex = P @ (u + w_shp a + w_exp b).reshape(-1, 3).T + offset`, then `y = 121 - y` gives crop pixels.
Coordinates are micrometres: x to the image's right when frontal, y up, z towards the viewer, nose tip near
(0, -5e3, 1.28e5).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from synergy.synergy_model.synthetic.head_mesh import head_mesh
from synergy.synergy_model.synthetic.shape_bases import expression_fields, shape_fields

SHAPE_DIM, EXPRESSION_DIM, CAMERA_DIM = 40, 10, 12
PARAM_DIM = CAMERA_DIM + SHAPE_DIM + EXPRESSION_DIM
LANDMARKS = 68
MICROMETRES = 1000.0  # per mm


@dataclass(frozen=True)
class SparseBases:
    """The 68 landmarks' rows: `u_base` (204, 1), `w_shp_base` (204, 40), `w_exp_base` (204, 10), float32."""

    u_base: np.ndarray
    w_shp_base: np.ndarray
    w_exp_base: np.ndarray


@dataclass(frozen=True)
class MorphableBases:
    """A 3DMM of V vertices: float32 `u` (3V, 1), `w_shp` (3V, 40), `w_exp` (3V, 10), x, y, z interleaved, in
    micrometres; int32 outward `triangles` (T, 3) and `parts` (T,) (`head_mesh.SKIN` and so on);
    int64 `landmark_indices` (68,) in the iBUG order, jaw from image left to right.
    """

    u: np.ndarray
    w_shp: np.ndarray
    w_exp: np.ndarray
    triangles: np.ndarray
    parts: np.ndarray
    landmark_indices: np.ndarray

    def sparse(self) -> SparseBases:
        """The landmarks' rows alone."""
        rows = (self.landmark_indices[:, None] * 3 + np.arange(3)).ravel()
        return SparseBases(self.u[rows], self.w_shp[rows], self.w_exp[rows])


@cache
def procedural_morphable() -> MorphableBases:
    """The 3DMM, made once per process (about a second); the arrays are read-only."""
    mesh = head_mesh()
    arrays = (
        _flat(mesh.vertices[:, :, None]),
        _flat(shape_fields(mesh)),
        _flat(expression_fields(mesh)),
        mesh.triangles,
        mesh.parts,
        mesh.landmarks,
    )
    for array in arrays:
        array.setflags(write=False)
    return MorphableBases(*arrays)


def _flat(fields: np.ndarray) -> np.ndarray:
    return (fields.reshape(-1, fields.shape[2]) * MICROMETRES).astype(np.float32)
