"""How far the task accuracy of an artifact may be from the Cell's. Needs no MindSpore: `synergy verify` uses it too."""

from __future__ import annotations

from dataclasses import dataclass

from synergy.benchmarks.accuracy.data import SYNTHETIC_TITLE
from synergy.benchmarks.accuracy.report import AccuracyReport
from synergy.runtime.verification.parity_record import Accuracy


@dataclass(frozen=True)
class DriftLimit:
    """Largest difference from the Cell's accuracy: `nme` in points of percent, `mae` in degrees."""

    nme: float
    mae: float


# fp32: a hundredth of the last digit of published tables. Landmarks within the parity check's 0.01 px could move the
# NME by that much at most, if all errors had the same direction. Reduced precisions: what their size and speed may cost
# by default; a larger drift must be accepted at export.
DRIFT_LIMITS = {
    "fp32": DriftLimit(0.001, 0.01),
    "fp16": DriftLimit(0.02, 0.05),
    "bf16": DriftLimit(0.05, 0.1),
    "int8": DriftLimit(0.15, 0.3),
}
# The limits hold up to these errors, in percent and degrees. For larger errors, as an untrained network has them,
# landmarks lie far outside the crop and float32 rounds in proportion.
NOMINAL_NME, NOMINAL_MAE = 10.0, 10.0
# The procedural faces differ from photographs. A network for photographs has larger errors on them (mb05: NME
# 4.70, on photographs 3.6), and there a reduced precision moves its results further. Above this NME, twice that of the
# built-in network, a network is out of its domain. Then its drift may be the same fraction of its own error as for the
# built-in network, whose errors are the next two (docs/precision.md). This does not apply to fp32, nor to other faces.
OUT_OF_DOMAIN_NME = 4.0
PROCEDURAL_NME, PROCEDURAL_MAE = 2.0, 1.5


def accuracy_row(
    artifact: str,
    engine: str,
    report: AccuracyReport,
    cell: AccuracyReport,
    precision: str,
    compute_precision: str = "fp32",
    factor: float = 1.0,
) -> Accuracy:
    """The accuracy of a variant and its drift from the Cell's. `factor` multiplies the limits of `precision`.

    Where the data has no poses, `mae` and its drift are None.
    """
    limit = drift_limit(cell, precision)
    nme_drift = abs(report.nme.mean - cell.nme.mean)
    passed = nme_drift <= factor * limit.nme
    mae, mae_drift = None, None
    if report.mae is not None and cell.mae is not None:
        mae, mae_drift = report.mae.mean, abs(report.mae.mean - cell.mae.mean)
        passed = passed and mae_drift <= factor * limit.mae
    return Accuracy(
        artifact, engine, report.nme.mean, nme_drift, mae, mae_drift, passed, compute_precision=compute_precision
    )


def drift_limit(cell: AccuracyReport, precision: str) -> DriftLimit:
    """The limit for a precision, by the accuracy of the Cell on the same faces."""
    limit, nme, mae = DRIFT_LIMITS[precision], cell.nme.mean, 0.0 if cell.mae is None else cell.mae.mean
    if precision != "fp32" and cell.title == SYNTHETIC_TITLE and nme > OUT_OF_DOMAIN_NME:
        return DriftLimit(limit.nme * nme / PROCEDURAL_NME, limit.mae * max(1.0, mae / PROCEDURAL_MAE))
    return DriftLimit(limit.nme * max(1.0, nme / NOMINAL_NME), limit.mae * max(1.0, mae / NOMINAL_MAE))
