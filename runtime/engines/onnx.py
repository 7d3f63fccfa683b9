"""ONNX files on onnxruntime."""

from __future__ import annotations

import contextlib
import ctypes
import io
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from synergy.runtime.engines.base import CANN_HINT, WITHOUT_CARD, Engine
from synergy.runtime.errors import EngineError, EngineUnavailableError
from synergy.runtime.specs import DEFAULT_OPTIONS, Availability, Device, EngineOptions, ModelFile
from synergy.runtime.text import first_line

PROVIDERS = {"cpu": "CPUExecutionProvider", "gpu": "CUDAExecutionProvider", "ascend": "CANNExecutionProvider"}
# The package that has the provider. It holds the same module as plain onnxruntime, which must make room for it.
INSTALL_HINTS = {
    "gpu": "pip uninstall onnxruntime, then pip install 'synergy-mindir[onnx-gpu]'",
    "ascend": "pip uninstall onnxruntime, then pip install onnxruntime-cann",
}
_LIBRARIES = {"gpu": "libonnxruntime_providers_cuda.so", "ascend": "libonnxruntime_providers_cann.so"}
_LIBRARY_CURES = {
    "gpu": "pip install 'synergy-mindir[onnx-gpu]' has all but libcuda.so.1, which NVIDIA's driver has",
    "ascend": CANN_HINT,
}
_CARD_FAILURES = {"gpu": "CUDA failure", "ascend": "CANN failure"}  # how it begins what these libraries report
_PRECISION_MODES = {"fp32": "must_keep_origin_dtype", "fp16": "force_fp16"}  # CANN's words
WARNINGS, ERRORS_ONLY, NOTHING = 2, 3, 4  # onnxruntime's severity scale


class OnnxEngine(Engine):
    """onnxruntime's session; a device it cannot use is an error, never a silent fall back to the CPU."""

    name = "onnx"
    formats = ("onnx",)
    reduced: ClassVar = {"fp16": ("ascend",)}  # CUDA's provider computes in the file's own types
    binds_threads = True

    @classmethod
    def available(cls) -> Availability:
        if find_spec("onnxruntime") is None:
            return Availability(False, "onnxruntime is not installed", "pip install 'synergy-mindir[onnx]'")
        return Availability(True, "onnxruntime is installed")

    @classmethod
    def load_library(cls) -> None:
        import onnxruntime  # noqa: F401 - the import is what is wanted

    def __init__(
        self, model: ModelFile, device: Device, threads: int, options: EngineOptions = DEFAULT_OPTIONS
    ) -> None:
        super().__init__(model, device, threads, options)
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.log_severity_level = ERRORS_ONLY
        if options.affinity:
            settings.add_session_config_entry("session.intra_op_thread_affinities", worker_cores(threads, options))
        if device.kind == "cpu":
            self.session = _open(onnxruntime, model.data, settings, (PROVIDERS["cpu"], {}))
        else:
            self.session = _open_on_card(onnxruntime, model.data, settings, device, options)
        self.input_names = [spec.name for spec in model.inputs]
        self.output_names = [spec.name for spec in model.outputs]

    def _run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        if self.session is None:
            raise EngineError(f"this {self.name} engine is closed")
        try:
            return self.session.run(self.output_names, dict(zip(self.input_names, arrays, strict=True)))
        except Exception as error:  # its exception classes share no base but Exception
            raise EngineError(f"onnxruntime failed: {first_line(error)}") from None

    def close(self) -> None:
        self.session = None


def worker_cores(threads: int, options: EngineOptions) -> str:
    """onnxruntime's list: the cores in turn, counted from 1, one for each thread but the caller's, which it leaves be.

    Raises EngineError for a single thread, which is the caller's.
    """
    if threads == 1:
        raise EngineError("onnxruntime binds worker threads, and with 1 thread has none: use taskset, or more threads")
    cores = options.affinity
    return ";".join(str(cores[which % len(cores)] + 1) for which in range(1, threads))


