"""Read PyTorch files without PyTorch and without running any code in them.

A `.pth` file is a pickle, and loading a pickle can run code. The reader here accepts tensors, their storages and
plain containers, and refuses every other name. Both formats are read: zip (PyTorch >= 1.6) and the earlier sequence of
pickles. NumPy pickles (whitening files) are read in the same way.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from synergy.runtime.files import read_file
from synergy.runtime.formats.file_kinds import HEAD_BYTES, PICKLE_FILE, file_kind, mismatch
from synergy.runtime.formats.npz import open_zip
from synergy.runtime.text import first_line
from synergy.synergy_model.checkpoints.numpy_pickle import ADMITTED_NUMPY, PickledArray, TextEncoder
from synergy.synergy_model.checkpoints.pickle_machine import Named, PickleError, PickleMachine, are_sizes
from synergy.synergy_model.checkpoints.torch_tensors import ADMITTED_TORCH, STORAGE_DTYPES, StorageRef, TensorRef

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of the format that PyTorch wrote before 1.6
LEGACY_PROTOCOL = 1001
CHECKPOINT_KIND = "a PyTorch checkpoint"
MAX_MEMBERS = 1 << 16  # of a zip file: one per tensor
COPY_FACTOR = 4  # tensors may share values in a file, but in memory all of them together are at most so much larger
SPARE_BYTES = 1 << 20
MAX_KEY = 512  # characters of a tensor's name

# dictionaries in which programs save the state_dict, and prefixes of wrappers (DataParallel, torch.compile, Lightning)
WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
PREFIXES = re.compile(r"^(?:(?:module|_orig_mod|model)\.)+")


class TorchFileError(ValueError):
    """The file is not a PyTorch checkpoint, is damaged, or refers to something that is refused."""


# what the pickle machine, zipfile and NumPy raise on damaged bytes
DAMAGE = (
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


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Read a checkpoint as {key: array}, whether or not it is wrapped, as in {"state_dict": ...} (see `WRAPPERS`).

    Prefixes of wrapping modules (`PREFIXES`) are removed. Raises TorchFileError if the file holds anything but
    tensors and plain containers, and FileNotFoundError if it is not there.
    """
    state = read_torch_file(path)
    while wrapped := [key for key in WRAPPERS if isinstance(state, Mapping) and isinstance(state.get(key), Mapping)]:
        state = state[wrapped[0]]
    if not isinstance(state, Mapping) or not _tensors(state):
        raise TorchFileError(f"{path} holds no state_dict: save torch.save({{'state_dict': ...}}, file)")
    tensors: dict[str, np.ndarray] = {}
    for key, value in _tensors(state).items():
        name = PREFIXES.sub("", key) if isinstance(key, str) and len(key) <= MAX_KEY else None
        if name is None or name in tensors:
            shown = str(key)[:80]
            raise TorchFileError(f"{path}: the key {shown!r} of the state_dict is not a short string, or occurs twice")
        tensors[name] = value
    return tensors


def read_torch_file(path: Path) -> Any:
    """Everything `torch.save` wrote, tensors as NumPy arrays. Errors as in `read_state_dict`."""
    data = _read_file(path)
    try:
        return _read_zip(data) if data[:4] == b"PK\x03\x04" else _read_legacy(data)
    except PickleError as error:
        raise TorchFileError(f"{path}: {error}") from None
    except DAMAGE as error:
        raise TorchFileError(f"{path} is not {CHECKPOINT_KIND} or is truncated ({_reason(error)})") from None


def read_numpy_pickle(path: Path) -> Any:
    """A pickle of NumPy arrays in plain containers (`param_whitening.pkl`), read in the same way."""
    return parse_numpy_pickle(_read_file(path), path)


def parse_numpy_pickle(data: bytes, path: Path) -> Any:
    """As `read_numpy_pickle`, of the bytes `data` of the file `path`."""
    reader = _Reader(data)
    try:
        content = reader.load()
        if reader.storages:
            raise PickleError("it is part of an unpacked PyTorch checkpoint: give a pickle of NumPy arrays")
        return reader.resolve(content, {})
    except DAMAGE as error:
        if "refused" not in str(error) and file_kind(data[:HEAD_BYTES]) not in (None, PICKLE_FILE):
            raise TorchFileError(f"{path} {mismatch(data[:HEAD_BYTES], 'a pickle of NumPy arrays')}") from None
        if isinstance(error, PickleError):
            raise TorchFileError(f"{path}: {error}") from None
        raise TorchFileError(f"{path} is not a pickle of NumPy arrays ({_reason(error)})") from None


def _tensors(content: Mapping[Any, Any]) -> dict[Any, np.ndarray]:
    return {key: value for key, value in content.items() if isinstance(value, np.ndarray)}


