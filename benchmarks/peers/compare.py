"""This program beside its peers: what people would use in its place on the same machine, measured in the same rounds.

Each library has a process for each number of threads (`peer_process`), and all take turns (`rounds`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from synergy.benchmarks.accuracy.jitter import JitterReport, measure_jitter
from synergy.benchmarks.peers.pipeline import Picture
from synergy.benchmarks.peers.process import (
    ISOLATED,
    NETWORK,
    OVERHEAD,
    PATH,
    SessionInputs,
    SessionProcess,
    SessionSpec,
    Workload,
)
from synergy.benchmarks.peers.report import (
    PeerReport,
    SessionCase,
    network_rows,
    overhead_rows,
    path_rows,
    peak_rows,
)
from synergy.benchmarks.peers.sessions import FULL_PRECISION, PEERS
from synergy.benchmarks.sample_crops import PORTRAIT, PORTRAIT_BOX_XYXY, noise_crops, real_crops
from synergy.benchmarks.speed.engine_process import start_repeatedly
from synergy.benchmarks.speed.interleave import BenchmarkCase, Progress, run_interleaved
from synergy.benchmarks.speed.latency import BenchOptions, plan
from synergy.benchmarks.speed.peak_flops import Peak, multiply_adds
from synergy.runtime.aligner import FaceAligner
from synergy.runtime.bundle import Bundle
from synergy.runtime.diagnostics.host import describe_host
from synergy.runtime.engines import engine_class, readable
from synergy.runtime.errors import EngineError, EngineUnavailableError
from synergy.runtime.processes.child import Child
from synergy.runtime.specs import DEFAULT_OPTIONS, DYNAMIC, Device, EngineOptions

DEFAULT_BATCHES = (1, 4, 16)
ROUND_SHARE_S = 0.06  # as `rounds.ROUND_SHARE_S`, for the many that play here: in 20 rounds most take 8 to 12 turns
COUNT_EXTRA = "pip install 'synergy-mindir[export]'"


def bench_peers(folder: str | Path, options: BenchOptions, progress: Progress | None = None) -> PeerReport:
    """Measure a bundle's network, and the way from a picture to landmarks, here and in the peers that are installed.

    Of the options, engines, threads, batches and rounds count; by default batches of 1, 4 and 16. Raises as
    `latency.bench_bundle`, ValueError for options that peers do not share, EngineUnavailableError without any peer.
    """
    _check(options)
    say = progress or (lambda part, doing: None)
    host = describe_host()
    bundle = Bundle.open(folder)
    ours, failures = _package_specs(bundle, options)
    threads, batches = tuple(dict.fromkeys(spec.threads for spec in ours)), ours[0].batches
    peers, notes = library_specs(bundle, threads, batches, tuple(PEERS))
    if not peers:
        raise EngineUnavailableError(f"no peer to compare {folder} with: {'; '.join(notes)}")
    ours += _reduced(ours, peers)
    operations = _multiply_adds(bundle, notes)
    with ExitStack() as stack:
        cases = list(_start_all([*peers, *ours], session_inputs(bundle, batches[-1]), failures, say, stack))
        peaks = list(_start_peaks(sorted({spec.threads for spec in ours}), failures, stack))
        playing = run_interleaved([*cases, *peaks], options.rounds, failures, say, ROUND_SHARE_S)
    seated = [each for each in playing if isinstance(each, SessionCase)]
    finished = [each for each in playing if isinstance(each, Peak)]
    jitter = _jitter(bundle, seated, notes, failures)
    return PeerReport(
        host=host,
        network=bundle.manifest.arch,
        rows=tuple(network_rows(seated, finished, operations)),
        overhead=tuple(overhead_rows(seated)),
        path=tuple(path_rows(seated)),
        peak=tuple(peak_rows(finished)),
        multiply_adds=operations,
        jitter=jitter,
        notes=tuple(notes),
        failures=tuple(failures),
    )


def _check(options: BenchOptions) -> None:
    if options.device != "cpu":
        raise ValueError(f"peers are compared on the CPU only: leave --device {options.device} out")
    if options.engine_options not in (DEFAULT_OPTIONS, EngineOptions("fp32")):
        raise ValueError("peers know no --device-precision, --affinity or --lite-config: leave them out")
    if options.against is not None or options.all_artifacts:
        raise ValueError("peers are compared on one bundle's preferred artifacts: leave --against and --all out")


def _package_specs(bundle: Bundle, options: BenchOptions) -> tuple[list[SessionSpec], list[str]]:
    """One for each engine and number of threads, and a line for each engine that was asked for and is not here."""
    if options.batches is None and bundle.manifest.inputs[0].shape[0] == DYNAMIC:
        options = dataclasses.replace(options, batches=DEFAULT_BATCHES)
    planned, obstacles = plan(bundle, options)
    batches = tuple(sorted({each.batch for each in planned}))
    variants = dict.fromkeys(each.variant for each in planned if each.variant.compute_precision == "fp32")
    return [
        SessionSpec(
            each.engine,
            True,
            bundle.folder,
            each.artifact.file,
            bundle.model_file(each.artifact),
            each.threads,
            batches,
        )
        for each in variants
    ], obstacles


def library_specs(
    bundle: Bundle, threads: Sequence[int], batches: tuple[int, ...], names: Sequence[str]
) -> tuple[list[SessionSpec], list[str]]:
    """The named peers that are here, in each type that they would compute in, and a line for each that is not."""
    specs: list[SessionSpec] = []
    notes: list[str] = []
    for name in names:
        peer = PEERS[name]
        artifact = next(iter(readable(peer.engine, bundle.manifest.artifacts)), None)
        if not peer.is_here:
            notes.append(f"{name} is not installed, so not compared: {peer.install}")
        elif artifact is None:
            reads = engine_class(peer.engine).support_text(Device())
            notes.append(f"{name} is not compared: {reads}; {bundle.folder} has nothing for it")
        else:
            model = bundle.model_file(artifact)
            specs += (
                SessionSpec(name, False, bundle.folder, artifact.file, model, count, batches, precision)
                for precision in _precisions(name)
                for count in threads
            )
    return specs, notes


def _reduced(ours: Sequence[SessionSpec], peers: Sequence[SessionSpec]) -> list[SessionSpec]:
    """Ours again in what a peer computes in by itself, for engines that are told: like is compared with like."""
    taken = dict.fromkeys(spec.precision for spec in peers if spec.precision)
    return [
        dataclasses.replace(spec, precision=precision)
        for spec in ours
        for precision in taken
        if Device().kind in engine_class(spec.name).reduced_precisions.get(precision, ())
    ]


def _precisions(name: str) -> tuple[str, ...]:
    """OpenVINO's own choice for this processor, and float32 where that is another."""
    if name != "openvino":
        return ("",)
    child = Child("OpenVINO", "synergy.benchmarks.peers.sessions", "make_precision_handler")
    try:
        return tuple(dict.fromkeys((child.ask(None), FULL_PRECISION)))
    finally:
        child.close()


