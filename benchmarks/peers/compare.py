"""Compare this package with other libraries that run the same network on the same machine, in one interleaved run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from synergy.benchmarks.accuracy.jitter import JitterReport, measure_jitter
from synergy.benchmarks.peers.report import PeerReport, network_rows, overhead_rows, peak_rows, pipeline_rows
from synergy.benchmarks.peers.sessions import FULL_PRECISION, OPENVINO_QUEUE, PEERS, LibrarySession, PackageSession
from synergy.benchmarks.sample_crops import PORTRAIT, PORTRAIT_BOX_XYXY, noise_crops, real_crops
from synergy.benchmarks.speed.cases import SessionCase, start_cases
from synergy.benchmarks.speed.engine_process import (
    ISOLATED,
    NETWORK,
    OVERHEAD,
    PIPELINE,
    Picture,
    SessionInputs,
    SessionSpec,
    Workload,
)
from synergy.benchmarks.speed.interleave import Progress, ignore_progress, run_interleaved
from synergy.benchmarks.speed.latency import BenchOptions, plan
from synergy.benchmarks.speed.peak_flops import PeakCase, multiply_adds
from synergy.runtime.aligner import FaceAligner
from synergy.runtime.bundle import Bundle
from synergy.runtime.diagnostics.host import describe_host
from synergy.runtime.engines import engine_class, readable
from synergy.runtime.errors import EngineError, EngineUnavailableError
from synergy.runtime.processes.child import Child
from synergy.runtime.specs import DEFAULT_OPTIONS, DYNAMIC, Device, EngineOptions
from synergy.runtime.text import counted

DEFAULT_BATCHES = (1, 4, 16)
ROUND_SHARE_S = 0.06  # less than interleave.ROUND_SHARE_S: there are many cases. Most take 8 to 12 of 20 samples
COUNT_EXTRA = "pip install 'synergy-mindir[export]'"


def bench_peers(folder: str | Path, options: BenchOptions, progress: Progress = ignore_progress) -> PeerReport:
    """Measure a bundle's network, and the pipeline from a picture to landmarks, here and in the installed libraries.

    Of the options, engines, threads, batches and rounds apply; the default batches are 1, 4 and 16. Raises as
    `latency.bench_bundle`, ValueError for other options, EngineUnavailableError if no library can be compared.
    """
    _check(options)
    host = describe_host()
    bundle = Bundle.open(folder)
    package, failures = package_specs(bundle, options)
    threads, batches = tuple(dict.fromkeys(spec.threads for spec in package)), package[0].batches
    libraries, notes = library_specs(bundle, threads, batches, tuple(PEERS))
    if not libraries:
        raise EngineUnavailableError(f"no library to compare {folder} with: {'; '.join(notes)}")
    package += reduced_specs(package, libraries)
    operations = count_multiply_adds(bundle, notes)
    inputs, most_threads = session_inputs(bundle, batches[-1]), max(threads)
    planned = [(spec, inputs, spec_workloads(spec, most_threads)) for spec in (*libraries, *package)]
    with ExitStack() as stack:
        started = list(start_cases(planned, failures, progress, stack))
        started_peaks = list(_start_peaks(sorted(threads), failures, stack))
        finished = run_interleaved([*started, *started_peaks], options.rounds, failures, progress, ROUND_SHARE_S)
    cases = [case for case in finished if isinstance(case, SessionCase)]
    peaks = [case for case in finished if isinstance(case, PeakCase)]
    jitter = measured_jitter(bundle, cases, notes, failures)
    return PeerReport(
        host=host,
        network=bundle.manifest.arch,
        rows=tuple(network_rows(cases, peaks, operations)),
        overhead=tuple(overhead_rows(cases)),
        pipeline=tuple(pipeline_rows(cases)),
        peak=tuple(peak_rows(peaks)),
        multiply_adds=operations,
        jitter=jitter,
        notes=tuple(notes),
        failures=tuple(failures),
    )


def _check(options: BenchOptions) -> None:
    if options.device != "cpu":
        raise ValueError(f"libraries are compared on the CPU only, not on {options.device}: leave the device out")
    if options.engine_options not in (DEFAULT_OPTIONS, EngineOptions("fp32")):
        raise ValueError("compute precision, affinity and Lite configuration cannot be compared: leave them out")
    if options.against is not None or options.all_artifacts:
        raise ValueError("libraries are compared on one bundle and its preferred artifacts: leave the others out")


def package_specs(bundle: Bundle, options: BenchOptions) -> tuple[list[SessionSpec], list[str]]:
    """A spec for each engine and number of threads, and a line for each requested engine that cannot run."""
    if options.batches is None and bundle.manifest.inputs[0].shape[0] == DYNAMIC:
        options = dataclasses.replace(options, batches=DEFAULT_BATCHES)
    variants, batches, obstacles = plan(bundle, options)
    return [
        SessionSpec(
            PackageSession,
            variant.engine,
            bundle.folder,
            variant.artifact.file,
            bundle.model_file(variant.artifact),
            variant.threads,
            tuple(sorted(batches)),
        )
        for variant in variants
        if variant.compute_precision == "fp32"
    ], obstacles


def library_specs(
    bundle: Bundle, threads: Sequence[int], batches: tuple[int, ...], names: Sequence[str]
) -> tuple[list[SessionSpec], list[str]]:
    """Specs of the named libraries in each of their precisions, and a line for each library that cannot be compared."""
    specs: list[SessionSpec] = []
    notes: list[str] = []
    for name in names:
        peer = PEERS[name]
        artifact = next(iter(readable(peer.engine, bundle.manifest.artifacts)), None)
        if not peer.is_installed:
            if name != OPENVINO_QUEUE:  # the line about OpenVINO says it
                notes.append(f"{name} is not installed, so it is not compared: {peer.install}")
        elif artifact is None:
            reads = engine_class(peer.engine).support_text(Device())
            notes.append(f"{name} is not compared: it {reads}, and {bundle.folder} has no such file")
        else:
            model = bundle.model_file(artifact)
            specs += (
                SessionSpec(
                    LibrarySession, name, bundle.folder, artifact.file, model, count, batches, precision, is_bare=True
                )
                for precision in library_precisions(name)
                for count in threads
            )
    return specs, notes


def reduced_specs(package: Sequence[SessionSpec], libraries: Sequence[SessionSpec]) -> list[SessionSpec]:
    """The package's specs in the reduced precisions that libraries use by default, for engines that support them."""
    precisions = dict.fromkeys(spec.precision for spec in libraries if spec.precision)
    return [
        dataclasses.replace(spec, precision=precision)
        for spec in package
        for precision in precisions
        if Device().kind in engine_class(spec.name).reduced_precisions.get(precision, ())
    ]


