"""Small files that would take much time or memory: each is refused in one line, quickly."""

from __future__ import annotations

import io
import os
import pickle
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synergy.benchmarks.accuracy.aflw2000_raw import read_mat
from synergy.cli import error_message
from synergy.export.inspection.inspect import InspectionError, inspect_path
from synergy.runtime.bundle import BUILTIN, Bundle
from synergy.runtime.errors import BundleError, MediaError
from synergy.runtime.formats.npz import read_npy, read_npz
from synergy.runtime.manifest import encode_manifest, read_manifest
from synergy.runtime.media.box_file import MAX_BOXES, BoxFile
from synergy.runtime.media.image import read_image
from synergy.synergy_model.checkpoints.array_files import ArrayFileError, read_arrays
from synergy.synergy_model.checkpoints.torch_pickle import TorchFileError, read_numpy_pickle, read_state_dict
from tests.hostile_files import lite_model, onnx_model
from tests.synergy_model.conftest import TorchFiles

SECONDS = 20.0  # for each file, on a busy machine

# a pair of a pair of ... 60 deep: 2**60 values to hash, print or convert
NESTED = b"Nq\x00" + b"".join(b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(60))


@pytest.fixture
def torch_files(tmp_path: Path) -> TorchFiles:
    return TorchFiles(tmp_path)


def refused(read: Callable[[], object], errors: Any, match: str) -> None:
    start = time.monotonic()
    with pytest.raises(errors, match=match) as raised:
        read()
    assert time.monotonic() - start < SECONDS
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 2000


PICKLES = {
    "key": b"}" + NESTED + b"Ns.",
    "key of OrderedDict": b"ccollections\nOrderedDict\n]" + NESTED + b"N\x86a\x85R.",
    "set": b"\x8f(" + NESTED + b"\x90.",
    "dtype": b"cnumpy\ndtype\n" + NESTED + b"\x85R.",
    "size": b"ctorch._utils\n_rebuild_tensor_v2\n(N" + b"K\x00" + NESTED + NESTED + b"tR.",
    "size times number": b"ctorch._utils\n_rebuild_tensor_v2\n(NK\x00(" + NESTED + b"J\xff\xff\xff\x7ft)tR.",
    "storage": b"(X\x07\x00\x00\x00storage" + NESTED + NESTED + b"NK\x01tQ.",
    "number": b"\x8b" + struct.pack("<i", 1 << 20) + b"\x7f" * (1 << 20) + b".",
    "name": b"c" + b"x" * 5_000_000 + b"\n" + b"y" * 5_000_000 + b"\n.",
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", PICKLES)
@pytest.mark.parametrize("read", [read_state_dict, read_numpy_pickle])
def test_pickles(tmp_path: Path, torch_files: Any, name: str, read: Callable[[Path], object]) -> None:
    path = torch_files.write("a.pkl", b"\x80\x02" + PICKLES[name])
    refused(lambda: read(path), TorchFileError, r"a\.pkl")
    path = torch_files.write("b.pth", torch_files.zip(torch_files.Code(PICKLES[name][:-1]), {}))
    refused(lambda: read_state_dict(path), TorchFileError, r"b\.pth")


@pytest.mark.timeout(60)
def test_repeated_bytes_of_a_pickle(torch_files: Any) -> None:
    """One text of 1 MB, encoded 10,000 times."""
    text = b"X" + struct.pack("<I", 1 << 20) + b"x" * (1 << 20) + b"q\x00"
    encoded = b"c_codecs\nencode\nq\x010" + text + b"0" + b"](" + b"h\x01h\x00\x85R" * 10_000 + b"e."
    path = torch_files.write("a.pkl", b"\x80\x02" + encoded)
    refused(lambda: read_numpy_pickle(path), TorchFileError, r"repeats its bytes|a\.pkl")


def test_views_that_would_be_copied(torch_files: Any) -> None:
    """4 MB whose 100 overlapping views would take 400 MB."""
    f, data = torch_files, np.zeros(1 << 20, np.float32)
    whole = f.storage("0", "FloatStorage", data.size)
    content = {f"v{i}": f.tensor(whole, i, (data.size - 100,), (1,)) for i in range(100)}
    path = f.write("a.pth", f.zip(content, {"0": data}))
    refused(lambda: read_state_dict(path), TorchFileError, "share their values")


def test_storages_that_share_one_member(torch_files: Any) -> None:
    f, content = torch_files, {}
    for i in range(50):
        content[f"v{i}"] = f.tensor(f.storage(str(i), "FloatStorage", 1 << 20), 0, (1,), (1,))
    path = f.write("a.pth", f.zip(content, {"0": np.zeros(1 << 20, np.float32)}))
    refused(lambda: read_state_dict(path), TorchFileError, "larger than the file")


READERS = {
    "a.pth": (read_state_dict, TorchFileError),
    "a.pkl": (read_arrays, (ArrayFileError, TorchFileError)),
    "a.npz": (read_arrays, (ArrayFileError, TorchFileError)),
    "a.mat": (lambda path: read_mat(path, ["a"]), ValueError),
    "a.json": (BoxFile.read, MediaError),
    "a.jpg": (read_image, MediaError),
    "a.onnx": (inspect_path, InspectionError),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["device", "pipe"])
@pytest.mark.parametrize("name", READERS)
def test_devices_and_pipes(tmp_path: Path, name: str, kind: str) -> None:
    read, errors = READERS[name]
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    refused(lambda: read(path), errors, "not a regular file|is not a file")


def npy_header(shape: str) -> bytes:
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize("shape", ["(500000000000,)", "(1000000, 1000000)", "(-1,)", "(1, -8)"])
def test_npy_headers(shape: str) -> None:
    refused(lambda: read_npy(npy_header(shape) + bytes(64)), ValueError, "does not fit|damaged")


def test_npz_members() -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, a=np.zeros(1000))
    data = buffer.getvalue()
    record = data.index(b"PK\x01\x02")
    huge = data[: record + 24] + struct.pack("<I", 0xFFFFFFF0) + data[record + 28 :]  # the unpacked size
    refused(lambda: read_npz(huge), ValueError, "unpacks to more than")
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("a.npy", npy_header("(0,)"))
    refused(lambda: read_npz(buffer.getvalue()), ValueError, "two members")
    many = b"PK\x03\x04" + b"PK\x01\x02" * 100_000
    refused(lambda: read_npz(many), ValueError, "more than 4096 members")


