"""`engine="auto"`: which engine, artifact and thread count is fastest here, measured once per host and bundle.

The result lies beside the bundle, never in it: what is in it is hashed. A newer package or another bundle under the
same name measures again.
"""

from __future__ import annotations

import contextlib
import hashlib
import platform
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from synergy.runtime.bundle import Bundle
from synergy.runtime.engines import (
    DEFAULT_OPTIONS,
    ENGINES,
    Device,
    Engine,
    EngineOptions,
    available,
    default_threads,
    engine_class,
    open_engine,
    readable,
)
from synergy.runtime.engines.base import AUTO, DYNAMIC
from synergy.runtime.errors import EngineError, EngineUnavailableError, MediaError
from synergy.runtime.manifest import MANIFEST_NAME, Artifact

ROUNDS = 9
MORE_ROUNDS = 18  # between those that are near to the best after the first: a busy moment must not decide
NEAR = 1.15  # times the best's median
SETTLE_S = 0.25
REST_S = 0.04  # before a turn: threads of the engine before spin on for 25 ms and would take its cores
WORTH_MORE = 1.05  # a twentieth of the time is not worth less exact numbers
RUNS_PER_ROUND = 4  # of a few milliseconds each: a turn shorter than what disturbs a machine
TUNING_LIMIT = 1 << 20  # bytes


class MeasuredVariant(msgspec.Struct, frozen=True):
    """One way to run a bundle, and the median time of one run (of `TuneRequest.batch`, or the bundle's own) in ms.

    precision: what the engine computes in, one of `runtime.engines.base.PRECISIONS`.
    """

    engine: str
    artifact: str
    threads: int
    median_ms: float
    precision: str = "fp32"


@dataclass(frozen=True)
class TuneRequest:
    """What the caller fixed: a number of threads, an artifact by file or format, None where it is free; options; and
    how many crops come at once."""

    threads: int | None = None
    artifact: str | None = None
    options: EngineOptions = DEFAULT_OPTIONS
    batch: int = 1


DEFAULT_REQUEST = TuneRequest()


class Tuning(msgspec.Struct, frozen=True):
    """What was measured under one `key`, fastest first."""

    key: str
    ranking: tuple[MeasuredVariant, ...]


@dataclass(frozen=True)
class Candidate:
    """One way to run a bundle."""

    engine: str
    artifact: Artifact
    threads: int
    precision: str

    @property
    def key(self) -> tuple[str, str, int, str]:
        return (self.engine, self.artifact.file, self.threads, self.precision)


def tune(bundle: Bundle, device: Device, request: TuneRequest, again: bool = False) -> tuple[MeasuredVariant, ...]:
    """Fastest first; measured now where no earlier result fits, or `again` asks for it.

    Raises EngineUnavailableError or EngineError if nothing runs.
    """
    ways = candidates(bundle, device, request)
    key = _key(bundle, device, request, ways)
    known = {entry.key: entry for entry in _read(bundle)}
    possible = {variant.key for variant in ways}
    if key in known and not again:
        ranking = known[key].ranking
        fitting = all((each.engine, each.artifact, each.threads, each.precision) in possible for each in ranking)
        if ranking and fitting and _computes_here(ranking[0], device):
            return ranking
    ranking = measure(bundle, ways, device, request)
    _write(bundle, [*(entry for entry in known.values() if entry.key != key), Tuning(key, ranking)])
    return ranking


def _computes_here(choice: MeasuredVariant, device: Device) -> bool:
    """The file may have come with the bundle from another machine of the same name."""
    return choice.precision == "fp32" or engine_class(choice.engine).computes(choice.precision, device).ok


def candidates(bundle: Bundle, device: Device, request: TuneRequest) -> list[Candidate]:
    """Every way that this machine has to run the bundle.

    Artifacts whose drift had to be accepted are left out unless there is no other; so is MindSpore, which takes
    seconds to load and on a CPU several times as long to run. What an artifact was proved to be computed in counts on
    CPUs, where that was proved. Raises EngineUnavailableError naming all obstacles.
    """
    artifacts = (bundle.artifact(request.artifact),) if request.artifact else bundle.manifest.artifacts
    present, obstacles = [], []
    for name in ENGINES:
        fitting = _best_per_precision(readable(name, artifacts, device))
        status = available(name)
        if fitting and status.ok:
            present += [(name, artifact) for artifact in fitting]
        elif fitting:
            obstacles.append(f"{name}: {status.detail}, {status.fix}")
    if not present:
        formats = ", ".join(sorted({each.format for each in artifacts}))
        raise EngineUnavailableError("; ".join(obstacles) or f"no engine reads {formats}")
    sound = [(name, artifact) for name, artifact in present if not (artifact.drift and artifact.drift.accepted)]
    light = [(name, artifact) for name, artifact in sound if name != "mindspore"]
    counts = dict.fromkeys((1, default_threads()) if request.threads is None else (request.threads,))
    return [
        Candidate(name, artifact, count, precision)
        for name, artifact in light or sound or present
        for count in counts
        for precision in precisions(name, artifact, device, request.options)
    ]


