"""`synergy verify`: replays a bundle's golden values on this machine, without MindSpore and without the checkpoint."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from synergy.benchmarks.accuracy.golden import golden_accuracy
from synergy.benchmarks.accuracy.report import AccuracyReport
from synergy.benchmarks.parity.drift_limits import accuracy_row
from synergy.benchmarks.speed.timing import time_runs
from synergy.runtime.aligner import FaceAligner
from synergy.runtime.bundle import Bundle
from synergy.runtime.diagnostics.host import Host, describe_host
from synergy.runtime.engines import Engine
from synergy.runtime.errors import BundleError, EngineError, EngineUnavailableError
from synergy.runtime.specs import DYNAMIC, Device
from synergy.runtime.variants import Variant, VariantEngines, runnable_variants
from synergy.runtime.verification.golden import Golden, read_golden
from synergy.runtime.verification.parity_record import Accuracy, Check, file_hashes
from synergy.runtime.verification.reference import all_runs, compare, missing_outputs
from synergy.runtime.verification.replay import check_decoding, check_picture

# The mean drift of a reduced precision on 32 faces varies more than on the 256 faces of the export: by sqrt(256 / 32).
SMALL_SET_FACTOR = 3.0
LATENCY_S = 0.3  # time spent on one variant's latency


class VerifiedLatency(msgspec.Struct, frozen=True, omit_defaults=True):
    """Median time in ms of one run of one crop, in a child process, data transfer to it included."""

    artifact: str
    engine: str
    threads: int
    batch: int
    median_ms: float
    compute_precision: str = msgspec.field(default="fp32", name="computing")


class VerifyReport(msgspec.Struct, frozen=True, rename={"passed": "pass"}):
    """The JSON of `synergy verify`.

    bundle: its name; source_sha256: of the checkpoint it was exported from; golden: what the golden faces are. checks
    and accuracy as in parity.json. skipped: artifacts that no engine here ran, with the reason. failures: everything
    that failed, in words. sha256: of each file of the bundle, by name.
    """

    passed: bool
    bundle: str
    source_sha256: str
    golden: str
    device: str
    host: Host
    checks: tuple[Check, ...]
    accuracy: tuple[Accuracy, ...]
    latency: tuple[VerifiedLatency, ...]
    skipped: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    sha256: dict[str, str] = {}


@dataclass(frozen=True)
class VerifyOptions:
    """engines: names, None for all that are here. threads: None for all cores."""

    engines: tuple[str, ...] | None = None
    device: str = "cpu"
    threads: int | None = None


def verify_bundle(folder: str | Path, options: VerifyOptions) -> VerifyReport:
    """Replay the golden values on every variant that can run here.

    An engine that fails is named in `failures` and the others go on. Raises BundleError for a bundle that is altered or
    has no golden values, EngineUnavailableError if no engine here runs it.
    """
    bundle, device = Bundle.open(folder), Device.parse(options.device)
    for entry in bundle.manifest.files:
        bundle.read(entry)
    golden = read_golden(bundle)
    if golden is None:
        raise BundleError(
            f"{bundle.folder} has no golden values (schema {bundle.manifest.schema}): export it again with this version"
        )
    threads = None if options.threads is None else (options.threads,)
    found = runnable_variants(bundle.manifest.artifacts, device, options.engines, threads)
    if not found.variants:
        reasons = "; ".join(dict.fromkeys(str(each) for each in found.skipped))
        raise EngineUnavailableError(f"no engine here runs {bundle.folder} on {device}: {reasons}")
    checks = list(check_decoding(bundle, golden))
    missing = missing_outputs(bundle.manifest, golden.reference)
    failures = [f"{name}: the golden values lack this output" for name in missing]
    cell = golden_accuracy(golden.reference.outputs, bundle, golden)
    accuracy: list[Accuracy] = []
    latency: list[VerifiedLatency] = []
    for variant in found.variants:
        with VariantEngines(bundle, device) as engines:  # one at a time: a device may not hold several
            try:
                engine = engines.engine(variant)
                runs = all_runs(engine, bundle.manifest, golden.reference.crops)
                checks += compare(runs, variant, bundle.manifest, golden.reference)
                checks += check_picture(FaceAligner(bundle, variant.artifact, engine), variant, golden)
                accuracy.append(_accuracy_row(variant, golden_accuracy(runs[-1], bundle, golden), cell))
                latency.append(_latency(engine, variant, golden))
            except (EngineError, ValueError) as error:
                failures.append(f"{variant}: {' '.join(str(error).split())}")
    failures += _failed(checks, accuracy)
    skipped = [str(each) for each in found.skipped if each.artifact is not None and each.reason != "not asked for"]
    return VerifyReport(
        passed=not failures,
        bundle=bundle.folder.resolve().name,
        source_sha256=bundle.manifest.source.sha256,
        golden=bundle.manifest.golden.data if bundle.manifest.golden else "",
        device=str(device),
        host=describe_host(),
        checks=tuple(checks),
        accuracy=tuple(accuracy),
        latency=tuple(latency),
        skipped=tuple(skipped),
        failures=tuple(failures),
        sha256=file_hashes(bundle.manifest),
    )


def _accuracy_row(variant: Variant, found: AccuracyReport, cell: AccuracyReport) -> Accuracy:
    """Accuracy on the golden faces, and its drift from the Cell's; a drift accepted at export is accepted here."""
    file, factor = variant.artifact.file, 1.0 if variant.precision == "fp32" else SMALL_SET_FACTOR
    row = accuracy_row(file, variant.engine, found, cell, variant.precision, variant.compute_precision, factor)
    return msgspec.structs.replace(row, accepted=not row.passed and _accepted(variant))


def _accepted(variant: Variant) -> bool:
    drifts = [each.drift for each in variant.artifact.compute_precisions if each.precision == variant.compute_precision]
    drifts += [variant.artifact.drift] if variant.compute_precision == "fp32" else []
    return any(drift is not None and drift.accepted for drift in drifts)


def _latency(engine: Engine, variant: Variant, golden: Golden) -> VerifiedLatency:
    shape = engine.model.inputs[0].shape
    batch = 1 if shape[0] == DYNAMIC else shape[0]
    crops = golden.reference.crops[np.arange(batch) % len(golden.reference.crops)]
    inputs = {engine.model.inputs[0].name: crops}
    (times,) = time_runs([lambda: engine.run(inputs)], LATENCY_S)
    median_ms = 1e3 * statistics.median(times)
    file, precision = variant.artifact.file, variant.compute_precision
    return VerifiedLatency(file, variant.engine, variant.threads, batch, median_ms, precision)


def _failed(checks: Sequence[Check], accuracy: Sequence[Accuracy]) -> Iterator[str]:
    for check in checks:
        if not check.passed:
            if check.max_abs <= check.tolerance:
                yield (
                    f"{check.artifact} on {check.where}: {check.output} is nearly constant, so the comparison is "
                    "meaningless"
                )
            else:
                yield (
                    f"{check.artifact} on {check.where}: {check.output} differs by {check.max_abs:.3g}, "
                    f"the limit is {check.tolerance:.3g}"
                )
    for row in accuracy:
        if not (row.passed or row.accepted):
            mae = "" if row.mae_drift is None else f", MAE by {row.mae_drift:.3f} deg"
            yield f"{row.artifact} on {row.where}: NME drifts by {row.nme_drift:.3f} points{mae}"
