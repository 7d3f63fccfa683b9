"""PyTorch files: valid ones are read exactly, hostile ones run no code, damaged ones give one error."""

from __future__ import annotations

import contextlib
import io
import pickle
import random
import resource
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synergy.synergy_model.checkpoints.torch_pickle import (
    TorchFileError,
    read_numpy_pickle,
    read_state_dict,
    read_torch_file,
)

CONTAINERS = ("zip", "legacy")
FLIPS = 400
SEED = 20211201
ROOM = 2 << 30  # bytes of address space beyond what the tests already use
MEMORY_LIMIT_KB = 400_000  # the interpreter with NumPy takes about 40 MB

ARRAYS = {
    "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "bias": np.float32([-1.5, np.inf]),
    "double": np.float64([[1e300]]),
    "half": np.float16([0.5, 2]),
    "long": np.array(7),
    "int": np.int32([-(2**31)]),
    "short": np.int16([1, 2]),
    "char": np.int8([-3]),
    "byte": np.uint8([255]),
    "bool": np.array([True, False]),
    "empty": np.zeros((0, 4), np.float32),
}


@pytest.fixture(autouse=True)
def _bounded_memory() -> Iterator[None]:
    """Limit the memory of this process: damaged files may request any amount."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


# --- sound files ---


@pytest.mark.parametrize("wrapped", [True, False], ids=["wrapped", "bare"])
@pytest.mark.parametrize("container", CONTAINERS)
def test_arrays_come_back_exactly(torch_files: Any, container: str, wrapped: bool) -> None:
    path = torch_files.checkpoint("a.pth", {f"module.{k}": v for k, v in ARRAYS.items()}, container, wrapped)
    state = read_state_dict(path)
    assert list(state) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert state[name].dtype == array.dtype and state[name].shape == array.shape
        assert np.array_equal(state[name], array)


@pytest.mark.parametrize("container", CONTAINERS)
def test_views_share_a_storage(torch_files: Any, container: str) -> None:
    f = torch_files
    data = np.arange(12, dtype=np.float32)
    whole = f.storage("0", "FloatStorage", 12)
    content = {"rows": f.tensor(whole, 0, (3, 4), (4, 1)), "columns": f.tensor(whole, 1, (4, 2), (1, 4))}
    state = read_state_dict(f.write("a.pth", getattr(f, container)(content, {"0": data})))
    assert np.array_equal(state["rows"], data.reshape(3, 4))
    assert np.array_equal(state["columns"], [[data[1 + i + 4 * j] for j in range(2)] for i in range(4)])


def test_parameters_are_tensors(torch_files: Any) -> None:
    """torch.save writes nn.Parameter through _rebuild_parameter."""
    f = torch_files
    inner = f.tensor(f.storage("0", "FloatStorage", 2), 0, (2,), (1,))
    content = {"p": f.call(f.named("torch._utils", "_rebuild_parameter"), inner, True, {})}
    state = read_state_dict(f.write("a.pth", f.zip(content, {"0": np.float32([1, 2])})))
    assert np.array_equal(state["p"], [1, 2])


def test_any_root_folder_and_any_suffix(torch_files: Any) -> None:
    state, storages = torch_files.state({"a": np.float32([4])})
    path = torch_files.write("checkpoint.whatever", torch_files.zip(state, storages, root="some name"))
    assert np.array_equal(read_state_dict(path)["a"], [4])


def test_plain_values_beside_tensors_are_kept_by_the_file_reader_only(torch_files: Any) -> None:
    path = torch_files.checkpoint("a.pth", {"a": np.float32([1]), "note": "hello"})
    assert read_torch_file(path)["epoch"] == 80
    assert list(read_state_dict(path)) == ["a"]


def test_arrays_are_the_callers_own(torch_files: Any) -> None:
    path = torch_files.checkpoint("a.pth", ARRAYS)
    read_state_dict(path)["weight"][:] = 99  # writable, and of no consequence
    assert np.array_equal(read_state_dict(path)["weight"], ARRAYS["weight"])


def test_real_files_in_both_containers(shared: Path) -> None:
    legacy = read_state_dict(shared / "checkpoints" / "real" / "mb05_120x120.pth")
    assert legacy["fc_param.weight"].shape == (62, 512) and np.isfinite(legacy["fc_param.weight"]).all()
    modern = read_state_dict(shared / "checkpoints" / "reference" / "synergynet_mobilenet_1.pth.tar")
    assert modern["param_mean"].shape == (62,) and modern["I2P.backbone.fc_ori.weight"].shape == (12, 1024)


def test_real_whitening(shared: Path) -> None:
    stored = read_numpy_pickle(shared / "checkpoints" / "real" / "param_mean_std_62d_120x120.pkl")
    with np.load(shared / "morphable" / "sparse68.npz") as arrays:
        assert np.allclose(np.ravel(stored["mean"]), arrays["param_mean_v2"])
        assert np.allclose(np.ravel(stored["std"]), arrays["param_std_v2"])


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numpy_pickles(tmp_path: Path, protocol: int, order: str) -> None:
    arrays = {"mean": np.asarray(np.arange(6.0).reshape(2, 3), order=order), "std": np.float32([1, 2])}
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps(arrays, protocol))
    stored = read_numpy_pickle(path)
    assert all(np.array_equal(stored[name], array) for name, array in arrays.items())


@pytest.mark.parametrize("prefix", ["", "module.", "module.module.", "_orig_mod.", "model.", "_orig_mod.module."])
def test_prefixes_of_wrapping_modules(torch_files: Any, prefix: str) -> None:
    path = torch_files.checkpoint("a.pth", {f"{prefix}conv1.weight": np.float32([1])})
    assert list(read_state_dict(path)) == ["conv1.weight"]


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model", "net"])
def test_wrapping_dictionaries(torch_files: Any, wrapper: str) -> None:
    state, storages = torch_files.state({"a": np.float32([1])})
    loss = torch_files.tensor(torch_files.storage("0", "FloatStorage", 1), 0, (), ())
    path = torch_files.write("a.pth", torch_files.zip({"loss": loss, wrapper: state}, storages))
    assert list(read_state_dict(path)) == ["a"]


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_numpy_scalars_beside_the_weights_are_skipped(torch_files: Any, module: str) -> None:
    f = torch_files
    scalar = f.call(f.named(module, "scalar"), f.call(f.named("numpy", "dtype"), "f8", False, True), b"\0" * 8)
    state, storages = f.state({"a": np.float32([1])})
    assert list(read_state_dict(f.write("a.pth", f.zip({"best": scalar, "state_dict": state}, storages)))) == ["a"]


@pytest.mark.parametrize("container", CONTAINERS)
def test_bfloat16_becomes_float32(torch_files: Any, container: str) -> None:
    f, values = torch_files, np.float32([1, -2.5, 3e38])
    halves = (values.view(np.uint32) >> 16).astype(np.uint16)
    content = {"a": f.tensor(f.storage("0", "BFloat16Storage", 3), 0, (3,), (1,))}
    state = read_state_dict(f.write("a.pth", getattr(f, container)(content, {"0": halves})))
    assert state["a"].dtype == np.float32 and np.allclose(state["a"], values, rtol=1 / 128)


def test_parts_and_relatives_of_a_checkpoint_are_named(torch_files: Any, tmp_path: Path) -> None:
    whole = torch_files.checkpoint("a.pth", {"a": np.float32([1])})
    with zipfile.ZipFile(whole) as archive:
        (tmp_path / "data.pkl").write_bytes(archive.read("archive/data.pkl"))
    with pytest.raises(TorchFileError, match=r"data\.pkl of an unpacked checkpoint"):
        read_state_dict(tmp_path / "data.pkl")
    with zipfile.ZipFile(whole, "a") as archive:
        archive.writestr("archive/constants.pkl", b"")
    with pytest.raises(TorchFileError, match=r"TorchScript module.*torch\.jit\.load"):
        read_state_dict(whole)


def test_big_endian_numpy_pickles_are_right(tmp_path: Path) -> None:
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps({"mean": np.arange(3.0).astype(">f8")}, 2))
    assert np.array_equal(read_numpy_pickle(path)["mean"], [0, 1, 2])


# --- hostile files: each payload runs something when Python's own pickle reads it ---


def _payloads(f: Any, marker: Path) -> dict[str, bytes]:
    touch, mark = f"touch '{marker}'", f"open({str(marker)!r}, 'w').close()"
    system, evaluate = f.named("posix", "system"), f.named("builtins", "eval")
    ordered = f.named("collections", "OrderedDict")
    run = f.call(system, touch)
    return {
        "os.system": f.call(f.named("os", "system"), touch),
        "eval": f.call(evaluate, mark),
        "exec": f.call(f.named("builtins", "exec"), mark),
        "python 2 eval": f.call(f.named("__builtin__", "eval"), mark),
        "popen": f.call(f.named("subprocess", "getoutput"), touch),
        "partial": f.call(f.call(f.named("functools", "partial"), system, touch)),
        "getattr": f.call(
            f.call(f.named("builtins", "getattr"), f.call(f.named("builtins", "__import__"), "os"), "system"), touch
        ),
        "numpy.load": f.call(f.named("numpy", "load"), str(marker.with_suffix(".npy")), None, True),
        "inside OrderedDict": f.call(ordered, [["a", run]]),
        "inside a list": f.encode({"state_dict": [run]}),
        "as a dict key": f.encode({run: 1}),
        "stack global": f.Code(f.encode("posix") + f.encode("system") + b"\x93" + f.encode((touch,)) + b"R"),
        "dotted stack global": f.Code(
            f.encode("os") + f.encode("path.os.system") + b"\x93" + f.encode((touch,)) + b"R"
        ),
        "inst": f.Code(b"(" + f.encode(touch) + b"iposix\nsystem\n"),
        "obj": f.Code(b"(" + f.encode(system) + f.encode(touch) + b"o"),
        "newobj": f.Code(f.named("subprocess", "Popen") + f.encode((["touch", str(marker)],)) + b"\x81" + b"0" + run),
        "build setattr": f.call(f.named("builtins", "setattr"), run, "x", 1),
        "build state": f.Code(f.call(ordered) + f.encode((None, {"x": run})) + b"b"),
        "torch bytes": f.call(f.named("torch.storage", "_load_from_bytes"), pickle.dumps(0)),
        "torch load": f.call(f.named("torch", "load"), str(marker)),
        "persistent id": f.Code(f.encode(("storage", run, "0", "cpu", 1)) + b"Q"),
    }


PAYLOADS = (
    "os.system",
    "eval",
    "exec",
    "python 2 eval",
    "popen",
    "partial",
    "getattr",
    "numpy.load",
    "inside OrderedDict",
    "inside a list",
    "as a dict key",
    "stack global",
    "dotted stack global",
    "inst",
    "obj",
    "newobj",
    "build setattr",
    "build state",
    "torch bytes",
    "torch load",
    "persistent id",
)
NEED_TORCH = ("torch bytes", "torch load")  # cannot be shown to be live here


class _Touch:
    """What an object array in a .npy file may hold."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return open, (str(self.marker), "w")


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """The file that a payload makes when it runs."""
    path = tmp_path / "owned"
    np.save(path.with_suffix(".npy"), np.array([_Touch(path)], object), allow_pickle=True)
    return path