def _multiply_adds(bundle: Bundle, notes: list[str]) -> int | None:
    """Of one face, counted in the ONNX file where there is one."""
    artifact = next((each for each in bundle.manifest.artifacts if each.format == "onnx"), None)
    if artifact is None:
        notes.append("the network's arithmetic is counted in model.onnx, which this bundle lacks")
        return None
    try:
        return multiply_adds(bundle.read(artifact))
    except ImportError:
        notes.append(f"onnx is not installed, so the share of peak arithmetic is not known: {COUNT_EXTRA}")
    except ValueError as error:
        notes.append(f"the share of peak arithmetic is not known: {error}")
    return None


def session_inputs(bundle: Bundle, batch: int) -> SessionInputs:
    """A batch of crops, real ones and noise, and the portrait."""
    size = bundle.manifest.preprocessing.size
    crops = np.concatenate([real_crops(size), noise_crops(size)])
    return SessionInputs(crops[np.arange(batch) % len(crops)], Picture(PORTRAIT.read_bytes(), PORTRAIT_BOX_XYXY))


def _start_all(
    specs: Sequence[SessionSpec], load: SessionInputs, failures: list[str], say: Progress, stack: ExitStack
) -> Iterator[SessionCase]:
    """Every seat's turns, after a first one of each, for compiling and growing; a seat that fails takes none."""
    most = max(spec.threads for spec in specs)
    for done, spec in enumerate(specs):
        say(done / len(specs) / 2, f"starting {spec}")
        try:
            starts = start_repeatedly(partial(SessionProcess, spec, load))
            stack.callback(starts[-1].close)
            cases = [SessionCase(spec, starts, turn) for turn in _turns(spec, most)]
            for each in cases:
                each.run_sample(-1)
                each.bare_samples.clear()
        except EngineError as error:
            failures.append(f"{spec}: {' '.join(str(error).split())}")
        else:
            yield from cases


def _turns(spec: SessionSpec, most_threads: int) -> list[Workload]:
    """Isolated engines and pictures with most threads only: what a user would do, and fewer turns for the rest."""
    samples = [Workload(OVERHEAD if spec.is_ours else NETWORK, batch) for batch in spec.batches]
    if spec.threads == most_threads:
        samples += [Workload(ISOLATED, batch) for batch in spec.batches if spec.is_ours]
        samples.append(Workload(PATH))
    return samples


def _start_peaks(threads: Sequence[int], failures: list[str], stack: ExitStack) -> Iterator[BenchmarkCase]:
    for count in threads:
        try:
            peak = Peak(count)
        except EngineError as error:
            failures.append(f"a matrix product, {count} threads: {error}")
        else:
            stack.callback(peak.close)
            yield peak


def _jitter(bundle: Bundle, cases: Sequence[SessionCase], notes: list[str], failures: list[str]) -> JitterReport | None:
    """On the first of our engines that ran: all give the same landmarks within a hundredth of a pixel."""
    spec = next((each.spec for each in cases if each.spec.is_ours), None)
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
