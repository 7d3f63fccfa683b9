"""What every engine is: named arrays in, named arrays out, no knowledge of faces."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import ClassVar

import numpy as np

from synergy.runtime.errors import EngineError, EngineUnavailableError
from synergy.runtime.specs import (
    DEFAULT_OPTIONS,
    PRECISIONS,
    Availability,
    Device,
    EngineOptions,
    ModelFile,
    TensorSpec,
    available_cores,
    engine_label,
    listed,
)

CANN_HINT = "install Ascend's driver and CANN, and source CANN's set_env.sh"
WITHOUT_CARD = "--device cpu works without"
# For MindSpore: with AVX-512, its oneDNN runs depthwise and first convolutions in plain NCHW layout by its reference
# code, ten times slower and more. Read when MindSpore runs its first operator in the process.
ONEDNN_ISA_LIMIT = ("ONEDNN_MAX_CPU_ISA", "AVX2")


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
            raise ValueError(f"no core {listed(sorted(absent))} here: use {listed(sorted(available_cores()))}")

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


def _check_precision(kind: type[Engine], device: Device, wanted: str) -> None:
    able = kind.reduced.get(wanted, ())
    if wanted == "fp32" or device.kind in able:
        return
    where = f"only on {' and '.join(able)}, not on {device}" if able else "on no device"
    others = ["fp32", *(each for each, devices in kind.reduced.items() if device.kind in devices)]
    raise EngineError(
        f"engine {kind.name} computes in {PRECISIONS[wanted]} {where}: use precision {' or '.join(others)}"
    )


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
    """Name the outputs; a wrong shape must not pass for a result."""
    if len(outputs) != len(specs):
        raise EngineError(f"engine {engine} returned {len(outputs)} outputs, the model has {len(specs)}")
    for spec, array in zip(specs, outputs, strict=True):
        if not spec.fits(array) or array.shape[0] != batch:
            given = f"{array.dtype} {array.shape}"
            raise EngineError(f"engine {engine} returned {spec.name} as {given}, not {spec} for a batch of {batch}")
    return {spec.name: array for spec, array in zip(specs, outputs, strict=True)}
