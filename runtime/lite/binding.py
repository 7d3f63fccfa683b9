"""Run models on MindSpore Lite in this process, through the C++ binding.

Importing this module loads nothing of Lite; the first `LiteModel` does. MindSpore and MindSpore Lite both bring
a `libmindspore_core.so` and cannot share a process.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import weakref
from collections.abc import Callable, Sequence

import numpy as np

from synergy.runtime.errors import EngineError, EngineUnavailableError
from synergy.runtime.lite.checks import check_arrays, check_process, check_request, open_failure
from synergy.runtime.lite.config import NO_SETTINGS, LiteSettings, config_file_for
from synergy.runtime.lite.locate import INSTALL_HINT, locate
from synergy.runtime.lite.stderr import capture_stderr, extract_cause
from synergy.runtime.processes.sharing import call_after_fork
from synergy.runtime.specs import Device, TensorSpec

_ERROR_BYTES = 4096
_NAME_BYTES = 1024
_MAX_RANK = 8  # as in shim.cpp
_FAILED, _OUTPUTS_CHANGED = 1, 2  # as in shim.cpp
_INPUTS, _OUTPUTS = 0, 1
# include/api/data_type.h
DTYPES = {
    30: "bool",
    32: "int8",
    33: "int16",
    34: "int32",
    35: "int64",
    37: "uint8",
    38: "uint16",
    39: "uint32",
    40: "uint64",
    42: "float16",
    43: "float32",
    44: "float64",
}


_Signature = tuple[tuple[int, ...], np.dtype]  # shape and dtype of one array


class LiteModel:
    """One model on one device. Not thread-safe.

    `inputs` and `outputs` are as stored in the file, `DYNAMIC` for a dynamic batch. An output whose shape Lite knows
    only after a run has the shape `(DYNAMIC,)`.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def __init__(
        self, data: bytes, model_type: str, device: Device, threads: int, settings: LiteSettings = NO_SETTINGS
    ) -> None:
        """Load the model in `data`, of type "ms" or "mindir" (for Lite 2.0: MindIR version 1).

        Raises ValueError for a wrong type or thread count, EngineUnavailableError if Lite or the device is
        missing, EngineError with the cause Lite printed if the model cannot be loaded.
        """
        check_request(model_type, threads)
        self._library = _library()
        self._error = ctypes.create_string_buffer(_ERROR_BYTES)
        self._handle = ctypes.c_void_p(self._open(data, model_type, device, threads, settings))
        self._close = weakref.finalize(self, self._library.synergy_lite_close, self._handle)
        call_after_fork(self)
        self.inputs = self._describe(_INPUTS)
        self.outputs = self._describe(_OUTPUTS)
        self._last_signature: list[_Signature] | None = None  # of the inputs in the last successful run
        self._sources, self._targets = _Buffers([]), _Buffers([])

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Arrays in the order of `inputs`, with their dtypes and shapes -> new arrays in the order of `outputs`.

        Raises ValueError for a wrong count, dtype or shape, EngineError if Lite fails or the model is closed.
        """
        signature = [(array.shape, array.dtype) for array in arrays]
        if (
            signature != self._last_signature
        ):  # the checks are skipped if nothing changed: they take a noticeable part of 1 ms
            return self._run_new_shapes(arrays, signature)
        try:
            return self._run(arrays)
        except EngineError as error:
            raise EngineError(f"MindSpore Lite failed: {error}; set GLOG_v=0 to see its log") from None

    def close(self) -> None:
        """Free the model. Safe to call twice."""
        self._last_signature = None
        self._close()

    def after_fork(self) -> None:
        """In a forked child Lite's threads are gone: freeing the model, also at exit, would wait for them for ever."""
        self._close.detach()

    def _run_new_shapes(self, arrays: Sequence[np.ndarray], signature: list[_Signature]) -> list[np.ndarray]:
        """Run with shapes or dtypes that differ from the last run; Lite may reject them on resizing or at the run."""
        if not self._close.alive:
            raise EngineError("this MindSpore Lite model is closed")
        check_arrays(self.inputs, arrays)
        shapes = [shape for shape, _ in signature]
        self._last_signature = None
        try:
            with capture_stderr() as log:
                self._resize(shapes)
                self._sources, self._targets = _Buffers(signature), _Buffers([])
                outputs = self._run(arrays)
        except EngineError as error:
            raise EngineError(
                f"MindSpore Lite cannot run shapes {shapes}: {extract_cause(log.text, str(error))}"
            ) from None
        self._last_signature = signature
        return outputs

    def _resize(self, shapes: Sequence[tuple[int, ...]]) -> None:
        dims = [dim for shape in shapes for dim in shape]
        ranks = [len(shape) for shape in shapes]
        self._call(
            self._library.synergy_lite_resize, (ctypes.c_int64 * len(dims))(*dims), (ctypes.c_int * len(ranks))(*ranks)
        )

    def _run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        sources, library = self._sources, self._library
        for buffer, array in zip(sources.arrays, arrays, strict=True):
            np.copyto(buffer, array)
        targets = self._targets
        code = self._call(library.synergy_lite_run, sources.addresses, sources.sizes, *targets.arguments)
        if code == _OUTPUTS_CHANGED:  # shapes of outputs can be known only after a run
            targets = self._targets = _Buffers(
                [(spec.shape, np.dtype(spec.dtype)) for spec in self._describe(_OUTPUTS)]
            )
            if library.synergy_lite_fetch(self._handle, *targets.arguments) != 0:
                raise EngineError("the sizes of its outputs differ from those it reports")
        return [array.copy() for array in targets.arrays]

    def _call(self, function: Callable[..., int], *arguments: object) -> int:
        code = function(self._handle, *arguments, self._error, _ERROR_BYTES)
        if code == _FAILED:
            raise EngineError(self._error.value.decode(errors="replace"))
        return code

    def _describe(self, side: int) -> tuple[TensorSpec, ...]:
        count = self._library.synergy_lite_count(self._handle, side)
        return tuple(self._describe_one(side, which) for which in range(count))

    def _describe_one(self, side: int, which: int) -> TensorSpec:
        name = ctypes.create_string_buffer(_NAME_BYTES)
        dtype, rank, shape = ctypes.c_int(), ctypes.c_int(), (ctypes.c_int64 * _MAX_RANK)()
        describe = self._library.synergy_lite_describe
        if describe(self._handle, side, which, name, _NAME_BYTES, dtype, shape, rank) != 0:
            raise EngineError(f"MindSpore Lite cannot describe tensor {which}: {name.value.decode()}")
        text = name.value.decode(errors="replace")
        if dtype.value not in DTYPES:
            raise EngineError(f"tensor {text} has a dtype without a numpy counterpart (Lite's number {dtype.value})")
        return TensorSpec(text, tuple(shape[: rank.value]), DTYPES[dtype.value])

    def _open(self, data: bytes, model_type: str, device: Device, threads: int, settings: LiteSettings) -> int:
        is_mindir = int(model_type == "mindir")
        with config_file_for(settings) as path, capture_stderr() as log:
            target = _DeviceSpec.of(device, threads, settings, path)
            handle: int | None = self._library.synergy_lite_open(
                data, len(data), is_mindir, ctypes.byref(target), self._error, _ERROR_BYTES
            )
        if handle is None:
            raise open_failure(model_type, device, log.text, self._error.value.decode(errors="replace"))
        return handle