def precisions(engine: str, artifact: Artifact, device: Device, options: EngineOptions) -> tuple[str, ...]:
    """What the engine may compute an artifact in: where the options leave it open, all that it was proved in (which was
    on CPUs)."""
    is_free = options.precision == AUTO and device.kind == "cpu"
    return artifact.precisions(engine) if is_free else (options.compute_precision,)


def _best_per_precision(best_first: Sequence[Artifact]) -> list[Artifact]:
    """Formats that an engine reads differ in how they load, not in how they run: the best of each precision will do."""
    return list({each.precision: each for each in reversed(best_first)}.values())


def measure(
    bundle: Bundle, ways: Sequence[Candidate], device: Device, request: TuneRequest = DEFAULT_REQUEST
) -> tuple[MeasuredVariant, ...]:
    """Time all `ways` in rounds, so that a machine that gets slower does so for each; fastest first.

    A way that does not run is left out. Raises the last way's error if none runs.
    """
    crop = _noise(bundle, request.batch)
    with ExitStack() as stack:
        opened: list[tuple[Candidate, Engine]] = []
        problem: EngineError | None = None
        for variant in ways:
            try:
                options = replace(request.options, precision=variant.precision)
                engine = open_engine(
                    variant.engine, bundle.model_file(variant.artifact), device, variant.threads, options=options
                )
                stack.callback(engine.close)
                _settle(engine, crop)
                opened.append((variant, engine))
            except EngineError as error:
                problem = error
        if problem is not None and not opened:
            raise problem
        times = _time_engines([engine for _, engine in opened], crop)
    found = [
        MeasuredVariant(
            variant.engine, variant.artifact.file, variant.threads, 1e3 * float(np.median(samples)), variant.precision
        )
        for (variant, _), samples in zip(opened, times, strict=True)
    ]
    return tuple(sorted(found, key=_cost))


def _time_engines(engines: Sequence[Engine], crop: dict[str, np.ndarray]) -> list[list[float]]:
    """Seconds of each engine's turns: all take `ROUNDS`, those in reach of the best `MORE_ROUNDS` more."""
    times: list[list[float]] = [[] for _ in engines]
    for engine, samples in list(zip(engines, times, strict=True)) * ROUNDS:
        samples.append(_turn(engine, crop))
    best = min(float(np.median(samples)) for samples in times)
    near = [each for each in zip(engines, times, strict=True) if float(np.median(each[1])) <= NEAR * best]
    for engine, samples in near * (MORE_ROUNDS if len(near) > 1 else 0):
        samples.append(_turn(engine, crop))
    return times


def _cost(choice: MeasuredVariant) -> float:
    """What is no faster than `WORTH_MORE` in less than float32 comes after it."""
    return choice.median_ms * (1.0 if choice.precision == "fp32" else WORTH_MORE)


def _settle(engine: Engine, crop: dict[str, np.ndarray]) -> None:
    """The first run allocates, and OpenVINO compiles for a batch size that comes again and again."""
    end = time.perf_counter() + SETTLE_S
    engine.run(crop)
    while time.perf_counter() < end:
        engine.run(crop)


def _turn(engine: Engine, crop: dict[str, np.ndarray]) -> float:
    """Seconds of the quickest of a few runs: what a machine at rest gives."""
    time.sleep(REST_S)
    times = []
    for _ in range(RUNS_PER_ROUND):
        start = time.perf_counter()
        engine.run(crop)
        times.append(time.perf_counter() - start)
    return min(times)


def _noise(bundle: Bundle, batch: int) -> dict[str, np.ndarray]:
    tensor = bundle.manifest.inputs[0]
    shape = (batch if tensor.shape[0] == DYNAMIC else tensor.shape[0], *tensor.shape[1:])
    return {tensor.name: np.random.default_rng(0).integers(0, 256, shape, np.uint8)}


def _key(bundle: Bundle, device: Device, request: TuneRequest, ways: Sequence[Candidate]) -> str:
    """What the result depends on: the bundle's files, this machine, and the ways there are."""
    manifest = (bundle.folder / MANIFEST_NAME).read_bytes()
    versions = [f"{name} {available(name).detail}" for name in dict.fromkeys(variant.engine for variant in ways)]
    named = [" ".join(map(str, variant.key)) for variant in ways]
    host = [
        platform.node(),
        platform.machine(),
        str(default_threads()),
        str(device),
        str(request.options),
        str(request.batch),
    ]
    return hashlib.sha256("\n".join([*host, *versions, *named]).encode() + manifest).hexdigest()


def _path(bundle: Bundle) -> Path:
    folder = bundle.folder.absolute()
    return folder.with_name(f"{folder.name}.tuning.json")


def _read(bundle: Bundle) -> list[Tuning]:
    """Earlier results; none where the file is not there or not what this version writes."""
    path = _path(bundle)
    if not path.is_file() or path.stat().st_size > TUNING_LIMIT:
        return []
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Tuning])
    except (msgspec.DecodeError, UnicodeDecodeError, OSError):
        return []


def _write(bundle: Bundle, entries: list[Tuning]) -> None:
    from synergy.runtime.media.inputs import (
        write_file,  # brings OpenCV, and a result is written once and read at every start
    )

    with contextlib.suppress(MediaError):  # a folder that cannot be written: the next process measures again
        write_file(_path(bundle), msgspec.json.format(msgspec.json.encode(entries), indent=2))
