"""`.ms` and MindIR files on MindSpore Lite."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from synergy.runtime.engines.base import Engine
from synergy.runtime.engines.batches import run_in_batches
from synergy.runtime.errors import EngineError, EngineUnavailableError
from synergy.runtime.lite.binding import LiteModel, is_loaded
from synergy.runtime.lite.config import lite_settings
from synergy.runtime.lite.locate import VERSION, diagnose, find_installation, version_numbers
from synergy.runtime.lite.vendor import VendorModel, package_version
from synergy.runtime.specs import DEFAULT_OPTIONS, DYNAMIC, Availability, Device, EngineOptions, ModelFile, TensorSpec

__all__ = ["LiteEngine", "is_loaded", "readable_formats"]

# TensorRT rounds the factors of float32 products to 19 bits (TF32) and Lite has no switch for it; NVIDIA's libraries
# read this when they start.
EXACT_PRODUCTS = ("NVIDIA_TF32_OVERRIDE", "0")
_MODEL_TYPES = {"ms": "ms", "mindir": "mindir", "mindir_v1": "mindir"}  # a bundle's formats as Lite calls them


def readable_formats(device: Device | None = None) -> tuple[str, ...]:
    """Formats that the Lite found here reads for a device (None: the CPU), best first.

    On the CPU `.ms`, which builds four times faster than MindIR. A card compiles MindIR; what `.ms` holds was made
    for the CPU and would run there, unasked. Releases newer than 2.0 also read MindIR as today's MindSpore writes it.
    """
    is_newer = version_numbers(_version())[:2] > version_numbers(VERSION)[:2]
    if device is not None and device.kind != "cpu":
        return ("mindir", "mindir_v1") if is_newer else ("mindir_v1",)
    return ("ms", "mindir_v1", "mindir") if is_newer else ("ms", "mindir_v1")


def _package_in_use() -> str | None:
    return None if os.environ.get("SYNERGY_LITE_HOME") else package_version()


def _version() -> str:
    package = _package_in_use()
    if package is not None:
        return package
    try:
        home = find_installation()
    except EngineUnavailableError:  # `available` tells it
        return VERSION
    return VERSION if home is None else home.version


class LiteEngine(Engine):
    """MindSpore Lite: the vendor's package where it is installed, else this program's own binding.

    `SYNERGY_LITE_HOME` comes before both. A device that Lite cannot use is an error, never a silent fall back.
    """

    name = "lite"
    formats = readable_formats()
    reduced: ClassVar = {"fp16": ("gpu", "ascend")}
    binds_threads = True
    reads_lite_config = True

    @classmethod
    def formats_on(cls, device: Device) -> tuple[str, ...]:
        return cls.formats if device.kind == "cpu" else readable_formats(device)

    @classmethod
    def available(cls) -> Availability:
        version = _package_in_use()
        if version is not None:
            return Availability(True, f"MindSpore Lite {version}, the vendor's package mindspore_lite")
        return diagnose()

    def __init__(
        self, model: ModelFile, device: Device, threads: int, options: EngineOptions = DEFAULT_OPTIONS
    ) -> None:
        """Raises EngineUnavailableError without Lite or the device, EngineError if the file is not as it should be."""
        super().__init__(model, device, threads, options)
        kind = LiteModel if _package_in_use() is None else VendorModel
        settings = lite_settings(device, options, model.inputs)
        if device.kind == "gpu" and options.compute_precision == "fp32":
            os.environ.setdefault(*EXACT_PRODUCTS)
        self._session: LiteModel | VendorModel = kind(model.data, _MODEL_TYPES[model.format], device, threads, settings)
        is_compiled_for_sizes = device.kind != "cpu" and model.inputs[0].shape[0] == DYNAMIC
        self._batches = options.batches if is_compiled_for_sizes else ()
        self._output_order: list[int] | None = None
        try:
            self._input_order = _input_order(model.inputs, self._session.inputs)
        except EngineError:
            self.close()
            raise

    def _run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        return run_in_batches(self._run_once, arrays, self._batches) if self._batches else self._run_once(arrays)

    def _run_once(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        outputs = self._session.run([arrays[which] for which in self._input_order])
        if self._output_order is None:  # only now are the outputs known on every Lite
            self._output_order = _order(self.model.outputs, self._session.outputs)
        return [outputs[which] for which in self._output_order] if len(outputs) == len(self._output_order) else outputs

    def close(self) -> None:
        self._session.close()


def _input_order(wanted: Sequence[TensorSpec], found: Sequence[TensorSpec]) -> list[int]:
    """For each of Lite's inputs the index of the manifest's input; refuses dtypes or shapes that differ."""
    order = _order(found, wanted)
    mismatch = len(found) != len(wanted) or any(
        not _same(wanted[which], spec) for which, spec in zip(order, found, strict=True)
    )
    if mismatch:
        raise EngineError(
            f"the model file takes {_shown(found)}, its manifest says {_shown(wanted)}: export the bundle again"
        )
    return order


def _order(targets: Sequence[TensorSpec], sources: Sequence[TensorSpec]) -> list[int]:
    """Index in `sources` of each target: by name where the names survived the conversion, else by place."""
    names = [spec.name for spec in sources]
    if sorted(names) == sorted(spec.name for spec in targets):
        return [names.index(spec.name) for spec in targets]
    return list(range(len(targets)))


def _same(wanted: TensorSpec, found: TensorSpec) -> bool:
    """An input that Lite leaves open may be fixed by the manifest, not the other way round."""
    pairs = zip(wanted.shape, found.shape, strict=False)
    same_shape = len(wanted.shape) == len(found.shape) and all(f in (DYNAMIC, w) for w, f in pairs)
    return same_shape and wanted.dtype == found.dtype


def _shown(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name} {spec.dtype} {spec.shape}" for spec in specs)
