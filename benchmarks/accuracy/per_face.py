"""Accuracy per face: a CSV table, and a picture of the faces with the largest error."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import cv2
import numpy as np

from synergy.benchmarks.accuracy.data import DataError, EvaluationData, to_crop_px
from synergy.benchmarks.accuracy.predictions import Predictions
from synergy.benchmarks.accuracy.report import AccuracyReport, pose_errors
from synergy.runtime.crop import CROP_SIZE
from synergy.runtime.files import write_file
from synergy.runtime.media.drawing import CONTOURS, Colour
from synergy.runtime.media.image import write_image

COLUMNS = ("name", "yaw_deg", "nme_percent", "yaw_error_deg", "pitch_error_deg", "roll_error_deg")
ZOOM = 3  # montage pixels per crop pixel
FACES = 12
PER_ROW = 4
CAPTION = 30  # pixels under each face
GAP = 3  # pixels beside each face
TRUTH: Colour = (80, 220, 60)
PREDICTED: Colour = (60, 60, 255)
WHITE: Colour = (255, 255, 255)
FONT = cv2.FONT_HERSHEY_SIMPLEX
SUBPIXEL_BITS = 4  # OpenCV draws at 1/16 pixel
FARTHEST = 1e5  # pixels; larger coordinates would overflow OpenCV's fixed-point numbers


def write_csv(path: Path, report: AccuracyReport, predictions: Predictions, data: EvaluationData) -> None:
    """One line per face; angles that are not scored stay empty. Raises MediaError if the file cannot be written."""
    errors = pose_errors(predictions, data)
    if errors is None:
        errors = np.full((len(data), 3), np.nan)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for name, yaw, nme, angles in zip(data.names, data.yaw_deg, report.nme_per_image, errors, strict=True):
        writer.writerow([name, *(_cell(value) for value in (yaw, nme, *angles))])
    write_file(path, text.getvalue().encode())


def write_montage(
    path: Path, report: AccuracyReport, predictions: Predictions, data: EvaluationData, faces: int = FACES
) -> None:
    """A picture of the faces with the largest NME, the worst first: truth green, prediction red."""
    write_image(path, montage(report, predictions, data, faces))


def montage(report: AccuracyReport, predictions: Predictions, data: EvaluationData, faces: int = FACES) -> np.ndarray:
    """The picture of `write_montage`, (H,W,3) uint8 BGR."""
    if faces < 1:
        raise ValueError(f"the number of faces in the montage is {faces}: use at least one")
    if len(data.crops) != len(data):
        raise DataError("a montage needs the crops, but only labels were read")
    worst = np.argsort(report.nme_per_image)[::-1][:faces]
    truth = to_crop_px(data.landmarks[worst], data.roi_xyxy[worst])
    tiles = [
        _tile(data.crops[row], truth[place], predictions.landmarks[row], _caption(report, data, row))
        for place, row in enumerate(worst)
    ]
    columns = min(PER_ROW, len(tiles))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[start : start + columns], axis=1) for start in range(0, len(tiles), columns)]
    return np.concatenate([_heading(rows[0].shape[1], len(worst)), *rows])


def _cell(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6g}"


def _caption(report: AccuracyReport, data: EvaluationData, row: int) -> str:
    return f"{Path(data.names[row]).stem}  NME {report.nme_per_image[row]:.2f}  yaw {data.yaw_deg[row]:+.0f}"


def _heading(width: int, faces: int) -> np.ndarray:
    strip = np.zeros((CAPTION, width, 3), np.uint8)
    x = 8
    for text, colour in ((f"worst {faces}:", WHITE), ("truth", TRUTH), ("prediction", PREDICTED)):
        cv2.putText(strip, text, (x, 21), FONT, 0.55, colour, 1, cv2.LINE_AA)
        x += cv2.getTextSize(text, FONT, 0.55, 1)[0][0] + 12
    return strip


def _tile(crop_bgr: np.ndarray, truth: np.ndarray, predicted: np.ndarray, caption: str) -> np.ndarray:
    side = CROP_SIZE * ZOOM
    picture = cv2.resize(crop_bgr, (side, side), interpolation=cv2.INTER_CUBIC)
    _draw(picture, truth, TRUTH)
    _draw(picture, predicted, PREDICTED)
    strip = np.zeros((CAPTION, side, 3), np.uint8)
    scale = min(0.48, 0.48 * (side - 12) / cv2.getTextSize(caption, FONT, 0.48, 1)[0][0])
    cv2.putText(strip, caption, (6, 19), FONT, scale, WHITE, 1, cv2.LINE_AA)
    return cv2.copyMakeBorder(np.concatenate([picture, strip]), 0, 0, GAP, GAP, cv2.BORDER_CONSTANT, value=0)


def _draw(picture: np.ndarray, landmarks: np.ndarray, colour: Colour) -> None:
    """Contours and points; a crop pixel's centre becomes the middle of its ZOOM x ZOOM block."""
    points = ((landmarks[:2].T + 0.5) * ZOOM - 0.5).clip(-FARTHEST, FARTHEST)
    fixed = np.rint(points * (1 << SUBPIXEL_BITS)).astype(np.int32)
    for first, last, closed in CONTOURS.values():
        cv2.polylines(picture, [fixed[first : last + 1]], closed, colour, 1, cv2.LINE_AA, SUBPIXEL_BITS)
    for point in fixed.tolist():
        cv2.circle(picture, point, 2 << SUBPIXEL_BITS, colour, cv2.FILLED, cv2.LINE_AA, SUBPIXEL_BITS)
