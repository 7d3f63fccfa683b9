"""Commands about this machine: doctor, lite install."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.commands.options import report_json, write_json


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, or write it to FILE.")] = False,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="With --json.")] = None,
) -> None:
    """What works on this machine, what does not, and how to get it."""
    from benchmarks.console import print_doctor
    from benchmarks.doctor import run_doctor

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
    from runtime.native.install import install

    home = install(print)
    print(f"MindSpore Lite {home.version} is ready in {home.root}")