def test_every_payload_is_listed(torch_files: Any, marker: Path) -> None:
    assert tuple(_payloads(torch_files, marker)) == PAYLOADS


class _Naive(pickle.Unpickler):
    def persistent_load(self, reference: tuple) -> None:
        return None


@pytest.mark.parametrize("name", [name for name in PAYLOADS if name not in NEED_TORCH])
def test_the_payload_is_live(torch_files: Any, marker: Path, name: str) -> None:
    """The payload works in an ordinary unpickler; otherwise the refusals below would be meaningless."""
    protocol = 4 if name == "dotted stack global" else 2
    pickled = b"\x80" + bytes([protocol]) + _payloads(torch_files, marker)[name] + b"."
    with contextlib.suppress(TypeError, AttributeError):  # after it ran
        _Naive(io.BytesIO(pickled)).load()
    assert marker.exists()


@pytest.mark.parametrize("name", PAYLOADS)
@pytest.mark.parametrize("container", ["zip", "legacy", "numpy_pickle", *("magic", "protocol", "system", "keys")])
def test_hostile_file_runs_nothing(torch_files: Any, marker: Path, name: str, container: str) -> None:
    payload = torch_files.Code(_payloads(torch_files, marker)[name])
    read = read_torch_file
    if container == "numpy_pickle":
        data, read = torch_files.numpy_pickle(payload), read_numpy_pickle
    elif container in CONTAINERS:
        data = getattr(torch_files, container)(payload, {})
    else:
        data = torch_files.legacy({}, {}, **{container: payload})
    path = torch_files.write("hostile.pth", data)
    with pytest.raises(TorchFileError) as raised:
        read(path)
    assert not marker.exists()
    _check_message(raised.value, path)


