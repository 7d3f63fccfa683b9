"""Describe the machine of a measurement and the installed engines."""

from __future__ import annotations

import contextlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from synergy.runtime.engines import default_threads
from synergy.runtime.errors import EngineUnavailableError
from synergy.runtime.lite.locate import find_installation
from synergy.runtime.lite.vendor import package_version


class Host(msgspec.Struct, frozen=True):
    """The machine of a measurement. cores: those this process may use. load: 1-minute load average at the start."""

    cpu: str
    cores: int
    memory_gb: float
    load: float
    python: str
    platform: str
    versions: dict[str, str]


def describe_host() -> Host:
    """Describe this machine and the versions of the installed engines."""
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return Host(
        cpu=_cpu_model(),
        cores=default_threads(),
        memory_gb=round(pages * page / 1e9, 1),
        load=round(os.getloadavg()[0], 2),
        python=platform.python_version(),
        platform=platform.platform(),
        versions=installed_versions(),
    )


def installed_versions() -> dict[str, str]:
    """Versions of the installed engines by package name. Does not import them."""
    found = {"mindspore-lite": _lite_version()}
    for package in ("onnxruntime", "openvino", "mindspore"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return {name: each for name, each in found.items() if each is not None}


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _lite_version() -> str | None:
    package = None if os.environ.get("SYNERGY_LITE_HOME") else package_version()
    if package is not None:
        return package
    try:
        home = find_installation()
    except EngineUnavailableError:  # `synergy doctor` reports it
        return None
    return None if home is None else home.version
