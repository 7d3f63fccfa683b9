"""Sessions to compare: other libraries used directly, and `FaceAligner` with the bare session in it.

Heavy packages are imported only where a session is opened, which is in a process of its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from synergy.benchmarks.speed.engine_process import (
    ISOLATED,
    NETWORK,
    OVERHEAD,
    Picture,
    SessionInputs,
    SessionSpec,
    Workload,
)
from synergy.benchmarks.speed.timing import Clock, process_cpu_time, time_runs
from synergy.runtime.engines import Engine
from synergy.runtime.engines.base import ONEDNN_ISA_LIMIT
from synergy.runtime.engines.onnx import import_onnxruntime
from synergy.runtime.errors import EngineError
from synergy.runtime.files import TemporaryFolder
from synergy.runtime.specs import DYNAMIC

if TYPE_CHECKING:
    from synergy.runtime.aligner import FaceAligner

BENCH_EXTRA = "pip install 'synergy-mindir[bench]'"
DEFAULT_PRECISION = ""  # whatever the library chooses for this processor
FULL_PRECISION = "f32"  # OpenVINO's name for float32
OPENVINO_QUEUE = "openvino queue"
QUEUE_PART = 8  # crops per request at most; 8 and 16 are equally fast, 64 is slower

# crops (N,size,size,3) uint8 -> outputs, in the model's order
Run = Callable[[np.ndarray], "list[np.ndarray]"]


@dataclass(frozen=True)
class Peer:
    """A library to compare with.

    package: its import name. engine: the engine of this package that reads the same files. open: opens a session.
    """

    package: str
    engine: str
    open: Callable[[SessionSpec], Run]
    install: str = BENCH_EXTRA

    @property
    def is_installed(self) -> bool:
        """Whether its package can be found; it is not imported."""
        return find_spec(self.package) is not None


def open_onnxruntime(spec: SessionSpec) -> Run:
    """An InferenceSession on the CPU."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = spec.threads
    session = onnxruntime.InferenceSession(spec.model.data, options, providers=["CPUExecutionProvider"])
    name, outputs = spec.model.inputs[0].name, [output.name for output in spec.model.outputs]
    return lambda crops: session.run(outputs, {name: crops})


def open_openvino(spec: SessionSpec) -> Run:
    """An infer request of a model compiled for each batch size: up to a third faster than a dynamic batch."""
    core = _import_openvino().Core()
    settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": spec.threads}
    if spec.precision != DEFAULT_PRECISION:
        settings["INFERENCE_PRECISION_HINT"] = spec.precision
    requests = {}
    for batch in spec.batches:
        model = core.read_model(spec.model.data)
        model.reshape([batch, *spec.model.inputs[0].shape[1:]])
        requests[batch] = core.compile_model(model, "CPU", settings).create_infer_request()
    return lambda crops: list(requests[len(crops)].infer([crops], share_inputs=True).to_tuple())


def open_openvino_queue(spec: SessionSpec) -> Run:
    """OpenVINO's throughput mode: parts of a batch in an AsyncInferQueue with as many requests as OpenVINO chooses."""
    openvino = _import_openvino()
    core = openvino.Core()
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_NUM_THREADS": spec.threads}
    if spec.precision != DEFAULT_PRECISION:
        settings["INFERENCE_PRECISION_HINT"] = spec.precision
    fixed = spec.model.inputs[0].shape[0]
    sizes = range(1, QUEUE_PART + 1) if fixed == DYNAMIC else (fixed,)
    parts = {batch: max(size for size in sizes if batch % size == 0) for batch in spec.batches}
    queues = {}
    for part in set(parts.values()):
        model = core.read_model(spec.model.data)
        model.reshape([part, *spec.model.inputs[0].shape[1:]])
        queues[part] = openvino.AsyncInferQueue(core.compile_model(model, "CPU", settings))

    def run(crops: np.ndarray) -> list[np.ndarray]:
        part = parts[len(crops)]
        queue, found = queues[part], {}
        queue.set_callback(lambda request, start: found.update({start: _copied(request)}))
        for start in range(0, len(crops), part):
            queue.start_async([crops[start : start + part]], start, share_inputs=True)
        queue.wait_all()
        return [np.concatenate(arrays) for arrays in zip(*(found[start] for start in sorted(found)), strict=True)]

    return run


def _copied(request: Any) -> list[np.ndarray]:
    """The outputs of a finished request, which its next run overwrites."""
    return [np.array(tensor.data) for tensor in request.output_tensors]


def open_mindspore(spec: SessionSpec) -> Run:
    """`nn.GraphCell` of the MindIR."""
    os.environ.setdefault(*ONEDNN_ISA_LIMIT)
    import mindspore

    mindspore.device_context.cpu.op_tuning.threads_num(spec.threads)
    mindspore.set_device("CPU")
    with TemporaryFolder() as folder:
        path = Path(folder) / "model.mindir"
        path.write_bytes(spec.model.data)
        cell = mindspore.nn.GraphCell(mindspore.load(str(path)))
    return lambda crops: _numpy(cell(mindspore.Tensor(crops)))


PEERS: Mapping[str, Peer] = {
    "onnxruntime": Peer("onnxruntime", "onnx", open_onnxruntime),
    "openvino": Peer("openvino", "openvino", open_openvino),
    OPENVINO_QUEUE: Peer("openvino", "openvino", open_openvino_queue),
    "mindspore": Peer("mindspore", "mindspore", open_mindspore, "pip install 'synergy-mindir[export]'"),
}


