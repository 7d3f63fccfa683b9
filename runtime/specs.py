"""Plain data shared by the engines and their callers: tensor shapes, devices, options, models as bytes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

DYNAMIC = -1  # a dimension that is fixed at run time; here always the batch
PRECISIONS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}  # compute precisions
AUTO = "auto"


class TensorSpec(msgspec.Struct, frozen=True):
    """Name, shape and dtype of one input or output; `DYNAMIC` marks the batch dimension, which comes first."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    def fits(self, array: np.ndarray) -> bool:
        """Whether an array has this dtype and shape."""
        if not isinstance(array, np.ndarray):
            return False
        shape, wanted = array.shape, self.shape
        return (
            array.dtype == self.dtype
            and len(shape) == len(wanted)
            and shape[1:] == wanted[1:]
            and wanted[0] in (DYNAMIC, shape[0])
        )

    def __str__(self) -> str:
        shape = ", ".join("N" if dim == DYNAMIC else str(dim) for dim in self.shape)
        return f"{self.dtype} ({shape})"


class Device(msgspec.Struct, frozen=True):
    """Where an engine runs: `kind` is cpu, gpu or ascend; `index` counts cards from 0."""

    kind: str = "cpu"
    index: int = 0

    KINDS = ("cpu", "gpu", "ascend")

    @classmethod
    def parse(cls, text: str) -> Device:
        """Read "cpu", "gpu", "gpu:1", "ascend:0". Raises ValueError naming the valid forms."""
        kind, _, index = text.partition(":")
        if kind not in cls.KINDS or not (index == "" or (index.isascii() and index.isdigit())):
            raise ValueError(f"unknown device {text!r}: use cpu, gpu[:N] or ascend[:N]")
        return cls(kind, int(index or 0))

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"


@dataclass(frozen=True)
class EngineOptions:
    """How an engine computes. By default in float32 as the file says, on whichever cores the system chooses.

    precision: "fp32" puts neither float16 nor TF32 in float32's place (nor HF32, where the engine can switch it off:
    MindSpore); a card that cannot do so refuses. "fp16" lets a card compute in float16; "fp16" and "bf16" let OpenVINO
    do so on a CPU that has these types. "auto" is "fp32", but engine "auto" may also take what the bundle was proved
    in (`export --precision bf16`). affinity: CPU cores that the engine's threads are bound to, empty for none.
    batches: sizes for which a card compiles a model whose batch is open; others are filled up to them or cut.
    lite_config: a file in MindSpore Lite's own format, whose entries come before the generated ones.
    """

    precision: str = AUTO
    affinity: tuple[int, ...] = ()
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    lite_config: Path | None = None

    def __post_init__(self) -> None:
        if self.precision not in (AUTO, *PRECISIONS):
            raise ValueError(f"unknown precision {self.precision!r}: use one of {', '.join((AUTO, *PRECISIONS))}")
        if len(set(self.affinity)) != len(self.affinity):
            raise ValueError(f"affinity names a core twice: {listed(self.affinity)}")
        if not self.batches or self.batches[0] < 1 or tuple(sorted(set(self.batches))) != self.batches:
            raise ValueError(f"batches must be rising numbers from 1, not {listed(self.batches) or 'none'}")

    @property
    def compute_precision(self) -> str:
        """What an engine that was named computes in: one of `PRECISIONS`."""
        return "fp32" if self.precision == AUTO else self.precision


DEFAULT_OPTIONS = EngineOptions()


class Availability(msgspec.Struct, frozen=True):
    """Whether something works here; `detail` says what was found, `fix` how to get it where it does not."""

    ok: bool
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class ModelFile:
    """A model as verified bytes, never as a path: what was hashed is what is loaded.

    `format` is one of "mindir" (as MindSpore writes it), "mindir_v1" (lowered for older Lite), "onnx", "ms".
    """

    data: bytes
    format: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def engine_label(name: str, compute_precision: str) -> str:
    """For people: "openvino", "openvino bf16"."""
    return name if compute_precision == "fp32" else f"{name} {compute_precision}"


def available_cores() -> set[int]:
    """Cores this process may use."""
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def listed(values: Iterable[object]) -> str:
    """Values joined by ", "."""
    return ", ".join(map(str, values))
