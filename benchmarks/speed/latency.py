"""Latency, throughput, cold start and memory of a bundle on every installed engine.

Each configuration runs in a process of its own, and their samples are interleaved (`benchmarks.speed.interleave`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from synergy.benchmarks.sample_crops import noise_crops, real_crops
from synergy.benchmarks.speed.cases import SessionCase, start_cases
from synergy.benchmarks.speed.engine_process import EngineSession, SessionInputs, SessionSpec, Workload
from synergy.benchmarks.speed.interleave import Progress, ignore_progress, ratio_by_round, run_interleaved
from synergy.runtime.bundle import Bundle
from synergy.runtime.diagnostics.host import Host, describe_host
from synergy.runtime.engines import ENGINES, default_threads, engine_class
from synergy.runtime.errors import EngineUnavailableError
from synergy.runtime.specs import DEFAULT_OPTIONS, DYNAMIC, Device, EngineOptions, engine_label
from synergy.runtime.variants import Variant, runnable_variants

BASELINE = "onnx"  # the engine with which the others are compared
DEFAULT_BATCHES = (1, 16)


@dataclass(frozen=True)
class BenchOptions:
    """What to measure; None is the default.

    engines: all that are installed. all_artifacts: every artifact an engine reads, not only the one it prefers.
    threads: 1 and all cores; on a card, whose speed does not depend on them, all cores only.
    batches: 1 and 16, or the bundle's own where it is fixed. rounds: samples of each
    configuration; those with long runs take fewer, see `speed.interleave`. against: a second bundle, measured in the
    same run; its onnxruntime becomes the baseline of the ratios. engine_options: precision and other engine settings.
    """

    engines: tuple[str, ...] | None = None
    all_artifacts: bool = False
    device: str = "cpu"
    threads: tuple[int, ...] | None = None
    batches: tuple[int, ...] | None = None
    rounds: int = 20
    against: Path | None = None
    engine_options: EngineOptions = DEFAULT_OPTIONS

    def __post_init__(self) -> None:
        Device.parse(self.device)
        for name in self.engines or ():
            engine_class(name)
        if self.engines == ():
            raise ValueError(f"no engine given: use {', '.join(ENGINES)}, or None for all that are installed")
        for option, numbers in (("threads", self.threads), ("batches", self.batches), ("rounds", (self.rounds,))):
            if numbers is not None and (not numbers or min(numbers) < 1):
                raise ValueError(f"{option} must be 1 or more, not {', '.join(map(str, numbers)) or 'nothing'}")


class Timing(msgspec.Struct, frozen=True):
    """One configuration. Times are of one run of the whole batch, as the caller of `Engine.run` sees them.

    artifact: the file, with the bundle's name before it where two bundles were compared. fps: crops per second.
    cold_start_s: from starting a process to its first output. rss_mb: peak resident memory until then, 10^6 bytes.
    ratio_to_onnxruntime: median over rounds of this time divided by onnxruntime's with the same threads and batch in
    the same round, so below 1 is faster; None where onnxruntime was not measured.
    """

    engine: str
    artifact: str
    device: str
    threads: int
    batch: int
    median_ms: float
    p95_ms: float
    fps: float
    cold_start_s: float
    rss_mb: float
    ratio_to_onnxruntime: float | None


class Row(Timing, frozen=True, omit_defaults=True):
    """A configuration with its compute precision; the JSON has it only where it is not float32."""

    compute_precision: str = msgspec.field(default="fp32", name="computing")

    @property
    def where(self) -> str:
        """The engine, with its compute precision if that is not float32."""
        return engine_label(self.engine, self.compute_precision)


class BenchReport(msgspec.Struct, frozen=True):
    """The JSON of `synergy bench latency`; `failures` has a line for each configuration that could not be measured.

    sha256: of each artifact of the bundle, by file name; empty if two bundles were measured.
    """

    host: Host
    rows: tuple[Row, ...]
    failures: tuple[str, ...] = ()
    sha256: dict[str, str] = {}


def bench_bundle(bundle_folder: str | Path, options: BenchOptions, progress: Progress = ignore_progress) -> BenchReport:
    """Measure a bundle. `progress` is called with the completed fraction, 0 to 1, and a description.

    An engine that fails is reported in `failures` and the others are measured. Raises BundleError for a bad bundle,
    ValueError for a batch that a fixed-batch bundle does not have, EngineUnavailableError if no engine can be measured.
    """
    host = describe_host()
    bundle = Bundle.open(bundle_folder)
    planned, failures = _planned(bundle, options)
    hashes = {artifact.file: artifact.sha256 for artifact in bundle.manifest.artifacts}
    if options.against is not None:
        others, missing = _planned(Bundle.open(options.against), options)
        planned, failures, hashes = planned + others, failures + missing, {}
    with ExitStack() as stack:
        cases = list(start_cases(planned, failures, progress, stack))
        finished = run_interleaved(cases, options.rounds, failures, progress)
    return BenchReport(host, tuple(_rows(finished)), tuple(failures), hashes)


def plan(bundle: Bundle, options: BenchOptions) -> tuple[list[Variant], tuple[int, ...], list[str]]:
    """The variants and batches that can be measured here, and a line for each requested engine that cannot run.

    Raises EngineUnavailableError if nothing can be measured, ValueError as `bench_bundle`.
    """
    device = Device.parse(options.device)
    all_cores = default_threads()
    threads = options.threads or ((1, all_cores) if device.kind == "cpu" else (all_cores,))
    batches = _batches(bundle, options)
    found = runnable_variants(bundle.manifest.artifacts, device, options.engines, threads, options.engine_options)
    variants = list(found.variants) if options.all_artifacts else found.best_formats()
    obstacles = list(
        dict.fromkeys(
            f"{each.engine}: {each.cause_and_fix}"
            for each in found.skipped
            if each.compute_precision == "fp32" and each.engine in (options.engines or ENGINES)
        )
    )
    if not variants:
        raise EngineUnavailableError(f"no engine here runs {bundle.folder}: {'; '.join(obstacles)}")
    return variants, batches, obstacles if options.engines else []


def _batches(bundle: Bundle, options: BenchOptions) -> tuple[int, ...]:
    fixed = bundle.manifest.inputs[0].shape[0]
    if fixed == DYNAMIC:
        return tuple(dict.fromkeys(options.batches or DEFAULT_BATCHES))
    if options.batches not in (None, (fixed,)):
        raise ValueError(f"{bundle.folder} was exported for batches of {fixed} only: leave the batches out")
    return (fixed,)


def _planned(
    bundle: Bundle, options: BenchOptions
) -> tuple[list[tuple[SessionSpec, SessionInputs, list[Workload]]], list[str]]:
    """A session for each variant and batch, and the obstacles of `plan`."""
    variants, batches, obstacles = plan(bundle, options)
    size = bundle.manifest.preprocessing.size
    crops = np.concatenate([real_crops(size), noise_crops(size)])
    inputs = {batch: SessionInputs(crops[np.arange(batch) % len(crops)]) for batch in batches}
    return [
        (_spec(bundle, variant, batch, options), inputs[batch], [Workload(batch=batch)])
        for variant in variants
        for batch in batches
    ], obstacles


def _spec(bundle: Bundle, variant: Variant, batch: int, options: BenchOptions) -> SessionSpec:
    return SessionSpec(
        EngineSession,
        variant.engine,
        bundle.folder,
        variant.artifact.file,
        bundle.model_file(variant.artifact),
        variant.threads,
        (batch,),
        variant.compute_precision,
        device=Device.parse(options.device),
        options=options.engine_options,
    )


def _rows(cases: Sequence[SessionCase]) -> Iterator[Row]:
    """The baseline is onnxruntime on the last bundle."""
    folders = list(dict.fromkeys(case.spec.folder for case in cases))
    baselines: dict[tuple[int, int], SessionCase] = {}
    for case in cases:
        if case.spec.name == BASELINE and case.spec.folder == folders[-1]:
            baselines.setdefault((case.spec.threads, case.workload.batch), case)
    for case in cases:
        baseline = baselines.get((case.spec.threads, case.workload.batch))
        yield _row(case, baseline, several=len(folders) > 1)


def _row(case: SessionCase, baseline: SessionCase | None, several: bool) -> Row:
    spec, batch = case.spec, case.workload.batch
    return Row(
        engine=spec.name,
        artifact=f"{spec.folder.name}/{spec.artifact}" if several else spec.artifact,
        device=str(spec.device),
        threads=spec.threads,
        batch=batch,
        median_ms=1e3 * case.median_s,
        p95_ms=1e3 * case.p95_s,
        fps=batch / case.median_s,
        cold_start_s=case.cold_start_s,
        rss_mb=case.rss_mb,
        ratio_to_onnxruntime=None if baseline is None else ratio_by_round(case.samples, baseline.samples),
        compute_precision=spec.precision,
    )
