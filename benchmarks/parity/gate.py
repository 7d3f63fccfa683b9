"""The gate between an exported bundle and the world: numbers first, then task accuracy."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from synergy.benchmarks.accuracy.data import EvaluationData, synthetic_data
from synergy.benchmarks.parity.check import check_bundle
from synergy.benchmarks.parity.drift import PARITY_FACES, REDUCED_FACES, VariantAccuracy, drift_rows, measure_bundle
from synergy.benchmarks.parity.report import ParityError, summary
from synergy.export.bundle import Proof
from synergy.runtime.bundle import Bundle
from synergy.runtime.manifest import Artifact, Drift
from synergy.runtime.parity_record import Accuracy, ParityReport
from synergy.runtime.variants import VariantEngines
from synergy.synergy_model.checkpoints.checkpoint import Checkpoint

Key = tuple[str, str]  # an artifact's file, and what it is computed in


@dataclass(frozen=True)
class ProofResult:
    """The report, and the accuracy that its rows are of: the Cell's first, none where outputs already failed."""

    report: ParityReport
    measured: tuple[VariantAccuracy, ...] = ()


def prove_bundle(bundle: Bundle, checkpoint: Checkpoint, data: EvaluationData | None = None) -> ParityReport:
    """Compare every artifact on every engine with the Cell: outputs, then NME and MAE on `data`.

    Without data, held-out synthetic faces are used. Accuracy is not measured where the outputs already fail. A
    drift beyond its limit passes only where the manifest says that it was accepted.
    """
    drifts = {
        (entry.file, compute_precision): drift
        for entry in bundle.manifest.artifacts
        for compute_precision, drift in _drifts(entry)
    }
    accepted = [key for key, drift in drifts.items() if drift and drift.accepted]
    return _prove(bundle, checkpoint, data or _faces(bundle), accepted).report


def gate(folder: Path, checkpoint: Checkpoint, data: EvaluationData | None = None, accept_drift: bool = False) -> Proof:
    """Prove the unpublished bundle in `folder`, or raise ParityError.

    `accept_drift`: what is of a reduced precision may drift beyond its limit; the proof says so.
    """
    return gate_and_measure(folder, checkpoint, data, accept_drift)[0]


def gate_and_measure(
    folder: Path, checkpoint: Checkpoint, data: EvaluationData | None = None, accept_drift: bool = False
) -> tuple[Proof, tuple[VariantAccuracy, ...]]:
    """As `gate`, with the accuracy that the proof was made of: the Cell's first."""
    bundle = Bundle.open(folder)
    data = data or _faces(bundle)
    reduced = [key for entry in bundle.manifest.artifacts for key in _reduced(entry)]
    examined = _prove(bundle, checkpoint, data, reduced if accept_drift else ())
    report = examined.report
    if not report.passed:
        raise ParityError(_with_cure(report, reduced), report)
    drift = {entry.file: _worst((entry.file, "fp32"), report, data.source) for entry in bundle.manifest.artifacts}
    compute_precision = {
        entry.file: tuple(
            msgspec.structs.replace(each, drift=_worst((entry.file, each.precision), report, data.source))
            for each in entry.compute_precisions
        )
        for entry in bundle.manifest.artifacts
    }
    return Proof(
        msgspec.json.format(msgspec.json.encode(report), indent=2), drift, compute_precision
    ), examined.measured


def _faces(bundle: Bundle) -> EvaluationData:
    reduced = [key for entry in bundle.manifest.artifacts for key in _reduced(entry)]
    return synthetic_data(REDUCED_FACES if reduced else PARITY_FACES)


def _drifts(entry: Artifact) -> Iterator[tuple[str, Drift | None]]:
    """By what the engine computes in; "fp32" stands for the file's own precision."""
    yield "fp32", entry.drift
    yield from ((each.precision, each.drift) for each in entry.compute_precisions)


def _reduced(entry: Artifact) -> Iterator[Key]:
    """What may drift further than rounding does."""
    yield from ((entry.file, each.precision) for each in entry.compute_precisions)
    if entry.precision != "fp32":
        yield (entry.file, "fp32")


def _prove(bundle: Bundle, checkpoint: Checkpoint, data: EvaluationData, accepted: Collection[Key]) -> ProofResult:
    with VariantEngines(bundle) as engines:
        report = check_bundle(engines, checkpoint)
        if not report.passed:
            return ProofResult(report)
        measured = tuple(measure_bundle(engines, checkpoint.network, data))
    rows = tuple(
        msgspec.structs.replace(row, accepted=not row.passed and _key(row) in accepted) for row in drift_rows(measured)
    )
    passed = all(row.passed or row.accepted for row in rows)
    return ProofResult(msgspec.structs.replace(report, accuracy=rows, passed=passed), measured)


def _key(row: Accuracy) -> Key:
    return (row.artifact, row.compute_precision)


def _with_cure(report: ParityReport, reduced: Collection[Key]) -> str:
    beyond = [row for row in report.accuracy if not row.passed]
    only_reduced = bool(beyond) and all(_key(row) in reduced for row in beyond)
    cure = ". Another precision or --calibration may help; --accept-drift exports it nevertheless"
    return summary(report) + (cure if only_reduced else "")


def _worst(key: Key, report: ParityReport, data: str) -> Drift:
    rows: list[Accuracy] = [row for row in report.accuracy if _key(row) == key]
    mae = [row.mae_drift for row in rows if row.mae_drift is not None]
    accepted = any(row.accepted for row in rows)
    return Drift(max(row.nme_drift for row in rows), max(mae, default=None), data, accepted)
