"""PyTorch's tensors in pickles: what its names stand for in `PickleMachine`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from synergy.synergy_model.checkpoints.pickle_machine import Named, PickleError, are_sizes, ordered_dict

STORAGE_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",  # the upper half of a float32
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}
BFLOAT16 = "BFloat16Storage"


@dataclass
class StorageRef:
    """A storage named by the pickle; its bytes may follow later in the file."""

    kind: str
    numel: int
    key: str

    @property
    def nbytes(self) -> int:
        """Size in the file."""
        return self.numel * np.dtype(STORAGE_DTYPES[self.kind]).itemsize

    def array(self, raw: bytes) -> np.ndarray:
        """The values (numel,); bfloat16 as float32."""
        if len(raw) != self.nbytes:
            raise PickleError(f"storage {self.key[:40]} is truncated: copy or download the file again")
        values = np.frombuffer(raw, STORAGE_DTYPES[self.kind])
        return (values.astype(np.uint32) << 16).view(np.float32) if self.kind == BFLOAT16 else values


@dataclass
class TensorRef:
    """A view on a storage, kept as numbers until the bytes are there."""

    storage: StorageRef
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.storage, StorageRef) or not are_sizes((self.offset,), self.size, self.stride):
            raise PickleError("a tensor has no valid storage, size or stride: the file is damaged")

    def resolve(self, storages: Mapping[str, np.ndarray]) -> np.ndarray:
        """The tensor as its own array. Raises PickleError where the view leaves its storage."""
        data = storages[self.storage.key]
        count = int(np.prod(self.size, dtype=object)) if self.size else 1
        last = self.offset + sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True))
        if count > data.size or (count and last >= data.size):
            raise PickleError("a tensor reaches outside its storage: the file is damaged")
        strides = tuple(s * data.itemsize for s in self.stride)
        return np.lib.stride_tricks.as_strided(data[self.offset :], self.size, strides).copy()


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> TensorRef:
    return TensorRef(storage, offset, size, stride)


def _first(value: Any, *_: Any) -> Any:
    return value


ADMITTED_TORCH: dict[tuple[str, str], Named] = {
    **{("torch", name): Named(name) for name in STORAGE_DTYPES},
    ("collections", "OrderedDict"): Named("OrderedDict", ordered_dict),
    ("torch._utils", "_rebuild_tensor"): Named("_rebuild_tensor", _tensor),
    ("torch._utils", "_rebuild_tensor_v2"): Named("_rebuild_tensor_v2", _tensor),
    ("torch._utils", "_rebuild_parameter"): Named("_rebuild_parameter", _first),
    ("torch", "Size"): Named("Size", _first),
}
