"""Find and open engines by name. An engine's library is imported only when the engine is opened."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterable
from typing import Protocol, TypeVar

from synergy.runtime.engines.base import Engine
from synergy.runtime.errors import EngineUnavailableError
from synergy.runtime.specs import (
    DEFAULT_OPTIONS,
    Availability,
    Device,
    EngineOptions,
    ModelFile,
    available_cores,
    check_core_count,
)
from synergy.runtime.text import first_line

__all__ = [
    "ENGINES",
    "Engine",
    "available",
    "default_threads",
    "engine_class",
    "engines_for",
    "library_problem",
    "load_library",
    "open_engine",
    "readable",
]

# name: module, class, and all formats that any release reads, in the order in which engines are listed. The formats
# are known here so that an engine that cannot read a bundle is not imported.
ENGINES = {
    "lite": ("synergy.runtime.engines.lite", "LiteEngine", ("ms", "mindir", "mindir_v1")),
    "onnx": ("synergy.runtime.engines.onnx", "OnnxEngine", ("onnx",)),
    "openvino": ("synergy.runtime.engines.openvino", "OpenVinoEngine", ("onnx",)),
    "mindspore": ("synergy.runtime.engines.mindspore", "MindSporeEngine", ("mindir",)),
}


class Readable(Protocol):
    """Anything with a model format, such as an artifact in a manifest."""

    @property
    def format(self) -> str: ...


File = TypeVar("File", bound=Readable)


def engine_class(name: str) -> type[Engine]:
    """The class of an engine. Raises ValueError, which lists the valid names."""
    module, attribute, _ = _entry(name)
    return getattr(importlib.import_module(module), attribute)


def readable(name: str, files: Iterable[File], device: Device | str = "cpu") -> list[File]:
    """The files that the engine can run on this device, preferred format first."""
    where, formats = _parsed(device), _entry(name)[2]
    possible = [each for each in files if each.format in formats]
    if not possible:
        return []
    kind = engine_class(name)
    found = [each for each in possible if kind.reads(each.format, where)]
    return sorted(found, key=lambda each: kind.formats_on(where).index(each.format))


def engines_for(file: Readable, device: Device | str = "cpu") -> list[str]:
    """Names of the engines that can run `file` on this device, installed or not."""
    return [name for name in ENGINES if readable(name, [file], device)]


def available(name: str) -> Availability:
    """Whether the engine is installed; its library is not loaded."""
    return engine_class(name).available()


def load_library(name: str) -> None:
    """Import an engine's library in advance. Errors are ignored here; opening the engine reports them."""
    with contextlib.suppress(ImportError, OSError, RuntimeError):
        engine_class(name).load_library()


def library_problem(name: str) -> str:
    """Why an engine's library cannot be imported, with the cure; "" if it can, or if it is loaded on opening only."""
    try:
        engine_class(name).load_library()
    except Exception as error:  # a broken package can raise anything
        return f"engine {name}: its library does not import ({first_line(error)}): install it again"
    return ""


def open_engine(
    name: str,
    model: ModelFile,
    device: Device | str = "cpu",
    threads: int | None = None,
    isolated: bool = False,
    options: EngineOptions = DEFAULT_OPTIONS,
) -> Engine:
    """Load `model` into an engine.

    The engine runs in a child process if `isolated` is set or if it cannot be loaded into this process: MindSpore and
    MindSpore Lite both contain a libmindspore_core.so and cannot be loaded together, and MindSpore accepts its device
    and thread count only once per process. MindSpore Lite on a GPU or NPU always runs in a child process: its libraries
    end the process at some faults, and they are found through an environment variable that is read at its start.

    Args:
        name: lite, onnx, openvino or mindspore.
        model: The model's bytes and tensor specifications.
        device: A `Device`, or a text such as "cpu" or "gpu:0".
        threads: CPU threads, at most as many as there are available cores; None: so many.
        isolated: Run the engine in a child process.
        options: Compute precision, thread affinity and others.

    Raises:
        ValueError: The name, the device or `threads` is invalid.
        EngineUnavailableError: The engine or the device is not available; the message says how to install it.
        EngineError: The engine cannot load the model.
    """
    device = _parsed(device)
    status = available(name)
    if not status.ok:
        raise EngineUnavailableError(f"{status.detail}: {status.fix}")
    threads = default_threads() if threads is None else threads
    if threads < 1:
        raise ValueError(f"threads must be 1 or more, not {threads}")
    check_core_count(threads, "threads")
    if isolated or device.kind in engine_class(name).isolated_devices or _collides(name):
        from synergy.runtime.engines.isolated import IsolatedEngine

        return IsolatedEngine(name, model, device, threads, options)
    return engine_class(name)(model, device, threads, options)


def default_threads() -> int:
    """The number of cores that this process may use."""
    return len(available_cores())


def _entry(name: str) -> tuple[str, str, tuple[str, ...]]:
    if name not in ENGINES:
        raise ValueError(f"unknown engine {name!r}: use one of {', '.join(ENGINES)}")
    return ENGINES[name]


def _parsed(device: Device | str) -> Device:
    return Device.parse(device) if isinstance(device, str) else device


def _collides(name: str) -> bool:
    if name == "lite":
        return "mindspore" in sys.modules
    if name == "mindspore":  # also with itself: threads and device can be set only once per process
        from synergy.runtime.engines.lite import is_loaded

        return "mindspore" in sys.modules or is_loaded()
    return False
