"""Engine for `.ms` and MindIR files on MindSpore Lite."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import ClassVar

import msgspec
import numpy as np

from synergy.runtime.engines.base import Engine
from synergy.runtime.engines.batches import run_in_batches
from synergy.runtime.errors import EngineError, EngineUnavailableError
from synergy.runtime.lite.binding import LiteModel, is_loaded
from synergy.runtime.lite.config import lite_settings
from synergy.runtime.lite.gpu.float_inputs import with_float32_inputs
from synergy.runtime.lite.locate import (
    VERSION,
    diagnose,
    find_installation,
    gpu_library_environment,
    version_numbers,
)
from synergy.runtime.lite.vendor import VendorModel, package_version
from synergy.runtime.specs import DEFAULT_OPTIONS, DYNAMIC, Availability, Device, EngineOptions, ModelFile, TensorSpec

__all__ = ["LiteEngine", "is_loaded", "readable_formats"]

# Disables TF32, to which TensorRT rounds the factors of float32 products by default. Lite has no option for it.
# NVIDIA's libraries read this environment variable when they start.
DISABLE_TF32 = ("NVIDIA_TF32_OVERRIDE", "0")
_MODEL_TYPES = {"ms": "ms", "mindir": "mindir", "mindir_v1": "mindir"}  # bundle format: Lite's model type


def readable_formats(device: Device | None = None) -> tuple[str, ...]:
    """Formats that the installed Lite reads for a device (None: the CPU), preferred first.

    On the CPU `.ms` is preferred, because it loads four times faster than MindIR. For a GPU or NPU Lite compiles
    MindIR; `.ms` files are converted for the CPU and would silently run there. Releases newer than 2.0 also read
    MindIR as MindSpore 2.10 writes it.
    """
    is_newer = version_numbers(_version())[:2] > version_numbers(VERSION)[:2]
    if device is not None and device.kind != "cpu":
        return ("mindir", "mindir_v1") if is_newer else ("mindir_v1",)
    return ("ms", "mindir_v1", "mindir") if is_newer else ("ms", "mindir_v1")


def package_in_use() -> str | None:
    return None if os.environ.get("SYNERGY_LITE_HOME") else package_version()


def _version() -> str:
    package = package_in_use()
    if package is not None:
        return package
    try:
        home = find_installation()
    except EngineUnavailableError:  # reported by `available`
        return VERSION
    return VERSION if home is None else home.version


class LiteEngine(Engine):
    """MindSpore Lite, through the vendor's Python package if it is installed, else through the C++ binding.

    If `SYNERGY_LITE_HOME` is set, the release there is used with the binding. A device that Lite cannot use is an
    error; there is no fallback to the CPU.
    """

    name = "lite"
    formats = readable_formats()
    reduced_precisions: ClassVar = {"fp16": ("gpu", "ascend")}
    supports_affinity = True
    supports_lite_config = True
    several_sessions = True
    isolated_devices = ("gpu", "ascend")

    @classmethod
    def environment(cls, device: Device) -> dict[str, str]:
        return gpu_library_environment() if device.kind == "gpu" else {}

    @classmethod
    def formats_on(cls, device: Device) -> tuple[str, ...]:
        return cls.formats if device.kind == "cpu" else readable_formats(device)

    @classmethod
    def available(cls) -> Availability:
        version = package_in_use()
        if version is not None:
            return Availability(True, f"MindSpore Lite {version}, the vendor's package mindspore_lite")
        return diagnose()

    def __init__(
        self, model: ModelFile, device: Device, threads: int, options: EngineOptions = DEFAULT_OPTIONS
    ) -> None:
        """Raises EngineUnavailableError without Lite or the device, EngineError if the model does not fit its specs."""
        super().__init__(model, device, threads, options)
        kind = LiteModel if package_in_use() is None else VendorModel
        settings = lite_settings(device, options, model.inputs)
        data, inputs = model.data, model.inputs
        if device.kind == "gpu":  # TensorRT 8.5 has no uint8: it takes such an input for float32 without an error
            data, inputs = with_float32_inputs(data), _as_float32(inputs)
            if options.compute_precision == "fp32":
                os.environ.setdefault(*DISABLE_TF32)
        self.session: LiteModel | VendorModel = kind(data, _MODEL_TYPES[model.format], device, threads, settings)
        self._batches: tuple[int, ...] = ()
        self._output_order: list[int] | None = None
        if device.kind != "cpu" and model.inputs[0].shape[0] == DYNAMIC:
            self._batches = _usable_batches(options.batches, self.session.inputs)
            self.session.inputs = tuple(map(_with_open_batch, self.session.inputs))
        try:
            self._input_order = _input_order(inputs, self.session.inputs)
        except EngineError:
            self.close()
            raise

    def _run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        return run_in_batches(self._run_once, arrays, self._batches) if self._batches else self._run_once(arrays)

    def _run_once(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        given = [arrays[which] for which in self._input_order]
        if self.device.kind == "gpu":
            given = [array.astype(np.float32) if array.dtype == np.uint8 else array for array in given]
        outputs = self.session.run(given)
        if self._output_order is None:  # some Lite versions describe the outputs only after a run
            self._output_order = _order(self.model.outputs, self.session.outputs)
        return [outputs[which] for which in self._output_order] if len(outputs) == len(self._output_order) else outputs

    def _free(self) -> None:
        self.session.close()


def _as_float32(inputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """The inputs after `with_float32_inputs`."""
    return tuple(msgspec.structs.replace(spec, dtype="float32") if spec.dtype == "uint8" else spec for spec in inputs)


def _usable_batches(sizes: tuple[int, ...], stated: Sequence[TensorSpec]) -> tuple[int, ...]:
    """The batch sizes up to the one that Lite states: for an open batch that is the largest it was compiled for."""
    largest = stated[0].shape[0] if stated and stated[0].shape else DYNAMIC
    return sizes if largest < 1 else tuple(size for size in sizes if size <= largest) or (largest,)


def _with_open_batch(spec: TensorSpec) -> TensorSpec:
    return msgspec.structs.replace(spec, shape=(DYNAMIC, *spec.shape[1:]))


def _input_order(wanted: Sequence[TensorSpec], found: Sequence[TensorSpec]) -> list[int]:
    """For each of Lite's inputs the index of the manifest's input. Raises EngineError if dtypes or shapes differ."""
    order = _order(found, wanted)
    mismatch = len(found) != len(wanted) or any(
        not _same(wanted[which], spec) for which, spec in zip(order, found, strict=True)
    )
    if mismatch:
        raise EngineError(
            f"the model file takes {_described(found)}, its manifest says {_described(wanted)}: export the bundle again"
        )
    return order


def _order(targets: Sequence[TensorSpec], sources: Sequence[TensorSpec]) -> list[int]:
    """Index in `sources` of each target: by name if the conversion kept the names, else by position."""
    names = [spec.name for spec in sources]
    if sorted(names) == sorted(spec.name for spec in targets):
        return [names.index(spec.name) for spec in targets]
    return list(range(len(targets)))


def _same(wanted: TensorSpec, found: TensorSpec) -> bool:
    """Whether dtype and shape agree; a dimension that is dynamic in Lite can be fixed in the manifest."""
    pairs = zip(wanted.shape, found.shape, strict=False)
    same_shape = len(wanted.shape) == len(found.shape) and all(f in (DYNAMIC, w) for w, f in pairs)
    return same_shape and wanted.dtype == found.dtype


def _described(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name} {spec.dtype} {spec.shape}" for spec in specs)
