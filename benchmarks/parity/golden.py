"""Makes golden values: what the Cell and the reference pipeline give for known inputs."""

from __future__ import annotations

import cv2
import numpy as np

from synergy.benchmarks.accuracy.data import EvaluationData, synthetic_data, to_crop_px
from synergy.benchmarks.parity.cell import cell_outputs, cell_vertices
from synergy.benchmarks.sample_crops import noise_crops
from synergy.runtime.crop import CROP_RULES, crop_resize, roi_from_box, roi_to_image
from synergy.runtime.decode import POSE_RULES, dewhiten, euler_deg
from synergy.runtime.verification.golden import Golden, GoldenPicture
from synergy.runtime.verification.reference import Reference
from synergy.synergy_model.checkpoints.checkpoint import Checkpoint

GOLDEN_FACES = 32  # every yaw bin has some; more would make the file larger than 2 MB
VERTEX_STEP = 128  # every so-manieth vertex of the mesh is kept
PICTURE_FACE = 0  # of the labelled faces: the one that is placed in the whole picture
PICTURE_SIZE_WH = (300, 220)
PICTURE_FACE_PX = 150  # side of the enlarged crop in the picture
PICTURE_CORNER_XY = (97, 41)
FOREHEAD = 0.25  # of the landmarks' height: a face box starts above the eyebrows


def make_golden(checkpoint: Checkpoint, data: EvaluationData | None = None) -> Golden:
    """Golden values on the first 32 faces of `data`, by default procedural faces, with three crops of noise."""
    data = data or synthetic_data(GOLDEN_FACES)
    faces = min(GOLDEN_FACES, len(data))
    crops, landmarks = data.crops[:faces], to_crop_px(data.landmarks, data.roi_xyxy)[:faces].astype(np.float32)
    euler = np.full((faces, 3), np.nan)
    if data.pose_deg is not None and data.scored is not None:
        euler = np.where(data.scored[:faces, None], data.pose_deg[:faces], np.nan)
    image, box = _picture(data)
    reference = cell_reference(checkpoint, np.concatenate([crops, noise_crops()]), faces)
    return Golden(reference, reference_picture(checkpoint, image, box), landmarks, data.yaw_deg[:faces], euler)


def repeat_golden(checkpoint: Checkpoint, golden: Golden) -> Golden:
    """The golden values that a checkpoint gives for another file's inputs."""
    reference = cell_reference(checkpoint, golden.reference.crops, golden.reference.faces)
    picture = reference_picture(checkpoint, golden.picture.image_bgr, golden.picture.box_xyxy)
    return Golden(reference, picture, golden.landmarks, golden.yaw_deg, golden.euler_deg)


def cell_reference(checkpoint: Checkpoint, crops: np.ndarray, faces: int) -> Reference:
    """Every output that the Cell has, whichever head a bundle ends in; of the mesh every `VERTEX_STEP`th vertex."""
    outputs = cell_outputs(checkpoint.network, crops)
    points = {}
    if checkpoint.dense is not None:
        vertices = cell_vertices(checkpoint, outputs["params"])
        points["vertices"] = np.arange(0, vertices.shape[2], VERTEX_STEP)
        outputs["vertices"] = vertices[:, :, points["vertices"]]
    return Reference(crops, faces, {name: values.astype(np.float32) for name, values in outputs.items()}, points)


def reference_picture(checkpoint: Checkpoint, image_bgr: np.ndarray, box_xyxy: np.ndarray) -> GoldenPicture:
    """The face of a picture by the convention of the checkpoint, not by what a manifest says."""
    morphable = checkpoint.network.morphable
    rule = CROP_RULES[morphable.convention]
    roi = roi_from_box(box_xyxy, rule)
    crop = crop_resize(image_bgr, roi, interpolation=rule.interpolation)
    outputs = cell_outputs(checkpoint.network, crop[None])
    mean, std = (getattr(morphable, name).asnumpy() for name in ("param_mean", "param_std"))
    landmarks = roi_to_image(outputs["landmarks"], roi[None])[0].T
    pose = euler_deg(dewhiten(outputs["params"], mean, std), POSE_RULES[morphable.convention])[0]
    return GoldenPicture(image_bgr, box_xyxy, landmarks, pose)


def _picture(data: EvaluationData) -> tuple[np.ndarray, np.ndarray]:
    """A face of the data, enlarged, off the centre of a picture that is not square; and its face box."""
    width, height = PICTURE_SIZE_WH
    x, y = PICTURE_CORNER_XY
    shade = np.linspace(70, 180, width * height * 3).reshape(height, width, 3)
    image = np.ascontiguousarray(shade.astype(np.uint8))
    size = (PICTURE_FACE_PX, PICTURE_FACE_PX)
    crop = data.crops[PICTURE_FACE]
    image[y : y + PICTURE_FACE_PX, x : x + PICTURE_FACE_PX] = cv2.resize(crop, size, interpolation=cv2.INTER_CUBIC)
    points = to_crop_px(data.landmarks, data.roi_xyxy)[PICTURE_FACE] * PICTURE_FACE_PX / len(crop)
    (left, top), (right, bottom) = points.min(axis=1), points.max(axis=1)
    box = np.array([left + x, top - FOREHEAD * (bottom - top) + y, right + x, bottom + y])
    return image, box.round(1)
