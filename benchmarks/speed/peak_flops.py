"""The number of multiply-adds of a network, and the peak arithmetic rate of this machine.

The peak is measured as a product of large float32 matrices. NumPy's libraries read their number of threads from the
environment when they load, so each number of threads has a process of its own.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from synergy.benchmarks.speed.interleave import BenchmarkCase
from synergy.benchmarks.speed.timing import time_runs
from synergy.runtime.processes.child import Child
from synergy.runtime.text import counted

SIDE = 2048  # of the matrices: 1024 reaches the peak with one thread, but not with several
PRODUCT_FLOP = 2 * SIDE**3  # a multiply-add is two operations
# of OpenBLAS, MKL and OpenMP: what NumPy's builds use
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")

# operator: which of its inputs holds the weights of a convolution, (out, in / groups, ...)
CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
# operator: which of its inputs is the left matrix
PRODUCTS = {"MatMul": 0, "Gemm": 0, "MatMulInteger": 0, "QLinearMatMul": 0}


class PeakCase(BenchmarkCase):
    """The matrix product on that many threads, in its own process."""

    def __init__(self, threads: int) -> None:
        """Raises EngineError if the process does not run."""
        super().__init__()
        self.threads = threads
        with _thread_limit(threads):
            self.child = Child("the matrix product", __name__, "make_handler")
            self.run_sample(-1)  # NumPy reads the environment while it loads

    def __str__(self) -> str:
        return f"matrix product, {counted(self.threads, 'thread')}"

    def run_sample(self, number: int) -> list[float]:
        return self.child.ask(None)

    def close(self) -> None:
        """End the process."""
        self.child.close()


def make_handler() -> Callable[[None], list[float]]:
    """In the child process: every request is answered with the seconds of each product of a sample."""
    left, right = np.random.default_rng(0).random((2, SIDE, SIDE), np.float32)
    product = np.empty_like(left)
    return lambda _: time_runs([lambda: np.matmul(left, right, out=product)])[0]


@contextmanager
def _thread_limit(threads: int) -> Iterator[None]:
    """Limit the threads of child processes that are started within."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def multiply_adds(onnx_bytes: bytes) -> int:
    """Multiply-adds for one face in the convolutions and matrix products of an ONNX file; the rest is negligible.

    Raises ValueError for a file that is not ONNX or whose shapes cannot be inferred, ImportError without onnx.
    """
    import onnx

    from synergy.export.protobuf import parse

    model = onnx.ModelProto()
    if not parse(model, onnx_bytes) or not model.graph.node:
        raise ValueError("not an ONNX model: multiply-adds cannot be counted")
    batch = _one_face(model.graph)
    try:
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except onnx.shape_inference.InferenceError as error:
        raise ValueError(f"onnx cannot infer the model's shapes: {' '.join(str(error).split())}") from None
    shapes = _shapes(graph)
    return sum(_of_node(node, shapes) for node in graph.node) // batch


def _one_face(graph: Any) -> int:
    """Set a dynamic batch to 1 and drop stored inner shapes, so that onnx infers them. Returns the graph's batch."""
    batch = graph.input[0].type.tensor_type.shape.dim[0].dim_value
    batch = batch if batch > 0 else 1
    for tensor in [*graph.input, *graph.output]:
        tensor.type.tensor_type.shape.dim[0].dim_value = batch
    del graph.value_info[:]
    return batch


def _shapes(graph: Any) -> dict[str, tuple[int, ...]]:
    known = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for tensor in [*graph.input, *graph.value_info, *graph.output]:
        known[tensor.name] = tuple(dim.dim_value for dim in tensor.type.tensor_type.shape.dim)
    return known


def _of_node(node: Any, shapes: Mapping[str, tuple[int, ...]]) -> int:
    if node.op_type in CONVOLUTIONS:
        terms = math.prod(_shape(node.input[CONVOLUTIONS[node.op_type]], node, shapes)[1:])
    elif node.op_type in PRODUCTS:
        transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        terms = _shape(node.input[PRODUCTS[node.op_type]], node, shapes)[0 if transposed else -1]
    else:
        return 0
    return terms * math.prod(_shape(node.output[0], node, shapes))


def _shape(name: str, node: Any, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    shape = shapes.get(name, (0,))
    if 0 in shape:
        raise ValueError(f"the shape of {name} at {node.op_type} is not known: multiply-adds cannot be counted")
    return shape