class LibrarySession:
    """A library's own session, with a minimal script around it for pictures."""

    def __init__(self, spec: SessionSpec, inputs: SessionInputs) -> None:
        self.spec, self.inputs = spec, inputs
        self.run: Run = PEERS[spec.name].open(spec)
        self.run(inputs.crops[: spec.batches[0]])

    def sample(self, workload: Workload) -> list[list[float]]:
        if workload.kind == NETWORK:
            crops = self.inputs.crops[: workload.batch]
            return time_runs([lambda: self.run(crops)], workload.seconds)
        from synergy.benchmarks.peers.pipeline import script_pipeline
        from synergy.runtime.bundle import Bundle

        pipeline, picture = script_pipeline(self.run, Bundle.open(self.spec.folder)), _picture(self.inputs)
        return time_runs([lambda: pipeline(picture)], workload.seconds)


class PackageSession:
    """A `FaceAligner`, the bare session in it, and for `ISOLATED` a second aligner in a child process."""

    def __init__(self, spec: SessionSpec, inputs: SessionInputs) -> None:
        self.spec, self.inputs = spec, inputs
        self.aligner = self._open(isolated=False)
        self.bare = bare_run(self.aligner.engine)
        self.isolated: FaceAligner | None = None
        self.aligner.predict(inputs.crops[: spec.batches[0]])

    def sample(self, workload: Workload) -> list[list[float]]:
        crops, seconds = self.inputs.crops[: workload.batch], workload.seconds
        if workload.kind == OVERHEAD:
            return time_runs([lambda: self.aligner.predict(crops), lambda: self.bare(crops)], seconds)
        if workload.kind == ISOLATED:
            return self._isolated(crops, seconds)
        from synergy.benchmarks.peers.pipeline import package_pipeline

        pipeline, picture = package_pipeline(self.aligner), _picture(self.inputs)
        return time_runs([lambda: pipeline(picture)], seconds)

    def _isolated(self, crops: np.ndarray, seconds: float) -> list[list[float]]:
        """Not alternating: spinning threads of one process would disturb the other."""
        aligner = self.isolated = self.isolated or self._open(isolated=True)
        pid = aligner.engine.child.process.pid  # type: ignore[attr-defined] # of an IsolatedEngine
        both = Clock(cpu=lambda: time.process_time() + process_cpu_time(pid))
        isolated = time_runs([lambda: aligner.predict(crops)], seconds, both)
        return isolated + time_runs([lambda: self.bare(crops)], seconds)

    def _open(self, isolated: bool) -> FaceAligner:
        from synergy.runtime.aligner import FaceAligner

        spec = self.spec
        return FaceAligner.load(
            spec.folder,
            spec.name,
            threads=spec.threads,
            artifact=spec.artifact,
            isolated=isolated,
            options=spec.engine_options,
        )


def _picture(inputs: SessionInputs) -> Picture:
    if inputs.picture is None:
        raise ValueError("this workload needs a picture")
    return inputs.picture


def openvino_precision() -> str:
    """OpenVINO's default compute precision on this processor: f32, or bf16 or f16 where it has such units."""
    return _import_openvino().Core().get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name()


def make_precision_handler() -> Callable[[None], str]:
    """In a child process, so that OpenVINO's threads stay out of this one: answers with `openvino_precision`."""
    return lambda _: openvino_precision()


def _import_openvino() -> ModuleType:
    """Without telemetry, and without the limit inherited from a parent that runs MindSpore: bfloat16 does not compile
    under it."""
    from synergy.runtime.engines.openvino import import_openvino

    name, limit = ONEDNN_ISA_LIMIT
    if os.environ.get(name) == limit:
        del os.environ[name]
    return import_openvino()


def bare_run(engine: Engine) -> Run:
    """The library's session inside an engine, without the engine's checks and copies.

    Raises EngineError for an engine without an entry in `BARE_RUNS`.
    """
    if engine.name not in BARE_RUNS:
        raise EngineError(f"engine {engine.name} has no bare session: add it to BARE_RUNS in {__name__}")
    return BARE_RUNS[engine.name](engine)


def _bare_lite(engine: Any) -> Run:
    session = engine.session
    return lambda crops: session.run([crops])


def _bare_onnx(engine: Any) -> Run:
    session, name, outputs = engine.session, engine.input_names[0], engine.output_names
    return lambda crops: session.run(outputs, {name: crops})


def _bare_mindspore(engine: Any) -> Run:
    cell, tensor = engine.cell, engine.tensor
    return lambda crops: _numpy(cell(tensor(crops)))


def _bare_openvino(engine: Any) -> Run:
    places = engine.output_indices

    def run(crops: np.ndarray) -> list[np.ndarray]:
        found = engine.model_for(len(crops)).free[0].infer([crops], share_inputs=True).to_tuple()
        return [found[place] for place in places]

    return run


def _numpy(outputs: Any) -> list[np.ndarray]:
    """MindSpore's tensors, one or a tuple, as arrays."""
    return [output.asnumpy() for output in (outputs if isinstance(outputs, tuple) else (outputs,))]


# Reads attributes of the engines that only this comparison needs.
BARE_RUNS: Mapping[str, Callable[[Any], Run]] = {
    "lite": _bare_lite,
    "onnx": _bare_onnx,
    "mindspore": _bare_mindspore,
    "openvino": _bare_openvino,
}
