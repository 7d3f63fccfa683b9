"""The gate between an exported bundle and the world: numbers first, then task accuracy."""

from __future__ import annotations

from pathlib import Path

import msgspec

from benchmarks.accuracy_drift import PARITY_FACES, accuracy_rows
from benchmarks.evaluation_data import EvaluationData, synthetic_data
from benchmarks.parity import ParityError, ParityReport, check_bundle, summary
from runtime.bundle import Bundle
from synergy_model.synergynet import SynergyNet


def prove_bundle(bundle: Bundle, network: SynergyNet, data: EvaluationData | None = None) -> ParityReport:
    """Compare every artifact on every engine with the Cell: outputs, then NME and MAE on `data`.

    Without data, held-out synthetic faces are used. Accuracy is not measured where the outputs already fail.
    """
    report = check_bundle(bundle, network)
    if not report.passed:
        return report
    rows = accuracy_rows(bundle, network, data or synthetic_data(PARITY_FACES))
    return msgspec.structs.replace(report, accuracy=rows, passed=all(row.passed for row in rows))


def gate(folder: Path, network: SynergyNet, data: EvaluationData | None = None) -> bytes:
    """Prove the bundle in `folder` or raise ParityError; returns the report as JSON."""
    report = prove_bundle(Bundle.open(folder), network, data)
    if not report.passed:
        raise ParityError(summary(report), report)
    return msgspec.json.format(msgspec.json.encode(report), indent=2)