def test_the_refusal_names_what_was_asked_for(torch_files: Any, marker: Path) -> None:
    path = torch_files.write(
        "h.pth", torch_files.zip(torch_files.Code(_payloads(torch_files, marker)["os.system"]), {})
    )
    with pytest.raises(TorchFileError, match=r"h\.pth: .*os\.system.*refused, nothing was run"):
        read_state_dict(path)


def test_nothing_after_the_last_pickle_is_read(torch_files: Any, marker: Path) -> None:
    sound = torch_files.legacy(*torch_files.state({"a": np.float32([1])}))
    hostile = torch_files.numpy_pickle(torch_files.Code(_payloads(torch_files, marker)["eval"]))
    assert np.array_equal(read_state_dict(torch_files.write("a.pth", sound + hostile))["a"], [1])
    assert not marker.exists()


def test_attributes_set_by_a_file_do_not_outlive_it(torch_files: Any) -> None:
    """BUILD calls __setstate__ or sets attributes: on what this reader admits, that must change nothing for later."""
    f = torch_files
    swapped = f.encode((3, ">", None, None, None, -1, -1, 0))
    builds = [
        f.Code(f.named("torch", "FloatStorage") + swapped + b"b"),
        f.Code(f.named("torch._utils", "_rebuild_tensor_v2") + f.encode((None, {"__defaults__": (1, 2, 3, 4)})) + b"b"),
        f.Code(f.named("torch._utils", "_rebuild_parameter") + f.encode((None, {"__doc__": "mine"})) + b"b"),
        f.Code(f.named("collections", "OrderedDict") + f.encode((None, {"update": None})) + b"b"),
        f.Code(f.named("collections", "OrderedDict") + f.encode({"update": None}) + b"b"),
    ]
    before = vars(OrderedDict).copy()
    for build in builds:
        for read, data in ((read_torch_file, f.zip(build, {})), (read_numpy_pickle, f.numpy_pickle(build))):
            with contextlib.suppress(TorchFileError):
                read(f.write("hostile.pth", data))
    assert np.dtype("f4") == np.dtype("<f4") and np.frombuffer(b"\0\0\x80?", "f4")[0] == 1
    assert vars(OrderedDict) == before
    test_arrays_come_back_exactly(f, "zip", True)


