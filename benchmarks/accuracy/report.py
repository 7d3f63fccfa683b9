"""Task accuracy: NME and pose MAE of a predictor on evaluation data, and the table of the AFLW2000-3D benchmark."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import numpy as np

from synergy.benchmarks.accuracy.data import DataError, EvaluationData, check_finite, to_image_px
from synergy.benchmarks.accuracy.predictions import Predictions, Predictor
from synergy.synergy_model.metrics import YAW_BINS, Accuracy, measure

CHUNK = 64  # crops per call of the predictor, and per progress report
OVERALL = (YAW_BINS[0][0], YAW_BINS[-1][1])


class NmeBinRecord(msgspec.Struct, frozen=True):
    """Faces with |yaw| in `range` degrees: count, mean and population std of NME in percent, null without faces."""

    range: tuple[int, int]
    count: int
    mean: float | None
    std: float | None


class NmeRecord(msgspec.Struct, frozen=True):
    """NME in percent. mean, std (population): over the means of all bins with faces, as in the protocol. image_mean:
    over all images."""

    bins: tuple[NmeBinRecord, ...]
    mean: float
    std: float
    image_mean: float


class PoseMaeRecord(msgspec.Struct, frozen=True):
    """Mean absolute error in degrees per angle, their mean, and how many faces were scored."""

    yaw: float
    pitch: float
    roll: float
    mean: float
    count: int


class AccuracyReport(msgspec.Struct, frozen=True):
    """The JSON of `synergy eval`. `mae` is null if the pose cannot be scored; mae_missing: the reason."""

    title: str
    source: str
    nme: NmeRecord
    mae: PoseMaeRecord | None
    mae_missing: str | None
    nme_per_image: list[float]


def evaluate(
    predictor: Predictor, data: EvaluationData, progress: Callable[[float, str], None] | None = None
) -> AccuracyReport:
    """Run the predictor on all crops and score it."""
    return score(run_predictor(predictor, data, progress), data)


def run_predictor(
    predictor: Predictor, data: EvaluationData, progress: Callable[[float, str], None] | None = None
) -> Predictions:
    """Predictions for all crops, in chunks. `progress` is called with the completed fraction and a description."""
    if len(data.crops) != len(data):
        raise DataError("a network needs the crops, but only labels were read")
    parts = []
    for start in range(0, len(data), CHUNK):
        if progress is not None:
            progress(start / len(data), f"{len(data)} crops")
        parts.append(predictor(data.crops[start : start + CHUNK]))
    angles = [part.euler_deg for part in parts if part.euler_deg is not None]
    euler = np.concatenate(angles) if len(angles) == len(parts) else None
    return Predictions(np.concatenate([part.landmarks for part in parts]), euler, parts[0].pose_missing)


def score(predictions: Predictions, data: EvaluationData) -> AccuracyReport:
    """NME in original image pixels, and pose MAE if predictions and data have poses.

    Raises ValueError if the numbers of faces differ or a prediction is not finite.
    """
    if len(predictions.landmarks) != len(data):
        raise ValueError(f"there are {len(predictions.landmarks)} predictions for {len(data)} faces")
    check_finite(predictions.landmarks, "predicted landmarks")
    found = _measure_nme(to_image_px(predictions.landmarks, data.roi_xyxy), data)
    bins = tuple(NmeBinRecord(b.range_deg, b.count, _number(b.mean), _number(b.std)) for b in found.bins)
    nme = NmeRecord(bins, found.nme, found.nme_std, float(found.nme_per_image.mean()))
    mae, missing = _pose_mae(predictions, data)
    return AccuracyReport(data.title, data.source, nme, mae, missing, found.nme_per_image.tolist())


def pose_errors(predictions: Predictions, data: EvaluationData) -> np.ndarray | None:
    """Absolute errors (N,3) of yaw, pitch, roll in degrees, NaN for faces that are not scored; None without poses."""
    if predictions.euler_deg is None or data.pose_deg is None or data.scored is None:
        return None
    return np.where(data.scored[:, None], np.abs(predictions.euler_deg - data.pose_deg), np.nan)


def format_table(report: AccuracyReport) -> str:
    """The table, in the form of the official benchmark."""
    rows = [_row(entry.range, entry.mean, entry.std) for entry in report.nme.bins]
    overall = _row(OVERALL, report.nme.mean, report.nme.std)
    heading = f"Facial Alignment on {report.title}(NME):"
    return "\n".join([heading, *rows, overall, "Face orientation estimation:", _pose_line(report)])


def format_source(report: AccuracyReport) -> str:
    """One line to print with the table: the data, the mean over all images, and how many faces the MAE counts."""
    line = f"{report.source}; NME over all images: {report.nme.image_mean:.3f}"
    if report.mae is None:
        return line
    return f"{line}; MAE over {report.mae.count} of {sum(entry.count for entry in report.nme.bins)} faces"


def _measure_nme(landmarks: np.ndarray, data: EvaluationData) -> Accuracy:
    """NME by yaw bin. `measure` needs poses for the bins: only yaw is given, as pose errors have their own rules here.

    Labels beyond 90 degrees are in the last bin.
    """
    poses = np.zeros((len(data), 3))
    poses[:, 0] = data.yaw_deg.clip(-OVERALL[1], OVERALL[1])
    return measure(landmarks, poses, data.landmarks, poses)


def _pose_mae(predictions: Predictions, data: EvaluationData) -> tuple[PoseMaeRecord | None, str | None]:
    errors = pose_errors(predictions, data)
    if errors is None:
        return None, data.pose_missing or predictions.pose_missing
    scored = errors[data.scored]
    if not len(scored):
        return None, "every face has an angle beyond 99 degrees"
    check_finite(scored, "predicted poses")
    yaw, pitch, roll = scored.mean(axis=0).tolist()
    return PoseMaeRecord(yaw, pitch, roll, float(scored.mean()), len(scored)), None


def _row(limits: tuple[int, int], mean: float | None, std: float | None) -> str:
    return f"[{limits[0]:2d}, {limits[1]}] Mean:{_three(mean)} Std:{_three(std)}"


def _three(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _pose_line(report: AccuracyReport) -> str:
    mae = report.mae
    if mae is None:
        return f"not available: {report.mae_missing}"
    return f"Mean MAE = {mae.mean:.3f} (in deg), [yaw,pitch,roll] = [{mae.yaw:.3f}, {mae.pitch:.3f}, {mae.roll:.3f}]"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