def library_precisions(name: str) -> tuple[str, ...]:
    """OpenVINO's default for this processor, and float32 where that differs."""
    if PEERS[name].package != "openvino":
        return ("",)
    child = Child("OpenVINO", "synergy.benchmarks.peers.sessions", "make_precision_handler")
    try:
        return tuple(dict.fromkeys((child.ask(None), FULL_PRECISION)))
    finally:
        child.close()


def count_multiply_adds(bundle: Bundle, notes: list[str]) -> int | None:
    """For one face, counted in the ONNX file; None with a note where that is not possible."""
    artifact = next((each for each in bundle.manifest.artifacts if each.format == "onnx"), None)
    if artifact is None:
        notes.append("share of peak is not available: operations are counted in model.onnx, which this bundle lacks")
        return None
    try:
        return multiply_adds(bundle.read(artifact))
    except ImportError:
        notes.append(f"share of peak is not available: onnx is not installed: {COUNT_EXTRA}")
    except ValueError as error:
        notes.append(f"share of peak is not available: {error}")
    return None


def session_inputs(bundle: Bundle, batch: int) -> SessionInputs:
    """A batch of real crops and noise, and the portrait."""
    size = bundle.manifest.preprocessing.size
    crops = np.concatenate([real_crops(size), noise_crops(size)])
    return SessionInputs(crops[np.arange(batch) % len(crops)], Picture(PORTRAIT.read_bytes(), PORTRAIT_BOX_XYXY))


def spec_workloads(spec: SessionSpec, most_threads: int) -> list[Workload]:
    """Isolated engines and pictures are measured with the most threads only, to leave time for the rest."""
    workloads = [Workload(NETWORK if spec.is_bare else OVERHEAD, batch) for batch in spec.batches]
    if spec.threads == most_threads:
        workloads += [Workload(ISOLATED, batch) for batch in spec.batches if not spec.is_bare]
        workloads.append(Workload(PIPELINE))
    return workloads


def _start_peaks(threads: Sequence[int], failures: list[str], stack: ExitStack) -> Iterator[PeakCase]:
    for count in threads:
        try:
            peak = PeakCase(count)
        except EngineError as error:
            failures.append(f"matrix product, {counted(count, 'thread')}: {error}")
        else:
            stack.callback(peak.close)
            yield peak


def measured_jitter(
    bundle: Bundle, cases: Sequence[SessionCase], notes: list[str], failures: list[str]
) -> JitterReport | None:
    """On the first engine that ran: the engines' landmarks differ by less than a hundredth of a pixel."""
    spec = next((case.spec for case in cases if not case.spec.is_bare), None)
    if spec is None:
        return None
    try:
        with FaceAligner.load(bundle.folder, spec.name, artifact=spec.artifact, isolated=True) as aligner:
            return measure_jitter(aligner)
    except EngineError as error:
        failures.append(f"jitter on {spec.name}: {error}")
    except ValueError as error:
        notes.append(str(error))
    return None
