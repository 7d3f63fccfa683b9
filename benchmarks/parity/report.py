"""The failure of a parity check, and its summary in one line."""

from __future__ import annotations

from synergy.runtime.verification.parity_record import Accuracy, ParityReport


class ParityError(ValueError):
    """The bundle is not proved; `report` holds every check."""

    def __init__(self, message: str, report: ParityReport) -> None:
        super().__init__(message)
        self.report = report


def summary(report: ParityReport) -> str:
    """One line: what failed, or that all agreed."""
    if report.passed:
        return f"all {len(report.checks)} checks passed"
    moves = {check.output: check.passed or not check.max_abs <= check.tolerance for check in report.checks}
    still = [
        f"the network's {name} hardly move with its input, which proves nothing" for name in moves if not moves[name]
    ]
    wrong = (check for check in report.checks if not check.max_abs <= check.tolerance)
    failed = sorted({f"{check.artifact} on {check.where}" for check in wrong})
    drifted = [_drifted(row) for row in report.accuracy if not row.passed and not row.accepted]
    reasons = [*still, *(f"{name} does not match the Cell" for name in failed), *drifted, *report.failures]
    return "parity failed, the artifacts must not be used: " + "; ".join(reasons)


def _drifted(row: Accuracy) -> str:
    mae = "" if row.mae_drift is None else f", MAE by {row.mae_drift:.3f} deg"
    return f"{row.artifact} on {row.where} drifts from the Cell: NME by {row.nme_drift:.3f} points{mae}"
