"""The ways to run an artifact here: on which engine, computing in what."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.engines import DEFAULT_OPTIONS, Device, EngineOptions, available, engine_class, engines_for
from runtime.engines.base import engine_label
from runtime.manifest import Artifact
from runtime.tuning import precisions


@dataclass(frozen=True)
class Way:
    """An artifact on an engine; `computing`: in what, "fp32" for the file's own precision."""

    artifact: Artifact
    engine: str
    computing: str

    @property
    def precision(self) -> str:
        """The least on the way: what the result is judged by."""
        return self.artifact.precision if self.computing == "fp32" else self.computing

    @property
    def where(self) -> str:
        """The engine, and what it computes in where that is not float32."""
        return engine_label(self.engine, self.computing)

    @property
    def options(self) -> EngineOptions:
        return EngineOptions(self.computing)

    def __str__(self) -> str:
        return f"{self.artifact.file} on {self.where}"


def ways(artifact: Artifact) -> list[Way]:
    """How an artifact can be run here: on each engine present, in float32 and in what it is, or is to be, proved in."""
    present = [name for name in engines_for(artifact) if available(name).ok]
    less = [
        Way(artifact, each.engine, each.precision)
        for each in artifact.computing
        if each.engine in present and engine_class(each.engine).computes(each.precision, Device()).ok
    ]
    return [*(Way(artifact, name, "fp32") for name in present), *less]


def computable(name: str, artifact: Artifact, device: Device, options: EngineOptions = DEFAULT_OPTIONS) -> list[str]:
    """What an engine may compute an artifact in, of what was proved if this machine has it; what was asked for is
    tried."""
    return [
        precision
        for precision in precisions(name, artifact, device, options)
        if precision in ("fp32", options.computing) or engine_class(name).computes(precision, device).ok
    ]
