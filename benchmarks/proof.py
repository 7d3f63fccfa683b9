"""The gate between an exported bundle and the world: numbers first, then task accuracy."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import msgspec

from benchmarks.accuracy_drift import PARITY_FACES, REDUCED_FACES, drift_rows, measure_bundle
from benchmarks.evaluation_data import EvaluationData, synthetic_data
from benchmarks.parity import check_bundle
from benchmarks.parity_report import Accuracy, ParityError, ParityReport, summary
from export.bundle import Proof
from runtime.bundle import Bundle
from runtime.manifest import Drift
from synergy_model.checkpoint import Checkpoint


def prove_bundle(bundle: Bundle, checkpoint: Checkpoint, data: EvaluationData | None = None) -> ParityReport:
    """Compare every artifact on every engine with the Cell: outputs, then NME and MAE on `data`.

    Without data, held-out synthetic faces are used. Accuracy is not measured where the outputs already fail. A
    drift beyond its limit passes only for artifacts whose manifest says that it was accepted.
    """
    accepted = [entry.file for entry in bundle.manifest.artifacts if entry.drift and entry.drift.accepted]
    return _prove(bundle, checkpoint, data or _faces(bundle), accepted)


def gate(folder: Path, checkpoint: Checkpoint, data: EvaluationData | None = None, accept_drift: bool = False) -> Proof:
    """Prove the unpublished bundle in `folder`, or raise ParityError.

    `accept_drift`: artifacts of a reduced precision may drift beyond their limit; the proof says so.
    """
    bundle = Bundle.open(folder)
    data = data or _faces(bundle)
    reduced = [entry.file for entry in bundle.manifest.artifacts if entry.precision != "fp32"]
    report = _prove(bundle, checkpoint, data, reduced if accept_drift else ())
    if not report.passed:
        raise ParityError(_with_cure(report, reduced), report)
    files = [entry.file for entry in bundle.manifest.artifacts]
    drift = {file: _worst(file, report, data.source) for file in files}
    return Proof(msgspec.json.format(msgspec.json.encode(report), indent=2), drift)


def _faces(bundle: Bundle) -> EvaluationData:
    exact = all(entry.precision == "fp32" for entry in bundle.manifest.artifacts)
    return synthetic_data(PARITY_FACES if exact else REDUCED_FACES)


def _prove(bundle: Bundle, checkpoint: Checkpoint, data: EvaluationData, accepted: Collection[str]) -> ParityReport:
    report = check_bundle(bundle, checkpoint)
    if not report.passed:
        return report
    rows = drift_rows(tuple(measure_bundle(bundle, checkpoint.network, data)))
    rows = tuple(msgspec.structs.replace(row, accepted=not row.passed and row.artifact in accepted) for row in rows)
    return msgspec.structs.replace(report, accuracy=rows, passed=all(row.passed or row.accepted for row in rows))


def _with_cure(report: ParityReport, reduced: Collection[str]) -> str:
    beyond = [row for row in report.accuracy if not row.passed]
    only_reduced = bool(beyond) and all(row.artifact in reduced for row in beyond)
    cure = ". Another precision or --calibration may help; --accept-drift exports it nevertheless"
    return summary(report) + (cure if only_reduced else "")


def _worst(file: str, report: ParityReport, data: str) -> Drift:
    rows: list[Accuracy] = [row for row in report.accuracy if row.artifact == file]
    mae = [row.mae_drift for row in rows if row.mae_drift is not None]
    accepted = any(row.accepted for row in rows)
    return Drift(max(row.nme_drift for row in rows), max(mae, default=None), data, accepted)
