"""Write face meshes as Wavefront OBJ files.

Vertices come in image pixels: x right, y down, z towards the viewer, a left-handed system. OBJ viewers expect a
right-handed one with y up, so y is negated, and the triangles are wound so that their front is the face's outside.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from synergy.runtime.files import write_file


def write_obj(
    path: str | Path, vertices: np.ndarray, triangles: np.ndarray, colours_rgb: np.ndarray | None = None
) -> None:
    """Write one mesh, whole or not at all.

    vertices (V,3): image pixels, x right, y down, z towards the viewer. triangles (T,3): vertex indices from 0.
    colours_rgb (V,3) uint8 or None: written after the coordinates as 0 to 1, as MeshLab and Blender read them.
    Raises ValueError if shapes or indices do not match, MediaError if the file cannot be written.
    """
    vertices, triangles = _checked(vertices, triangles)
    points = vertices * (1.0, -1.0, 1.0)
    faces = outward(points, triangles) + 1  # OBJ counts from 1
    if colours_rgb is None:
        lines = _lines("v %.4f %.4f %.4f\n", points)
    else:
        if colours_rgb.shape != points.shape:
            raise ValueError(f"colours {colours_rgb.shape} do not match vertices {points.shape}")
        lines = _lines("v %.4f %.4f %.4f %.3f %.3f %.3f\n", np.hstack([points, colours_rgb / 255]))
    write_file(Path(path), (lines + _lines("f %d %d %d\n", faces)).encode("ascii"), durable=False)


def outward(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """The triangles (T,3), wound so that their normals point out of the surface.

    vertices (V,3): in a right-handed system. Bases differ in their winding, but all triangles of a basis have the same,
    so either all are reversed or none. A face is convex enough for "outside" to be "away from the centroid".
    """
    corners = vertices[triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    away = corners.mean(axis=1) - vertices.mean(axis=0)
    return triangles if (normals * away).sum() >= 0 else triangles[:, ::-1]


def _checked(vertices: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    vertices, triangles = np.asarray(vertices, np.float64), np.asarray(triangles)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or not vertices.size or not np.isfinite(vertices).all():
        raise ValueError(f"vertices must be finite, (V, 3) with V above 0, not {vertices.shape}")
    if triangles.ndim != 2 or triangles.shape[1] != 3 or not np.issubdtype(triangles.dtype, np.integer):
        raise ValueError(f"triangles must be integers (T, 3), not {triangles.dtype} {triangles.shape}")
    if triangles.size and (triangles.min() < 0 or triangles.max() >= len(vertices)):
        raise ValueError(f"triangles use vertices {triangles.min()} to {triangles.max()} of {len(vertices)}")
    return vertices, triangles.astype(np.int64)


def _lines(template: str, rows: np.ndarray) -> str:
    """One formatted line per row; a single % over all rows is several times faster than a loop."""
    return template * len(rows) % tuple(rows.ravel().tolist())
