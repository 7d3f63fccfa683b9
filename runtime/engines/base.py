"""What every engine is: named arrays in, named arrays out, no knowledge of faces."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar

import msgspec
import numpy as np

from synergy.runtime.errors import EngineError, EngineUnavailableError

DYNAMIC = -1  # a dimension fixed only at run time; here always the batch
CANN_HINT = "install Ascend's driver and CANN, and source CANN's set_env.sh"
WITHOUT_CARD = "--device cpu works without"
# For MindSpore: with AVX-512, its oneDNN runs depthwise and first convolutions in plain NCHW layout by its reference
# code, ten times slower and more. Read when MindSpore runs its first operator in the process.
ONEDNN_ISA_LIMIT = ("ONEDNN_MAX_CPU_ISA", "AVX2")
PRECISIONS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}  # what engines compute in
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
            raise ValueError(f"affinity names a core twice: {_listed(self.affinity)}")
        if not self.batches or self.batches[0] < 1 or tuple(sorted(set(self.batches))) != self.batches:
            raise ValueError(f"batches must be rising numbers from 1, not {_listed(self.batches) or 'none'}")

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


class Engine(ABC):
    """One loaded model. Not thread-safe: use one engine per thread, or `runtime.engines.isolated`."""

    name: str
    formats: tuple[str, ...]
    devices: tuple[str, ...] = Device.KINDS
    reduced: ClassVar[Mapping[str, tuple[str, ...]]] = {}  # below fp32 it can compute in these, on these devices
    binds_threads = False
    reads_lite_config = False

    def __init__(
        self, model: ModelFile, device: Device, threads: int, options: EngineOptions = DEFAULT_OPTIONS
    ) -> None:
        self.check(model, device, options)
        self.model = model
        self.device = device
        self.threads = threads
        self.compute_precision = options.compute_precision

    @property
    def label(self) -> str:
        """For people: its name, and what it computes in where that is not float32."""
        return engine_label(self.name, self.compute_precision)

    @classmethod
    def formats_on(cls, device: Device) -> tuple[str, ...]:
        """Formats it reads for this device, best first."""
        return cls.formats

    @classmethod
    def reads(cls, model_format: str, device: Device) -> bool:
        """Whether it can run such a file here on this device."""
        return model_format in cls.formats_on(device) and device.kind in cls.devices

    @classmethod
    def reading(cls, device: Device) -> str:
        """In words what `reads` decides by."""
        if device.kind not in cls.devices:
            return f"runs on {' and '.join(cls.devices)} only, not on {device}"
        return f"reads {', '.join(cls.formats_on(device))}"

    @classmethod
    def computes(cls, precision: str, device: Device) -> Availability:
        """Whether it computes in one of `PRECISIONS` on this device, which is asked where that takes more than knowing
        the engine."""
        try:
            _check_precision(cls, device, precision)
        except EngineError as error:
            return Availability(False, str(error), "use another device or precision")
        return Availability(True, f"engine {cls.name} computes in {PRECISIONS[precision]} on {device}")

    @classmethod
    def check_device(cls, device: Device) -> None:
        """Refuse a kind of device that it never runs on. Raises EngineUnavailableError."""
        if device.kind not in cls.devices:
            raise EngineUnavailableError(f"engine {cls.name} {cls.reading(device)}: {WITHOUT_CARD}")

    @classmethod
    def check(cls, model: ModelFile, device: Device, options: EngineOptions) -> None:
        """Refuse what this engine does not do. Raises EngineError, or ValueError for cores that are not here."""
        cls.check_device(device)
        fits = cls.formats_on(device)
        if model.format not in fits:
            on = "" if device.kind == "cpu" else f" for {device}"
            raise EngineError(f"engine {cls.name} cannot read {model.format} files{on}: it reads {', '.join(fits)}")
        _check_precision(cls, device, options.compute_precision)
        if options.affinity and not cls.binds_threads:
            raise EngineError(f"engine {cls.name} cannot bind its threads to cores: leave affinity out")
        if options.lite_config is not None and not cls.reads_lite_config:
            raise EngineError(f"engine {cls.name} is not MindSpore Lite and reads no lite_config: leave it out")
        absent = set(options.affinity) - available_cores()
        if absent:
            raise ValueError(f"no core {_listed(sorted(absent))} here: use {_listed(sorted(available_cores()))}")

    @classmethod
    @abstractmethod
    def available(cls) -> Availability:
        """Whether this engine's libraries are here, found out without loading them."""

    @classmethod  # noqa: B027 - most have nothing that can be loaded ahead
    def load_library(cls) -> None:
        """Load what every engine of this kind needs, if that can be done ahead; errors are those of the library."""

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run once. Arrays must match the specs exactly; outputs are the caller's own copies.

        Raises ValueError for wrong names, shapes or dtypes, EngineError if the run itself fails.
        """
        arrays = check_inputs(self.model.inputs, inputs)
        outputs = self._run(arrays)
        return check_outputs(self.model.outputs, outputs, batch=arrays[0].shape[0], engine=self.name)

    @abstractmethod
    def _run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """Contiguous arrays, ordered as `model.inputs` -> fresh arrays, ordered as `model.outputs`."""

    @abstractmethod
    def close(self) -> None:
        """Free the model; calling it twice is harmless."""

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def engine_label(name: str, compute_precision: str) -> str:
    """For people: "openvino", "openvino bf16"."""
    return name if compute_precision == "fp32" else f"{name} {compute_precision}"


def _check_precision(kind: type[Engine], device: Device, wanted: str) -> None:
    able = kind.reduced.get(wanted, ())
    if wanted == "fp32" or device.kind in able:
        return
    where = f"only on {' and '.join(able)}, not on {device}" if able else "on no device"
    others = ["fp32", *(each for each, devices in kind.reduced.items() if device.kind in devices)]
    raise EngineError(
        f"engine {kind.name} computes in {PRECISIONS[wanted]} {where}: use precision {' or '.join(others)}"
    )


def available_cores() -> set[int]:
    """Cores this process may use."""
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def check_inputs(specs: Sequence[TensorSpec], inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Refuse what an engine would accept silently: Lite, for one, compares only byte sizes."""
    if len(inputs) != len(specs) or any(spec.name not in inputs for spec in specs):
        raise ValueError(f"inputs are {sorted(inputs)}, the model takes {[spec.name for spec in specs]}")
    arrays = []
    for spec in specs:
        array = inputs[spec.name]
        if not spec.fits(array):
            given = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise ValueError(f"input {spec.name} is {given}, the model takes {spec}")
        if array.shape[0] == 0:
            raise ValueError(f"input {spec.name} has an empty batch")
        arrays.append(np.ascontiguousarray(array))
    return arrays


def check_outputs(
    specs: Sequence[TensorSpec], outputs: Sequence[np.ndarray], batch: int, engine: str
) -> dict[str, np.ndarray]:
    """The outputs by name. Raises EngineError for a wrong number or shape, and for values that are not finite."""
    if len(outputs) != len(specs):
        raise EngineError(f"engine {engine} returned {len(outputs)} outputs, the model has {len(specs)}")
    for spec, array in zip(specs, outputs, strict=True):
        if not spec.fits(array) or array.shape[0] != batch:
            given = f"{array.dtype} {array.shape}"
            raise EngineError(f"engine {engine} returned {spec.name} as {given}, not {spec} for a batch of {batch}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            rows = np.flatnonzero(~np.isfinite(array).reshape(batch, -1).all(axis=1))
            raise EngineError(
                f"engine {engine} returned values of {spec.name} that are NaN or infinite, for {len(rows)} of {batch} "
                "inputs: check this engine and device with `synergy verify`"
            )
    return {spec.name: array for spec, array in zip(specs, outputs, strict=True)}


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
