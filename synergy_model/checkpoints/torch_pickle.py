"""Read PyTorch files without PyTorch and without running any code in them.

A `.pth` file is a pickle, and loading a pickle can run code. The unpickler here accepts tensors, their storages and
OrderedDict, and refuses every other name before it is imported. Both containers are read: the zip format
(PyTorch >= 1.6) and the earlier sequence of pickles. NumPy pickles (whitening files) are read by the same unpickler.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of the format that PyTorch wrote before 1.6
LEGACY_PROTOCOL = 1001

STORAGE_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}


NUMBER_CODE = re.compile(r"^(f[248]|[iu][1248]|b1)$")  # as NumPy pickles the types of plain numbers


class TorchFileError(ValueError):
    """The file is not a PyTorch checkpoint, is damaged, or refers to something that is refused."""


# what pickle, zipfile and NumPy raise on damaged bytes
DAMAGE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    EOFError,
    KeyError,
    IndexError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    RuntimeError,  # RecursionError, and zipfile's error for encrypted members
)


@dataclass
class StorageRef:
    """A storage named by the pickle; its bytes may follow later in the file."""

    dtype: np.dtype
    numel: int
    key: str


@dataclass
class TensorRef:
    """A view on a storage, kept as numbers until the bytes are there."""

    storage: StorageRef
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def resolve(self, storages: Mapping[str, np.ndarray]) -> np.ndarray:
        """The tensor as its own array. Raises TorchFileError where the view leaves its storage."""
        data = storages[self.storage.key]
        count = int(np.prod(self.size, dtype=object)) if self.size else 1
        last = self.offset + sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True))
        sane = self.offset >= 0 and all(s >= 0 for s in self.stride) and all(n >= 0 for n in self.size)
        if not sane or count > data.size or (count and last >= data.size):
            raise TorchFileError("a tensor reaches outside its storage: the file is damaged")
        strides = tuple(s * data.itemsize for s in self.stride)
        return np.lib.stride_tricks.as_strided(data[self.offset :], self.size, strides).copy()


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Read a checkpoint as {key: array}, whether or not it is wrapped as {"state_dict": ...}.

    The `module.` prefix of DataParallel is removed. Raises TorchFileError if the file holds anything but
    tensors and plain containers, and FileNotFoundError if it is not there.
    """
    content = read_torch_file(path)
    state = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if not isinstance(state, Mapping) or not any(isinstance(v, np.ndarray) for v in state.values()):
        raise TorchFileError(f"{path} holds no state_dict: save torch.save({{'state_dict': ...}}, file)")
    tensors: dict[str, np.ndarray] = {}
    for key, value in state.items():
        if not isinstance(value, np.ndarray):
            continue
        name = key.removeprefix("module.") if isinstance(key, str) else None
        if name is None or name in tensors:
            raise TorchFileError(f"{path}: the key {key!r} of the state_dict is not a string, or occurs twice")
        tensors[name] = value
    return tensors


def read_torch_file(path: Path) -> Any:
    """Everything `torch.save` wrote, tensors as NumPy arrays. Errors as in `read_state_dict`."""
    data = _read_file(path)
    try:
        if data[:4] == b"PK\x03\x04":
            return _read_zip(data)
        return _read_legacy(data)
    except TorchFileError as error:
        raise TorchFileError(f"{path}: {error}") from None
    except DAMAGE as error:
        detail = f"{type(error).__name__}: {error}"
        raise TorchFileError(f"{path} is not a PyTorch checkpoint or is truncated ({detail})") from None


def read_numpy_pickle(path: Path) -> Any:
    """A pickle of NumPy arrays in plain containers (`param_whitening.pkl`), read by the same unpickler."""
    data = _read_file(path)
    try:
        return _Materialiser({}).value(_unpickle(SafeUnpickler(io.BytesIO(data))))
    except TorchFileError as error:
        raise TorchFileError(f"{path}: {error}") from None
    except DAMAGE as error:
        raise TorchFileError(f"{path} is not a pickle of NumPy arrays ({error})") from None


def _read_file(path: Path) -> bytes:
    if Path(path).is_dir():
        raise TorchFileError(f"{path} is a directory: name the file in it")
    return Path(path).read_bytes()


def _read_zip(data: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in names if name.endswith("/data.pkl") or name == "data.pkl"]
        if len(pickles) != 1:
            raise TorchFileError("the archive has no single data.pkl: it was not written by torch.save")
        if any(info.compress_type != zipfile.ZIP_STORED for info in names.values()):
            raise TorchFileError("the archive is compressed, which torch.save does not do")
        root = pickles[0].removesuffix("data.pkl")
        if names.get(root + "byteorder") and archive.read(root + "byteorder") != b"little":
            raise TorchFileError("the tensors are big-endian: save the file on a little-endian machine")
        unpickler = SafeUnpickler(io.BytesIO(archive.read(pickles[0])))
        content = _unpickle(unpickler)
        arrays = {}
        for ref in unpickler.storages.values():
            arrays[ref.key] = _storage_array(ref, archive.read(f"{root}data/{ref.key}"))
    return _Materialiser(arrays).value(content)


