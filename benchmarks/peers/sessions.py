"""The networks of a bundle without this program: as users of each library run them, with nothing around them.

Everything heavy is imported where a session is opened, which is in a process of its own.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from synergy.runtime.engines import Engine
from synergy.runtime.engines.base import ONEDNN_ISA_LIMIT
from synergy.runtime.errors import EngineError
from synergy.runtime.specs import ModelFile

BENCH_EXTRA = "pip install 'synergy-mindir[bench]'"
DEFAULT_PRECISION = ""  # whatever the library chooses for this processor
FULL_PRECISION = "f32"  # OpenVINO's word for float32

# crops (N,size,size,3) uint8 -> outputs, in the model's order
Run = Callable[[np.ndarray], "list[np.ndarray]"]


@dataclass(frozen=True)
class PeerModel:
    """What a peer opens: a model on so many threads; `precision` is OpenVINO's hint, `batches` those to be run."""

    model: ModelFile
    threads: int
    precision: str
    batches: tuple[int, ...]


@dataclass(frozen=True)
class Peer:
    """A library to compare with: its package, the engine of ours that reads the same files, and how it is opened."""

    package: str
    engine: str
    open: Callable[[PeerModel], Run]
    install: str = BENCH_EXTRA

    @property
    def is_here(self) -> bool:
        """Whether its package is installed, found out without loading it."""
        return find_spec(self.package) is not None


def open_onnxruntime(wanted: PeerModel) -> Run:
    """An InferenceSession on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = wanted.threads
    session = onnxruntime.InferenceSession(wanted.model.data, options, providers=["CPUExecutionProvider"])
    name, outputs = wanted.model.inputs[0].name, [spec.name for spec in wanted.model.outputs]
    return lambda crops: session.run(outputs, {name: crops})


def open_openvino(wanted: PeerModel) -> Run:
    """An infer request of a model compiled for each batch, as OpenVINO advises: up to a third faster than open ones."""
    core = _import_openvino().Core()
    settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": wanted.threads}
    if wanted.precision != DEFAULT_PRECISION:
        settings["INFERENCE_PRECISION_HINT"] = wanted.precision
    requests = {}
    for batch in wanted.batches:
        model = core.read_model(wanted.model.data)
        model.reshape([batch, *wanted.model.inputs[0].shape[1:]])
        requests[batch] = core.compile_model(model, "CPU", settings).create_infer_request()
    return lambda crops: list(requests[len(crops)].infer([crops], share_inputs=True).to_tuple())


def open_mindspore(wanted: PeerModel) -> Run:
    """`nn.GraphCell` of the MindIR."""
    os.environ.setdefault(*ONEDNN_ISA_LIMIT)
    import mindspore

    mindspore.device_context.cpu.op_tuning.threads_num(wanted.threads)
    mindspore.set_device("CPU")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.mindir"
        path.write_bytes(wanted.model.data)
        cell = mindspore.nn.GraphCell(mindspore.load(str(path)))
    return lambda crops: _numpy(cell(mindspore.Tensor(crops)))


PEERS: Mapping[str, Peer] = {
    "onnxruntime": Peer("onnxruntime", "onnx", open_onnxruntime),
    "openvino": Peer("openvino", "openvino", open_openvino),
    "mindspore": Peer("mindspore", "mindspore", open_mindspore, "pip install 'synergy-mindir[export]'"),
}


def openvino_precision() -> str:
    """In which type OpenVINO computes on this processor unless told: f32, or bf16 or f16 where it has such units."""
    return _import_openvino().Core().get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name()


def make_precision_handler() -> Callable[[None], str]:
    """In a child process, which answers with `openvino_precision`: OpenVINO's threads stay out of this one."""
    return lambda _: openvino_precision()


def _import_openvino() -> ModuleType:
    """Without telemetry, and without the limit that a parent with MindSpore hands down: bfloat16 does not compile
    under it."""
    from synergy.runtime.engines.openvino import import_openvino

    name, limit = ONEDNN_ISA_LIMIT
    if os.environ.get(name) == limit:
        del os.environ[name]
    return import_openvino()


def bare_run(engine: Engine) -> Run:
    """The session inside one of our engines, without the engine: what `predict` is compared with.

    Raises EngineError for an engine that nobody has said this of.
    """
    if engine.name not in BARE_RUNS:
        raise EngineError(f"engine {engine.name} has no bare session in benchmarks/peer_sessions.py: add one")
    return BARE_RUNS[engine.name](engine)


def _bare_lite(engine: Any) -> Run:
    session = engine._session
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
        found = engine.request_for(len(crops)).infer([crops], share_inputs=True).to_tuple()
        return [found[place] for place in places]

    return run


def _numpy(outputs: Any) -> list[np.ndarray]:
    """MindSpore's tensors, one or a tuple, as arrays."""
    return [output.asnumpy() for output in (outputs if isinstance(outputs, tuple) else (outputs,))]


# Private attributes, on purpose: engines owe nobody their sessions but this comparison
BARE_RUNS: Mapping[str, Callable[[Any], Run]] = {
    "lite": _bare_lite,
    "onnx": _bare_onnx,
    "mindspore": _bare_mindspore,
    "openvino": _bare_openvino,
}
