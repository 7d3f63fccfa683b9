"""Pictures of the page: held-out faces with true and predicted landmarks, and a photograph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synergy.benchmarks.accuracy.data import EvaluationData, to_crop_px
from synergy.benchmarks.accuracy.predictions import Predictions
from synergy.benchmarks.accuracy.report import AccuracyReport
from synergy.benchmarks.sample_crops import PORTRAIT, PORTRAIT_BOX_XYXY
from synergy.runtime.aligner import FaceAligner
from synergy.runtime.crop import crop_resize
from synergy.runtime.media.drawing import draw_faces
from synergy.runtime.media.image import read_image

PER_RANK = 4
PORTRAIT_PX = 480
PORTRAIT_MARGIN = 2.0  # side of the picture, in heights of the face


@dataclass(frozen=True)
class FacePicture:
    """A crop (120,120,3) uint8 BGR with true and predicted landmarks (2,68) crop px; `rank` is best, median or worst.

    nme in percent; yaw_deg: true yaw.
    """

    rank: str
    name: str
    crop_bgr: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    nme: float
    yaw_deg: float


def face_pictures(report: AccuracyReport, predictions: Predictions, data: EvaluationData) -> tuple[FacePicture, ...]:
    """The faces with the smallest, median and largest NME; no face is shown twice."""
    truth = to_crop_px(data.landmarks, data.roi_xyxy)
    return tuple(
        FacePicture(
            rank=rank,
            name=data.names[row],
            crop_bgr=data.crops[row],
            truth=truth[row],
            predicted=predictions.landmarks[row, :2],
            nme=report.nme_per_image[row],
            yaw_deg=float(data.yaw_deg[row]),
        )
        for rank, rows in ranked(np.asarray(report.nme_per_image)).items()
        for row in rows
    )


def ranked(errors: np.ndarray, count: int = PER_RANK) -> dict[str, list[int]]:
    """Rows of the `count` smallest, median and largest errors (N,), in rising order and without repetition."""
    order = np.argsort(errors, kind="stable").tolist()
    count = min(count, max(1, len(order) // 3))
    start = (len(order) - count) // 2
    places = {
        "best": range(count),
        "median": range(max(start, count), min(start + count, len(order) - count)),
        "worst": range(max(len(order) - count, count), len(order)),
    }
    return {rank: [order[place] for place in chosen] for rank, chosen in places.items()}


def portrait_overlay(aligner: FaceAligner) -> np.ndarray:
    """The bundled portrait with predicted landmarks and pose, (480,480,3) uint8 BGR."""
    photo, region = read_image(PORTRAIT), _around(PORTRAIT_BOX_XYXY)
    found = [each.box_xyxy for each in aligner.detect(photo)] or [np.array(PORTRAIT_BOX_XYXY)]
    closeup = crop_resize(photo, region, PORTRAIT_PX, "lanczos4")
    scale = PORTRAIT_PX / (region[2] - region[0])
    return draw_faces(closeup, aligner.align(closeup, [(box - np.tile(region[:2], 2)) * scale for box in found]))


def _around(box_xyxy: tuple[float, float, float, float]) -> np.ndarray:
    """The square region (4,) around a face box that is shown."""
    x1, y1, x2, y2 = box_xyxy
    centre, half = np.array([x1 + x2, y1 + y2]) / 2, PORTRAIT_MARGIN * (y2 - y1) / 2
    return np.concatenate([centre - half, centre + half])
