"""Engines by name. Each lives in one file, and nothing heavy is imported before one is opened."""

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
)

__all__ = [
    "ENGINES",
    "Engine",
    "available",
    "default_threads",
    "engine_class",
    "engines_for",
    "load_library",
    "open_engine",
    "readable",
]

# name: module and class; in the order in which they are listed
ENGINES = {
    "lite": ("synergy.runtime.engines.lite", "LiteEngine"),
    "onnx": ("synergy.runtime.engines.onnx", "OnnxEngine"),
    "openvino": ("synergy.runtime.engines.openvino", "OpenVinoEngine"),
    "mindspore": ("synergy.runtime.engines.mindspore", "MindSporeEngine"),
}


class Readable(Protocol):
    """What decides which engines run a file; a manifest's artifacts have it."""

    @property
    def format(self) -> str: ...


File = TypeVar("File", bound=Readable)


def engine_class(name: str) -> type[Engine]:
    """The class of an engine. Raises ValueError listing the valid names."""
    if name not in ENGINES:
        raise ValueError(f"unknown engine {name!r}: use one of {', '.join(ENGINES)}")
    module, attribute = ENGINES[name]
    return getattr(importlib.import_module(module), attribute)


def readable(name: str, files: Iterable[File], device: Device | str = "cpu") -> list[File]:
    """Those that the engine can run here on this device, the best format first."""
    kind, where = engine_class(name), _parsed(device)
    found = [each for each in files if kind.reads(each.format, where)]
    return sorted(found, key=lambda each: kind.formats_on(where).index(each.format))


def engines_for(file: Readable, device: Device | str = "cpu") -> list[str]:
    """Engines that can run such a file on this device, installed or not."""
    return [name for name in ENGINES if readable(name, [file], device)]


def available(name: str) -> Availability:
    """Whether the engine works on this machine, without loading it."""
    return engine_class(name).available()


def load_library(name: str) -> None:
    """Load an engine's library before there is a model for it. What goes wrong is said when the engine is opened."""
    with contextlib.suppress(ImportError, OSError, RuntimeError):
        engine_class(name).load_library()


def open_engine(
    name: str,
    model: ModelFile,
    device: Device | str = "cpu",
    threads: int | None = None,
    isolated: bool = False,
    options: EngineOptions = DEFAULT_OPTIONS,
) -> Engine:
    """Load `model`. Raises EngineUnavailableError if the engine is not installed, EngineError if it refuses.

    The engine goes to a child process where `isolated` asks for it, or where it cannot share this one:
    MindSpore and MindSpore Lite each bring a libmindspore_core.so, and neither loads beside the other; and
    MindSpore takes its device and threads once per process.
    """
    device = _parsed(device)
    status = available(name)
    if not status.ok:
        raise EngineUnavailableError(f"{status.detail}: {status.fix}")
    threads = default_threads() if threads is None else threads
    if threads < 1:
        raise ValueError(f"threads must be 1 or more, not {threads}")
    if isolated or _collides(name):
        from synergy.runtime.engines.isolated import IsolatedEngine

        return IsolatedEngine(name, model, device, threads, options)
    return engine_class(name)(model, device, threads, options)


def default_threads() -> int:
    """As many as there are cores that this process may use."""
    return len(available_cores())


def _parsed(device: Device | str) -> Device:
    return Device.parse(device) if isinstance(device, str) else device


def _collides(name: str) -> bool:
    if name == "lite":
        return "mindspore" in sys.modules
    if name == "mindspore":  # beside itself too: threads and device can be set once per process
        from synergy.runtime.engines.lite import is_loaded

        return "mindspore" in sys.modules or is_loaded()
    return False
