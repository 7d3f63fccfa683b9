"""The content of a bundle's `parity.json`, and whether it shows that every artifact agrees with the Cell.

It needs no MindSpore: a device can read the result of a comparison that it cannot repeat.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import msgspec

from synergy.runtime.bundle import Bundle
from synergy.runtime.errors import BundleError
from synergy.runtime.formats.strict_json import decode
from synergy.runtime.manifest import Manifest
from synergy.runtime.specs import engine_label


class Check(msgspec.Struct, frozen=True, omit_defaults=True, rename={"passed": "pass"}):
    """One output of one artifact on one engine, compared with the Cell's.

    `max_abs`: largest absolute difference. `input_sensitivity`: how much the Cell's output varies with its input, in
    the output's unit. `compute_precision`: the engine's, where that is not float32.
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
        """The engine, with its compute precision where that is not float32."""
        return engine_label(self.engine, self.compute_precision)

    @property
    def holds(self) -> bool:
        """Whether it passed and its own numbers confirm that."""
        return self.passed and self.max_abs <= self.tolerance

    @property
    def tolerance_used(self) -> float:
        """The difference as a fraction of the tolerance: above 1 is a failure; infinite where the tolerance is 0."""
        return self.max_abs / self.tolerance if self.tolerance > 0 else math.inf


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
        """The engine, with its compute precision where that is not float32."""
        return engine_label(self.engine, self.compute_precision)


class ParityReport(msgspec.Struct, frozen=True, rename={"passed": "pass"}):
    """All of `parity.json`; `failures` names what could not be run at all.

    sha256: of each file that was compared, by name; source_sha256: of the checkpoint. Reports of older versions lack
    both and therefore may be about other files.
    """

    passed: bool
    checks: tuple[Check, ...]
    accuracy: tuple[Accuracy, ...] = ()
    failures: tuple[str, ...] = ()
    sha256: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    source_sha256: str | msgspec.UnsetType = msgspec.UNSET


class ParityStatus(Enum):
    """The result of the parity check that a bundle carries."""

    PASSED = "passed"
    ACCEPTED_DRIFT = "passed with accepted drift"
    FAILED = "failed"
    UNCHECKED = "unchecked"  # the report does not name the files that it is about
    ABSENT = "absent"


@dataclass(frozen=True)
class ParityVerdict:
    """Whether a bundle counts as verified. `reasons`: why not; empty if it does."""

    status: ParityStatus
    reasons: tuple[str, ...] = ()

    @property
    def verified(self) -> bool:
        """Whether every artifact is within its limits, or its drift was accepted at export."""
        return self.status in (ParityStatus.PASSED, ParityStatus.ACCEPTED_DRIFT)


def read_parity(bundle: Bundle) -> ParityReport | None:
    """The report that the bundle carries, None if it has none. Raises BundleError if it cannot be read."""
    entry = bundle.manifest.parity
    if entry is None:
        return None
    data = bundle.read(entry)
    try:
        return decode(data, ParityReport)
    except ValueError as error:
        path = bundle.folder / entry.file
        raise BundleError(f"{path} is not a parity report: {error}. Export the bundle again") from None


def file_hashes(manifest: Manifest) -> dict[str, str]:
    """The SHA-256 of each file of a bundle, by name, without that of the parity report."""
    return {entry.file: entry.sha256 for entry in manifest.files if entry is not manifest.parity}


def parity_verdict(manifest: Manifest, report: ParityReport | None) -> ParityVerdict:
    """Judge a report by its numbers, not only by its own result. Every artifact must be in it, every check hold, and
    the files be those that were compared."""
    if report is None:
        return ParityVerdict(ParityStatus.ABSENT, ("the bundle has no parity report",))
    reasons = _reasons(manifest, report)
    if reasons:
        return ParityVerdict(ParityStatus.FAILED, tuple(reasons))
    if not report.sha256:
        reason = "the parity report has no hashes, so it may be about other files: export the bundle again"
        return ParityVerdict(ParityStatus.UNCHECKED, (reason,))
    drifts = [artifact.drift for artifact in manifest.artifacts]
    drifts += [each.drift for artifact in manifest.artifacts for each in artifact.compute_precisions]
    accepted = any(drift is not None and drift.accepted for drift in drifts)
    accepted = accepted or any(row.accepted and not row.passed for row in report.accuracy)
    return ParityVerdict(ParityStatus.ACCEPTED_DRIFT if accepted else ParityStatus.PASSED)


def _reasons(manifest: Manifest, report: ParityReport) -> list[str]:
    """Why the bundle does not count as verified; empty if it does."""
    wrong = [_disagreement(check) for check in report.checks if not check.holds]
    drifted = [row for row in report.accuracy if not (row.passed or row.accepted)]
    wrong += [f"{row.artifact} on {row.where}: NME drifts by {row.nme_drift:.3g} points" for row in drifted]
    checked = {check.artifact for check in report.checks}
    wrong += [f"{each.file}: not in the parity report" for each in manifest.artifacts if each.file not in checked]
    wrong += _other_files(manifest, report) if report.sha256 else ()
    wrong += report.failures
    return wrong or ([] if report.passed else ["the parity report says that it failed"])


def _other_files(manifest: Manifest, report: ParityReport) -> Iterator[str]:
    """The files of the bundle that are not those of the report."""
    for name, sha256 in file_hashes(manifest).items():
        if not report.sha256 or report.sha256.get(name) != sha256:
            yield f"{name}: not the file that was compared, its sha256 differs from that in the parity report"
    if report.source_sha256 != manifest.source.sha256:
        yield f"{manifest.source.file}: not the checkpoint that the artifacts were compared with, its sha256 differs"


def _disagreement(check: Check) -> str:
    what = f"{check.artifact} on {check.where}: {check.output}"
    if check.max_abs <= check.tolerance:
        change = f"changes by only {check.input_sensitivity:.2g} when the input changes"
        return f"{what} {change}, so the comparison is meaningless"
    return f"{what} differs by {check.max_abs:.2g}, the limit is {check.tolerance:.2g}"
