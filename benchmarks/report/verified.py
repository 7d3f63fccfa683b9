"""Results of `synergy verify` on other devices, for the section `Verified on` of the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from synergy.benchmarks.parity.verify import VerifyReport
from synergy.runtime.bundle import Bundle
from synergy.runtime.verification.parity_record import Accuracy, file_hashes

# The package whose version is shown for an engine.
PACKAGES = {"lite": "mindspore-lite", "onnx": "onnxruntime", "openvino": "openvino", "mindspore": "mindspore"}


@dataclass(frozen=True)
class VerifiedRow:
    """One artifact on one engine of a device.

    device: as in `--device`. cpu: model of the host's CPU. where: the engine, with its compute precision where that is
    not float32. tolerance_used: the largest difference as a fraction of its tolerance. nme_drift in points of percent,
    mae_drift in degrees, median_ms: None where the file does not give them.
    """

    device: str
    cpu: str
    artifact: str
    where: str
    versions: str
    tolerance_used: float
    nme_drift: float
    mae_drift: float | None
    median_ms: float | None
    passed: bool
    accepted: bool


def read_verified(path: Path, bundle: Bundle) -> VerifyReport:
    """Read a file of `synergy verify --json` about this bundle.

    Raises ValueError for other files, and for files about other bundles.
    """
    cure = f"run `synergy verify {bundle.folder} --json FILE` on the device"
    try:
        report = msgspec.convert(_with_infinities(msgspec.json.decode(path.read_bytes())), VerifyReport)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not what `synergy verify --json` writes: {error}. To make it, {cure}") from None
    source = bundle.manifest.source
    if report.source_sha256 != source.sha256:
        raise ValueError(
            f"{path} is about a bundle of another checkpoint ({report.bundle}, source sha256 "
            f"{report.source_sha256[:12]}, here {source.sha256[:12]}): {cure}"
        )
    if not report.sha256:
        raise ValueError(f"{path} has no hashes, so it may be about another bundle (an older version wrote it): {cure}")
    hashes = file_hashes(bundle.manifest)
    other = sorted(name for name in {*hashes, *report.sha256} if hashes.get(name) != report.sha256.get(name))
    if other:
        raise ValueError(
            f"{path} is about another bundle ({report.bundle}): {', '.join(other)} differ from {bundle.folder}: {cure}"
        )
    known = {artifact.file for artifact in bundle.manifest.artifacts}
    unknown = sorted({row.artifact for row in report.accuracy} - known)
    if unknown:
        raise ValueError(f"{path} is about {', '.join(unknown)}, which {bundle.folder} does not contain: {cure}")
    return report


def _with_infinities(content: Any) -> Any:
    """JSON has no NaN and no infinity; a difference of that kind is written as null."""
    checks = content.get("checks") if isinstance(content, dict) else None
    for check in checks if isinstance(checks, list) else ():
        if isinstance(check, dict) and check.get("max_abs", 0.0) is None:
            check["max_abs"] = float("inf")
    return content


def verified_rows(reports: Sequence[VerifyReport]) -> Iterator[VerifiedRow]:
    """A row for every artifact and engine that ran, in the order of the files. Results are judged by their numbers."""
    for report in reports:
        latency = {(row.artifact, row.engine, row.compute_precision): row.median_ms for row in report.latency}
        for row in report.accuracy:
            key = (row.artifact, row.engine, row.compute_precision)
            checks = [each for each in report.checks if (each.artifact, each.engine, each.compute_precision) == key]
            yield VerifiedRow(
                device=report.device,
                cpu=report.host.cpu,
                artifact=row.artifact,
                where=row.where,
                versions=_versions(report, row),
                tolerance_used=max((each.tolerance_used for each in checks), default=float("inf")),
                nme_drift=row.nme_drift,
                mae_drift=row.mae_drift,
                median_ms=latency.get(key),
                passed=bool(checks) and all(each.holds for each in checks) and _holds(row),
                accepted=row.accepted and not row.passed,
            )


def verified_failures(reports: Sequence[VerifyReport]) -> Iterator[str]:
    """What failed on which device.

    A reason that may name a folder of that device is left out: the page is made to be sent.
    """
    for report in reports:
        place = f"on {report.device} ({report.host.cpu})"
        for failure in report.failures:
            what, _, reason = failure.partition(": ")
            safe = not any(mark in reason for mark in "/\\~")
            yield f"{place}: {failure}" if safe else f"{place}: {what}: the reason is in the JSON file"
        if report.failures:
            continue
        wrong = [f"{check.artifact} on {check.where}: {check.output}" for check in report.checks if not check.holds]
        wrong += [f"{row.artifact} on {row.where}: accuracy" for row in report.accuracy if not _holds(row)]
        yield from (f"{place}: {what} is beyond its limit" for what in wrong)
        if not wrong and not (report.passed and report.accuracy):
            yield f"{place}: the file says that the verification failed"


def _holds(row: Accuracy) -> bool:
    return row.passed or row.accepted


def _versions(report: VerifyReport, row: Accuracy) -> str:
    package = PACKAGES.get(row.engine, row.engine)
    version = report.host.versions.get(package)
    return f"{package} {version}" if version else package
