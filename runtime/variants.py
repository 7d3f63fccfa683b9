"""The ways to run an artifact here: on which engine, computing in what."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType

from synergy.runtime.autotune import precisions
from synergy.runtime.bundle import Bundle
from synergy.runtime.engines import (
    DEFAULT_OPTIONS,
    Device,
    Engine,
    EngineOptions,
    available,
    engine_class,
    engines_for,
    open_engine,
)
from synergy.runtime.engines.base import engine_label
from synergy.runtime.manifest import Artifact


@dataclass(frozen=True)
class Variant:
    """An artifact on an engine; `compute_precision`: in what, "fp32" for the file's own precision."""

    artifact: Artifact
    engine: str
    compute_precision: str

    @property
    def precision(self) -> str:
        """The least on the way: what the result is judged by."""
        return self.artifact.precision if self.compute_precision == "fp32" else self.compute_precision

    @property
    def where(self) -> str:
        """The engine, and what it computes in where that is not float32."""
        return engine_label(self.engine, self.compute_precision)

    @property
    def options(self) -> EngineOptions:
        return EngineOptions(self.compute_precision)

    def __str__(self) -> str:
        return f"{self.artifact.file} on {self.where}"


class VariantEngines:
    """The engines of a bundle, each in a process of its own as on a device: opened when first asked for, and kept.

    Use as a context manager.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._opened: dict[Variant, Engine] = {}
        self._stack = ExitStack()

    def engine(self, variant: Variant) -> Engine:
        """Raises EngineError if it does not open, BundleError for an altered file."""
        if variant not in self._opened:
            model = self.bundle.model_file(variant.artifact)
            engine = open_engine(variant.engine, model, isolated=True, options=variant.options)
            self._opened[variant] = self._stack.enter_context(engine)
        return self._opened[variant]

    def __enter__(self) -> VariantEngines:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()


def ways(artifact: Artifact) -> list[Variant]:
    """How an artifact can be run here: on each engine present, in float32 and in what it is, or is to be, proved in."""
    present = [name for name in engines_for(artifact) if available(name).ok]
    less = [
        Variant(artifact, each.engine, each.precision)
        for each in artifact.compute_precisions
        if each.engine in present and engine_class(each.engine).computes(each.precision, Device()).ok
    ]
    return [*(Variant(artifact, name, "fp32") for name in present), *less]


def not_computed(artifact: Artifact) -> list[str]:
    """What an artifact was proved in and this machine cannot repeat, each with its cause."""
    found = []
    for each in artifact.compute_precisions:
        status = engine_class(each.engine).computes(each.precision, Device())
        if not status.ok:
            found.append(f"{Variant(artifact, each.engine, each.precision)}: {status.detail}")
    return found


def computable(name: str, artifact: Artifact, device: Device, options: EngineOptions = DEFAULT_OPTIONS) -> list[str]:
    """What an engine may compute an artifact in, of what was proved if this machine has it; what was asked for is
    tried."""
    return [
        precision
        for precision in precisions(name, artifact, device, options)
        if precision in ("fp32", options.compute_precision) or engine_class(name).computes(precision, device).ok
    ]