def _read_file(path: Path) -> bytes:
    path = Path(path)
    if path.is_dir():
        raise TorchFileError(f"{path} is a directory: name the file in it")
    try:
        return read_file(path)
    except ValueError as error:
        raise TorchFileError(f"{path} {error}") from None


def _read_zip(data: bytes) -> Any:
    with open_zip(data, MAX_MEMBERS) as archive:
        names = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in names if name.endswith("/data.pkl") or name == "data.pkl"]
        if len(pickles) != 1:
            raise PickleError(f"it {mismatch(data[:HEAD_BYTES], CHECKPOINT_KIND)} (it has no single data.pkl)")
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}constants.pkl" in names:
            raise PickleError(
                "it is a TorchScript module, not a checkpoint: load it with torch.jit.load and save its state_dict()"
            )
        if any(info.compress_type != zipfile.ZIP_STORED for info in names.values()):
            raise PickleError("the archive is compressed, which torch.save does not do: pack it without compression")
        if names.get(root + "byteorder") and archive.read(root + "byteorder") != b"little":
            raise PickleError("the tensors are big-endian: save the file on a little-endian machine")
        reader = _Reader(archive.read(pickles[0]), len(data))
        content = reader.load()
        if sum(ref.nbytes for ref in reader.storages.values()) > len(data):
            raise PickleError("its storages are larger than the file: it is damaged")
        arrays = {ref.key: ref.array(archive.read(f"{root}data/{ref.key}")) for ref in reader.storages.values()}
    return reader.resolve(content, arrays)


def _read_legacy(data: bytes) -> Any:
    reader = _Reader(data)
    magic = reader.load() if data[:1] == b"\x80" else None
    if reader.storages:
        raise PickleError(
            "it is the data.pkl of an unpacked checkpoint: give the .pth file itself, or pack its folder again with "
            "zip -0"
        )
    if magic != LEGACY_MAGIC or reader.load() != LEGACY_PROTOCOL:
        raise PickleError(f"it {mismatch(data[:HEAD_BYTES], CHECKPOINT_KIND)}")
    reader.load()  # sys_info: sizes of C types, of no use here
    content = reader.load()
    arrays = {}
    for key in reader.load():
        ref = reader.storages[key]
        numel = int.from_bytes(reader.exactly(8), "little")
        if numel != ref.numel:
            raise PickleError(f"storage {ref.key[:40]} has {numel} elements where {ref.numel} were announced")
        arrays[ref.key] = ref.array(reader.exactly(ref.nbytes))
    return reader.resolve(content, arrays)


class _Reader:
    """Loads pickles from bytes, and replaces references in their containers by arrays.

    size: bytes of the whole file, which bound the memory of all arrays.
    """

    def __init__(self, data: bytes, size: int = 0) -> None:
        self.storages: dict[str, StorageRef] = {}
        self.budget = COPY_FACTOR * max(size, len(data)) + SPARE_BYTES
        self.done: dict[int, Any] = {}
        encode = TextEncoder(len(data) + SPARE_BYTES)
        self.machine = PickleMachine(
            io.BytesIO(data),
            {**ADMITTED_NUMPY, **ADMITTED_TORCH, ("_codecs", "encode"): Named("encode", encode)},
            self._storage,
        )

    def load(self) -> Any:
        """The next pickle, with references."""
        return self.machine.load()

    def exactly(self, count: int) -> bytes:
        """The next bytes between pickles."""
        chunk = self.machine.stream.read(count)
        if len(chunk) != count:
            raise PickleError("the file is truncated: copy or download it again")
        return chunk

    def resolve(self, value: Any, storages: Mapping[str, np.ndarray]) -> Any:
        """The value with arrays for references. What occurs several times is converted once."""
        if not isinstance(value, (TensorRef, PickledArray, dict, list, tuple)):
            return value
        if id(value) not in self.done:
            self.done[id(value)] = self._resolved(value, storages)
        return self.done[id(value)]

    def _resolved(self, value: Any, storages: Mapping[str, np.ndarray]) -> Any:
        if isinstance(value, dict):
            return {key: self.resolve(item, storages) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.resolve(item, storages) for item in value)
        array = value.resolve(storages) if isinstance(value, TensorRef) else value.resolve()
        self.budget -= array.nbytes
        if self.budget < 0:
            raise PickleError("its tensors share their values and would need many times the size of the file")
        return array

    def _storage(self, reference: Any) -> StorageRef:
        if not isinstance(reference, tuple) or len(reference) < 5 or reference[0] != "storage":
            raise PickleError("it refers to something other than a tensor storage: refused")
        _, kind, key, _, numel, *view = reference
        known = isinstance(kind, Named) and kind.name in STORAGE_DTYPES and isinstance(key, str)
        if not known or not are_sizes((numel,)) or any(v is not None for v in view):
            raise PickleError("it refers to something other than a tensor storage: refused")
        return self.storages.setdefault(key, StorageRef(kind.name, numel, key))


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {first_line(error)[:200]}"