class _DeviceSpec(ctypes.Structure):
    """The struct `Target` of shim.cpp."""

    _fields_ = (
        ("device", ctypes.c_char_p),
        ("index", ctypes.c_uint32),
        ("threads", ctypes.c_int),
        ("precision_mode", ctypes.c_char_p),
        ("cores", ctypes.POINTER(ctypes.c_int)),
        ("core_count", ctypes.c_size_t),
        ("config", ctypes.c_char_p),
    )

    @classmethod
    def of(cls, device: Device, threads: int, settings: LiteSettings, config: str) -> _DeviceSpec:
        cores = (ctypes.c_int * len(settings.affinity))(*settings.affinity)
        mode = settings.precision_mode.encode()
        path = config.encode() or None
        return cls(device.kind.encode(), device.index, threads, mode, cores, len(cores), path)


class _Buffers:
    """Arrays with their addresses and sizes, for the C++ side to read or fill.

    They are reused until the shapes change: copying to and from them is faster than getting the addresses of new NumPy
    arrays at every run.
    """

    def __init__(self, signature: Sequence[_Signature]) -> None:
        self.arrays = [np.empty(shape, dtype) for shape, dtype in signature]
        addresses = [array.ctypes.data for array in self.arrays]
        self.addresses = (ctypes.c_void_p * len(signature))(*addresses)
        self.sizes = (ctypes.c_size_t * len(signature))(*[array.nbytes for array in self.arrays])
        self.arguments = (self.addresses, self.sizes, len(signature))


def is_loaded() -> bool:
    """Whether Lite's libraries are loaded in this process, so that MindSpore cannot be loaded."""
    return _library.cache_info().currsize > 0 or "mindspore_lite" in sys.modules


@functools.cache
def _library() -> ctypes.CDLL:
    installation = locate()
    check_process()
    with capture_stderr() as log:
        try:
            library = ctypes.CDLL(str(installation.shim))
        except OSError as error:
            reason = extract_cause(log.text, str(error))
            raise EngineUnavailableError(
                f"MindSpore Lite at {installation.root} does not load: {reason}; to repair it, {INSTALL_HINT}"
            ) from None
    return _declare(library)


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """Declare the functions of shim.cpp."""
    text, size, number, handle = ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p
    pointers, error = ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_size_t)
    library.synergy_lite_open.restype = handle
    library.synergy_lite_open.argtypes = [text, size, number, pointers, *error]
    library.synergy_lite_close.restype = None
    library.synergy_lite_close.argtypes = [handle]
    library.synergy_lite_count.argtypes = [handle, number]
    count, shape = ctypes.POINTER(number), ctypes.c_void_p
    library.synergy_lite_describe.argtypes = [handle, number, number, *error, count, shape, count]
    library.synergy_lite_resize.argtypes = [handle, pointers, pointers, *error]
    library.synergy_lite_run.argtypes = [handle, pointers, pointers, pointers, pointers, size, *error]
    library.synergy_lite_fetch.argtypes = [handle, pointers, pointers, size]
    return library
