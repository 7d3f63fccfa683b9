"""Small valid files of every kind that the program reads, and the functions that read them: material for fuzzing."""

from __future__ import annotations

import io
import json
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

from tests.runtime.test_manifest import SOUND
from tests.synergy_model.conftest import TorchFiles


@dataclass(frozen=True)
class Reader:
    """read: called with the path of a file `name`. errors: what it may raise. seeds: valid files."""

    name: str
    read: Callable[[Path], object]
    errors: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]


def lite_model(tensors: int, name: bytes) -> bytes:
    """A MindSpore Lite file whose tensors, all at the same place, have a name and nothing else."""
    head = struct.pack("<I4s", 28, b"MSL2") + struct.pack("<10H", 20, 8, *[0] * 7, 4)
    root = struct.pack("<iI", 20, 4) + struct.pack("<I", tensors)
    start = len(head) + len(root)
    vtable = start + 4 * tensors
    table = vtable + 24
    entries = np.arange(start, vtable, 4, dtype=np.uint32)
    tensor = struct.pack("<12H", 24, 8, *[0] * 9, 4) + struct.pack("<iI", 24, 4) + struct.pack("<I", len(name)) + name
    return head + root + (table - entries).astype("<u4").tobytes() + tensor


def onnx_model() -> bytes:
    """One operator with one weight."""
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.ones((2, 2), np.float32), "w")
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in "xy")
    return helper.make_model(helper.make_graph([node], "g", [x], [y], [weight])).SerializeToString()


def mindir_model() -> bytes:
    """One operator with one weight."""
    from mindspore.train.mind_ir_pb2 import ModelProto

    model = ModelProto(ir_version="0.1.1", producer_name="MindSpore", mind_ir_version=2)
    model.graph.node.add(op_type="ReLU", input=["x"], output=["y"], name="n")
    model.graph.parameter.add(name="w", dims=[2, 2], data_type=1, raw_data=bytes(16))
    return model.SerializeToString()


def mindspore_checkpoint() -> bytes:
    """Two tensors, one in two parts, a text and a scalar."""
    from mindspore.train.checkpoint_pb2 import Checkpoint

    checkpoint = Checkpoint()
    for name, dims, kind, content in (
        ("w", [2, 3], "Float32", bytes(12)),
        ("w", [2, 3], "Float32", bytes(12)),
        ("b", [5], "Float16", bytes(10)),
        ("arch", [0], "str", "net".encode("utf-32-le")),
        ("step", [], "Int64", bytes(8)),
    ):
        tensor = checkpoint.value.add(tag=name).tensor
        tensor.dims.extend(dims)
        tensor.tensor_type, tensor.tensor_content = kind, content
    return checkpoint.SerializeToString()


def _saved(save: Callable[..., Any], *args: Any, **kwargs: Any) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *args, **kwargs)
    return buffer.getvalue()


def _images() -> tuple[bytes, ...]:
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    suffixes = (".png", ".jpg", ".bmp", ".tiff", ".webp", ".ppm", ".gif", ".avif", ".jp2")
    encoded = []
    for suffix in suffixes:
        try:
            ok, data = cv2.imencode(suffix, image)
        except cv2.error:
            continue
        encoded += [data.tobytes()] if ok else []
    return tuple(encoded)


def _journal(path: Path) -> None:
    from synergy.runtime.inference.journal import Journal

    target = path.with_suffix("")
    with Journal(target, "k", ["a.jpg", "b.jpg"]) as journal:
        assert journal.done <= {"a.jpg", "b.jpg"}


def _tuning(path: Path) -> None:
    from synergy.runtime import autotune

    autotune.read_tuning(SimpleNamespace(folder=path.parent / path.name.removesuffix(".tuning.json")))  # type: ignore[arg-type]


def _archived(read: Callable[[Path], object]) -> Callable[[Path], object]:
    """Reads a file as the data.pkl of a checkpoint: damage elsewhere is found by the checksums of its archive."""

    def read_as_part(path: Path) -> object:
        storages = {"0": np.arange(6, dtype=np.float32), "1": np.arange(4)}
        inner = TorchFiles.Code(path.read_bytes()[2:-1])
        return read(TorchFiles(path.parent).write("whole.pth", TorchFiles(path.parent).zip(inner, storages)))

    return read_as_part


