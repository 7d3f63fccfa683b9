"""Engine for MindIR files on MindSpore, the framework that exported them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np

from synergy.runtime.engines.base import CANN_HINT, CPU_HINT, ONEDNN_ISA_LIMIT, Engine
from synergy.runtime.errors import EngineError, EngineUnavailableError
from synergy.runtime.files import TemporaryFolder
from synergy.runtime.lite.stderr import capture_stderr
from synergy.runtime.specs import DEFAULT_OPTIONS, Availability, Device, EngineOptions, ModelFile
from synergy.runtime.text import first_line

TARGETS = {"cpu": "CPU", "gpu": "GPU", "ascend": "Ascend"}
CURES = {  # what MindSpore 2.10 needs for a GPU or NPU; its package contains the plugins for both
    "gpu": "put the libraries of CUDA 11.1 or 11.6 and cuDNN 8 on LD_LIBRARY_PATH",
    "ascend": CANN_HINT,
}


MINDSPORE_PYTHONS = ((3, 10), (3, 12))  # CPython versions that mindspore 2.10 has wheels for


def install_hint() -> str:
    """How to install MindSpore for the Python that runs."""
    running, (oldest, newest) = sys.version_info[:2], MINDSPORE_PYTHONS
    if oldest <= running <= newest:
        return "pip install 'synergy-mindir[export]'"
    names = [".".join(map(str, version)) for version in (running, oldest, newest)]
    return "MindSpore has no wheel for Python {}: to export, use Python {} to {}".format(*names)


class MindSporeEngine(Engine):
    """`nn.GraphCell` over the loaded MindIR."""

    name = "mindspore"
    formats = ("mindir",)
    reduced_precisions: ClassVar = {"fp16": ("ascend",)}

    @classmethod
    def available(cls) -> Availability:
        if find_spec("mindspore") is None:
            return Availability(False, "mindspore is not installed", install_hint())
        return Availability(True, "mindspore is installed")

    def __init__(
        self, model: ModelFile, device: Device, threads: int, options: EngineOptions = DEFAULT_OPTIONS
    ) -> None:
        super().__init__(model, device, threads, options)
        os.environ.setdefault(*ONEDNN_ISA_LIMIT)
        import mindspore as ms

        self.tensor = ms.Tensor
        choose_device(device, threads, options)
        with TemporaryFolder() as folder:  # MindSpore loads from paths only
            path = Path(folder) / "model.mindir"
            path.write_bytes(model.data)
            try:
                self.cell = ms.nn.GraphCell(ms.load(str(path)))
            except (RuntimeError, ValueError, TypeError) as error:
                raise EngineError(f"MindSpore cannot load the MindIR: {first_line(error)}") from None

    def _run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        try:
            outputs = self.cell(*(self.tensor(array) for array in arrays))
        except (RuntimeError, ValueError, TypeError) as error:
            raise EngineError(f"MindSpore failed: {first_line(error)}") from None
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return [np.array(output.asnumpy()) for output in outputs]

    def _free(self) -> None:
        self.cell = None


def choose_device(device: Device, threads: int, options: EngineOptions) -> None:
    """Set device, threads and precision. MindSpore accepts them once per process, before its first operator."""
    import mindspore as ms

    ms.device_context.cpu.op_tuning.threads_num(threads)  # MindSpore's default is 25, even on a machine with few cores
    if device.kind == "cpu":
        ms.set_device("CPU")
        return
    try:
        with capture_stderr():  # the log repeats the exception's message
            ms.set_device(TARGETS[device.kind], device.index)
            _choose_precision(device, options)
    except (RuntimeError, ValueError) as error:
        reason = first_line(error).partition(". Please ")[0]
        cure = f"{CURES[device.kind]}; or {CPU_HINT}"
        raise EngineUnavailableError(f"MindSpore cannot use {device}: {reason}; {cure}") from None


def _choose_precision(device: Device, options: EngineOptions) -> None:
    """Disable the defaults of GPUs and NPUs: HF32 or TF32 for convolutions, and float16 on some chips."""
    import mindspore as ms

    if device.kind == "ascend":
        ascend = ms.device_context.ascend.op_precision
        ascend.precision_mode("force_fp16" if options.compute_precision == "fp16" else "must_keep_origin_dtype")
        ascend.conv_allow_hf32(False)
        ascend.matmul_allow_hf32(False)
    elif device.kind == "gpu":
        ms.device_context.gpu.op_precision.conv_allow_tf32(False)
        ms.device_context.gpu.op_precision.matmul_allow_tf32(False)
