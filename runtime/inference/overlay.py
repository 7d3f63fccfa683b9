"""Draw the faces of an image, with their meshes where the layers need them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synergy.runtime.aligner import FaceAligner
from synergy.runtime.errors import BundleError
from synergy.runtime.faces import Face
from synergy.runtime.media.drawing import draw_faces
from synergy.runtime.media.layers import Layers
from synergy.runtime.media.surface import Surface


def draw_overlay(aligner: FaceAligner, image_bgr: np.ndarray, faces: Sequence[Face], layers: Layers) -> np.ndarray:
    """The image (H,W,3) uint8 BGR with the faces of this aligner drawn on it, in place; errors as `mesh_triangles`."""
    surfaces = []
    if layers.need_mesh:
        triangles = mesh_triangles(aligner)
        surfaces = [Surface(aligner.mesh(face), triangles) for face in faces]
    return draw_faces(image_bgr, faces, layers, surfaces, copy=False)


def mesh_triangles(aligner: FaceAligner) -> np.ndarray:
    """The triangles (T,3) of the mesh. Raises BundleError, saying how to get them, if the bundle has none."""
    triangles = aligner.dense_basis().triangles
    if not len(triangles):
        raise BundleError(
            f"{aligner.bundle.folder} has no triangles, so its mesh cannot be drawn: convert the checkpoint with "
            "--morphable FILE.npz (u, w_shp, w_exp, triangles) and export it again"
        )
    return triangles
