"""Commands about this machine: doctor, lite install, detector install."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synergy.runtime.commands.options import report_json, write_json

if TYPE_CHECKING:
    from synergy.runtime.diagnostics.doctor import DoctorReport


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, or write it to FILE.")] = False,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="With --json.")] = None,
) -> None:
    """What works on this machine, what does not, and how to get it."""
    from synergy.runtime.diagnostics.doctor import run_doctor

    if file is not None and not as_json:
        raise typer.BadParameter("a file is written with --json only")
    report = run_doctor()
    if as_json and file is None:
        print(report_json(report))
    else:
        print_doctor(report)
        write_json(file, report)
    raise typer.Exit(0 if report.ok else 1)


def lite_install() -> None:
    """Fetch MindSpore Lite and build its binding. Doing it twice is harmless."""
    from synergy.runtime.lite.install import install

    home = install(print)
    print(f"MindSpore Lite {home.version} is ready in {home.root}")


def detector_install(
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Copy this file instead of downloading it.")
    ] = None,
) -> None:
    """Install the YuNet face detector, which finds more faces than OpenCV's cascades. Safe to call twice."""
    from synergy.runtime.detection.install import install_yunet

    print(f"YuNet is ready in {install_yunet(source)}")


def print_doctor(report: DoctorReport) -> None:
    """What works, and under everything that does not, how to get it."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    for check in report.checks:
        mark = "[green]ok[/]  " if check.ok else "[bold red]no[/]  " if check.required else "[yellow]no[/]  "
        console.print(f"{mark}[bold]{check.name}[/]: {escape(check.detail)}", soft_wrap=True)
        if not check.ok:
            console.print(f"      to get it: {escape(check.fix)}", soft_wrap=True)
