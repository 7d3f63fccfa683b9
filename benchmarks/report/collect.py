"""Collect the data of a report: read it from the bundle, and measure accuracy and latency."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import msgspec
import numpy as np

from synergy.benchmarks.accuracy.data import DataError, EvaluationData
from synergy.benchmarks.accuracy.evaluate import EvalOptions, load_data
from synergy.benchmarks.accuracy.predictions import Predictions, bundle_predictor
from synergy.benchmarks.accuracy.report import AccuracyReport, run_predictor, score
from synergy.benchmarks.parity.verify import VerifyReport
from synergy.benchmarks.report.pictures import FacePicture, face_pictures, portrait_overlay
from synergy.benchmarks.report.verified import read_verified
from synergy.benchmarks.speed.engine_process import BARE
from synergy.benchmarks.speed.latency import BenchOptions, BenchReport, bench_bundle
from synergy.runtime.aligner import FaceAligner
from synergy.runtime.bundle import Bundle
from synergy.runtime.diagnostics.host import Host, describe_host
from synergy.runtime.engines import default_threads, engine_class
from synergy.runtime.errors import EngineError, EngineUnavailableError
from synergy.runtime.manifest import Manifest
from synergy.runtime.specs import DYNAMIC, Device
from synergy.runtime.variants import Variant, runnable_variants
from synergy.runtime.verification.parity_record import ParityReport, read_parity

BENCH_ROUNDS = 10  # enough for a stable median in about a minute
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class ReportOptions:
    """What to measure for the page.

    engines: None for all that are present. threads: None for all cores. root, raw: as in `EvalOptions`.
    bench_file: a file of `synergy bench --json` to read instead of measuring latency. verified_files: files of
    `synergy verify --json`, made on other devices.
    """

    engines: tuple[str, ...] | None = None
    device: str = "cpu"
    threads: int | None = None
    root: Path | None = None
    raw: Path | None = None
    bench_file: Path | None = None
    verified_files: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        Device.parse(self.device)
        for name in self.engines or ():
            engine_class(name)


@dataclass(frozen=True)
class VariantResult:
    """Accuracy of one variant."""

    variant: Variant
    report: AccuracyReport

    def __str__(self) -> str:
        return str(self.variant)


@dataclass
class Findings:
    """not_run: variants that this machine cannot run, with reasons. failures: errors of variants that it can run."""

    not_run: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ReportData:
    """All data of the page.

    parity: None if the bundle has no parity report. data_source: one line on the faces of the accuracy measurement;
    yaw_deg: (N,) their true yaw. runs: empty if no engine is present. portrait_bgr: (H,W,3) uint8, a photo with the
    landmarks and pose that the first variant predicts. bench_source: empty if latency was measured for this page, else
    the name of the file. verified: results of `synergy verify` on other devices.
    """

    name: str
    manifest: Manifest
    parity: ParityReport | None
    host: Host
    made: datetime
    synthetic: bool
    data_source: str
    yaw_deg: np.ndarray
    runs: tuple[VariantResult, ...]
    pictures: tuple[FacePicture, ...]
    portrait_bgr: np.ndarray | None
    bench: BenchReport | None
    bench_source: str
    not_run: tuple[str, ...]
    failures: tuple[str, ...]
    verified: tuple[VerifyReport, ...] = ()


def collect(folder: Path, options: ReportOptions, progress: Progress) -> ReportData:
    """Verify the bundle's files, read its parity report, measure accuracy and latency. Engine errors are `failures`.

    `progress` is called with the completed fraction, 0 to 1, and a description. Raises BundleError for a bundle that is
    altered or unreadable, DataError for bad data, ValueError for a bench or verify file of another format or another
    bundle.
    """
    bundle = Bundle.open(folder)
    verify(bundle)
    parity, host, findings = read_parity(bundle), describe_host(), Findings()
    bench = None if options.bench_file is None else read_bench(options.bench_file, bundle)
    verified = tuple(read_verified(path, bundle) for path in options.verified_files)
    progress(0.0, "reading faces")
    data = load_data(EvalOptions(root=options.root, raw=options.raw))
    measured = list(_measure(bundle, data, options, findings, lambda part, text: progress(part / 2, text)))
    bench = bench or _bench(bundle, options, findings, lambda part, text: progress((1 + part) / 2, text))
    first = measured[0] if measured else None
    return ReportData(
        name=bundle.folder.resolve().name,
        manifest=bundle.manifest,
        parity=parity,
        host=host,
        made=datetime.now(timezone.utc),
        synthetic=not (options.root or options.raw),
        data_source=data.source,
        yaw_deg=data.yaw_deg,
        runs=tuple(run for run, _ in measured),
        pictures=() if first is None else face_pictures(first[0].report, first[1], data),
        portrait_bgr=None if first is None else _portrait(bundle, first[0], options),
        bench=bench,
        bench_source=_bench_source(options, bench),
        not_run=tuple(findings.not_run),
        failures=tuple(findings.failures),
        verified=verified,
    )


def verify(bundle: Bundle) -> None:
    """Raise BundleError unless size and hash of every file match the manifest."""
    for entry in bundle.manifest.files:
        bundle.read(entry)


def read_bench(path: Path, bundle: Bundle) -> BenchReport:
    """Read a file of `synergy bench --json` for this bundle, without the rows of other libraries.

    Raises ValueError for other files, and for files of other bundles.
    """
    try:
        report = msgspec.json.decode(path.read_bytes(), type=BenchReport)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not what `synergy bench --json` writes: {error}") from None
    report = msgspec.structs.replace(report, rows=tuple(row for row in report.rows if not row.engine.endswith(BARE)))
    cure = f"make it with `synergy bench {bundle.folder} --json FILE`"
    unknown = {row.artifact for row in report.rows} - {artifact.file for artifact in bundle.manifest.artifacts}
    if unknown or not report.rows:
        raise ValueError(f"{path} is not about {bundle.folder} but {', '.join(sorted(unknown)) or 'nothing'}: {cure}")
    hashes = {artifact.file: artifact.sha256 for artifact in bundle.manifest.artifacts}
    if report.sha256 not in ({}, hashes):
        raise ValueError(f"{path} is about another bundle than {bundle.folder}, its hashes differ: {cure}")
    if not all(0 < row.median_ms <= row.p95_ms and row.batch > 0 for row in report.rows):
        raise ValueError(f"{path} has impossible times or batch sizes: {cure}")
    return report


def _measure(
    bundle: Bundle, data: EvaluationData, options: ReportOptions, findings: Findings, progress: Progress
) -> Iterator[tuple[VariantResult, Predictions]]:
    runnable = _runnable(bundle, options, findings)
    for done, variant in enumerate(runnable):
        progress(done / len(runnable), f"accuracy of {variant}")
        try:
            with _open(bundle, variant, options) as aligner:
                predictions = run_predictor(bundle_predictor(aligner), data)
            yield VariantResult(variant, score(predictions, data)), predictions
        except (EngineError, DataError) as error:  # labels were checked on loading, so DataError is about a prediction
            findings.failures.append(f"{variant}: {error}")


def _runnable(bundle: Bundle, options: ReportOptions, findings: Findings) -> list[Variant]:
    """All variants that can run on this machine; the others are added to `findings.not_run`."""
    device, threads = Device.parse(options.device), (options.threads or default_threads(),)
    artifacts = bundle.manifest.artifacts
    runnable = runnable_variants(artifacts, device, options.engines, threads)
    findings.not_run += (str(each) for each in runnable.skipped if each.artifact is not None)
    return [variant for artifact in artifacts for variant in runnable.of(artifact)]


def _bench(bundle: Bundle, options: ReportOptions, findings: Findings, progress: Progress) -> BenchReport | None:
    threads = (options.threads or default_threads(),)
    batches = (1,) if bundle.manifest.inputs[0].shape[0] == DYNAMIC else None
    chosen = BenchOptions(
        engines=options.engines,
        all_artifacts=True,
        device=options.device,
        threads=threads,
        batches=batches,
        rounds=BENCH_ROUNDS,
    )
    try:
        report = bench_bundle(bundle.folder, chosen, progress)
    except EngineUnavailableError as error:
        findings.not_run.append(f"latency: {error}")
        return None
    findings.failures.extend(f"latency: {failure}" for failure in report.failures)
    return report


def _bench_source(options: ReportOptions, bench: BenchReport | None) -> str:
    if options.bench_file is None or bench is None:
        return ""
    return options.bench_file.name + ("" if bench.sha256 else " (unchecked: it has no hashes of the artifacts)")


def _portrait(bundle: Bundle, run: VariantResult, options: ReportOptions) -> np.ndarray:
    with _open(bundle, run.variant, options) as aligner:
        return portrait_overlay(aligner)


def _open(bundle: Bundle, variant: Variant, options: ReportOptions) -> FaceAligner:
    return FaceAligner.load(
        bundle.folder,
        variant.engine,
        options.device,
        options.threads,
        variant.artifact.file,
        isolated=True,  # MindSpore and Lite cannot share a process
        options=variant.options(),
    )
