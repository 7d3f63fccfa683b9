"""Engine for ONNX files on OpenVINO's CPU plugin."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from synergy.runtime.engines.base import ONEDNN_ISA_LIMIT, Engine
from synergy.runtime.errors import EngineError
from synergy.runtime.specs import (
    DEFAULT_OPTIONS,
    DYNAMIC,
    PRECISIONS,
    Availability,
    Device,
    EngineOptions,
    ModelFile,
    TensorSpec,
    available_cores,
)

# Importing openvino imports this package, which writes a client id to the user's home directory and reports the import
# to Intel. If it is missing, openvino uses a stub that does neither.
TELEMETRY = "openvino_telemetry"
_ELEMENT_TYPES = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}  # OpenVINO's names
_CAPABILITIES = {"fp16": "FP16", "bf16": "BF16"}
COMPILE_AFTER_S = (
    0.2  # total run time at one batch size after which a model is compiled for it; compiling takes about as long
)
MAX_COMPILED_SIZES = 4
_LOCATION_LINES = (
    "Exception from ",
    "Check '",
    "FrontEnd API failed",
)  # lines before an error's cause


@dataclass
class CompiledModel:
    """A compiled model and its inference requests that are not in use. shared: compiled for parallel runs."""

    compiled: Any
    shared: bool
    free: list[Any] = field(default_factory=list)

    def request(self) -> Any:
        """A free inference request, or a new one."""
        return self.free.pop() if self.free else self.compiled.create_infer_request()


class OpenVinoEngine(Engine):
    """A compiled OpenVINO model with one inference request per thread that runs it.

    A model with a dynamic batch runs any batch size. For a batch size that is used often, a model with that fixed size
    is compiled: this takes 0.2 s once and the same memory again, and reduces the run time by 10 to 35 %.

    OpenVINO runs the requests of a model one after the other, unless it is compiled with several streams. That is done
    when two runs meet for the first time and there are cores for both.
    """

    name = "openvino"
    formats = ("onnx",)
    parallel_runs = True
    several_sessions = True
    survives_fork = True  # while nothing is compiled for parallel runs, which use threads of OpenVINO
    devices = ("cpu",)  # OpenVINO's GPU plugin is for Intel GPUs only
    reduced_precisions: ClassVar = {"fp16": ("cpu",), "bf16": ("cpu",)}

    @classmethod
    def available(cls) -> Availability:
        if find_spec("openvino") is None:
            return Availability(False, "openvino is not installed", "pip install 'synergy-mindir[openvino]'")
        return Availability(True, "openvino is installed")

    @classmethod
    def load_library(cls) -> None:
        import_openvino()

    @classmethod
    def computes(cls, precision: str, device: Device) -> Availability:
        status = super().computes(precision, device)
        if not status.ok or precision == "fp32":
            return status
        if not cls.available().ok:
            return cls.available()
        try:
            with _without_isa_limit():
                capabilities = cpu_capabilities(import_openvino().Core())
        except (ImportError, OSError, RuntimeError) as error:
            return Availability(False, f"OpenVINO does not load: {error_cause(error)}", "install openvino again")
        obstacle = _cpu_problem(capabilities, precision)
        return Availability(False, obstacle, "use a CPU that has it") if obstacle else status

    def __init__(
        self, model: ModelFile, device: Device, threads: int, options: EngineOptions = DEFAULT_OPTIONS
    ) -> None:
        super().__init__(model, device, threads, options)
        openvino = import_openvino()
        self._settings = settings(threads, options)
        self._streams = max(1, len(available_cores()) // threads)  # runs at the same time
        self._lock = threading.Lock()  # protects the attributes below
        self.models: dict[int, CompiledModel] = {}  # by batch size; `DYNAMIC`: for every other size
        self._run_time_s: defaultdict[int, float] = defaultdict(float)  # total run time by batch size of `DYNAMIC`
        try:
            with _without_isa_limit():
                self._core = openvino.Core()
                capabilities = cpu_capabilities(self._core)
                obstacle = _cpu_problem(capabilities, options.compute_precision)
                if obstacle:
                    has = ["fp32", *(each for each, capability in _CAPABILITIES.items() if capability in capabilities)]
                    raise EngineError(f"{obstacle}: use precision {' or '.join(has)}")
                compiled = self._core.compile_model(self._network(), "CPU", self._settings)
            _check_compiled(compiled, options.compute_precision)
            self.input_indices = _indices(model.inputs, compiled.inputs)
            self.output_indices = _indices(model.outputs, compiled.outputs)
            self.models[DYNAMIC] = CompiledModel(compiled, shared=False, free=[compiled.create_infer_request()])
        except (RuntimeError, ValueError, TypeError) as error:
            if isinstance(error, EngineError):
                raise
            raise EngineError(f"OpenVINO cannot load the model: {error_cause(error)}") from None

    def _run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        batch, start = arrays[0].shape[0], time.perf_counter()
        try:
            with self._lock:
                model = self.model_for(batch)
                request = model.request()
            found = request.infer(dict(zip(self.input_indices, arrays, strict=True)), share_inputs=True)
        except (RuntimeError, ValueError, TypeError) as error:
            raise EngineError(f"OpenVINO failed: {error_cause(error)}") from None
        outputs = found.to_tuple()
        result = [outputs[index] for index in self.output_indices]
        with self._lock:
            model.free.append(request)
            if model is self.models[DYNAMIC]:
                self._run_time_s[batch] += time.perf_counter() - start
        return result

    def model_for(self, batch: int) -> CompiledModel:
        """The model for the next run with a batch size: compiled for this size once it has run for `COMPILE_AFTER_S`,
        else the dynamic model. The results are bitwise equal.
        """
        is_open = self.model.inputs[0].shape[0] == DYNAMIC
        if is_open and self._run_time_s[batch] > COMPILE_AFTER_S and len(self.models) <= MAX_COMPILED_SIZES:
            del self._run_time_s[batch]
            self.models[batch] = self._compiled(batch, self.models[DYNAMIC].shared)
        size = batch if batch in self.models else DYNAMIC
        model = self.models[size]
        if not model.free and not model.shared and self._streams > 1:  # another thread runs it at this moment
            model = self.models[size] = self._compiled(size, shared=True)
            self._calls.survives_fork = False
        return model

    def reopened(self, threads: int) -> Engine:
        """As `Engine.reopened`, compiled for parallel runs."""
        engine = OpenVinoEngine(self.model, self.device, threads, self.options)
        engine.models[DYNAMIC] = engine._compiled(DYNAMIC, shared=True)
        return engine

    def _free(self) -> None:
        self.models.clear()

    def _compiled(self, batch: int, shared: bool) -> CompiledModel:
        network = self._network()
        if batch != DYNAMIC:
            ports = zip(self.input_indices, self.model.inputs, strict=True)
            network.reshape({index: [batch, *spec.shape[1:]] for index, spec in ports})
        streams = self._streams if shared else 1
        parallel = {"NUM_STREAMS": str(streams), "INFERENCE_NUM_THREADS": streams * self.threads}
        with _without_isa_limit():
            compiled = self._core.compile_model(network, "CPU", {**self._settings, **parallel})
        return CompiledModel(compiled, shared, [compiled.create_infer_request()])

    def _network(self) -> Any:
        return self._core.read_model(model=self.model.data, weights=b"")


def settings(threads: int, options: EngineOptions) -> dict[str, Any]:
    """Configuration of the CPU plugin.

    The precision is set because the default is bfloat16 on CPUs that support it. Pinning is off because every process
    pins its threads from core 0 on, so that several processes would share the same cores.
    """
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
        "ENABLE_HYPER_THREADING": True,  # else the number of threads is limited to physical cores
        "INFERENCE_PRECISION_HINT": _ELEMENT_TYPES[options.compute_precision],
    }


def import_openvino() -> ModuleType:
    """Import openvino without its telemetry, unless the telemetry package is already loaded."""
    block_telemetry = TELEMETRY not in sys.modules
    if block_telemetry:
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # makes the import fail as if it were not installed
    try:
        import openvino
    finally:
        if block_telemetry:
            del sys.modules[TELEMETRY]
    return openvino


@contextlib.contextmanager
def _without_isa_limit() -> Iterator[None]:
    """Unset the instruction set limit that the MindSpore engine puts into the environment (`ONEDNN_ISA_LIMIT`).

    It would also apply to oneDNN in OpenVINO: runs are 1.4 times slower, and bfloat16 models do not compile.
    """
    name, limit = ONEDNN_ISA_LIMIT
    is_limited = os.environ.get(name) == limit
    if is_limited:
        del os.environ[name]
    try:
        yield
    finally:
        if is_limited:
            os.environ[name] = limit


def cpu_capabilities(core: Any) -> list[str]:
    return core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _cpu_problem(capabilities: Sequence[str], precision: str) -> str:
    """Why the CPU cannot compute in `precision`; "" if it can.

    Without CPU support OpenVINO emulates bfloat16, three times slower than float32, and ignores float16.
    """
    if precision not in _CAPABILITIES or _CAPABILITIES[precision] in capabilities:
        return ""
    return f"this CPU does not compute in {PRECISIONS[precision]}, OpenVINO would only emulate it"


def _check_compiled(compiled: Any, precision: str) -> None:
    """Raise EngineError unless the model was compiled with the requested precision."""
    taken = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if taken != _ELEMENT_TYPES[precision]:
        raise EngineError(f"OpenVINO computes in {taken} here, not in {PRECISIONS[precision]}: use precision fp32")


def _indices(specs: Sequence[TensorSpec], ports: Sequence[Any]) -> list[int]:
    """Index of the model's port for each spec. Raises EngineError for names that the model lacks."""
    indices = {name: index for index, port in enumerate(ports) for name in port.get_names()}
    absent = [spec.name for spec in specs if spec.name not in indices]
    if absent:
        raise EngineError(
            f"the model file has {', '.join(indices)}, its manifest names {', '.join(absent)}: export the bundle again"
        )
    return [indices[spec.name] for spec in specs]


def error_cause(error: Exception) -> str:
    """The line of an OpenVINO error with the cause; lines with source locations come before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    causes = [line for line in lines if not line.startswith(_LOCATION_LINES)]
    return (causes or lines or [type(error).__name__])[0]
