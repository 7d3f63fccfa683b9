"""What a report says, measured now or read from the bundle; nothing here knows how it will look."""

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
from synergy.benchmarks.report.pictures import FacePicture, face_pictures, portrait_overlay
from synergy.benchmarks.speed.engine_process import BARE
from synergy.benchmarks.speed.latency import BenchOptions, BenchReport, bench_bundle
from synergy.runtime.aligner import FaceAligner
from synergy.runtime.bundle import Bundle
from synergy.runtime.diagnostics.host import Host, describe_host
from synergy.runtime.engines import Device, default_threads, engine_class
from synergy.runtime.engines.base import DYNAMIC
from synergy.runtime.errors import EngineError, EngineUnavailableError
from synergy.runtime.manifest import Manifest
from synergy.runtime.parity_record import ParityReport, read_parity
from synergy.runtime.variants import Variant, runnable_variants

BENCH_ROUNDS = 10  # enough for a stable median, and the page is ready in a minute
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class ReportOptions:
    """What to measure for the page.

    engines: None for all that are present. threads: None for all cores. root, raw: as `EvalOptions`.
    bench_file: what `synergy bench --json` wrote, in place of measuring latency now.
    """

    engines: tuple[str, ...] | None = None
    device: str = "cpu"
    threads: int | None = None
    root: Path | None = None
    raw: Path | None = None
    bench_file: Path | None = None

    def __post_init__(self) -> None:
        Device.parse(self.device)
        for name in self.engines or ():
            engine_class(name)


@dataclass(frozen=True)
class Run:
    """What one artifact reached on one engine."""

    variant: Variant
    report: AccuracyReport

    def __str__(self) -> str:
        return str(self.variant)


@dataclass
class Findings:
    """What measuring came upon: `not_run` is missing on this machine, `failures` should have worked."""

    not_run: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ReportData:
    """All that the page shows.

    parity: None where the bundle has no proof. data_source: one line on the faces that accuracy was measured on;
    yaw_deg (N,) their true yaw. runs: empty where no engine is here. portrait_bgr: a photo with what the first run's
    artifact finds in it. bench_source: empty if it was measured for this page, else the file it is from.
    """

    name: str
    manifest: Manifest
    parity: ParityReport | None
    host: Host
    made: datetime
    synthetic: bool
    data_source: str
    yaw_deg: np.ndarray
    runs: tuple[Run, ...]
    pictures: tuple[FacePicture, ...]
    portrait_bgr: np.ndarray | None
    bench: BenchReport | None
    bench_source: str
    not_run: tuple[str, ...]
    failures: tuple[str, ...]


def collect(folder: Path, options: ReportOptions, say: Progress) -> ReportData:
    """Verify the bundle, read its proof, measure accuracy and latency. An engine that fails is named in `failures`.

    `say` is told the part done, 0 to 1, and what is being done. Raises BundleError for a bundle that is altered or
    unreadable, DataError for bad data, ValueError for a bench file that is none or is another bundle's.
    """
    bundle = Bundle.open(folder)
    verify(bundle)
    parity, host, found = read_parity(bundle), describe_host(), Findings()
    bench = None if options.bench_file is None else read_bench(options.bench_file, bundle)
    say(0.0, "reading faces")
    data = load_data(EvalOptions(root=options.root, raw=options.raw))
    measured = list(_measure(bundle, data, options, found, lambda part, doing: say(part / 2, doing)))
    bench = bench or _bench(bundle, options, found, lambda part, doing: say((1 + part) / 2, doing))
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
        bench_source="" if options.bench_file is None else options.bench_file.name,
        not_run=tuple(found.not_run),
        failures=tuple(found.failures),
    )


def verify(bundle: Bundle) -> None:
    """Raise BundleError unless every file hashes to what the manifest says."""
    for entry in bundle.manifest.files:
        bundle.read(entry)


def read_bench(path: Path, bundle: Bundle) -> BenchReport:
    """What `synergy bench --json` wrote for this bundle, without the peers' own sessions, which a bundle is not to be
    praised for. Raises ValueError if it is anything else."""
    try:
        report = msgspec.json.decode(path.read_bytes(), type=BenchReport)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not what `synergy bench --json` writes: {error}") from None
    report = msgspec.structs.replace(report, rows=tuple(row for row in report.rows if not row.engine.endswith(BARE)))
    cure = f"make it with `synergy bench {bundle.folder} --json FILE`"
    strange = {row.artifact for row in report.rows} - {artifact.file for artifact in bundle.manifest.artifacts}
    if strange or not report.rows:
        raise ValueError(f"{path} is not about {bundle.folder} but {', '.join(sorted(strange)) or 'nothing'}: {cure}")
    if not all(0 < row.median_ms <= row.p95_ms and row.batch > 0 for row in report.rows):
        raise ValueError(f"{path} has times or batches that cannot be: {cure}")
    return report


def _measure(
    bundle: Bundle, data: EvaluationData, options: ReportOptions, found: Findings, say: Progress
) -> Iterator[tuple[Run, Predictions]]:
    runnable = _runnable(bundle, options, found)
    for done, variant in enumerate(runnable):
        say(done / len(runnable), f"accuracy of {variant}")
        try:
            with _open(bundle, variant, options) as aligner:
                predictions = run_predictor(bundle_predictor(aligner), data)
            yield Run(variant, score(predictions, data)), predictions
        except (EngineError, DataError) as error:  # the labels are checked already: it is the prediction
            found.failures.append(f"{variant}: {error}")


def _runnable(bundle: Bundle, options: ReportOptions, found: Findings) -> list[Variant]:
    """Every artifact on every engine that reads it and is here, in every verified precision; others are noted."""
    device, threads = Device.parse(options.device), (options.threads or default_threads(),)
    artifacts = bundle.manifest.artifacts
    runnable = runnable_variants(artifacts, device, options.engines, threads)
    found.not_run += (str(each) for each in runnable.skipped if each.artifact is not None)
    return [variant for artifact in artifacts for variant in runnable.of(artifact)]


def _bench(bundle: Bundle, options: ReportOptions, found: Findings, say: Progress) -> BenchReport | None:
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
        report = bench_bundle(bundle.folder, chosen, say)
    except EngineUnavailableError as error:
        found.not_run.append(f"latency: {error}")
        return None
    found.failures.extend(f"latency: {failure}" for failure in report.failures)
    return report


def _portrait(bundle: Bundle, run: Run, options: ReportOptions) -> np.ndarray:
    with _open(bundle, run.variant, options) as aligner:
        return portrait_overlay(aligner)


def _open(bundle: Bundle, variant: Variant, options: ReportOptions) -> FaceAligner:
    return FaceAligner.load(
        bundle.folder,
        variant.engine,
        options.device,
        options.threads,
        variant.artifact.file,
        isolated=True,  # MindSpore and Lite follow one another here, and cannot share a process
        options=variant.options(),
    )