@pytest.mark.parametrize("dtype", ["O", "S4", "U4", "V8", "M8[s]", "c8", "f4,f4", "(2,)f4"])
def test_numpy_pickle_admits_numbers_only(torch_files: Any, dtype: str) -> None:
    f = torch_files
    start = f.call(f.named("numpy.core.multiarray", "_reconstruct"), f.named("numpy", "ndarray"), (0,), b"b")
    kind = f.call(f.named("numpy", "dtype"), dtype, False, True)
    array = f.Code(start + f.encode((1, (1,), kind, False, b"\0" * 16)) + b"b")
    with pytest.raises(TorchFileError, match="numbers only"):
        read_numpy_pickle(f.write("w.pkl", f.numpy_pickle({"mean": array})))


@pytest.mark.parametrize(
    "dtype", ["(1,f4", "", "f3", "no such", 5, None, ("f4", 10**9), [("a", "f4")], {"names": 1}, "(,)f4"]
)
def test_nonsense_dtypes(torch_files: Any, dtype: Any) -> None:
    f = torch_files
    start = f.call(f.named("numpy.core.multiarray", "_reconstruct"), f.named("numpy", "ndarray"), (0,), b"b")
    array = f.Code(start + f.encode((1, (1,), f.call(f.named("numpy", "dtype"), dtype), False, b"\0" * 12)) + b"b")
    with pytest.raises(TorchFileError):
        read_numpy_pickle(f.write("w.pkl", f.numpy_pickle(array)))


