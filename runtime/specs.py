"""Plain data shared by the engines and their callers: tensor shapes, devices, options, models as bytes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from synergy.runtime.text import counted

DYNAMIC = -1  # a dimension that is fixed at run time; here always the batch
PRECISIONS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}  # compute precisions
AUTO = "auto"


class TensorSpec(msgspec.Struct, frozen=True):
    """Name, shape and dtype of one input or output. The first dimension is the batch and can be `DYNAMIC`.

    >>> spec = TensorSpec("images", (DYNAMIC, 120, 120, 3), "uint8")
    >>> str(spec), spec.fits(np.zeros((4, 120, 120, 3), np.uint8))
    ('uint8 (N, 120, 120, 3)', True)
    """

    name: str
    shape: tuple[int, ...]
    dtype: str

    def fits(self, array: np.ndarray) -> bool:
        """Whether `array` has this dtype and shape."""
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
    """Where an engine runs: `kind` is cpu, gpu or ascend; `index` is the number of the GPU or NPU, from 0.

    >>> Device.parse("gpu:1")
    Device(kind='gpu', index=1)
    """

    kind: str = "cpu"
    index: int = 0

    KINDS = ("cpu", "gpu", "ascend")

    @classmethod
    def parse(cls, text: str) -> Device:
        """Parse "cpu", "gpu", "gpu:1", "ascend:0". Raises ValueError, which lists the valid forms."""
        kind, _, index = text.partition(":")
        if kind not in cls.KINDS or not (index == "" or (index.isascii() and index.isdigit())):
            raise ValueError(f"unknown device {text!r}: use cpu, gpu[:N] or ascend[:N]")
        return cls(kind, int(index or 0))

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"


@dataclass(frozen=True)
class EngineOptions:
    """How an engine computes; by default in float32, with threads that are not bound to cores.

    Attributes:
        precision: The compute precision. "fp32" is strict: float16 and TF32 are not used (nor HF32, if the engine can
            disable it), and a device that cannot guarantee this is an error. "fp16" allows a GPU or NPU to compute in
            float16. "fp16" and "bf16" also apply to OpenVINO on CPUs with these types. "auto" means "fp32", but the
            engine "auto" may also select a precision that the export verified (`export --precision bf16`).
        affinity: CPU cores to which the engine's threads are bound; empty: not bound.
        batches: Batch sizes for which a GPU or NPU compiles a model with a dynamic batch; other batches are padded or
            split.
        lite_config: A configuration file in MindSpore Lite's format; its entries override the generated ones.

    Raises:
        ValueError: A value is unknown or out of range.
    """

    precision: str = AUTO
    affinity: tuple[int, ...] = ()
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    lite_config: Path | None = None

    def __post_init__(self) -> None:
        if self.precision not in (AUTO, *PRECISIONS):
            raise ValueError(f"unknown precision {self.precision!r}: use one of {', '.join((AUTO, *PRECISIONS))}")
        if len(set(self.affinity)) != len(self.affinity):
            raise ValueError(f"affinity contains a core twice: {listed(self.affinity)}")
        if not self.batches or self.batches[0] < 1 or tuple(sorted(set(self.batches))) != self.batches:
            raise ValueError(f"batches must be increasing numbers from 1, not {listed(self.batches) or 'none'}")

    @property
    def compute_precision(self) -> str:
        """The compute precision of an engine selected by name: one of `PRECISIONS`."""
        return "fp32" if self.precision == AUTO else self.precision


DEFAULT_OPTIONS = EngineOptions()


class Availability(msgspec.Struct, frozen=True):
    """Whether something works on this machine; `detail`: what was found, `fix`: what to do if it does not work."""

    ok: bool
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class ModelFile:
    """A model as verified bytes. Engines get no path, so that the loaded bytes are those that were hashed.

    `format`: "mindir" (as MindSpore writes it), "mindir_v1" (lowered for Lite 2.0), "onnx" or "ms".
    """

    data: bytes
    format: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def engine_label(name: str, compute_precision: str) -> str:
    """The name to display: "openvino", "openvino bf16"."""
    return name if compute_precision == "fp32" else f"{name} {compute_precision}"


def available_cores() -> set[int]:
    """CPU cores that this process may use."""
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def check_core_count(count: int, noun: str) -> None:
    """Raise ValueError for more threads or processes than this process has cores."""
    cores = len(available_cores())
    if count > cores:
        raise ValueError(f"this process has {counted(cores, 'core')}: use at most as many {noun}, not {count}")


def listed(values: Iterable[object]) -> str:
    """Values joined by ", "."""
    return ", ".join(map(str, values))