def card_provider(device: Device, options: EngineOptions) -> tuple[str, dict[str, str]]:
    """The provider for a card, with its options."""
    if device.kind == "gpu":  # float32 products rounded to 19 bits (TF32) are its default
        return PROVIDERS["gpu"], {"device_id": str(device.index), "use_tf32": "0"}
    mode = _PRECISION_MODES[options.compute_precision]
    return PROVIDERS["ascend"], {"device_id": str(device.index), "precision_mode": mode}


def card_obstacle(runtime: ModuleType, kind: str) -> str:
    """What this onnxruntime lacks for a kind of card: its provider, or a library of that; "" if nothing is missing."""
    if PROVIDERS[kind] not in runtime.get_available_providers():
        return f"no {PROVIDERS[kind]}"
    _load_cuda_packages(runtime)
    path = Path(runtime.__file__ or "").parent / "capi" / _LIBRARIES[kind]
    try:  # onnxruntime itself only logs why its provider does not start
        ctypes.CDLL(str(path)) if path.is_file() else None
    except OSError as error:
        return first_line(error)
    return ""


def _open_on_card(runtime: ModuleType, data: bytes, settings: Any, device: Device, options: EngineOptions) -> Any:
    """A session with every operator on the card."""
    provider = card_provider(device, options)
    present = runtime.get_available_providers()
    if provider[0] not in present:
        raise EngineUnavailableError(
            f"this onnxruntime has no {provider[0]} for {device} (it has {', '.join(present)}): "
            f"{INSTALL_HINTS[device.kind]}; {WITHOUT_CARD}"
        )
    settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    settings.log_severity_level = NOTHING  # its words are in the exception too
    _load_cuda_packages(runtime)
    try:
        with _silenced(runtime):
            session = _open(runtime, data, settings, provider)
    except EngineError as error:
        raise _card_failure(runtime, device, str(error)) from None
    if session.get_providers()[0] != provider[0]:
        raise _card_failure(runtime, device, f"onnxruntime fell back from {provider[0]}")
    return session


def _open(runtime: ModuleType, data: bytes, settings: Any, provider: tuple[str, dict[str, str]]) -> Any:
    """A session that goes on with no other provider, neither now nor at a run."""
    try:
        session = runtime.InferenceSession(data, settings, providers=[provider], enable_fallback=0)
    except Exception as error:  # its exception classes share no base but Exception
        raise EngineError(f"onnxruntime cannot load the model: {first_line(error)}") from None
    session.disable_fallback()
    return session


def _card_failure(runtime: ModuleType, device: Device, reason: str) -> EngineError:
    """Why it does not run on the card: a library, else what onnxruntime said."""
    obstacle = card_obstacle(runtime, device.kind)
    if obstacle:
        cure = f"{_LIBRARY_CURES[device.kind]}; {WITHOUT_CARD}"
        return EngineUnavailableError(f"onnxruntime cannot use {device}: {obstacle}; {cure}")
    if "default CPU EP" in reason:
        return EngineError(
            f"{PROVIDERS[device.kind]} on {device} cannot run all operators of this model, and what is left must not "
            "go to the CPU unasked: use another artifact, or --device cpu"
        )
    kind = EngineUnavailableError if _CARD_FAILURES[device.kind] in reason else EngineError
    return kind(f"{reason} (on {device}; see what `synergy doctor` says of the card, or use --device cpu)")


def _load_cuda_packages(runtime: ModuleType) -> None:
    """Find CUDA's and cuDNN's libraries where pip puts them; what is missing shows when the provider starts."""
    if hasattr(runtime, "preload_dlls"):  # from 1.21 on
        with contextlib.redirect_stdout(io.StringIO()):
            runtime.preload_dlls()


@contextlib.contextmanager
def _silenced(runtime: ModuleType) -> Iterator[None]:
    """The cause comes as an exception; onnxruntime's own log of it would fill the user's screen."""
    runtime.set_default_logger_severity(NOTHING)
    try:
        yield
    finally:
        runtime.set_default_logger_severity(WARNINGS)  # as it starts; it does not tell what it is
