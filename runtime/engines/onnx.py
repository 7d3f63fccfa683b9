"""ONNX files on onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np

from runtime.engines.base import Availability, Device, Engine, ModelFile
from runtime.errors import EngineError, EngineUnavailableError

PROVIDERS = {"cpu": "CPUExecutionProvider", "gpu": "CUDAExecutionProvider", "ascend": "CANNExecutionProvider"}
ERRORS_ONLY = 3  # onnxruntime's severity scale: 2 warnings, 3 errors


class OnnxEngine(Engine):
    """onnxruntime's session; a device it cannot use is an error, never a silent fall back to the CPU."""

    name = "onnx"
    formats = ("onnx",)

    @classmethod
    def available(cls) -> Availability:
        if find_spec("onnxruntime") is None:
            return Availability(False, "onnxruntime is not installed", "pip install 'synergy-mindir[onnx]'")
        return Availability(True, "onnxruntime is installed")

    def __init__(self, model: ModelFile, device: Device, threads: int) -> None:
        super().__init__(model, device, threads)
        import onnxruntime

        provider = PROVIDERS[device.kind]
        if provider not in onnxruntime.get_available_providers():
            built = ", ".join(onnxruntime.get_available_providers())
            raise EngineUnavailableError(
                f"this onnxruntime has no {provider} for device {device} (it has {built}): use --device cpu"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = ERRORS_ONLY
        chosen = provider if device.kind == "cpu" else (provider, {"device_id": device.index})
        try:
            self.session = onnxruntime.InferenceSession(model.data, options, providers=[chosen])
        except Exception as error:  # its exception classes share no base but Exception
            raise EngineError(f"onnxruntime cannot load the model: {_first_line(error)}") from None
        if self.session.get_providers()[0] != provider:
            raise EngineUnavailableError(f"onnxruntime fell back from {provider}: check its libraries, or --device cpu")
        self.input_names = [spec.name for spec in model.inputs]
        self.output_names = [spec.name for spec in model.outputs]

    def _run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        if self.session is None:
            raise EngineError(f"this {self.name} engine is closed")
        try:
            return self.session.run(self.output_names, dict(zip(self.input_names, arrays, strict=True)))
        except Exception as error:  # its exception classes share no base but Exception
            raise EngineError(f"onnxruntime failed: {_first_line(error)}") from None

    def close(self) -> None:
        self.session = None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