def readers(folder: Path) -> list[Reader]:
    """All of them."""
    from scipy.io import savemat

    from synergy.benchmarks.accuracy.aflw2000_raw import read_mat
    from synergy.benchmarks.accuracy.data import DataError
    from synergy.export.inspection.inspect import InspectionError, inspect_path
    from synergy.runtime.errors import BundleError, MediaError
    from synergy.runtime.formats.npz import read_npy
    from synergy.runtime.manifest import read_manifest
    from synergy.runtime.media.box_file import BoxFile
    from synergy.runtime.media.image import read_image
    from synergy.synergy_model.checkpoints.array_files import ArrayFileError, read_arrays
    from synergy.synergy_model.checkpoints.checkpoint import CheckpointError, read_parameters
    from synergy.synergy_model.checkpoints.torch_pickle import TorchFileError, read_state_dict

    torch = TorchFiles(folder)
    weights = {"module.a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.arange(4)}
    whitening = {"mean": np.arange(6.0), "std": np.ones(6, np.float32), "names": ["a", 1, None]}
    labels = {"pt3d_68": np.zeros((3, 68), np.float32), "Pose_Para": np.zeros((1, 7)), "roi": np.ones((1, 4))}
    line = {"path": "a.jpg", "stamp": [0, 0], "record": {"path": "a.jpg", "faces": [], "error": None}}
    tuning = [{"key": "k", "ranking": [{"engine": "onnx", "artifact": "m", "threads": 1, "median_ms": 1.0}]}]
    report = {"images": [{"path": "a.jpg", "faces": [{"box_xyxy": [1, 2, 30, 40], "score": 1}], "error": None}]}
    arrays = (ArrayFileError, TorchFileError)
    return [
        Reader("a.pth", read_state_dict, (TorchFileError,), tuple(
            torch.checkpoint("seed.pth", weights, container).read_bytes() for container in ("zip", "legacy")
        )),
        Reader("inner.pth", _archived(read_state_dict), (TorchFileError,), (
            b"\x80\x02" + torch.state(weights)[0] + b".",
        )),
        Reader("a.pkl", read_arrays, arrays, tuple(pickle.dumps(whitening, p) for p in (0, 2, 4, 5))),
        Reader("a.npz", read_arrays, arrays, (
            _saved(np.savez, **labels), _saved(np.savez_compressed, **labels),
        )),
        Reader("a.npy", lambda path: read_npy(path.read_bytes()), (ValueError,), (_saved(np.save, np.eye(3)),)),
        Reader("a.mat", lambda path: read_mat(path, ("pt3d_68", "Pose_Para")), (DataError,), tuple(
            _saved(savemat, labels, format=level, do_compression=packed)
            for level, packed in (("5", False), ("5", True), ("4", False))
        )),
        Reader("manifest.json", lambda path: read_manifest(path.parent), (BundleError,), (json.dumps(SOUND).encode(),)),
        Reader("boxes.json", BoxFile.read, (MediaError,), (
            json.dumps({"a.jpg": [[1, 2, 30, 40]]}).encode(), json.dumps(report).encode(), b"a.jpg 1 2 30 40\n",
        )),
        Reader("report.json.partial", _journal, (MediaError,), (
            b"\n".join([b'{"key":"k"}', *[json.dumps(line).encode()] * 2, b""]),
        )),
        Reader("b.tuning.json", _tuning, (), (json.dumps(tuning).encode(),)),
        Reader("a.onnx", inspect_path, (InspectionError,), (onnx_model(),)),
        Reader("a.mindir", inspect_path, (InspectionError,), (mindir_model(),)),
        Reader("a.ms", inspect_path, (InspectionError,), (lite_model(2, b"name"),)),
        Reader("a.ckpt", read_parameters, (CheckpointError,), (mindspore_checkpoint(),)),
        Reader("a.img", read_image, (MediaError,), _images()),
    ]  # fmt: skip
