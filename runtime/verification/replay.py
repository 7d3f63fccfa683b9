"""Replays a bundle's golden values on an opened bundle: the graph, the way from a picture to a face, and decoding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from synergy.runtime.aligner import FaceAligner
from synergy.runtime.bundle import Bundle
from synergy.runtime.decode import dewhiten, rotation_to_euler_deg, vertices
from synergy.runtime.errors import BundleError, EngineError
from synergy.runtime.manifest import Manifest
from synergy.runtime.variants import Variant
from synergy.runtime.verification.golden import Golden, read_golden
from synergy.runtime.verification.parity_record import Check
from synergy.runtime.verification.reference import (
    DEEP_ARCHS,
    DEEP_FACTOR,
    PRECISION_FACTORS,
    all_runs,
    compare,
)

# One crop pixel is 1/120 of the face. Resizing may differ by a grey level between builds of OpenCV, which moves
# landmarks by some hundredths of a pixel; a wrong crop rule, colour order or frame moves them by a pixel and more.
PICTURE_LANDMARKS_PX = 0.1  # crop px
PICTURE_POSE_DEG = 0.1
FIRST_CROPS = 8  # replayed before a card's first answer, one by one and in one batch
NUMPY = "numpy"


def check_picture(aligner: FaceAligner, variant: Variant, golden: Golden) -> Iterator[Check]:
    """Align the golden picture's face: covers crop rule, resize, graph, frame and angles.

    `picture_landmarks` are compared in image px, `picture_pose` in degrees. Raises EngineError if the run fails.
    """
    picture, manifest = golden.picture, aligner.bundle.manifest
    (face,) = aligner.align(picture.image_bgr, picture.box_xyxy[None])
    factor = _factor(manifest) * PRECISION_FACTORS[variant.precision]
    tolerance_px = picture_tolerance(manifest, face.roi_xyxy, variant.precision)
    (pose,) = rotation_to_euler_deg(face.rotation[None], manifest.pose)  # golden values hold the official angles
    differences = {
        "picture_landmarks": (face.landmarks - picture.landmarks, tolerance_px, picture.landmarks),
        "picture_pose": (_angle(pose - picture.euler_deg), PICTURE_POSE_DEG * factor, picture.euler_deg),
    }
    for output, (difference, tolerance, expected) in differences.items():
        max_abs = float(np.abs(difference).max())
        yield Check(
            variant.artifact.file,
            variant.engine,
            output,
            max_abs,
            float(np.ptp(expected)),
            tolerance,
            max_abs <= tolerance,
            variant.compute_precision,
        )


def picture_tolerance(manifest: Manifest, roi_xyxy: np.ndarray, precision: str) -> float:
    """Largest difference in image px that the landmarks of the golden picture may have in this precision."""
    pixel = float(roi_xyxy[2] - roi_xyxy[0]) / manifest.preprocessing.size
    return PICTURE_LANDMARKS_PX * pixel * _factor(manifest) * PRECISION_FACTORS[precision]


def check_decoding(bundle: Bundle, golden: Golden) -> Iterator[Check]:
    """Decode the Cell's parameters with the bundle's own bases, frame and pose rule, by NumPy alone.

    It covers `morphable.npz` and the manifest, which the graph does not use.
    """
    manifest, morphable, reference = bundle.manifest, bundle.morphable(), golden.reference
    physical = dewhiten(reference.outputs["params"], morphable.param_mean, morphable.param_std)[: reference.faces]
    bases = {"landmarks": (morphable.u_base, morphable.w_shp_base, morphable.w_exp_base)}
    if morphable.dense is not None and "vertices" in reference.outputs:
        bases["vertices"] = (morphable.dense.u, morphable.dense.w_shp, morphable.dense.w_exp)
    faces = reference.first(reference.faces)
    for output, arrays in bases.items():
        decoded = vertices(physical, *arrays, manifest.landmark_frame)
        if output in reference.points and reference.points[output].max() >= decoded.shape[2]:
            max_abs = float("inf")
        else:
            max_abs = float(np.abs(reference.part_of(output, decoded) - faces.outputs[output]).max())
        tolerance = faces.tolerance(output, manifest.arch)
        sensitivity = faces.input_sensitivity(output)
        yield Check(manifest.morphable.file, NUMPY, output, max_abs, sensitivity, tolerance, max_abs <= tolerance)


def require_golden_answers(aligner: FaceAligner) -> None:
    """Replay some golden values before an engine's answers are used: one crop, a batch, then the whole picture.

    Raises EngineError with artifact, engine, device and the largest difference if anything disagrees, BundleError if
    the bundle has no golden values.
    """
    bundle, engine, device = aligner.bundle, aligner.engine, aligner.engine.device
    golden = read_golden(bundle)
    if golden is None:
        raise BundleError(
            f"{bundle.folder} has no golden values, so its answers on {device} cannot be checked: export it again with "
            "this version, or use --unverified (verify=False in Python)"
        )
    variant = Variant(aligner.artifact, engine.name, engine.threads, engine.compute_precision)
    reference = golden.reference.first(min(FIRST_CROPS, golden.reference.faces))
    where = f"{variant}, {device}"
    try:
        runs = all_runs(engine, bundle.manifest, reference.crops)
        checks = [*compare(runs, variant, bundle.manifest, reference), *check_picture(aligner, variant, golden)]
    except EngineError as error:
        raise EngineError(f"{where}: the golden values could not be replayed: {error}") from None
    refuse_failed([*checks, *check_decoding(bundle, golden)], where)


def refuse_failed(checks: Iterable[Check], where: str) -> None:
    """Raise EngineError naming the worst of the failed checks, if any failed."""
    failed = [check for check in checks if not check.passed]
    if failed:
        worst = max(failed, key=lambda check: np.inf if np.isnan(check.max_abs) else check.tolerance_used)
        raise EngineError(
            f"{where}: {worst.output} differs from the bundle's golden values by {worst.max_abs:.3g}, the limit is "
            f"{worst.tolerance:.3g}. Do not use it here: choose another engine or device (`synergy verify` shows "
            "which are right), or export the bundle again"
        )


def _factor(manifest: Manifest) -> float:
    return DEEP_FACTOR if manifest.arch in DEEP_ARCHS else 1.0


def _angle(difference: np.ndarray) -> np.ndarray:
    """Differences of angles in degrees, in [-180, 180)."""
    return (difference + 180.0) % 360.0 - 180.0
