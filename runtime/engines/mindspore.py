"""MindIR files on MindSpore itself: the graph as the training side would run it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from runtime.engines.base import Availability, Device, Engine, ModelFile
from runtime.errors import EngineError, EngineUnavailableError

# With AVX-512, oneDNN runs depthwise and first convolutions in plain NCHW layout by its reference code: ten times
# slower and more. Read when MindSpore runs its first operator in the process.
FAST_CONVOLUTIONS = ("ONEDNN_MAX_CPU_ISA", "AVX2")
TARGETS = {"cpu": "CPU", "gpu": "GPU", "ascend": "Ascend"}


class MindSporeEngine(Engine):
    """`nn.GraphCell` over the loaded MindIR."""

    name = "mindspore"
    formats = ("mindir",)

    @classmethod
    def available(cls) -> Availability:
        if find_spec("mindspore") is None:
            return Availability(False, "mindspore is not installed", "pip install 'synergy-mindir[export]'")
        return Availability(True, "mindspore is installed")

    def __init__(self, model: ModelFile, device: Device, threads: int) -> None:
        super().__init__(model, device, threads)
        os.environ.setdefault(*FAST_CONVOLUTIONS)
        import mindspore as ms

        self.tensor = ms.Tensor
        _choose_device(device, threads)
        with tempfile.TemporaryDirectory() as folder:  # MindSpore loads from paths only; the folder is private
            path = Path(folder) / "model.mindir"
            path.write_bytes(model.data)
            try:
                self.cell = ms.nn.GraphCell(ms.load(str(path)))
            except (RuntimeError, ValueError, TypeError) as error:
                raise EngineError(f"MindSpore cannot load the MindIR: {_first_line(error)}") from None

    def _run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        if self.cell is None:
            raise EngineError(f"this {self.name} engine is closed")
        try:
            outputs = self.cell(*(self.tensor(array) for array in arrays))
        except (RuntimeError, ValueError, TypeError) as error:
            raise EngineError(f"MindSpore failed: {_first_line(error)}") from None
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return [np.array(output.asnumpy()) for output in outputs]

    def close(self) -> None:
        self.cell = None


def _choose_device(device: Device, threads: int) -> None:
    """Both can be chosen once per process, before MindSpore has run: `open_engine` sees to that."""
    import mindspore as ms

    target = TARGETS[device.kind]
    try:
        ms.set_device(target) if target == "CPU" else ms.set_device(target, device.index)
        ms.device_context.cpu.op_tuning.threads_num(threads)  # 25 unless told, however few the cores
    except (RuntimeError, ValueError) as error:
        raise EngineUnavailableError(
            f"this MindSpore cannot use {device} ({_first_line(error)}): use --device cpu"
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
