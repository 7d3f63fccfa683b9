"""The ways to run a bundle on this machine: one type and one enumeration for everything that runs or lists them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType

from synergy.runtime.bundle import Bundle
from synergy.runtime.engines import ENGINES, Engine, available, default_threads, engine_class, open_engine, readable
from synergy.runtime.manifest import Artifact
from synergy.runtime.specs import AUTO, DEFAULT_OPTIONS, Device, EngineOptions, engine_label

CPU = Device()


@dataclass(frozen=True)
class Variant:
    """An artifact on an engine, with a number of CPU threads.

    compute_precision: what the engine computes in; "fp32" stands for the file's own precision.
    """

    artifact: Artifact
    engine: str
    threads: int
    compute_precision: str = "fp32"

    @property
    def precision(self) -> str:
        """The lower of the file's precision and the compute precision: the one whose tolerances apply."""
        return self.artifact.precision if self.compute_precision == "fp32" else self.compute_precision

    @property
    def engine_label(self) -> str:
        """The engine, and the compute precision where it is not float32: "openvino bf16"."""
        return engine_label(self.engine, self.compute_precision)

    @property
    def key(self) -> tuple[str, str, int, str]:
        """Engine, file, threads and compute precision."""
        return (self.engine, self.artifact.file, self.threads, self.compute_precision)

    def options(self, base: EngineOptions = DEFAULT_OPTIONS) -> EngineOptions:
        """`base` with the variant's compute precision."""
        return replace(base, precision=self.compute_precision)

    def __str__(self) -> str:
        return f"{self.artifact.file} on {self.engine_label}"


@dataclass(frozen=True)
class Skipped:
    """Something that cannot run here. `artifact` is None where the engine reads no artifact of the bundle;
    `compute_precision` is set where only that precision is missing; `fix` may be empty."""

    artifact: Artifact | None
    engine: str
    reason: str
    fix: str = ""
    compute_precision: str = "fp32"

    @property
    def cause_and_fix(self) -> str:
        """The reason, and the fix where there is one."""
        return f"{self.reason}: {self.fix}" if self.fix else self.reason

    def __str__(self) -> str:
        label = engine_label(self.engine, self.compute_precision)
        return f"{self.artifact.file} on {label}: {self.reason}" if self.artifact else f"{label}: {self.cause_and_fix}"


@dataclass(frozen=True)
class RunnableVariants:
    """What `runnable_variants` found: in the order of engines, then formats (best first), threads and precisions."""

    variants: tuple[Variant, ...]
    skipped: tuple[Skipped, ...]

    def of(self, artifact: Artifact) -> list[Variant]:
        """The variants of one artifact."""
        return [variant for variant in self.variants if variant.artifact.file == artifact.file]

    def best_formats(self) -> list[Variant]:
        """Without the artifacts that an engine reads although it prefers another one."""
        best: dict[str, str] = {}
        for variant in self.variants:
            best.setdefault(variant.engine, variant.artifact.file)
        return [variant for variant in self.variants if best[variant.engine] == variant.artifact.file]

    def missing_precisions(self) -> list[Skipped]:
        """Compute precisions that were verified at export and that this machine does not have."""
        return [each for each in self.skipped if each.compute_precision != "fp32"]


def runnable_variants(
    artifacts: Sequence[Artifact],
    device: Device = CPU,
    engines: Sequence[str] | None = None,
    threads: Sequence[int] | None = None,
    options: EngineOptions = DEFAULT_OPTIONS,
    include_unverified: bool = False,
    probe_precisions: bool = True,
) -> RunnableVariants:
    """Every artifact on every engine that can run it here, and what cannot run with the reason.

    engines: names, None for all. threads: None for all cores. options: a precision other than "auto" replaces the
    artifact's own list of compute precisions. include_unverified: also compute precisions that have no accepted
    measurement yet, as the parity check itself needs. probe_precisions: ask the device whether it has a compute
    precision, which may load the engine's library.
    """
    variants: list[Variant] = []
    skipped: list[Skipped] = []
    counts = tuple(dict.fromkeys(threads or (default_threads(),)))
    for name in ENGINES if engines is None else dict.fromkeys([*engines, *ENGINES]):
        files = readable(name, artifacts, device)
        if engines is not None and name not in engines:
            skipped += (Skipped(artifact, name, "not asked for") for artifact in files)
            continue
        status = available(name)
        if not status.ok:
            skipped += (Skipped(artifact, name, status.detail, status.fix) for artifact in files or (None,))
        elif not files:
            skipped.append(
                Skipped(None, name, f"{engine_class(name).support_text(device)}; the bundle has no such file")
            )
        else:
            for artifact in files:
                precisions = _compute_precisions(name, artifact, device, options, include_unverified)
                missing = _missing(name, artifact, device, precisions, options) if probe_precisions else []
                skipped += missing
                absent = {each.compute_precision for each in missing}
                variants += (
                    Variant(artifact, name, count, precision)
                    for count in counts
                    for precision in precisions
                    if precision not in absent
                )
    return RunnableVariants(tuple(variants), tuple(skipped))


def _compute_precisions(
    engine: str, artifact: Artifact, device: Device, options: EngineOptions, include_unverified: bool
) -> tuple[str, ...]:
    """Compute precisions are verified on CPUs only, so other devices get the one that was asked for."""
    if options.precision != AUTO or device.kind != "cpu":
        return (options.compute_precision,)
    if not include_unverified:
        return artifact.precisions(engine)
    return ("fp32", *(each.precision for each in artifact.compute_precisions if each.engine == engine))


def _missing(
    engine: str, artifact: Artifact, device: Device, precisions: Sequence[str], options: EngineOptions
) -> list[Skipped]:
    """A precision that was asked for by name is tried, so that the engine's own error is shown."""
    found = []
    for precision in precisions:
        if precision in ("fp32", options.compute_precision):
            continue
        status = engine_class(engine).computes(precision, device)
        if not status.ok:
            found.append(Skipped(artifact, engine, status.detail, status.fix, precision))
    return found


class VariantEngines:
    """The engines of a bundle's variants, each in a child process, opened on first use and kept open.

    Use as a context manager.
    """

    def __init__(self, bundle: Bundle, device: Device = CPU) -> None:
        self.bundle = bundle
        self.device = device
        self._opened: dict[Variant, Engine] = {}
        self._stack = ExitStack()

    def engine(self, variant: Variant) -> Engine:
        """The open engine of a variant. Raises EngineError if it does not open, BundleError for an altered file."""
        if variant not in self._opened:
            model = self.bundle.model_file(variant.artifact)
            engine = open_engine(
                variant.engine, model, self.device, variant.threads, isolated=True, options=variant.options()
            )
            self._opened[variant] = self._stack.enter_context(engine)
        return self._opened[variant]

    def __enter__(self) -> VariantEngines:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()
