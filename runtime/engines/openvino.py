"""ONNX files on OpenVINO, which on Intel's CPUs is fast with batches, and faster in less than float32."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
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
)

# Importing openvino imports this, writes a client id to the user's home and reports the import to its maker. Without
# it openvino's own stand-in is used, which does neither.
TELEMETRY = "openvino_telemetry"
_ELEMENT_TYPES = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}  # OpenVINO's words
_CAPABILITIES = {"fp16": "FP16", "bf16": "BF16"}
WORTH_S = 0.2  # of runs at one size: as much as compiling for it takes, so that it never costs more than twice the best
MOST_SIZES = 4
_WHERE_IT_HAPPENED = ("Exception from ", "Check '", "FrontEnd API failed")  # lines before the cause of an error


class OpenVinoEngine(Engine):
    """A compiled model with one request, on Intel's CPU plugin.

    An open batch stays open: a size that is new costs the time of one more run. A size that comes again and again gets
    a model of its own: 0.2 s once and as much memory again, and then a tenth to a third less time.
    """

    name = "openvino"
    formats = ("onnx",)
    devices = ("cpu",)  # its gpu is Intel's
    reduced: ClassVar = {"fp16": ("cpu",), "bf16": ("cpu",)}

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
            with _all_instructions():
                able = _capabilities(import_openvino().Core())
        except (ImportError, OSError, RuntimeError) as error:
            return Availability(False, f"OpenVINO does not load: {_cause(error)}", "install openvino again")
        obstacle = _cpu_obstacle(able, precision)
        return Availability(False, obstacle, "use a CPU that has it") if obstacle else status

    def __init__(
        self, model: ModelFile, device: Device, threads: int, options: EngineOptions = DEFAULT_OPTIONS
    ) -> None:
        super().__init__(model, device, threads, options)
        openvino = import_openvino()
        self._settings = settings(threads, options)
        self._sizes: dict[int, Any] = {}  # requests of models compiled for one batch size
        self._spent_s: defaultdict[int, float] = defaultdict(float)  # in runs of each size that has no model of its own
        try:
            with _all_instructions():
                self._core = openvino.Core()
                able = _capabilities(self._core)
                obstacle = _cpu_obstacle(able, options.compute_precision)
                if obstacle:
                    has = ["fp32", *(each for each, capability in _CAPABILITIES.items() if capability in able)]
                    raise EngineError(f"{obstacle}: use precision {' or '.join(has)}")
                compiled = self._core.compile_model(self._network(), "CPU", self._settings)
            _check_compiled(compiled, options.compute_precision)
            self.input_places = _places(model.inputs, compiled.inputs)
            self.output_places = _places(model.outputs, compiled.outputs)
            self.request = compiled.create_infer_request()
        except (RuntimeError, ValueError, TypeError) as error:
            if isinstance(error, EngineError):
                raise
            raise EngineError(f"OpenVINO cannot load the model: {_cause(error)}") from None

    def _run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        if self.request is None:
            raise EngineError(f"this {self.name} engine is closed")
        batch, start = arrays[0].shape[0], time.perf_counter()
        try:
            request = self.request_for(batch)
            found = request.infer(dict(zip(self.input_places, arrays, strict=True)), share_inputs=True)
        except (RuntimeError, ValueError, TypeError) as error:
            raise EngineError(f"OpenVINO failed: {_cause(error)}") from None
        if request is self.request:
            self._spent_s[batch] += time.perf_counter() - start
        outputs = found.to_tuple()
        return [outputs[place] for place in self.output_places]

    def request_for(self, batch: int) -> Any:
        """What runs a batch of that size: from a size's `WORTH_S` on a model compiled for it, whose results are the
        same to the last bit."""
        is_open = self.model.inputs[0].shape[0] == DYNAMIC
        if is_open and self._spent_s[batch] > WORTH_S and len(self._sizes) < MOST_SIZES:
            del self._spent_s[batch]
            network = self._network()
            places = zip(self.input_places, self.model.inputs, strict=True)
            network.reshape({place: [batch, *spec.shape[1:]] for place, spec in places})
            with _all_instructions():
                compiled = self._core.compile_model(network, "CPU", self._settings)
            self._sizes[batch] = compiled.create_infer_request()
        return self._sizes.get(batch, self.request)

    def close(self) -> None:
        self.request = None
        self._sizes.clear()

    def _network(self) -> Any:
        return self._core.read_model(model=self.model.data, weights=b"")


def settings(threads: int, options: EngineOptions) -> dict[str, Any]:
    """What the CPU plugin is told.

    The precision, because its default is bfloat16 where the CPU has it. No pinning, because each process pins from
    core 0 on: two of one thread would share that.
    """
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
        "ENABLE_HYPER_THREADING": True,  # as many threads as asked for, not as there are physical cores
        "INFERENCE_PRECISION_HINT": _ELEMENT_TYPES[options.compute_precision],
    }


def import_openvino() -> ModuleType:
    """The package, without its telemetry unless something else has loaded that."""
    keeps_quiet = TELEMETRY not in sys.modules
    if keeps_quiet:
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # Python's way to say that there is no such module
    try:
        import openvino
    finally:
        if keeps_quiet:
            del sys.modules[TELEMETRY]
    return openvino


@contextlib.contextmanager
def _all_instructions() -> Iterator[None]:
    """The limit that MindSpore needs is in the environment of its process and of those that it starts.

    oneDNN in OpenVINO obeys it too, from its first use on: 1.4 times slower, and bfloat16 does not compile.
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


def _capabilities(core: Any) -> list[str]:
    return core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _cpu_obstacle(able: Sequence[str], precision: str) -> str:
    """Without the instructions OpenVINO emulates bfloat16, three times slower than float32, and ignores float16."""
    if precision not in _CAPABILITIES or _CAPABILITIES[precision] in able:
        return ""
    return f"this CPU does not compute in {PRECISIONS[precision]}, OpenVINO would only emulate it"


def _check_compiled(compiled: Any, precision: str) -> None:
    """What it computes in is what was asked for."""
    taken = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if taken != _ELEMENT_TYPES[precision]:
        raise EngineError(f"OpenVINO computes in {taken} here, not in {PRECISIONS[precision]}: use precision fp32")


def _places(specs: Sequence[TensorSpec], ports: Sequence[Any]) -> list[int]:
    """Where the model has what the manifest names."""
    places = {name: place for place, port in enumerate(ports) for name in port.get_names()}
    absent = [spec.name for spec in specs if spec.name not in places]
    if absent:
        raise EngineError(
            f"the model file has {', '.join(places)}, its manifest names {', '.join(absent)}: export the bundle again"
        )
    return [places[spec.name] for spec in specs]


def _cause(error: Exception) -> str:
    """OpenVINO says first where in its sources it failed, then why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    causes = [line for line in lines if not line.startswith(_WHERE_IT_HAPPENED)]
    return (causes or lines or [type(error).__name__])[0]