# --- files that promise too much ---


@pytest.mark.parametrize(
    "view",
    [
        (0, (5,), (1,)),
        (4, (1,), (1,)),
        (-1, (1,), (1,)),
        (1, (2, 2), (2, 1)),
        (0, (2,), (-1,)),
        (3, (2,), (-1,)),
        (0, (-1,), (1,)),
        (0, (2,), (2**62,)),
        (0, (2**62,), (1,)),
        (0, (2**40,), (0,)),
        (0, (2**40, 2**40), (0, 0)),
        (0, (10**30,), (0,)),
        (2**70, (1,), (1,)),
        (0, (2, 2), (1,)),
        (0, (1.5,), (1,)),
        (0, ("2",), (1,)),
        ("0", (1,), (1,)),
        (None, (1,), (1,)),
        (0, None, None),
        (0, 4, 1),
    ],
)
@pytest.mark.parametrize("container", CONTAINERS)
def test_view_outside_its_storage(torch_files: Any, container: str, view: tuple) -> None:
    f = torch_files
    content = {"a": f.tensor(f.storage("0", "FloatStorage", 4), *view)}
    path = f.write("a.pth", getattr(f, container)(content, {"0": np.zeros(4, np.float32)}))
    with pytest.raises(TorchFileError):
        read_state_dict(path)


@pytest.mark.parametrize("size", [(0,), (0, 2**40), (3, 0)])
def test_empty_views_of_any_size_are_empty(torch_files: Any, size: tuple[int, ...]) -> None:
    f = torch_files
    content = {"a": f.tensor(f.storage("0", "FloatStorage", 0), 0, size, (1,) * len(size))}
    path = f.write("a.pth", f.zip(content, {"0": b""}))
    assert read_state_dict(path)["a"].shape == size


def test_legacy_storage_of_another_length(torch_files: Any) -> None:
    f = torch_files
    content = {"a": f.tensor(f.storage("0", "FloatStorage", 2**50), 0, (2,), (1,))}
    path = f.write("a.pth", f.legacy(content, {"0": np.zeros(4, np.float32)}))
    with pytest.raises(TorchFileError, match="4 elements where"):
        read_state_dict(path)


@pytest.mark.parametrize("numel", [3, 5, -4, 2**62, 10**30, "4 and more", None])
def test_storage_of_another_length(torch_files: Any, numel: Any) -> None:
    f = torch_files
    content = {"a": f.tensor(f.storage("0", "FloatStorage", numel), 0, (1,), (1,))}
    with pytest.raises(TorchFileError):
        read_state_dict(f.write("a.pth", f.zip(content, {"0": np.zeros(4, np.float32)})))


@pytest.mark.parametrize("container", CONTAINERS)
def test_storage_that_is_not_there(torch_files: Any, container: str) -> None:
    f = torch_files
    content = {"a": f.tensor(f.storage("7", "FloatStorage", 4), 0, (4,), (1,))}
    with pytest.raises(TorchFileError):
        read_state_dict(f.write("a.pth", getattr(f, container)(content, {})))


def test_keys_lead_to_no_other_member(torch_files: Any) -> None:
    f = torch_files
    content = {"a": f.tensor(f.storage("../version", "ByteStorage", 2), 0, (2,), (1,))}
    with pytest.raises(TorchFileError):
        read_state_dict(f.write("a.pth", f.zip(content, {})))


def test_tensor_of_something_else(torch_files: Any) -> None:
    for reference in ("storage", 5, None, {"key": "0"}, torch_files.named("torch", "FloatStorage")):
        content = {"a": torch_files.tensor(reference, 0, (1,), (1,))}
        with pytest.raises(TorchFileError):
            read_state_dict(torch_files.write("a.pth", torch_files.zip(content, {})))


@pytest.mark.timeout(20)
def test_shared_containers_are_converted_once(torch_files: Any) -> None:
    """A pair of a pair of ..., 60 deep: 200 bytes that unfold to 2**60 values."""
    code = b"Nq\x00" + b"".join(b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(60))
    read_torch_file(torch_files.write("a.pth", torch_files.zip(torch_files.Code(code), {})))


