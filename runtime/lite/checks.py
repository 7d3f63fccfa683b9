"""Checks and error messages shared by the C++ binding and the vendor's package of MindSpore Lite."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

import numpy as np

from synergy.runtime.engines.base import CANN_HINT, CPU_HINT
from synergy.runtime.errors import EngineError, EngineUnavailableError
from synergy.runtime.lite.stderr import extract_cause
from synergy.runtime.specs import DYNAMIC, Device, TensorSpec

MODEL_TYPES = ("ms", "mindir")
CURES = {  # what MindSpore Lite needs for a GPU or NPU
    "gpu": "run `synergy lite install --gpu` (CUDA 11, cuDNN 8, TensorRT 8), or use the engine onnx "
    "(pip install 'synergy-mindir[onnx-gpu]')",
    "ascend": CANN_HINT,
}
DRIVER_HINT = "install NVIDIA's driver, so that `nvidia-smi` lists the card"
_DEVICE_CURES = {  # for a GPU or NPU whose libraries are installed
    "gpu": "run `synergy doctor` to check the device, or use --device cpu",
    "ascend": "run `synergy doctor` to check the device; a chip without float32 needs precision fp16; "
    "or use --device cpu",
}
_DEVICE_MISSING = re.compile(r"\.so[.\d]*: cannot open|DLSoOpen failed|(Create|Init) session failed|Failed to register")


def check_process() -> None:
    """Raise EngineError if MindSpore is loaded in this process: Lite cannot be loaded too."""
    if "mindspore" in sys.modules:
        raise EngineError(
            "MindSpore is loaded in this process, and MindSpore Lite cannot be (both contain libmindspore_core.so): "
            "run Lite in a child process, as synergy.runtime.engines.isolated does"
        )


def check_request(model_type: str, threads: int) -> None:
    """Raise ValueError for an unknown model type or an invalid thread count."""
    if model_type not in MODEL_TYPES:
        raise ValueError(f"unknown model type {model_type!r}: use {' or '.join(MODEL_TYPES)}")
    if threads < 1:
        raise ValueError(f"threads is {threads}: use 1 or more")


def check_arrays(specs: Sequence[TensorSpec], arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The arrays, made contiguous. Raises ValueError if shapes or dtypes differ: Lite compares byte sizes only."""
    if len(arrays) != len(specs):
        raise ValueError(f"{len(arrays)} inputs given, the model takes {len(specs)}")
    for spec, array in zip(specs, arrays, strict=True):
        if array.dtype != spec.dtype or not _fits(array.shape, spec.shape) or array.size == 0:
            given, taken = f"{array.dtype} {array.shape}", f"{spec.dtype} {spec.shape}"
            raise ValueError(f"input {spec.name} is {given}, the model takes {taken} (-1: any positive size)")
    return [np.ascontiguousarray(array) for array in arrays]


def open_failure(model_type: str, device: Device, log: str, status: str) -> EngineError:
    """The error for a model that does not load: the cause from Lite's `log`, and what to do."""
    reason = extract_cause(log, status)
    if device.kind != "cpu" and _DEVICE_MISSING.search(log):
        no_driver = "driver" in reason and device.kind == "gpu"
        cure = f"{DRIVER_HINT if no_driver else CURES[device.kind]}; or {CPU_HINT}"
        return EngineUnavailableError(f"MindSpore Lite cannot use {device}: {reason}; {cure}")
    if "mind ir version" in reason:
        cure = "export again, or use the bundle's lowered mindir or its .ms"
    elif device.kind != "cpu":
        return EngineError(f"MindSpore Lite cannot load the model on {device}: {reason}; {_DEVICE_CURES[device.kind]}")
    else:
        cure = (
            f"the file is damaged, not a {model_type} model, or has an operator that this Lite lacks; export it again"
        )
    return EngineError(f"MindSpore Lite cannot load the model: {reason}; {cure}")


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(w in (DYNAMIC, s) for s, w in zip(shape, wanted, strict=True))
