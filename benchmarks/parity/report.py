"""What `parity.json` holds. Without MindSpore, so that a bundle's proof can be read where it cannot be repeated."""

from __future__ import annotations

import msgspec

from synergy.runtime.engines.base import engine_label


class Check(msgspec.Struct, frozen=True, omit_defaults=True, rename={"passed": "pass"}):
    """One output of one artifact on one engine.

    `input_sensitivity`: how much the Cell's output varies with its input, in the output's unit. `compute_precision`:
    what the engine computes in, where that is not float32.
    """

    artifact: str
    engine: str
    output: str
    max_abs: float
    input_sensitivity: float = msgspec.field(name="spread")
    tolerance: float
    passed: bool
    compute_precision: str = msgspec.field(default="fp32", name="computing")

    @property
    def where(self) -> str:
        """The engine, and what it computes in."""
        return engine_label(self.engine, self.compute_precision)


class Accuracy(msgspec.Struct, frozen=True, omit_defaults=True, rename={"passed": "pass"}):
    """NME in percent, MAE in degrees (null where the data has no poses), and their drift from the Cell.

    `compute_precision`: as in `Check`. `accepted`: the drift of a reduced precision exceeds its limit, and was accepted
    at export.
    """

    artifact: str
    engine: str
    nme: float
    nme_drift: float
    mae: float | None
    mae_drift: float | None
    passed: bool
    accepted: bool = False
    compute_precision: str = msgspec.field(default="fp32", name="computing")

    @property
    def where(self) -> str:
        """The engine, and what it computes in."""
        return engine_label(self.engine, self.compute_precision)


class ParityReport(msgspec.Struct, frozen=True, rename={"passed": "pass"}):
    """What `parity.json` holds; `failures` names what could not be run at all."""

    passed: bool
    checks: tuple[Check, ...]
    accuracy: tuple[Accuracy, ...] = ()
    failures: tuple[str, ...] = ()


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
