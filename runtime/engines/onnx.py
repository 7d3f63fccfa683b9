"""Engine for ONNX files on onnxruntime."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from synergy.runtime.engines.base import CANN_HINT, CPU_HINT, Engine
from synergy.runtime.errors import EngineError, EngineUnavailableError
from synergy.runtime.specs import DEFAULT_OPTIONS, Availability, Device, EngineOptions, ModelFile
from synergy.runtime.text import first_line

PROVIDERS = {"cpu": "CPUExecutionProvider", "gpu": "CUDAExecutionProvider", "ascend": "CANNExecutionProvider"}
# How to install the provider. Its package contains the same module as onnxruntime and must replace it.
INSTALL_HINTS = {
    "gpu": "pip uninstall onnxruntime, then pip install 'synergy-mindir[onnx-gpu]'",
    "ascend": "pip uninstall onnxruntime, then pip install onnxruntime-cann",
}
_LIBRARIES = {"gpu": "libonnxruntime_providers_cuda.so", "ascend": "libonnxruntime_providers_cann.so"}
_LIBRARY_CURES = {
    "gpu": "run pip install 'synergy-mindir[onnx-gpu]'; libcuda.so.1 comes with NVIDIA's driver",
    "ascend": CANN_HINT,
}
_CARD_ERROR_PREFIXES = {"gpu": "CUDA failure", "ascend": "CANN failure"}  # first words of these libraries' errors
_PRECISION_MODES = {"fp32": "must_keep_origin_dtype", "fp16": "force_fp16"}  # CANN's names
# From 1.31 on, onnxruntime writes an id into the user's cache and reports its use to Microsoft, unless this environment
# variable is set before it is imported.
DISABLE_TELEMETRY = ("ORT_DISABLE_TELEMETRY", "1")
LOG_WARNINGS, LOG_ERRORS, LOG_FATAL = 2, 3, 4  # onnxruntime's severity levels


class OnnxEngine(Engine):
    """An onnxruntime session. A device that it cannot use is an error; there is no fallback to the CPU."""

    name = "onnx"
    formats = ("onnx",)
    reduced_precisions: ClassVar = {"fp16": ("ascend",)}  # the CUDA provider has no such option
    supports_affinity = True
    parallel_runs = True
    several_sessions = True
    survives_fork = True

    @classmethod
    def available(cls) -> Availability:
        if find_spec("onnxruntime") is None:
            return Availability(False, "onnxruntime is not installed", "pip install 'synergy-mindir[onnx]'")
        return Availability(True, "onnxruntime is installed")

    @classmethod
    def load_library(cls) -> None:
        import_onnxruntime()

    def __init__(
        self, model: ModelFile, device: Device, threads: int, options: EngineOptions = DEFAULT_OPTIONS
    ) -> None:
        super().__init__(model, device, threads, options)
        onnxruntime = import_onnxruntime()
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.log_severity_level = LOG_ERRORS
        if options.affinity:
            settings.add_session_config_entry("session.intra_op_thread_affinities", worker_cores(threads, options))
        if device.kind == "cpu":
            self.session = _open(onnxruntime, model.data, settings, (PROVIDERS["cpu"], {}))
        else:
            self.session = _open_on_card(onnxruntime, model.data, settings, device, options)
        self.input_names = [spec.name for spec in model.inputs]
        self.output_names = [spec.name for spec in model.outputs]

    def _run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        try:
            return self.session.run(self.output_names, dict(zip(self.input_names, arrays, strict=True)))
        except Exception as error:  # its exception classes share no base but Exception
            raise EngineError(f"onnxruntime failed: {first_line(error)}") from None

    def _free(self) -> None:
        self.session = None


def open_small_network(data: bytes, threads: int) -> Callable[[Sequence[str], dict[str, np.ndarray]], list[np.ndarray]]:
    """A network that runs on the CPU beside the main one: output names and inputs -> outputs.

    Its threads do not poll for work, which would take the cores from other threads. Raises EngineError.
    """
    onnxruntime = import_onnxruntime()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = LOG_ERRORS
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    run: Callable[[Sequence[str], dict[str, np.ndarray]], list[np.ndarray]]
    run = _open(onnxruntime, data, settings, (PROVIDERS["cpu"], {})).run
    return run


def import_onnxruntime() -> ModuleType:
    """Import onnxruntime without its telemetry, unless the user has set `ORT_DISABLE_TELEMETRY`."""
    os.environ.setdefault(*DISABLE_TELEMETRY)
    import onnxruntime

    return onnxruntime


def worker_cores(threads: int, options: EngineOptions) -> str:
    """onnxruntime's affinity setting: one core, counted from 1, per worker thread, joined by ";".

    onnxruntime does not bind the calling thread, which is one of the `threads`. Raises EngineError for a single thread.
    """
    if threads == 1:
        raise EngineError(
            "onnxruntime binds worker threads only, and with 1 thread there are none: use taskset, or more threads"
        )
    cores = options.affinity
    return ";".join(str(cores[index % len(cores)] + 1) for index in range(1, threads))


def card_provider(device: Device, options: EngineOptions) -> tuple[str, dict[str, str]]:
    """The execution provider for a GPU or NPU, with its options."""
    if device.kind == "gpu":  # float32 products rounded to 19 bits (TF32) are its default
        return PROVIDERS["gpu"], {"device_id": str(device.index), "use_tf32": "0"}
    mode = _PRECISION_MODES[options.compute_precision]
    return PROVIDERS["ascend"], {"device_id": str(device.index), "precision_mode": mode}


def card_problem(runtime: ModuleType, kind: str) -> str:
    """What this onnxruntime lacks for a kind of device: its provider or a library of it; "" if nothing is missing."""
    if PROVIDERS[kind] not in runtime.get_available_providers():
        return f"no {PROVIDERS[kind]}"
    _load_cuda_packages(runtime)
    path = Path(runtime.__file__ or "").parent / "capi" / _LIBRARIES[kind]
    try:  # onnxruntime only logs why a provider does not start
        ctypes.CDLL(str(path)) if path.is_file() else None
    except OSError as error:
        return first_line(error)
    return ""


def _open_on_card(runtime: ModuleType, data: bytes, settings: Any, device: Device, options: EngineOptions) -> Any:
    """A session with every operator on the GPU or NPU."""
    provider = card_provider(device, options)
    present = runtime.get_available_providers()
    if provider[0] not in present:
        raise EngineUnavailableError(
            f"this onnxruntime has no {provider[0]} for {device} (it has {', '.join(present)}): "
            f"{INSTALL_HINTS[device.kind]}; or {CPU_HINT}"
        )
    settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    settings.log_severity_level = LOG_FATAL  # the exception contains the message
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
    """A session without fallback to another provider, neither at creation nor at a run."""
    try:
        session = runtime.InferenceSession(data, settings, providers=[provider], enable_fallback=0)
    except Exception as error:  # its exception classes share no base but Exception
        raise EngineError(f"onnxruntime cannot load the model: {first_line(error)}") from None
    session.disable_fallback()
    return session


def _card_failure(runtime: ModuleType, device: Device, reason: str) -> EngineError:
    """The error for a failed device session: a missing library if there is one, else onnxruntime's message."""
    obstacle = card_problem(runtime, device.kind)
    if obstacle:
        cure = f"{_LIBRARY_CURES[device.kind]}; or {CPU_HINT}"
        return EngineUnavailableError(f"onnxruntime cannot use {device}: {obstacle}; {cure}")
    if "default CPU EP" in reason:
        return EngineError(
            f"{PROVIDERS[device.kind]} on {device} cannot run all operators of this model, and there is no "
            "fallback to the CPU: use another artifact, or --device cpu"
        )
    kind = EngineUnavailableError if _CARD_ERROR_PREFIXES[device.kind] in reason else EngineError
    return kind(f"{reason} (on {device}; run `synergy doctor` to check the device, or use --device cpu)")


def _load_cuda_packages(runtime: ModuleType) -> None:
    """Load the CUDA and cuDNN libraries that pip installed; missing ones are reported when the provider starts."""
    if hasattr(runtime, "preload_dlls"):  # from 1.21 on
        with contextlib.redirect_stdout(io.StringIO()):
            runtime.preload_dlls()


@contextlib.contextmanager
def _silenced(runtime: ModuleType) -> Iterator[None]:
    """Suppress onnxruntime's log, which repeats the exception in many lines."""
    runtime.set_default_logger_severity(LOG_FATAL)
    try:
        yield
    finally:
        runtime.set_default_logger_severity(LOG_WARNINGS)  # the default; the current value cannot be read
