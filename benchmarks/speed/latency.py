"""Latency, throughput, cold start and memory of a bundle on every engine present, side by side.

Each spec lives in a process of its own, and they take turns (`benchmarks.speed.interleave`).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from synergy.benchmarks.sample_crops import noise_crops, real_crops
from synergy.benchmarks.speed.engine_process import Job, start_several
from synergy.benchmarks.speed.interleave import SAMPLE_S, BenchmarkCase, Progress, ratio_by_round, run_interleaved
from synergy.runtime.bundle import Bundle
from synergy.runtime.diagnostics.host import Host, describe_host
from synergy.runtime.engines import ENGINES, default_threads, engine_class
from synergy.runtime.errors import EngineError, EngineUnavailableError
from synergy.runtime.specs import DEFAULT_OPTIONS, DYNAMIC, Device, EngineOptions, engine_label
from synergy.runtime.text import counted
from synergy.runtime.variants import Variant, runnable_variants

BASELINE = "onnx"  # the engine that ratios are formed against
DEFAULT_BATCHES = (1, 16)


@dataclass(frozen=True)
class BenchOptions:
    """What to measure; None stands for the default.

    engines: all that are present. all_artifacts: every artifact an engine reads, not only the one it prefers.
    threads: 1 and all cores. batches: 1 and 16, or the bundle's own where it is fixed. rounds: how many turns each
    spec takes; those with long runs take fewer, see `speed.interleave`. against: another bundle, measured in
    the same rounds: its onnxruntime is then what ratios are formed against. engine_options: how engines compute.
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
            raise ValueError(f"no engine named: use {', '.join(ENGINES)}, or leave it out for all that are present")
        for option, numbers in (("threads", self.threads), ("batches", self.batches), ("rounds", (self.rounds,))):
            if numbers is not None and (not numbers or min(numbers) < 1):
                raise ValueError(f"{option} must be 1 or more, not {', '.join(map(str, numbers)) or 'nothing'}")


