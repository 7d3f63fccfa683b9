"""Decides whether a bundle may appear: numbers first, then task accuracy; and makes its golden values."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from synergy.benchmarks.accuracy.data import EvaluationData, synthetic_data
from synergy.benchmarks.accuracy.golden import golden_accuracy
from synergy.benchmarks.parity.check import check_bundle
from synergy.benchmarks.parity.drift import (
    CELL_ENGINE,
    PARITY_FACES,
    REDUCED_FACES,
    VariantAccuracy,
    drift_rows,
    measure_bundle,
)
from synergy.benchmarks.parity.golden import GOLDEN_FACES, make_golden, repeat_golden
from synergy.benchmarks.parity.report import ParityError, summary
from synergy.export.bundle import GoldenFile, ParityResult
from synergy.runtime.bundle import Bundle
from synergy.runtime.manifest import Artifact, Drift
from synergy.runtime.variants import VariantEngines
from synergy.runtime.verification.golden import GOLDEN_NAME, Golden, encode_golden, read_golden
from synergy.runtime.verification.parity_record import Accuracy, Check, ParityReport, file_hashes
from synergy.synergy_model.checkpoints.checkpoint import Checkpoint

Key = tuple[str, str]  # an artifact's file, and its compute precision


@dataclass(frozen=True)
class ProofResult:
    """The report, and the accuracy behind its rows: the Cell's first; empty where outputs already failed."""

    report: ParityReport
    measured: tuple[VariantAccuracy, ...] = ()


def prove_bundle(
    bundle: Bundle, checkpoint: Checkpoint, data: EvaluationData | None = None, source_sha256: str | None = None
) -> ParityReport:
    """Compare every artifact on every engine with the Cell: outputs, then NME and MAE on `data`.

    Without data, held-out synthetic faces are used. Accuracy is not measured where the outputs already fail. A drift
    beyond its limit passes only where the manifest says that it was accepted. The bundle's golden values are compared
    with the Cell too. source_sha256: that of the checkpoint's file, which must be the manifest's.
    """
    stored = read_golden(bundle)
    golden = make_golden(checkpoint) if stored is None else repeat_golden(checkpoint, stored)
    drifts = {
        (entry.file, precision): drift for entry in bundle.manifest.artifacts for precision, drift in _drifts(entry)
    }
    accepted = [key for key, drift in drifts.items() if drift and drift.accepted]
    report = _prove(bundle, checkpoint, golden, data or _faces(bundle), accepted).report
    failures = list(report.failures)
    if source_sha256 not in (None, bundle.manifest.source.sha256):
        failures.append("the checkpoint is not the one that the bundle was exported from: its sha256 differs")
    checks = report.checks if stored is None else (*report.checks, *_golden_checks(bundle, stored, golden))
    passed = report.passed and not failures and all(check.passed for check in checks)
    return msgspec.structs.replace(
        report,
        checks=checks,
        failures=tuple(failures),
        passed=passed,
        sha256=file_hashes(bundle.manifest),
        source_sha256=bundle.manifest.source.sha256,
    )


def gate(
    folder: Path,
    checkpoint: Checkpoint,
    data: EvaluationData | None = None,
    accept_drift: bool = False,
    golden_real: bool = False,
) -> ParityResult:
    """Check the unpublished bundle in `folder`. Raises ParityError if it fails.

    accept_drift: reduced precisions may drift beyond their limit, which the manifest then states. golden_real: the
    golden values hold faces of `data`, which may be photographs of people, instead of procedural ones.
    """
    return gate_and_measure(folder, checkpoint, data, accept_drift, golden_real)[0]


