"""Options that several commands share, and JSON reports. Large packages are imported only when a command runs."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synergy.runtime.terminal.output import write_report
from synergy.runtime.terminal.paths import STDOUT, PathUse

if TYPE_CHECKING:
    import msgspec

    from synergy.runtime.specs import EngineOptions


class EngineName(str, Enum):
    """Inference engines; `auto` is the fastest one installed, measured once per machine and bundle."""

    auto = "auto"
    lite = "lite"
    onnx = "onnx"
    openvino = "openvino"
    mindspore = "mindspore"


BundleArgument = Annotated[Path, typer.Argument(help="Folder that `synergy export` made.", metavar="BUNDLE")]
EngineOption = Annotated[
    EngineName,
    typer.Option(
        metavar="NAME", help="Inference engine: lite, onnx, openvino, mindspore, or auto (the fastest one installed)."
    ),
]
DeviceOption = Annotated[str, typer.Option(metavar="NAME", help="Device to run on: cpu, gpu[:N] or ascend[:N].")]


def check_threads(value: int | list[int] | None) -> int | list[int] | None:
    """Refuse more CPU threads than there are cores, before anything is opened."""
    from synergy.runtime.specs import check_core_count

    for count in value if isinstance(value, list) else [value or 0]:
        check_core_count(count, "threads")
    return value


ThreadsOption = Annotated[
    int | None,
    typer.Option(min=1, show_default="all cores", help="CPU threads, at most one per core.", callback=check_threads),
]
DevicePrecisionOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Compute precision: fp32, fp16, bf16 or auto (fp32; --engine auto may use what was verified at export).",
    ),
]
AffinityOption = Annotated[
    str | None, typer.Option(metavar="CORES", help="Bind the engine's threads to these CPU cores, e.g. 0,1.")
]
LiteConfigOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="MindSpore Lite configuration file (.ini).")
]
JsonOption = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Write the result as JSON to this file; - prints it on stdout."),
    PathUse.WRITE_JSON,
]


def engine_options(precision: str, affinity: str | None, lite_config: Path | None) -> EngineOptions:
    """Parse the engine options of a command. Raises BadParameter or ValueError with the reason."""
    from synergy.runtime.specs import EngineOptions

    parts = [part.strip() for part in affinity.split(",")] if affinity is not None else []
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise typer.BadParameter(f"--affinity takes core numbers such as 0,1, not {affinity!r}")
    return EngineOptions(precision, tuple(int(part) for part in parts), lite_config=lite_config)


def engine_names(engines: list[EngineName] | None) -> tuple[str, ...] | None:
    """Names of the engines given, or None for all engines installed."""
    return None if not engines or EngineName.auto in engines else tuple(engine.value for engine in engines)


def report_json(report: msgspec.Struct) -> str:
    """The report as indented JSON."""
    import msgspec

    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode()


def write_json(path: Path | None, report: msgspec.Struct) -> None:
    """Write the report of a command: to a file, to stdout if `path` is `-`, nowhere if it is None."""
    from synergy.runtime.files import write_file

    if path == STDOUT:
        write_report(report_json(report) + "\n")
    elif path is not None:
        write_file(path, report_json(report).encode())
