"""Checks that run in a child process each: import OpenCV, run a model on an engine, open shared libraries.

A library that is broken, crashes or hangs affects its child process only. Heavy packages are imported only by the
probe that needs them.
"""

from __future__ import annotations

import ctypes
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import import_module

import numpy as np

from synergy.runtime.engines import engine_class
from synergy.runtime.engines.onnx import card_problem, import_onnxruntime
from synergy.runtime.errors import EngineError
from synergy.runtime.processes import programs
from synergy.runtime.specs import Device, ModelFile, TensorSpec
from synergy.runtime.text import first_line, last_line

OPENCV_RANGE = ">=4.8,<6"  # 5 has no cascades; pyproject.toml installs 4, with which detection works without a download
TIMEOUT_S = 60.0  # the slowest, MindSpore, takes 3 s on two idle cores
BOOTSTRAP = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    "from synergy.runtime.diagnostics.probes import run_in_child; run_in_child()"
)
# The child's result line starts with one of these; libraries may print other lines.
SUCCESS_PREFIX, FAILURE_PREFIX = "probe succeeded: ", "probe failed: "


def run_probe(probe: str, *arguments: str, environment: Mapping[str, str] | None = None) -> tuple[bool, str]:
    """Run a probe in a child process. Returns whether it succeeded, and its result or the reason of the failure.

    environment: variables of the child that differ from this process's.
    """
    command = [sys.executable, "-c", BOOTSTRAP, json.dumps(sys.path), probe, *arguments]
    try:
        done = programs.run(command, environment=environment, timeout_s=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return False, f"no answer within {TIMEOUT_S:.0f} s"
    for line in reversed(done.stdout.splitlines()):
        for prefix in (SUCCESS_PREFIX, FAILURE_PREFIX):
            if line.startswith(prefix):
                return prefix == SUCCESS_PREFIX, line.removeprefix(prefix)
    code = done.returncode
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
    return False, f"it crashed ({how}): {last_line(done.stderr, default='no reason given')}"


def run_in_child() -> None:
    """Runs in the child process: run one probe and print its result as one line."""
    probe, *arguments = sys.argv[2:]
    probes: dict[str, Callable[..., str]] = {
        "opencv": probe_opencv,
        "yunet": probe_yunet,
        "onnx": lambda: import_module("onnx").__version__,
        "engine": probe_engine,
        "libraries": probe_libraries,
        "provider": lambda kind: card_problem(import_onnxruntime(), kind),
    }
    try:
        print(SUCCESS_PREFIX, probes[probe](*arguments), sep="")
    except Exception as error:  # any error is the result of the probe
        print(FAILURE_PREFIX, first_line(error), sep="")


def probe_opencv() -> str:
    """Version of OpenCV, and whether it has the cascades.

    Raises ImportError for another version, MediaError if OpenCV 4 has no cascades or damaged ones.
    """
    from synergy.runtime.opencv import cv2

    major, minor = map(int, cv2.__version__.split(".")[:2])
    if not (4, 8) <= (major, minor) < (6, 0):
        raise ImportError(f"OpenCV {cv2.__version__} is installed, this program needs {OPENCV_RANGE}")
    if major >= 5:  # moved to the contributed modules, which opencv-python lacks
        return f"{cv2.__version__} without face cascades"
    from synergy.runtime.detection.haar import HaarDetector

    HaarDetector().detect(np.zeros((64, 64, 3), np.uint8))  # the cascades are loaded when the first image comes
    return f"{cv2.__version__} with face cascades"


def probe_yunet(model: str) -> str:
    """Detect faces in an empty image with the YuNet model at a path. Raises MediaError if it cannot be loaded."""
    from synergy.runtime.detection.yunet import YuNetDetector

    YuNetDetector(model).detect(np.zeros((64, 64, 3), np.uint8))
    return model


def probe_engine(name: str, device: str = "cpu") -> str:
    """Compute max(x, 0) on a device and return the version of the engine's package.

    Raises EngineError if the result is wrong.
    """
    kind, data = PROBE_MODELS[name]
    model = ModelFile(data, kind, (TensorSpec("x", (1, 4), "float32"),), (TensorSpec("y", (1, 4), "float32"),))
    x = np.array([[-1, 2, -3, 4]], np.float32)
    with engine_class(name)(model, Device.parse(device), 1) as engine:
        y = engine.run({"x": x})["y"]
    if not np.array_equal(y, np.maximum(x, 0)):
        raise EngineError(f"a model ran, but max(x, 0) of {x.tolist()} came out as {y.tolist()}")
    return str(getattr(sys.modules.get({"onnx": "onnxruntime"}.get(name, name)), "__version__", ""))


def probe_libraries(*names: str) -> str:
    """The names of the shared libraries that cannot be opened."""
    missing = []
    for name in names:
        try:
            ctypes.CDLL(name)
        except OSError:
            missing.append(name)
    return ", ".join(missing)


def protobuf_message(*fields: tuple[int, int | str | bytes]) -> bytes:
    """Encode a protobuf message from numbered fields, so that the probes need no package to write models."""
    return b"".join(_field(number, value) for number, value in fields)


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


def _mindir() -> bytes:
    """y = ReLU(x) in the format of mind_ir.proto, version 1, which Lite 2.0 and MindSpore can both read."""
    tensor = protobuf_message((1, 1), (1, 4), (2, 1))  # dims 1 and 4, data_type FLOAT
    shape = protobuf_message((1, "shape"), (12, tensor), (16, 19))  # an attribute of type TENSORS
    node = protobuf_message((1, "x"), (2, "y"), (3, "y"), (4, "REF::ReLU"), (5, shape))
    ends = (5, protobuf_message((1, "x"), (2, tensor))), (6, protobuf_message((1, "y"), (2, tensor)))
    graph = protobuf_message((1, node), (2, "probe"), *ends)
    head = (1, "0.1.1"), (2, "MindSpore"), (5, "2.0.0")  # MindSpore requires producer and version
    return protobuf_message(*head, (7, graph), (10, 1), (12, protobuf_message((1, "ReLU"), (2, "ReLU"))), (13, 1))


def _onnx() -> bytes:
    """y = Relu(x) in the format of onnx.proto, IR 4, opset 11."""
    shape = protobuf_message((1, protobuf_message((1, 1))), (1, protobuf_message((1, 4))))
    kind = protobuf_message((1, protobuf_message((1, 1), (2, shape))))  # a tensor of FLOAT
    ends = (11, protobuf_message((1, "x"), (2, kind))), (12, protobuf_message((1, "y"), (2, kind)))
    graph = protobuf_message((1, protobuf_message((1, "x"), (2, "y"), (4, "Relu"))), (2, "probe"), *ends)
    return protobuf_message((1, 4), (7, graph), (8, protobuf_message((2, 11))))


PROBE_MODELS = {
    "lite": ("mindir_v1", _mindir()),
    "onnx": ("onnx", _onnx()),
    "openvino": ("onnx", _onnx()),
    "mindspore": ("mindir", _mindir()),
}
