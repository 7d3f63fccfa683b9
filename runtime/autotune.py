"""`engine="auto"`: measures which variant of a bundle is fastest on this machine, once per machine and bundle.

The result is kept beside the bundle, in `BUNDLE.tuning.json`, because the files in a bundle are hashed. A newer engine
package, or another bundle of the same name, is measured again.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import platform
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np

from synergy.runtime.bundle import BUILTIN, Bundle
from synergy.runtime.engines import (
    ENGINES,
    Engine,
    available,
    default_threads,
    engine_class,
    library_problem,
    open_engine,
    readable,
)
from synergy.runtime.errors import EngineError, EngineUnavailableError, MediaError
from synergy.runtime.files import write_file
from synergy.runtime.manifest import MANIFEST_NAME
from synergy.runtime.specs import DEFAULT_OPTIONS, DYNAMIC, Device, EngineOptions
from synergy.runtime.variants import Variant, runnable_variants

ROUNDS = 9
FINAL_ROUNDS = 18  # more samples of the variants close to the best, so that a load peak does not decide
CLOSE_FACTOR = 1.15  # "close": at most this many times the best median
WARM_UP_S = 0.25
IDLE_S = 0.04  # before a sample: the threads of the previous engine spin for 25 ms and would use the cores
REDUCED_PRECISION_FACTOR = 1.05  # a compute precision below float32 must be faster than float32 by more than this
RUNS_PER_SAMPLE = 4
TUNING_FILE_LIMIT = 1 << 20  # bytes
OPEN_S = 0.5  # typical, to open an engine; only for the announcement

logger = logging.getLogger(__name__)  # warnings appear on stderr unless the program configures logging


class MeasuredVariant(msgspec.Struct, frozen=True):
    """A variant and the median time of one run in ms, as the tuning file stores it."""

    engine: str
    artifact: str
    threads: int
    median_ms: float
    compute_precision: str = "fp32"

    @property
    def key(self) -> tuple[str, str, int, str]:
        """As `Variant.key`."""
        return (self.engine, self.artifact, self.threads, self.compute_precision)


@dataclass(frozen=True)
class TuneRequest:
    """What the caller has fixed: the number of threads, an artifact by file or format (None: free), engine options,
    and how many crops one run has."""

    threads: int | None = None
    artifact: str | None = None
    options: EngineOptions = DEFAULT_OPTIONS
    batch: int = 1


DEFAULT_REQUEST = TuneRequest()


class Tuning(msgspec.Struct, frozen=True):
    """The variants measured under one `key`, fastest first."""

    key: str
    ranking: tuple[MeasuredVariant, ...]


def tune(bundle: Bundle, device: Device, request: TuneRequest, again: bool = False) -> tuple[MeasuredVariant, ...]:
    """The variants of a bundle on a device, fastest first: from the tuning file, or measured now.

    Before it measures, a line on stderr says so. again: measure even if the tuning file has a result, without that
    line. Raises EngineUnavailableError or EngineError if nothing runs.
    """
    variants = candidates(bundle, device, request)
    key = _tuning_key(bundle, device, request, variants)
    known = {entry.key: entry for entry in read_tuning(bundle)}
    if key in known and not again:
        ranking = known[key].ranking
        runnable = {variant.key for variant in variants}
        if ranking and all(each.key in runnable for each in ranking) and _has_precision(ranking[0], device):
            return tuple(_without_broken_libraries(ranking, first_only=True))
    working = _without_broken_libraries(variants)
    if not again:
        seconds = len(working) * (OPEN_S + WARM_UP_S + (ROUNDS + FINAL_ROUNDS / 2) * IDLE_S)
        logger.warning(
            "engine auto: measuring the engines of this machine once (about %.0f s); the result is kept in %s",
            seconds,
            tuning_path(bundle),
        )
    ranking = measure(bundle, working, device, request)
    if len(working) == len(variants):  # else measured again once the libraries are repaired
        _write(bundle, [*(entry for entry in known.values() if entry.key != key), Tuning(key, ranking)])
    return ranking


Choice = TypeVar("Choice", Variant, MeasuredVariant)


def _without_broken_libraries(choices: Sequence[Choice], first_only: bool = False) -> list[Choice]:
    """Without the engines whose libraries cannot be imported, which are logged.

    first_only: stop at the first engine that works, since importing takes time. Raises EngineUnavailableError with all
    problems if nothing is left.
    """
    problems: dict[str, str] = {}
    for name in dict.fromkeys(each.engine for each in choices):
        problem = library_problem(name)
        if problem:
            problems[name] = problem
        elif first_only:
            break
    left = [each for each in choices if each.engine not in problems]
    if problems and not left:
        raise EngineUnavailableError("; ".join(problems.values()))
    for problem in problems.values():
        logger.warning("%s; --engine auto uses another engine", problem)
    return left


def _has_precision(variant: MeasuredVariant, device: Device) -> bool:
    """Whether this device has the compute precision: the file may come from another machine of the same name."""
    precision = variant.compute_precision
    return precision == "fp32" or engine_class(variant.engine).computes(precision, device).ok


def candidates(bundle: Bundle, device: Device, request: TuneRequest) -> list[Variant]:
    """The variants to measure.

    Left out unless nothing else runs: artifacts whose drift exceeds its limit and was accepted; and MindSpore, which
    takes seconds to load and is several times slower on a CPU. Raises EngineUnavailableError with all obstacles.
    """
    artifacts = (bundle.artifact(request.artifact),) if request.artifact else bundle.manifest.artifacts
    threads = (1, default_threads()) if request.threads is None else (request.threads,)
    engines = [name for name in ENGINES if readable(name, artifacts, device)]
    found = runnable_variants(artifacts, device, engines, threads, request.options, probe_precisions=False)
    if not found.variants:
        obstacles = dict.fromkeys(
            f"{each.engine}: {each.reason}, {each.fix}" for each in found.skipped if each.artifact
        )
        formats = ", ".join(sorted({each.format for each in artifacts}))
        raise EngineUnavailableError("; ".join(obstacles) or f"no engine reads {formats}")
    variants = _best_format_per_precision(found.variants)
    sound = [each for each in variants if not (each.artifact.drift and each.artifact.drift.accepted)]
    fast = [each for each in sound if each.engine != "mindspore"]
    return fast or sound or variants


def _best_format_per_precision(variants: Sequence[Variant]) -> list[Variant]:
    """The formats that an engine reads differ in how they load, not in speed: the best of each precision is enough."""
    best: dict[tuple[str, str], str] = {}
    for each in variants:
        best.setdefault((each.engine, each.artifact.precision), each.artifact.file)
    return [each for each in variants if best[each.engine, each.artifact.precision] == each.artifact.file]


def measure(
    bundle: Bundle, variants: Sequence[Variant], device: Device, request: TuneRequest = DEFAULT_REQUEST
) -> tuple[MeasuredVariant, ...]:
    """Time all variants, interleaved so that load drift cancels out; fastest first.

    Variants that do not run are left out. Raises the last error if none runs.
    """
    crops = _noise(bundle, request.batch)
    with ExitStack() as stack:
        opened: list[tuple[Variant, Engine]] = []
        problem: EngineError | None = None
        for variant in variants:
            try:
                model, options = bundle.model_file(variant.artifact), variant.options(request.options)
                engine = open_engine(variant.engine, model, device, variant.threads, options=options)
                stack.callback(engine.close)
                _warm_up(engine, crops)
                opened.append((variant, engine))
            except EngineError as error:
                problem = error
        if problem is not None and not opened:
            raise problem
        times = interleaved_times([engine for _, engine in opened], crops)
    measured = [
        MeasuredVariant(
            variant.engine,
            variant.artifact.file,
            variant.threads,
            1e3 * float(np.median(samples)),
            variant.compute_precision,
        )
        for (variant, _), samples in zip(opened, times, strict=True)
    ]
    return tuple(sorted(measured, key=rank))


def interleaved_times(engines: Sequence[Engine], crops: dict[str, np.ndarray]) -> list[list[float]]:
    """Samples in seconds of each engine: `ROUNDS` of all, then `FINAL_ROUNDS` of those close to the best."""
    times: list[list[float]] = [[] for _ in engines]
    for engine, samples in list(zip(engines, times, strict=True)) * ROUNDS:
        samples.append(time_sample(engine, crops))
    best = min(float(np.median(samples)) for samples in times)
    close = [each for each in zip(engines, times, strict=True) if float(np.median(each[1])) <= CLOSE_FACTOR * best]
    for engine, samples in close * (FINAL_ROUNDS if len(close) > 1 else 0):
        samples.append(time_sample(engine, crops))
    return times


def rank(measured: MeasuredVariant) -> float:
    """The median time; reduced compute precisions must win by `REDUCED_PRECISION_FACTOR`."""
    return measured.median_ms * (1.0 if measured.compute_precision == "fp32" else REDUCED_PRECISION_FACTOR)


def _warm_up(engine: Engine, crops: dict[str, np.ndarray]) -> None:
    """The first run allocates memory, and OpenVINO compiles for a batch size that is used repeatedly."""
    end = time.perf_counter() + WARM_UP_S
    engine.run(crops)
    while time.perf_counter() < end:
        engine.run(crops)


def time_sample(engine: Engine, crops: dict[str, np.ndarray]) -> float:
    """Seconds of the fastest of a few runs: the value that other load disturbs least."""
    time.sleep(IDLE_S)
    times = []
    for _ in range(RUNS_PER_SAMPLE):
        start = time.perf_counter()
        engine.run(crops)
        times.append(time.perf_counter() - start)
    return min(times)


def _noise(bundle: Bundle, batch: int) -> dict[str, np.ndarray]:
    tensor = bundle.manifest.inputs[0]
    shape = (batch if tensor.shape[0] == DYNAMIC else tensor.shape[0], *tensor.shape[1:])
    return {tensor.name: np.random.default_rng(0).integers(0, 256, shape, np.uint8)}


def _tuning_key(bundle: Bundle, device: Device, request: TuneRequest, variants: Sequence[Variant]) -> str:
    """A hash of what the result depends on: the bundle's files, this machine, engine versions and the variants."""
    manifest = (bundle.folder / MANIFEST_NAME).read_bytes()
    versions = [f"{name} {available(name).detail}" for name in dict.fromkeys(each.engine for each in variants)]
    keys = [" ".join(map(str, each.key)) for each in variants]
    host = [
        platform.node(),
        platform.machine(),
        str(default_threads()),
        str(device),
        str(request.options),
        str(request.batch),
    ]
    return hashlib.sha256("\n".join([*host, *versions, *keys]).encode() + manifest).hexdigest()


def tuning_path(bundle: Bundle) -> Path:
    """Beside the bundle; for the built-in one in the user's cache, because packages are often read-only."""
    if bundle.folder == BUILTIN:
        from platformdirs import user_cache_path

        return user_cache_path("synergy") / "builtin.tuning.json"
    folder = bundle.folder.absolute()
    return folder.with_name(f"{folder.name}.tuning.json")


def read_tuning(bundle: Bundle) -> list[Tuning]:
    """Earlier results; none if the file is missing or not in this version's form."""
    path = tuning_path(bundle)
    if not path.is_file() or path.stat().st_size > TUNING_FILE_LIMIT:
        return []
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Tuning])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OSError):
        return []


def _write(bundle: Bundle, entries: list[Tuning]) -> None:
    with contextlib.suppress(MediaError):  # in a read-only folder every process measures again
        write_file(tuning_path(bundle), msgspec.json.format(msgspec.json.encode(entries), indent=2))