@pytest.mark.parametrize(
    "code", [b"N" + b"\x85" * 50_000, b"]q\x00h\x00a", b"}q\x00(X\x01\x00\x00\x00ah\x00u"], ids=["deep", "list", "dict"]
)
def test_endless_containers(torch_files: Any, code: bytes) -> None:
    with pytest.raises(TorchFileError):
        read_state_dict(torch_files.write("a.pth", torch_files.zip(torch_files.Code(code), {})))


@pytest.mark.parametrize(
    "code",
    [
        b"Nr" + struct.pack("<I", 1 << 26),
        b"Np67108864\n",
        b"\x8e" + struct.pack("<Q", 1 << 33),
        b"\x96" + struct.pack("<Q", 1 << 33),
        b"B" + struct.pack("<I", (1 << 32) - 1),
        b"\x95" + struct.pack("<Q", 1 << 33),
    ],
    ids=["long_binput", "put", "binbytes8", "bytearray8", "binbytes", "frame"],
)
def test_a_small_file_takes_little_memory(torch_files: Any, code: bytes) -> None:
    """Python's unpickler allocates memory up to the memo index that a file names."""
    path = torch_files.write("a.pth", torch_files.zip(torch_files.Code(code), {}))
    program = (
        "import pathlib, re, sys\n"
        "from synergy.synergy_model.checkpoints.torch_pickle import TorchFileError, read_torch_file\n"
        "try: read_torch_file(pathlib.Path(sys.argv[1]))\n"
        "except TorchFileError: pass\n"
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', pathlib.Path('/proc/self/status').read_text()).group(1))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < MEMORY_LIMIT_KB


# --- damaged files and files of another kind ---


def _sound(torch_files: Any, container: str) -> bytes:
    arrays = {"module.a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.arange(4), "flag": np.array([True])}
    return torch_files.checkpoint("sound.pth", arrays, container).read_bytes()


def _outcome(path: Path) -> dict[str, np.ndarray] | None:
    """The content, or None for the one error that is allowed."""
    try:
        return read_state_dict(path)
    except TorchFileError as error:
        _check_message(error, path)
        return None


def _check_message(error: Exception, path: Path) -> None:
    assert str(path) in str(error) and "\n" not in str(error).replace(str(path), "")


@pytest.mark.parametrize("container", CONTAINERS)
def test_truncated_at_any_byte(torch_files: Any, container: str) -> None:
    data = _sound(torch_files, container)
    for length in range(0, len(data), 3):
        assert _outcome(torch_files.write("cut.pth", data[:length])) is None, length


def test_real_file_truncated(torch_files: Any, shared: Path) -> None:
    data = (shared / "checkpoints" / "real" / "mb05_120x120.pth").read_bytes()
    draw = random.Random(SEED)
    for length in [draw.randrange(len(data)) for _ in range(20)]:
        assert _outcome(torch_files.write("cut.pth", data[:length])) is None, length


@pytest.mark.parametrize("container", CONTAINERS)
def test_flipped_bits(torch_files: Any, container: str) -> None:
    data = _sound(torch_files, container)
    draw = random.Random(SEED)
    outcomes = []
    for _ in range(FLIPS):
        damaged = bytearray(data)
        for _ in range(draw.choice((1, 1, 2, 5))):
            damaged[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        outcomes.append(_outcome(torch_files.write("flipped.pth", bytes(damaged))))
    assert any(outcome is None for outcome in outcomes)
    if container == "zip":  # its checksums cover pickle and storages; the legacy format has none
        sound = read_state_dict(torch_files.write("sound.pth", data))
        assert all(outcome is None or _same(outcome, sound) for outcome in outcomes)


def _same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> bool:
    return list(left) == list(right) and all(np.array_equal(left[name], right[name]) for name in left)


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")  # in what is damaged
def test_random_bytes_in_the_pickle(torch_files: Any) -> None:
    """With a valid checksum, so that the unpickler itself is reached."""
    sound = torch_files.state({"a": np.arange(6, dtype=np.float32), "b": np.arange(4)})
    draw = random.Random(SEED)
    for _ in range(FLIPS):
        damaged = bytearray(sound[0])
        for _ in range(draw.choice((1, 2, 5))):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        _outcome(torch_files.write("flipped.pth", torch_files.zip(torch_files.Code(damaged), sound[1])))


def test_flipped_bits_in_whitening(torch_files: Any) -> None:
    whitening = {"mean": torch_files.array(np.arange(6.0)), "std": torch_files.array(np.ones(6, np.float32))}
    data = torch_files.numpy_pickle(whitening)
    assert np.array_equal(read_numpy_pickle(torch_files.write("w.pkl", data))["mean"], np.arange(6.0))
    draw = random.Random(SEED)
    for _ in range(FLIPS):
        damaged = bytearray(data[: draw.choice((len(data), draw.randrange(len(data))))] or b"\0")
        damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        path = torch_files.write("w.pkl", bytes(damaged))
        try:
            read_numpy_pickle(path)
        except TorchFileError as error:
            _check_message(error, path)


def test_every_bit_of_the_archive_flags(torch_files: Any) -> None:
    """One flag marks a member as encrypted, for which zipfile raises another kind of error."""
    data = _sound(torch_files, "zip")
    entries = [i for i in range(len(data)) if data[i : i + 4] == b"PK\x01\x02"]
    for place in [entry + offset for entry in entries for offset in range(6, 12)]:
        for bit in range(8):
            damaged = bytearray(data)
            damaged[place] ^= 1 << bit
            _outcome(torch_files.write("flags.pth", bytes(damaged)))


def test_compressed_archive(torch_files: Any) -> None:
    data = torch_files.zip(*torch_files.state(ARRAYS), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(TorchFileError, match="compressed"):
        read_state_dict(torch_files.write("a.pth", data))


def test_big_endian_archive(torch_files: Any) -> None:
    data = torch_files.zip(*torch_files.state(ARRAYS), byteorder=b"big")
    with pytest.raises(TorchFileError, match="big-endian"):
        read_state_dict(torch_files.write("a.pth", data))


@pytest.mark.parametrize("members", [(), ("readme.txt",), ("a/data.pkl", "b/data.pkl")])
def test_other_archives(tmp_path: Path, members: tuple[str, ...]) -> None:
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, b"\x80\x02}.")
    with pytest.raises(TorchFileError):
        read_state_dict(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"PK\x03\x04",
        b"a text file\n" * 40,
        b"\x89PNG\r\n\x1a\n" + bytes(64),
        pickle.dumps(5),
        b"\x80\x02}.",
    ],
    ids=["empty", "newline", "zip magic", "text", "png", "number", "bare pickle"],
)
def test_other_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    assert _outcome(path) is None


@pytest.mark.parametrize("content", [b"", b"a text file\n", b"\x80\x02"], ids=["empty", "text", "cut"])
def test_other_files_as_whitening(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.pkl"
    path.write_bytes(content)
    with pytest.raises(TorchFileError) as raised:
        read_numpy_pickle(path)
    _check_message(raised.value, path)


@pytest.mark.parametrize("read", [read_state_dict, read_torch_file, read_numpy_pickle])
def test_missing_file_and_directory(tmp_path: Path, read: Any) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nowhere.pth")
    with pytest.raises(TorchFileError, match=r"directory|folder"):
        read(tmp_path)


@pytest.mark.parametrize("content", [{}, {"state_dict": 5}, {"state_dict": {"a": 1}}, [1, 2], 5, "text", None])
def test_files_without_tensors(torch_files: Any, content: Any) -> None:
    with pytest.raises(TorchFileError, match="no state_dict"):
        read_state_dict(torch_files.write("a.pth", torch_files.zip(content, {})))


@pytest.mark.parametrize("key", [1, None, ("a", "b")])
def test_keys_that_are_not_strings(torch_files: Any, key: Any) -> None:
    with pytest.raises(TorchFileError):
        read_state_dict(torch_files.checkpoint("a.pth", {key: np.float32([1])}))


def test_duplicate_keys(torch_files: Any) -> None:
    """`module.a` and `a` would silently become one entry."""
    with pytest.raises(TorchFileError, match="a"):
        read_state_dict(torch_files.checkpoint("a.pth", {"module.a": np.float32([1]), "a": np.float32([2])}))