def _read_legacy(data: bytes) -> Any:
    stream = io.BytesIO(data)
    if _unpickle(SafeUnpickler(stream)) != LEGACY_MAGIC or _unpickle(SafeUnpickler(stream)) != LEGACY_PROTOCOL:
        raise TorchFileError("it is not a file that torch.save wrote")
    _unpickle(SafeUnpickler(stream))  # sys_info: sizes of C types, of no use here
    unpickler = SafeUnpickler(stream)
    content = _unpickle(unpickler)
    arrays = {}
    for key in _unpickle(SafeUnpickler(stream)):
        ref = unpickler.storages[key]
        numel = int.from_bytes(_exactly(stream, 8), "little")
        if numel != ref.numel:
            raise TorchFileError(f"storage {key} has {numel} elements where {ref.numel} were announced")
        arrays[key] = _storage_array(ref, _exactly(stream, numel * ref.dtype.itemsize))
    return _Materialiser(arrays).value(content)


def _exactly(stream: io.BytesIO, count: int) -> bytes:
    chunk = stream.read(count)
    if len(chunk) != count:
        raise TorchFileError("the file is truncated: copy or download it again")
    return chunk


def _storage_array(ref: StorageRef, raw: bytes) -> np.ndarray:
    if len(raw) != ref.numel * ref.dtype.itemsize:
        raise TorchFileError(f"storage {ref.key} is truncated: copy or download the file again")
    return np.frombuffer(raw, ref.dtype)


class _Materialiser:
    """Replaces references by arrays in plain containers; a shared container is converted once."""

    def __init__(self, storages: Mapping[str, np.ndarray]) -> None:
        self.storages = storages
        self.done: dict[int, Any] = {}

    def value(self, value: Any) -> Any:
        if isinstance(value, TensorRef):
            return value.resolve(self.storages)
        if isinstance(value, PickledArray):
            return value.resolve()
        if not isinstance(value, (Mapping, list, tuple)):
            return value
        if id(value) not in self.done:
            self.done[id(value)] = self._container(value)
        return self.done[id(value)]

    def _container(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: self.value(item) for key, item in value.items()}
        return type(value)(self.value(item) for item in value)


def _unpickle(unpickler: SafeUnpickler) -> Any:
    """Load, after checking the memo indices: Python allocates memory up to any index that a file names."""
    start = unpickler.stream.tell()
    limit = len(unpickler.stream.getbuffer())
    for opcode, argument, _ in pickletools.genops(unpickler.stream):
        if "PUT" in opcode.name and int(argument or 0) > limit:
            raise TorchFileError("it names more objects than it has bytes: the file is damaged")
    unpickler.stream.seek(start)
    return unpickler.load()


class PickledDtype:
    """Stands for `numpy.dtype` while unpickling; simple numbers only."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code, self.order = code, "<"

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]

    def resolve(self) -> np.dtype:
        if not (isinstance(self.code, str) and NUMBER_CODE.match(self.code) and self.order in ("<", ">", "|", "=")):
            raise TorchFileError(f"arrays of type {self.code!r} are refused: numbers only")
        return np.dtype(self.code).newbyteorder("S" if self.order == ">" else "=")


class PickledArray:
    """Stands for `numpy.ndarray` while unpickling."""

    def __setstate__(self, state: tuple) -> None:
        _, self.shape, self.dtype, self.fortran, self.raw = state

    def resolve(self) -> np.ndarray:
        raw = self.raw.encode("latin1") if isinstance(self.raw, str) else self.raw
        array = np.frombuffer(raw, self.dtype.resolve())
        return array.reshape(self.shape, order="F" if self.fortran else "C").copy()


class SafeUnpickler(pickle.Unpickler):
    """Accepts tensors, NumPy arrays of numbers and plain containers; refuses every other name."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, encoding="latin1")
        self.stream = stream
        self.storages: dict[str, StorageRef] = {}
        # new closures each time: attributes that a hostile pickle sets on them affect nothing else
        self.admitted: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, size, stride, *_: TensorRef(
                storage, offset, size, stride
            ),
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
            ("numpy", "ndarray"): "ndarray",
            ("numpy", "dtype"): lambda code, *_: PickledDtype(code),
            ("_codecs", "encode"): lambda text, _: text.encode("latin1"),
        }
        reconstruct: Callable[..., PickledArray] = lambda *_: PickledArray()  # noqa: E731
        self.admitted[("numpy.core.multiarray", "_reconstruct")] = reconstruct
        self.admitted[("numpy._core.multiarray", "_reconstruct")] = reconstruct

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGE_DTYPES:
            return np.dtype(STORAGE_DTYPES[name])
        if (module, name) not in self.admitted:
            raise TorchFileError(
                f"it refers to {module}.{name}, which is neither a tensor nor a plain container: refused, "
                "nothing was run. Save the state_dict alone (torch.save({'state_dict': model.state_dict()}))"
            )
        return self.admitted[(module, name)]

    def persistent_load(self, reference: tuple) -> StorageRef:
        kind, dtype, key, _location, numel, *view = reference
        if kind != "storage" or not isinstance(dtype, np.dtype) or any(v is not None for v in view):
            raise TorchFileError("it refers to something other than a tensor storage: refused")
        return self.storages.setdefault(str(key), StorageRef(dtype, int(numel), str(key)))
