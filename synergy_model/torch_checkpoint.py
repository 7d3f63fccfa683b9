"""Read PyTorch files without PyTorch and without running anything they carry.

A `.pth` file is a pickle, and a pickle is a program. The unpickler here knows tensors, their storages and
OrderedDict, and refuses every other name before it is looked up. Both containers are read: the zip format
(PyTorch >= 1.6) and the earlier sequence of pickles. NumPy pickles (whitening files) go the same way.
"""

from __future__ import annotations

import io
import pickle
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


class TorchFileError(ValueError):
    """The file is not a PyTorch checkpoint, is damaged, or asks for something that is refused."""


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
    NotImplementedError,
    RecursionError,
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
        raise TorchFileError(f"{path} holds no state_dict: save the model with torch.save({{'state_dict': ...}})")
    return {k.removeprefix("module."): v for k, v in state.items() if isinstance(v, np.ndarray)}


def read_torch_file(path: Path) -> Any:
    """Everything `torch.save` wrote, tensors as NumPy arrays. Errors as in `read_state_dict`."""
    data = Path(path).read_bytes()
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
    """A pickle of NumPy arrays in plain containers (`param_whitening.pkl`), read the same safe way."""
    data = Path(path).read_bytes()
    try:
        return _materialise(SafeUnpickler(io.BytesIO(data)).load(), {})
    except TorchFileError as error:
        raise TorchFileError(f"{path}: {error}") from None
    except DAMAGE as error:
        raise TorchFileError(f"{path} is not a pickle of NumPy arrays ({error})") from None


def _read_zip(data: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in names if name.endswith("/data.pkl") or name == "data.pkl"]
        if len(pickles) != 1:
            raise TorchFileError("the archive has no single data.pkl: it was not written by torch.save")
        if any(info.compress_type != zipfile.ZIP_STORED for info in names.values()):
            raise TorchFileError("the archive is compressed, which torch.save never does")
        root = pickles[0].removesuffix("data.pkl")
        if names.get(root + "byteorder") and archive.read(root + "byteorder") != b"little":
            raise TorchFileError("the tensors are big-endian: save the file on a little-endian machine")
        unpickler = SafeUnpickler(io.BytesIO(archive.read(pickles[0])))
        content = unpickler.load()
        arrays = {}
        for ref in unpickler.storages.values():
            arrays[ref.key] = _storage_array(ref, archive.read(f"{root}data/{ref.key}"))
    return _materialise(content, arrays)


def _read_legacy(data: bytes) -> Any:
    stream = io.BytesIO(data)
    if SafeUnpickler(stream).load() != LEGACY_MAGIC or SafeUnpickler(stream).load() != LEGACY_PROTOCOL:
        raise TorchFileError("it is not a file that torch.save wrote")
    SafeUnpickler(stream).load()  # sys_info: sizes of C types, of no use here
    unpickler = SafeUnpickler(stream)
    content = unpickler.load()
    arrays = {}
    for key in SafeUnpickler(stream).load():
        ref = unpickler.storages[key]
        numel = int.from_bytes(_exactly(stream, 8), "little")
        if numel != ref.numel:
            raise TorchFileError(f"storage {key} has {numel} elements where {ref.numel} were announced")
        arrays[key] = _storage_array(ref, _exactly(stream, numel * ref.dtype.itemsize))
    return _materialise(content, arrays)


def _exactly(stream: io.BytesIO, count: int) -> bytes:
    chunk = stream.read(count)
    if len(chunk) != count:
        raise TorchFileError("the file is truncated: copy or download it again")
    return chunk


def _storage_array(ref: StorageRef, raw: bytes) -> np.ndarray:
    if len(raw) != ref.numel * ref.dtype.itemsize:
        raise TorchFileError(f"storage {ref.key} is truncated: copy or download the file again")
    return np.frombuffer(raw, ref.dtype)


def _materialise(value: Any, storages: Mapping[str, np.ndarray]) -> Any:
    """Replace references by arrays, in plain containers."""
    if isinstance(value, TensorRef):
        return value.resolve(storages)
    if isinstance(value, PickledArray):
        return value.resolve()
    if isinstance(value, Mapping):
        return {k: _materialise(v, storages) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_materialise(v, storages) for v in value)
    return value


class PickledDtype:
    """Stands for `numpy.dtype` while unpickling; simple numbers only."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code, self.order = code, "<"

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]

    def resolve(self) -> np.dtype:
        dtype = np.dtype(self.order + self.code) if self.order in "<>" else np.dtype(self.code)
        if dtype.kind not in "fiub":
            raise TorchFileError(f"arrays of {dtype} are refused: numbers only")
        return dtype


class PickledArray:
    """Stands for `numpy.ndarray` while unpickling."""

    def __setstate__(self, state: tuple) -> None:
        _, self.shape, self.dtype, self.fortran, self.raw = state

    def resolve(self) -> np.ndarray:
        raw = self.raw.encode("latin1") if isinstance(self.raw, str) else self.raw
        array = np.frombuffer(raw, self.dtype.resolve())
        return array.reshape(self.shape, order="F" if self.fortran else "C").copy()


class SafeUnpickler(pickle.Unpickler):
    """Admits tensors, NumPy arrays of numbers and plain containers; everything else is refused by name."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, encoding="latin1")
        self.storages: dict[str, StorageRef] = {}
        # fresh closures: a hostile pickle that sets attributes on them changes nothing outside itself
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
                f"it asks for {module}.{name}, which is neither a tensor nor a plain container: refused, "
                "nothing was run. Save the state_dict alone (torch.save({'state_dict': model.state_dict()}))"
            )
        return self.admitted[(module, name)]

    def persistent_load(self, reference: tuple) -> StorageRef:
        kind, dtype, key, _location, numel, *view = reference
        if kind != "storage" or not isinstance(dtype, np.dtype) or any(v is not None for v in view):
            raise TorchFileError("it refers to something other than a tensor storage: refused")
        return self.storages.setdefault(str(key), StorageRef(dtype, int(numel), str(key)))
