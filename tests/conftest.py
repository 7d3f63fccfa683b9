"""Shared fixtures: reference data, converted checkpoints and exported bundles, each made once per test run.

A run may have several processes (`pytest -n 2`, and the child processes of tests/runtime/conftest.py). They share one
folder, and a file lock per path lets the first process that needs a file make it.
"""

from __future__ import annotations

import fcntl
import gc
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from synergy.runtime.manifest import FileEntry

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
REFERENCE_ARCHS = ("mobilenet_v2", "mobilenet_1")
SLOW_FILES = ("test_graph.py", "test_lower.py", "test_loop.py")  # compile many graphs
SHARED_FOLDER = "SYNERGY_TEST_SHARED_FOLDER"  # the environment variable that names the folder of this run

MakeOnce = Callable[[str, Callable[[Path], object]], Path]

# As synergy.synergy_model does, here also for test files that import MindSpore first
os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "upb")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long first: started last, they would run alone while the other processes are idle."""
    slow = {item.path for item in items if item.get_closest_marker("e2e") or item.path.name in SLOW_FILES}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Objects that exist now stay until the end: MindSpore collects garbage before each compilation, which would
    search all of them, for 0.1 to 0.3 s each time."""
    gc.freeze()


def _absent(reason: str, required_by: str) -> None:
    if os.environ.get(required_by) == "1":
        pytest.fail(f"{reason}, and {required_by}=1 forbids skipping", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The reference data, which is not part of the project."""
    if not SHARED.is_dir():
        _absent("the reference data is not here", "SYNERGY_REQUIRE_SHARED")
    return SHARED


@pytest.fixture(scope="session")
def lite_home() -> Path:
    """An installed MindSpore Lite."""
    from synergy.runtime.engines import available

    status = available("lite")
    if not status.ok:
        _absent(f"{status.detail} ({status.fix})", "SYNERGY_REQUIRE_LITE")
    from synergy.runtime.lite.locate import locate

    return locate().root


@pytest.fixture(scope="session")
def shared_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that all processes of this test run share."""
    if SHARED_FOLDER not in os.environ:
        base = tmp_path_factory.getbasetemp()  # of an xdist worker: a folder inside that of the run
        folder = (base.parent if hasattr(request.config, "workerinput") else base) / "shared"
        folder.mkdir(exist_ok=True)
        os.environ[SHARED_FOLDER] = str(folder)  # for child processes that run tests
    return Path(os.environ[SHARED_FOLDER])


@pytest.fixture(scope="session")
def make_once(shared_folder: Path) -> MakeOnce:
    """`make_once(name, make)` returns the path that `make(path)` has written, in this process or in another.

    A failure is kept too: every later call raises at once.
    """

    def get(name: str, make: Callable[[Path], object]) -> Path:
        folder = shared_folder / name.replace("/", "-")
        folder.mkdir(exist_ok=True)
        path, made, failed = folder / Path(name).name, folder.with_suffix(".made"), folder.with_suffix(".failed")
        with folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if failed.exists():
                pytest.fail(f"{name} could not be made: {failed.read_text()}", pytrace=False)
            if not made.exists():
                try:
                    make(path)
                except Exception as error:
                    failed.write_text(repr(error))
                    raise
                made.touch()
        return path

    return get


class PathsByName(Mapping[str, Path]):
    """Paths that are made when they are first read."""

    def __init__(self, names: tuple[str, ...], get: Callable[[str], Path]) -> None:
        self._names, self._get = names, get

    def __getitem__(self, name: str) -> Path:
        if name not in self._names:
            raise KeyError(name)
        return self._get(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@pytest.fixture(scope="session")
def checkpoints(shared: Path, make_once: MakeOnce) -> Mapping[str, Path]:
    """Converted checkpoints by architecture: mb05 (real weights), mobilenet_v2 and mobilenet_1 (random)."""
    from synergy.synergy_model.checkpoints.checkpoint import save_checkpoint
    from synergy.synergy_model.checkpoints.torch_conversion import convert_checkpoint

    def convert(path: Path) -> None:
        if path.stem == "mb05":
            real, morphable = shared / "checkpoints" / "real", shared / "morphable" / "sparse68.npz"
            whitening = real / "param_mean_std_62d_120x120.pkl"
            done = convert_checkpoint(real / "mb05_120x120.pth", whitening=whitening, morphable=morphable)
        else:
            done = convert_checkpoint(shared / "checkpoints" / "reference" / f"synergynet_{path.stem}.pth.tar")
        save_checkpoint(path, done.checkpoint)

    return PathsByName(("mb05", *REFERENCE_ARCHS), lambda arch: make_once(f"checkpoint/{arch}.ckpt", convert))


@pytest.fixture(scope="session")
def bundles(checkpoints: Mapping[str, Path], lite_home: Path, make_once: MakeOnce) -> Mapping[str, Path]:
    """Bundles with every format, by architecture: mb05 with its full parity report, mobilenet_v2 without one."""
    from synergy.benchmarks.parity.gate import gate
    from synergy.export.artifacts import ExportOptions
    from synergy.export.bundle import ParityResult, export_bundle

    def export(folder: Path) -> None:
        verify = gate if folder.name == "mb05" else lambda *_: ParityResult(b"{}")
        export_bundle(checkpoints[folder.name], folder, ExportOptions(), verify, lambda _: None)

    found = PathsByName(("mb05", "mobilenet_v2"), lambda arch: make_once(f"bundle/{arch}", export))
    assert found["mb05"].is_dir()  # nearly all tests with bundles use it: make it before they change the environment
    return found


@pytest.fixture(scope="session")
def portrait_bgr() -> np.ndarray:
    """A real photograph with one face (scikit-image's astronaut, public domain)."""
    from skimage import data

    return np.ascontiguousarray(data.astronaut()[:, :, ::-1])


@pytest.fixture
def synergy(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process: (exit code, stdout, stderr)."""
    from synergy import cli

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["synergy", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
            sys.exit(0)
        out, err = capfd.readouterr()
        return int(end.value.code or 0), out, err

    return run


def _network() -> bytes:
    """Mean features, mixed: images uint8 (N,120,120,3) -> params (N,62), landmarks (N,3,68)."""
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(7)
    weights = {
        "kernel": random.normal(0, 0.01, (4, 3, 3, 3)).astype(np.float32),
        "to_params": random.normal(0, 0.1, (4, 62)).astype(np.float32),
        "to_points": random.normal(0, 0.1, (4, 204)).astype(np.float32),
        "face": random.uniform(20, 100, 204).astype(np.float32),
        "shape": np.array([-1, 3, 68], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel"], ["features"], kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("ReduceMean", ["features"], ["pooled"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["pooled", "to_params"], ["params"]),
        helper.make_node("Gemm", ["pooled", "to_points", "face"], ["points"]),
        helper.make_node("Reshape", ["points", "shape"], ["landmarks"]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 120, 120, 3])
    params = helper.make_tensor_value_info("params", TensorProto.FLOAT, ["N", 62])
    landmarks = helper.make_tensor_value_info("landmarks", TensorProto.FLOAT, ["N", 3, 68])
    arrays = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "tiny", [images], [params, landmarks], arrays)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6).SerializeToString()


def _entry(folder: Path, name: str, data: bytes) -> FileEntry:
    from synergy.runtime.manifest import FileEntry

    (folder / name).write_bytes(data)
    return FileEntry(name, hashlib.sha256(data).hexdigest(), len(data))


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A valid bundle of one ONNX file, whose landmarks are no face."""
    pytest.importorskip("onnx")
    from synergy.runtime.bundle import SPARSE_SHAPES
    from synergy.runtime.crop import CropRule
    from synergy.runtime.decode import SYNERGYNET_FRAME, SYNERGYNET_POSE
    from synergy.runtime.manifest import Artifact, Manifest, Preprocessing, Source, Tensor, encode_manifest

    folder = tmp_path_factory.mktemp("tiny") / "tiny"
    folder.mkdir()
    np.savez(folder / "bases.npz", **{name: np.ones(shape, np.float32) for name, shape in SPARSE_SHAPES.items()})
    morphable = _entry(folder, "morphable.npz", (folder / "bases.npz").read_bytes())
    model = _entry(folder, "model.onnx", _network())
    manifest = Manifest(
        schema=1,
        arch="tiny",
        convention="synergynet",
        inputs=(Tensor("images", (-1, 120, 120, 3), "uint8", "NHWC", ""),),
        outputs=(
            Tensor("params", (-1, 62), "float32", "NC", ""),
            Tensor("landmarks", (-1, 3, 68), "float32", "NCP", ""),
        ),
        preprocessing=Preprocessing(120, "BGR", 127.5, 128.0, in_graph=True),
        crop=CropRule("height", 1.2, 2, 0.0),
        pose=SYNERGYNET_POSE,
        landmark_frame=SYNERGYNET_FRAME,
        toolchain={},
        source=Source("none.ckpt", hashlib.sha256(b"").hexdigest()),
        artifacts=(Artifact(model.file, model.sha256, model.bytes, format="onnx", precision="fp32"),),
        morphable=morphable,
    )
    (folder / "manifest.json").write_bytes(encode_manifest(manifest))
    return folder


@pytest.fixture
def tiny_bundle_copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "tiny"))