class Timing(msgspec.Struct, frozen=True):
    """One spec. Times are of one run of the whole batch, as the caller of `Engine.run` sees it.

    artifact: its file, with its bundle's name before it where two were compared. cold_start_s: start of a process to
    its first output. rss_mb: peak resident memory until then, 10^6 bytes. ratio_to_onnxruntime: median over rounds of
    this time over onnxruntime's with the same threads and batch in the same round, so below 1 is faster; None where
    onnxruntime was not measured.
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
    """One of our engines; `compute_precision`: what it computes in, where that is not float32."""

    compute_precision: str = msgspec.field(default="fp32", name="computing")

    @property
    def where(self) -> str:
        """The engine, and what it computes in."""
        return engine_label(self.engine, self.compute_precision)


class BenchReport(msgspec.Struct, frozen=True):
    """All rows; `failures` has a line for each spec that could not be measured."""

    host: Host
    rows: tuple[Row, ...]
    failures: tuple[str, ...] = ()


@dataclass(frozen=True)
class LatencySpec:
    """One row of the table: a variant of a bundle on a device, with so many crops per run."""

    bundle: Bundle
    variant: Variant
    device: Device
    batch: int

    def __str__(self) -> str:
        threads = counted(self.variant.threads, "thread")
        return f"{self.bundle.folder.name}/{self.variant}, {threads}, batch {self.batch}"


class EngineCase(BenchmarkCase):
    """A spec with its process and its samples."""

    def __init__(self, spec: LatencySpec, job: Job) -> None:
        """Start the engine afresh several times and keep the last. Raises EngineError if it does not run."""
        super().__init__()
        self.spec = spec
        self.starts = start_several(job)
        self.process = self.starts[-1]

    def __str__(self) -> str:
        return str(self.spec)

    def run_sample(self, number: int) -> list[float]:
        return self.process.turn(SAMPLE_S)


def bench_bundle(bundle_folder: str | Path, options: BenchOptions, progress: Progress | None = None) -> BenchReport:
    """Measure a bundle. `progress` hears the part done (0 to 1) and what is being done.

    An engine that fails is reported in `failures` and the rest goes on. Raises BundleError for a bad bundle,
    ValueError for a batch that a fixed-batch bundle does not have, EngineUnavailableError if no engine fits.
    """
    say = progress or _silent
    host = describe_host()
    specs, failures = plan(Bundle.open(bundle_folder), options)
    if options.against is not None:
        others, missing = plan(Bundle.open(options.against), options)
        specs, failures = specs + others, failures + missing
    with ExitStack() as stack:
        cases = list(_start_all(specs, options.engine_options, failures, say, stack))
        finished = run_interleaved(cases, options.rounds, failures, say)
    return BenchReport(host, tuple(_rows(finished)), tuple(failures))


def plan(bundle: Bundle, options: BenchOptions) -> tuple[list[LatencySpec], list[str]]:
    """What can be measured here, and a line for each engine that was asked for by name and cannot run.

    Raises EngineUnavailableError if nothing can be measured.
    """
    device = Device.parse(options.device)
    threads = options.threads or (1, default_threads())
    artifacts = bundle.manifest.artifacts
    found = runnable_variants(artifacts, device, options.engines, threads, options.engine_options)
    variants = found.variants if options.all_artifacts else found.best_formats()
    specs = [
        LatencySpec(bundle, variant, device, batch)
        for variant in variants
        for batch in dict.fromkeys(_batches(bundle, options))
    ]
    obstacles = list(
        dict.fromkeys(
            f"{each.engine}: {each.cause_and_fix}"
            for each in found.skipped
            if each.compute_precision == "fp32" and each.engine in (options.engines or ENGINES)
        )
    )
    if not specs:
        raise EngineUnavailableError(f"no engine here runs {bundle.folder}: {'; '.join(obstacles)}")
    return specs, obstacles if options.engines else []


def _batches(bundle: Bundle, options: BenchOptions) -> tuple[int, ...]:
    fixed = bundle.manifest.inputs[0].shape[0]
    if fixed == DYNAMIC:
        return options.batches or DEFAULT_BATCHES
    if options.batches not in (None, (fixed,)):
        raise ValueError(f"{bundle.folder} was exported for batches of {fixed} only: leave the batches out")
    return (fixed,)


def _start_all(
    specs: Sequence[LatencySpec],
    options: EngineOptions,
    failures: list[str],
    say: Progress,
    stack: ExitStack,
) -> Iterator[EngineCase]:
    for done, each in enumerate(specs):
        say(done / len(specs) / 2, f"starting {each}")
        model = each.bundle.model_file(each.variant.artifact)
        try:
            case = EngineCase(
                each,
                Job(
                    each.variant.engine,
                    model,
                    each.device,
                    each.variant.threads,
                    _inputs(each),
                    each.variant.options(options),
                ),
            )
            stack.callback(case.process.close)
            case.process.turn(SAMPLE_S)  # warms up, and leaves it at rest for the next to start
        except EngineError as error:
            failures.append(f"{each}: {error}")
        else:
            yield case


def _inputs(spec: LatencySpec) -> dict[str, np.ndarray]:
    manifest = spec.bundle.manifest
    crops = np.concatenate([real_crops(manifest.preprocessing.size), noise_crops(manifest.preprocessing.size)])
    return {manifest.inputs[0].name: crops[np.arange(spec.batch) % len(crops)]}


def _rows(finished: Sequence[EngineCase]) -> Iterator[Row]:
    """The baseline is onnxruntime on the bundle that was given last."""
    baselines: dict[tuple[int, int], EngineCase] = {}
    folders = list(dict.fromkeys(each.spec.bundle.folder for each in finished))
    for each in finished:
        setting = each.spec
        if setting.variant.engine == BASELINE and setting.bundle.folder == folders[-1]:
            baselines.setdefault((setting.variant.threads, setting.batch), each)
    for each in finished:
        baseline = baselines.get((each.spec.variant.threads, each.spec.batch))
        yield _row(each, baseline, several=len(folders) > 1)


def _row(case: EngineCase, baseline: EngineCase | None, several: bool) -> Row:
    spec = case.spec
    file = spec.variant.artifact.file
    times_s = [run for runs in case.samples.values() for run in runs]
    median_s = statistics.median(times_s)
    return Row(
        engine=spec.variant.engine,
        artifact=f"{spec.bundle.folder.name}/{file}" if several else file,
        device=str(spec.device),
        threads=spec.variant.threads,
        batch=spec.batch,
        median_ms=1e3 * median_s,
        p95_ms=1e3 * float(np.percentile(times_s, 95)),
        fps=spec.batch / median_s,
        cold_start_s=statistics.median(start.cold_start_s for start in case.starts),
        rss_mb=statistics.median(start.rss_mb for start in case.starts),
        ratio_to_onnxruntime=None if baseline is None else ratio_by_round(case.samples, baseline.samples),
        compute_precision=spec.variant.compute_precision,
    )


def _silent(part: float, doing: str) -> None:
    pass
