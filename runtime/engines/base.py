"""The interface of all engines: named arrays in, named arrays out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import ClassVar

import numpy as np

from synergy.runtime.errors import EngineError, EngineUnavailableError
from synergy.runtime.processes.sharing import CallGuard, ProcessBound
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
CPU_HINT = "use --device cpu"
# Environment variable for MindSpore. With AVX-512 its oneDNN falls back to reference code for depthwise and first
# convolutions in NCHW layout, which is more than ten times slower. It is read at the first operator in the process.
ONEDNN_ISA_LIMIT = ("ONEDNN_MAX_CPU_ISA", "AVX2")


class Engine(ProcessBound, ABC):
    """One loaded model.

    Safe to share between threads: runs wait for each other, or run in parallel if the engine can (`parallel_runs`).
    `close` waits for the runs in progress; later ones raise EngineError. In a forked child process a run raises
    EngineError, unless the engine works there (`survives_fork`) and the parent had no run in progress.
    """

    name: str
    formats: tuple[str, ...]
    devices: tuple[str, ...] = Device.KINDS
    reduced_precisions: ClassVar[
        Mapping[str, tuple[str, ...]]
    ] = {}  # precision below fp32: device kinds that support it
    supports_affinity = False
    supports_lite_config = False
    isolated_devices: tuple[str, ...] = ()  # kinds of devices whose libraries can end the process
    parallel_runs = False
    several_sessions = False  # whether a process can hold several sessions, each with its own number of threads
    survives_fork = False

    def __init__(
        self, model: ModelFile, device: Device, threads: int, options: EngineOptions = DEFAULT_OPTIONS
    ) -> None:
        self.check(model, device, options)
        self.model = model
        self.device = device
        self.threads = threads
        self.options = options
        self.compute_precision = options.compute_precision
        survives_fork = self.survives_fork and device.kind == "cpu"
        self._calls = CallGuard(f"this {self.name} engine", self.parallel_runs, survives_fork)

    @property
    def label(self) -> str:
        """The name to display, with the compute precision if it is not float32."""
        return engine_label(self.name, self.compute_precision)

    @property
    def is_open(self) -> bool:
        """Whether `run` can be called: false after `close`, and in a forked process that cannot use the engine."""
        return self._calls.is_open

    @classmethod
    def formats_on(cls, device: Device) -> tuple[str, ...]:
        """Formats that the engine reads for this device, preferred first."""
        return cls.formats

    @classmethod
    def environment(cls, device: Device) -> dict[str, str]:
        """Environment variables that a process needs from its start to run the engine on this device."""
        return {}

    @classmethod
    def reads(cls, model_format: str, device: Device) -> bool:
        """Whether the engine can run this format on this device."""
        return model_format in cls.formats_on(device) and device.kind in cls.devices

    @classmethod
    def support_text(cls, device: Device) -> str:
        """Which devices or formats are supported, as a clause for messages about the engine."""
        if device.kind not in cls.devices:
            return f"runs on {' and '.join(cls.devices)} only, not on {device}"
        return f"reads {', '.join(cls.formats_on(device))}"

    @classmethod
    def computes(cls, precision: str, device: Device) -> Availability:
        """Whether the engine supports a compute precision (one of `PRECISIONS`) on this device.

        Engines that depend on the hardware query it.
        """
        try:
            _check_precision(cls, device, precision)
        except EngineError as error:
            return Availability(False, str(error), "use another device or precision")
        return Availability(True, f"engine {cls.name} computes in {PRECISIONS[precision]} on {device}")

    @classmethod
    def check_device(cls, device: Device) -> None:
        """Raise EngineUnavailableError for a kind of device that the engine does not support."""
        if device.kind not in cls.devices:
            raise EngineUnavailableError(f"engine {cls.name} {cls.support_text(device)}: {CPU_HINT}")

    @classmethod
    def check(cls, model: ModelFile, device: Device, options: EngineOptions) -> None:
        """Raise EngineError for an unsupported request, ValueError for CPU cores that do not exist."""
        cls.check_device(device)
        fits = cls.formats_on(device)
        if model.format not in fits:
            on = "" if device.kind == "cpu" else f" for {device}"
            raise EngineError(f"engine {cls.name} cannot read {model.format} files{on}: it reads {', '.join(fits)}")
        _check_precision(cls, device, options.compute_precision)
        if options.affinity and not cls.supports_affinity:
            raise EngineError(f"engine {cls.name} does not support thread affinity: omit affinity")
        if options.lite_config is not None and not cls.supports_lite_config:
            raise EngineError(f"engine {cls.name} does not support lite_config, only engine lite does: omit it")
        absent = set(options.affinity) - available_cores()
        if absent:
            raise ValueError(
                f"this process cannot use core {listed(sorted(absent))}: use {listed(sorted(available_cores()))}"
            )

    @classmethod
    @abstractmethod
    def available(cls) -> Availability:
        """Whether the engine's libraries are installed; does not load them."""

    @classmethod
    def load_library(cls) -> None:
        """Import the engine's library in advance, if it has one; errors of the library are not converted."""

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the model once.

        Args:
            inputs: Arrays by input name, with exactly the shapes and dtypes of `model.inputs`.

        Returns:
            New arrays by output name.

        Raises:
            ValueError: A name, shape or dtype is wrong, or the batch is empty.
            EngineError: The run failed, or the engine is closed or was opened in the parent of a forked process.
        """
        arrays = check_inputs(self.model.inputs, inputs)
        with self._calls:
            outputs = self._run(arrays)
        return check_outputs(self.model.outputs, outputs, batch=arrays[0].shape[0], engine=self.name)

    @abstractmethod
    def _run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """Contiguous arrays in the order of `model.inputs` -> new arrays in the order of `model.outputs`."""

    def reopened(self, threads: int) -> Engine:
        """A second engine for the same model, with another number of threads. Raises the errors of opening it."""
        return type(self)(self.model, self.device, threads, self.options)

    def close(self) -> None:
        """Free the model, after the runs in progress. Safe to call twice."""
        self._calls.close(self._free)

    def _free(self) -> None:
        """Free the model; called once, when no run is in progress."""

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _check_precision(kind: type[Engine], device: Device, wanted: str) -> None:
    able = kind.reduced_precisions.get(wanted, ())
    if wanted == "fp32" or device.kind in able:
        return
    where = f"only on {' and '.join(able)}, not on {device}" if able else "on no device"
    others = ["fp32", *(each for each, devices in kind.reduced_precisions.items() if device.kind in devices)]
    raise EngineError(
        f"engine {kind.name} computes in {PRECISIONS[wanted]} {where}: use precision {' or '.join(others)}"
    )


def check_inputs(specs: Sequence[TensorSpec], inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Contiguous arrays in the order of `specs`. Raises ValueError if a name, shape or dtype does not match.

    MindSpore Lite itself compares byte sizes only.
    """
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
