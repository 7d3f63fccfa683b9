"""Tests marked `lite_process` load MindSpore Lite, which cannot join a process that holds MindSpore.

Other tests of the same session import MindSpore, so all marked tests of a file run together in one child pytest,
and each reports here what became of it there.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from synergy.runtime.diagnostics.probes import protobuf_message
from synergy.runtime.lite.convert import convert

MakeOnce = Callable[[str, Callable[[Path], object]], Path]
_IN_CHILD = "SYNERGY_TEST_IN_CHILD"
# ReLU needs no argument moved, so for it lowering is stamping the versions.
_WRITE_MINDIRS = """
import sys
from pathlib import Path
import mindspore
from mindspore.train import mind_ir_pb2
folder = Path(sys.argv[1])
inputs = mindspore.Tensor(shape=[None, 4], dtype=mindspore.float32)
mindspore.export(mindspore.nn.ReLU(), inputs, file_name=str(folder / "v3"), file_format="MINDIR")
model = mind_ir_pb2.ModelProto.FromString((folder / "v3.mindir").read_bytes())
model.mind_ir_version, model.ir_version = 1, "0.1.1"
(folder / "v1.mindir").write_bytes(model.SerializeToString())
"""


class TinyModel:
    """images uint8 (N,8,8,3) -> a 3x3 convolution with ReLU, its mean over rows and columns (N,4), and that times
    a matrix (N,5)."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.kernel = random.standard_normal((4, 3, 3, 3)).astype(np.float32)
        self.matrix = random.standard_normal((4, 5)).astype(np.float32)

    def images(self, count: int, seed: int = 1) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), np.uint8)

    def expected(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(pooled, scores), by numpy alone."""
        pixels = images.astype(np.float32).transpose(0, 3, 1, 2) / 128
        patches = np.lib.stride_tricks.sliding_window_view(pixels, (3, 3), axis=(2, 3))
        pooled = np.maximum(np.einsum("nchwij,ocij->nohw", patches, self.kernel), 0).mean((2, 3))
        return pooled, pooled @ self.matrix

    def onnx_bytes(self) -> bytes:
        from onnx import TensorProto, helper, numpy_helper

        constants = {"scale": np.array(1 / 128, np.float32), "kernel": self.kernel, "matrix": self.matrix}
        # Lite's parser does without ONNX's defaults
        window = {"kernel_shape": [3, 3], "strides": [1, 1], "dilations": [1, 1], "pads": [0, 0, 0, 0], "group": 1}
        nodes = [
            helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
            helper.make_node("Mul", ["planes", "scale"], ["pixels"]),
            helper.make_node("Conv", ["pixels", "kernel"], ["features"], **window),
            helper.make_node("Relu", ["features"], ["positive"]),
            helper.make_node("ReduceMean", ["positive"], ["pooled"], axes=[2, 3], keepdims=0),
            helper.make_node("MatMul", ["pooled", "matrix"], ["scores"]),
        ]
        inputs = [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 8, 8, 3])]
        outputs = [
            helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["N", 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 5]),
        ]
        weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
        graph = helper.make_graph(nodes, "tiny", inputs, outputs, weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
        return model.SerializeToString()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "lite_process: loads MindSpore Lite, so runs in a process without MindSpore")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if pyfuncitem.get_closest_marker("lite_process") is None or _IN_CHILD in os.environ:
        return None
    outcomes, log = _run_file(pyfuncitem.path, pyfuncitem.config.rootpath)
    outcome = outcomes.get(pyfuncitem.name)
    if outcome is None:
        pytest.fail(f"the child process did not report this test:\n{log}", pytrace=False)
    for problem in outcome:
        if problem.tag == "skipped":
            pytest.skip(problem.get("message", ""))
        if problem.tag in ("failure", "error"):
            pytest.fail(problem.text or problem.get("message", ""), pytrace=False)
    return True


@functools.cache
def _run_file(path: Path, root: Path) -> tuple[dict[str, ElementTree.Element], str]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = ["-m", "lite_process", "-p", "no:cacheprovider", f"--junitxml={report}"]
        command = [sys.executable, "-m", "pytest", str(path), *options]
        done = subprocess.run(
            command, cwd=root, env={**os.environ, _IN_CHILD: "1"}, capture_output=True, text=True, check=False
        )
        cases = ElementTree.parse(report).iter("testcase") if report.is_file() else ()
        return {case.get("name", ""): case for case in cases}, done.stdout + done.stderr


@pytest.fixture(scope="session")
def tiny() -> TinyModel:
    """A network small enough to compute by hand."""
    pytest.importorskip("onnx", reason="writing the test model needs onnx: pip install 'synergy-mindir[export]'")
    return TinyModel()


@pytest.fixture(scope="session")
def tiny_onnx(tiny: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "tiny.onnx"
    path.write_bytes(tiny.onnx_bytes())
    return path


@pytest.fixture(scope="session")
def tiny_ms(lite_home: Path, tiny_onnx: Path, make_once: MakeOnce) -> bytes:
    """The tiny model as a MindSpore Lite file."""
    return make_once("tiny.ms", lambda path: convert(tiny_onnx, "onnx", path, input_format="NHWC")).read_bytes()


@pytest.fixture(scope="session")
def mindirs(lite_home: Path, make_once: MakeOnce) -> dict[str, bytes]:
    """ReLU on float32 (N,4): "v3" as MindSpore writes it, "v1" lowered."""
    if find_spec("mindspore") is None:
        pytest.skip("writing MindIR needs MindSpore: pip install 'synergy-mindir[export]'")

    def write(folder: Path) -> None:
        folder.mkdir()
        subprocess.run([sys.executable, "-c", _WRITE_MINDIRS, str(folder)], check=True, capture_output=True)

    folder = make_once("mindirs", write)
    return {version: (folder / f"{version}.mindir").read_bytes() for version in ("v3", "v1")}


@pytest.fixture(scope="session")
def cast_mindirs() -> tuple[bytes, bytes]:
    """A MindIR that casts `images`, written in the format of mind_ir.proto: with a uint8 and with a float32 input."""

    def write(dtype: int) -> bytes:
        node = protobuf_message((1, "images"), (1, "other"), (2, "y"), (3, "y"), (4, "REF::Cast:0"))
        images = protobuf_message((1, "images"), (2, protobuf_message((1, 1), (1, 4), (2, dtype))))
        return protobuf_message((1, "0.1.1"), (7, protobuf_message((1, node), (2, "graph"), (5, images))), (13, 1))

    return write(2), write(1)