def gate_and_measure(
    folder: Path,
    checkpoint: Checkpoint,
    data: EvaluationData | None = None,
    accept_drift: bool = False,
    golden_real: bool = False,
) -> tuple[ParityResult, tuple[VariantAccuracy, ...]]:
    """As `gate`, with the accuracy of the Cell and of every variant."""
    bundle = Bundle.open(folder)
    if golden_real and data is None:
        raise ValueError("golden values of real faces need these faces: give --raw or --root")
    own_golden = data is not None and not golden_real
    data = data or _faces(bundle)
    golden = make_golden(checkpoint, None if own_golden else data)  # procedural golden faces are the first of these
    source = data.source if golden_real else f"{GOLDEN_FACES} procedural faces"
    reduced = [key for entry in bundle.manifest.artifacts for key in _reduced(entry)]
    result = _prove(bundle, checkpoint, golden, data, reduced if accept_drift else ())
    report = result.report
    if not report.passed:
        raise ParityError(_with_cure(report, reduced), report)
    drift = {entry.file: _worst((entry.file, "fp32"), report, data.source) for entry in bundle.manifest.artifacts}
    compute_precisions = {
        entry.file: tuple(
            msgspec.structs.replace(each, drift=_worst((entry.file, each.precision), report, data.source))
            for each in entry.compute_precisions
        )
        for entry in bundle.manifest.artifacts
    }
    golden_file = _golden_file(golden, bundle, source, golden_real)
    report = msgspec.structs.replace(
        report,
        sha256={**file_hashes(bundle.manifest), GOLDEN_NAME: hashlib.sha256(golden_file.content).hexdigest()},
        source_sha256=bundle.manifest.source.sha256,
    )
    content = msgspec.json.format(msgspec.json.encode(report), indent=2)
    return ParityResult(content, drift, compute_precisions, golden_file), result.measured


def _golden_file(golden: Golden, bundle: Bundle, source: str, real_faces: bool) -> GoldenFile:
    accuracy = golden_accuracy(golden.reference.outputs, bundle, golden)
    mae = None if accuracy.mae is None else accuracy.mae.mean
    return GoldenFile(encode_golden(golden), source, real_faces, accuracy.nme.mean, mae)


def _golden_checks(bundle: Bundle, stored: Golden, fresh: Golden) -> Iterator[Check]:
    """The golden values in the bundle, compared with those that the Cell gives now."""
    reference = fresh.reference
    for output, expected in reference.outputs.items():
        found = stored.reference.outputs.get(output)
        fits = found is not None and found.shape == expected.shape
        max_abs = float(np.abs(found - expected).max()) if found is not None and fits else float("inf")
        tolerance = reference.tolerance(output, bundle.manifest.arch)
        sensitivity = reference.input_sensitivity(output)
        yield Check(GOLDEN_NAME, CELL_ENGINE, output, max_abs, sensitivity, tolerance, max_abs <= tolerance)


def _faces(bundle: Bundle) -> EvaluationData:
    reduced = [key for entry in bundle.manifest.artifacts for key in _reduced(entry)]
    return synthetic_data(REDUCED_FACES if reduced else PARITY_FACES)


def _drifts(entry: Artifact) -> Iterator[tuple[str, Drift | None]]:
    """The drift by compute precision; "fp32" stands for the file's own precision."""
    yield "fp32", entry.drift
    yield from ((each.precision, each.drift) for each in entry.compute_precisions)


def _reduced(entry: Artifact) -> Iterator[Key]:
    """What computes in less than float32, so that its drift may exceed that of rounding."""
    yield from ((entry.file, each.precision) for each in entry.compute_precisions)
    if entry.precision != "fp32":
        yield (entry.file, "fp32")


def _prove(
    bundle: Bundle, checkpoint: Checkpoint, golden: Golden, data: EvaluationData, accepted: Collection[Key]
) -> ProofResult:
    with VariantEngines(bundle) as engines:
        report = check_bundle(engines, checkpoint, golden)
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
    cure = (
        ". Judge it on faces like those it will see (--raw or --root), try another precision or --calibration, or use "
        "--accept-drift to export it nevertheless"
    )
    return summary(report) + (cure if only_reduced else "")


def _worst(key: Key, report: ParityReport, data: str) -> Drift:
    rows: list[Accuracy] = [row for row in report.accuracy if _key(row) == key]
    mae = [row.mae_drift for row in rows if row.mae_drift is not None]
    accepted = any(row.accepted for row in rows)
    return Drift(max(row.nme_drift for row in rows), max(mae, default=None), data, accepted)
