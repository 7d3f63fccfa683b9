"""`synergy doctor`, `synergy lite install` and `synergy detector install`: what this machine can run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synergy.runtime.commands.options import write_json
from synergy.runtime.terminal.output import command_output
from synergy.runtime.terminal.paths import STDOUT, PathUse
from synergy.runtime.terminal.streams import print_line

if TYPE_CHECKING:
    from synergy.runtime.diagnostics.doctor import DoctorReport


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, or write it to FILE.")] = False,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", show_default="stdout", help="With --json: the file to write."),
        PathUse.WRITE_JSON,
    ] = None,
) -> None:
    """Check what works on this machine and print how to install the rest.

    The exit status is 1 if something required is missing.
    """
    from synergy.runtime.diagnostics.doctor import run_doctor

    if file is not None and not as_json:
        raise typer.BadParameter("FILE needs --json")
    json_file = (file or STDOUT) if as_json else None
    with command_output(json_file):
        report = run_doctor()
        if json_file != STDOUT:
            print_doctor(report)
        write_json(json_file, report)
    raise typer.Exit(0 if report.ok else 1)


lite_app = typer.Typer(help="Install MindSpore Lite on this machine.", no_args_is_help=True)
detector_app = typer.Typer(help="Install the YuNet face detector on this machine.", no_args_is_help=True)


@lite_app.command("install")
def lite_install(
    gpu: Annotated[
        bool, typer.Option("--gpu", help="Also download what it needs on an NVIDIA GPU (1.7 GB, x86-64 only).")
    ] = False,
) -> None:
    """Download MindSpore Lite and build its Python binding (needs g++). Safe to run again."""
    from synergy.runtime.lite.gpu.libraries import install_gpu_libraries
    from synergy.runtime.lite.install import install

    home = install(print_line)
    if gpu:
        install_gpu_libraries(print_line)
    print_line(f"MindSpore Lite {home.version} is ready in {home.root}")


@detector_app.command("install")
def detector_install(
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Copy this file instead of downloading it.")
    ] = None,
) -> None:
    """Install the YuNet face detector, which finds more faces than OpenCV's cascades. Safe to call twice."""
    from synergy.runtime.detection.install import install_yunet

    print_line(f"YuNet is ready in {install_yunet(source)}")


def print_doctor(report: DoctorReport) -> None:
    """Print one line per check, and under a failed one how to fix it."""
    from synergy.runtime.terminal.console import make_console, plain

    console = make_console()
    for check in report.checks:
        mark = "[green]ok[/]  " if check.ok else "[bold red]no[/]  " if check.required else "[yellow]no[/]  "
        console.print(f"{mark}[bold]{check.name}[/]: {plain(check.detail)}", soft_wrap=True)
        if not check.ok:
            console.print(f"      to get it: {plain(check.fix)}", soft_wrap=True)
