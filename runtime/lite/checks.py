"""What holds for both ways to MindSpore Lite: the process, the request, the arrays, the words for a failure."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

import numpy as np

from synergy.runtime.engines.base import CANN_HINT, WITHOUT_CARD
from synergy.runtime.errors import EngineError, EngineUnavailableError
from synergy.runtime.lite.stderr import cause
from synergy.runtime.specs import DYNAMIC, Device, TensorSpec

MODEL_TYPES = ("ms", "mindir")
CURES = {  # what MindSpore Lite needs for a card
    "gpu": "put the libraries of CUDA 11, cuDNN 8, TensorRT 8, NCCL 2 and Open MPI on LD_LIBRARY_PATH, "
    "or use the engine onnx (pip install 'synergy-mindir[onnx-gpu]')",
    "ascend": CANN_HINT,
}
_CARD_CURES = {  # for a card whose libraries are there
    "gpu": "see what `synergy doctor` says of the card, or use --device cpu",
    "ascend": "see what `synergy doctor` says of the card; a chip that has no float32 needs precision fp16; "
    "or use --device cpu",
}
_DEVICE_MISSING = re.compile(r"\.so[.\d]*: cannot open|DLSoOpen failed|(Create|Init) session failed|Failed to register")


def check_process() -> None:
    """Raise EngineError if MindSpore is loaded here: Lite cannot join it."""
    if "mindspore" in sys.modules:
        raise EngineError(
            "MindSpore is loaded in this process and MindSpore Lite cannot join it (both bring libmindspore_core.so): "
            "run Lite in a child process, as synergy.runtime.engines.isolated does"
        )


def check_request(model_type: str, threads: int) -> None:
    """Raise ValueError for a model type or thread count that Lite has not."""
    if model_type not in MODEL_TYPES:
        raise ValueError(f"unknown model type {model_type!r}: use {' or '.join(MODEL_TYPES)}")
    if threads < 1:
        raise ValueError(f"threads is {threads}: use 1 or more")


def check_arrays(specs: Sequence[TensorSpec], arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The arrays, contiguous. Lite compares byte sizes only: the rest is refused here with ValueError."""
    if len(arrays) != len(specs):
        raise ValueError(f"{len(arrays)} inputs given, the model takes {len(specs)}")
    for spec, array in zip(specs, arrays, strict=True):
        if array.dtype != spec.dtype or not _fits(array.shape, spec.shape) or array.size == 0:
            given, taken = f"{array.dtype} {array.shape}", f"{spec.dtype} {spec.shape}"
            raise ValueError(f"input {spec.name} is {given}, the model takes {taken} (-1: any positive size)")
    return [np.ascontiguousarray(array) for array in arrays]


def open_failure(model_type: str, device: Device, log: str, status: str) -> EngineError:
    """The error for a model that does not load: Lite's cause out of `log`, and what to do about it."""
    reason = cause(log, status)
    if device.kind != "cpu" and _DEVICE_MISSING.search(log):
        cure = f"{CURES[device.kind]}; {WITHOUT_CARD}"
        return EngineUnavailableError(f"MindSpore Lite cannot use {device}: {reason}; {cure}")
    if "mind ir version" in reason:
        cure = "export again, or use the bundle's lowered mindir or its .ms"
    elif device.kind != "cpu":
        return EngineError(f"MindSpore Lite cannot load the model on {device}: {reason}; {_CARD_CURES[device.kind]}")
    else:
        cure = f"the file is damaged, no {model_type} model, or needs an operator that this Lite lacks; export it again"
    return EngineError(f"MindSpore Lite cannot load the model: {reason}; {cure}")


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(w in (DYNAMIC, s) for s, w in zip(shape, wanted, strict=True))
