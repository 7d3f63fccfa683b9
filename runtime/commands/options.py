"""What several commands share: options and JSON files. Nothing heavy is imported before a command runs."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import msgspec

    from synergy.runtime.specs import EngineOptions


class EngineName(str, Enum):
    """Engines, and `auto` for the fastest that is here, measured once per machine and bundle."""

    auto = "auto"
    lite = "lite"
    onnx = "onnx"
    openvino = "openvino"
    mindspore = "mindspore"


BundleArgument = Annotated[Path, typer.Argument(help="Directory that `synergy export` made.", metavar="BUNDLE")]
EngineOption = Annotated[EngineName, typer.Option(help="What runs the model.")]
DeviceOption = Annotated[str, typer.Option(help="cpu, gpu[:N] or ascend[:N].")]
ThreadsOption = Annotated[int | None, typer.Option(min=1, help="CPU threads; all cores if not given.")]
DevicePrecisionOption = Annotated[
    str, typer.Option(help="fp32, fp16 or bf16; auto: fp32, and what was proved for --engine auto.")
]
AffinityOption = Annotated[str | None, typer.Option(help="CPU cores for the engine's threads, e.g. 0,1.")]
LiteConfigOption = Annotated[Path | None, typer.Option(help="MindSpore Lite's own configuration file.")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Also write the result to this file.")]


def engine_options(precision: str, affinity: str | None, lite_config: Path | None) -> EngineOptions:
    """From the command line's texts. Raises BadParameter or ValueError naming what is wrong."""
    from synergy.runtime.specs import EngineOptions

    parts = [part.strip() for part in affinity.split(",")] if affinity is not None else []
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise typer.BadParameter(f"--affinity takes core numbers such as 0,1, not {affinity!r}")
    return EngineOptions(precision, tuple(int(part) for part in parts), lite_config=lite_config)


def engine_names(engines: list[EngineName] | None) -> tuple[str, ...] | None:
    """None, for all that are present, unless engines were named."""
    return None if not engines or EngineName.auto in engines else tuple(engine.value for engine in engines)


def report_json(report: msgspec.Struct) -> str:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode()


def write_json(path: Path | None, report: msgspec.Struct) -> None:
    from synergy.runtime.files import write_file

    if path is not None:
        write_file(path, report_json(report).encode())