def test_lite_tensors_with_one_name(tmp_path: Path) -> None:
    """Of 4 MB and of 240 kB; with a copy of the name for each tensor they would take 8 GB."""
    for tensors, name in ((1_000_000, b"n" * 8000), (60_000, b"n" * 8000)):
        (tmp_path / "a.ms").write_bytes(lite_model(tensors, name))
        refused(lambda: inspect_path(tmp_path / "a.ms"), InspectionError, "damaged or truncated")


def test_boxes(tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    path.write_text("[" + ",".join(["[1,2,3,4]"] * (MAX_BOXES + 1)) + "]")
    refused(lambda: BoxFile.read(path), MediaError, "4,097 boxes, over the limit of 4,096")
    path.write_text('{"a.jpg": [[1,2,3,4]], "a.jpg": []}')
    refused(lambda: BoxFile.read(path), MediaError, "the key 'a.jpg' occurs twice")
    path.write_text('{"images": [{"path": "a", "faces": []}, {"path": "a", "faces": []}]}')
    refused(lambda: BoxFile.read(path), MediaError, "image a occurs twice")


def test_manifests(tmp_path: Path) -> None:
    text = (BUILTIN / "manifest.json").read_bytes()
    path = tmp_path / "manifest.json"
    path.write_bytes(text.replace(b'"arch"', b'"arch": "other", "arch"', 1))
    refused(lambda: read_manifest(tmp_path), BundleError, "the key 'arch' occurs twice")
    manifest = read_manifest(BUILTIN)
    path.write_bytes(text.replace(manifest.morphable.file.encode(), manifest.artifacts[0].file.encode()))
    refused(lambda: read_manifest(tmp_path), BundleError, "two of its entries name the same file")
    path.write_bytes(encode_manifest(manifest))
    assert read_manifest(tmp_path) == manifest


def external(name: str) -> bytes:
    import onnx

    model = onnx.load_from_string(onnx_model())
    tensor = model.graph.initializer[0]
    if name == "initializer":
        onnx.external_data_helper.set_external_data(tensor, "/etc/passwd")
    elif name == "constant":
        node = model.graph.node.add(op_type="Constant", output=["c"])
        node.attribute.add(name="value", type=4).t.external_data.add(key="location", value="w")
    else:
        branch = model.graph.node.add(op_type="If", output=["c"]).attribute.add(name="then_branch", type=5)
        branch.g.initializer.add(name="w", data_location=1)
    return model.SerializeToString()


def nested(*fields: int) -> bytes:
    """A protobuf message whose field `fields[0]` holds a message whose field `fields[1]` ..., the last one a text."""
    content = b"weights"
    for field in reversed(fields):
        key = bytes([field << 3 | 2]) if field < 16 else bytes([(field << 3 | 2) & 0x7F | 0x80, field >> 4])
        content = key + bytes([len(content)]) + content
    return content


# Field numbers of mind_ir.proto: a parameter of the graph, an attribute of a node, a value in it, of another function.
MINDIR_PLACES = {
    "parameter": (7, 3, 12, 1),
    "attribute": (7, 1, 5, 6, 12, 1),
    "values": (7, 1, 5, 17, 12, 12, 1),
    "function": (8, 1, 8, 18, 2, 6, 12, 1),
}


@pytest.mark.parametrize("name", ["initializer", "constant", "branch"])
def test_onnx_with_external_data(tmp_path: Path, name: str) -> None:
    """Wherever in the model; in a file, and in a bundle before an engine opens it."""
    data = external(name)
    (tmp_path / "model.onnx").write_bytes(data)
    refused(lambda: inspect_path(tmp_path / "model.onnx"), InspectionError, "its weights in other files")
    refused_in_bundle(tmp_path, "onnx", data)


@pytest.mark.parametrize("model_format", ["mindir", "mindir_v1"])
@pytest.mark.parametrize("place", MINDIR_PLACES)
def test_mindir_with_external_data(tmp_path: Path, place: str, model_format: str) -> None:
    refused_in_bundle(tmp_path, model_format, nested(*MINDIR_PLACES[place]))


def test_places_of_external_data_are_those_of_mindspore() -> None:
    mind_ir_pb2 = pytest.importorskip("mindspore.train.mind_ir_pb2")
    for fields in MINDIR_PLACES.values():
        message = mind_ir_pb2.ModelProto.FromString(nested(*fields))
        for field in fields[:-1]:
            descriptor = message.DESCRIPTOR.fields_by_number[field]
            message = getattr(message, descriptor.name)
            message = message[0] if descriptor.is_repeated else message
        assert message.location == "weights"


def refused_in_bundle(folder: Path, model_format: str, data: bytes) -> None:
    from hashlib import sha256

    import msgspec

    (folder / "model").write_bytes(data)
    manifest = read_manifest(BUILTIN)
    entry = {"file": "model", "format": model_format, "sha256": sha256(data).hexdigest(), "bytes": len(data)}
    artifact = msgspec.structs.replace(manifest.artifacts[0], **entry)
    manifest = msgspec.structs.replace(manifest, artifacts=(artifact,))
    (folder / "manifest.json").write_bytes(encode_manifest(manifest))
    bundle = Bundle.open(folder)
    refused(lambda: bundle.model_file(artifact), BundleError, "its weights in other files")
    refused(lambda: bundle.read(artifact), BundleError, "its weights in other files")


def test_onnx_scan_is_fast() -> None:
    import onnx

    from synergy.runtime.formats.external_data import ONNX, check_self_contained

    model = onnx.load_from_string(onnx_model())
    model.graph.initializer[0].raw_data = bytes(50_000_000)
    data = model.SerializeToString()
    start = time.perf_counter()
    check_self_contained(data, ONNX)
    assert time.perf_counter() - start < 0.5


def test_messages_are_cut() -> None:
    assert len(error_message(ValueError("no " * 10_000_000))) < 2100


def test_names_in_a_pickle_are_shown_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04\x8c\x05os\nx\x1b\x8c\x06system\x93.")
    refused(lambda: read_arrays(tmp_path / "a.pkl"), TorchFileError, r"refers to os\\nx\\x1b.system,")


def test_protocol_5_lists_are_not_multiplied(tmp_path: Path) -> None:
    """A list of one list, 2000 times 2000 numbers."""
    row = [1.0] * 2000
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"mean": [row] * 2000}, 5))
    assert read_arrays(tmp_path / "a.pkl") == {}
