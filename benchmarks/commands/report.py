"""`synergy report` and `synergy demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synergy.benchmarks.commands.options import RawOption, RootOption, formats_here
from synergy.runtime.commands.options import (
    BundleArgument,
    DeviceOption,
    EngineName,
    JsonOption,
    ThreadsOption,
    engine_names,
    write_json,
)
from synergy.runtime.terminal.paths import PathUse
from synergy.runtime.terminal.streams import print_line


def report(
    bundle: BundleArgument,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="File to write."), PathUse.WRITE_TEXT] = Path(
        "report.html"
    ),
    bench_file: Annotated[
        Path | None,
        typer.Option(
            "--bench",
            metavar="FILE",
            help="Use these latencies, from `synergy bench latency --json`, instead of measuring.",
        ),
    ] = None,
    verified: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Result of `synergy verify --json` on another device; may be repeated."),
    ] = None,
    engine: Annotated[
        list[EngineName] | None,
        typer.Option(metavar="NAME", show_default="all", help="Only this engine; may be repeated."),
    ] = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    root: RootOption = None,
    raw: RawOption = None,
) -> None:
    """Write a report of a bundle as one HTML page.

    Contains the parity check, results of other devices, accuracy, latency,
    file sizes, example images and limits. The exit status is 1 if a check
    failed. What this machine cannot check is called unchecked.
    """
    from synergy.benchmarks.report.collect import ReportOptions
    from synergy.benchmarks.report.page import write_report
    from synergy.benchmarks.report.verified import verified_failures
    from synergy.runtime.terminal.progress import progress
    from synergy.runtime.verification.parity_record import ParityStatus, parity_verdict

    options = ReportOptions(engine_names(engine), device, threads, root, raw, bench_file, tuple(verified or ()))
    with progress() as update:
        data = write_report(bundle, out, options, update)
    devices = (f"verification {failure}" for failure in verified_failures(data.verified))
    verdict = parity_verdict(data.manifest, data.parity)
    unchecked = [*verdict.reasons] if verdict.status is ParityStatus.UNCHECKED else []
    if not (data.runs or data.failures):
        unchecked.append("no engine on this machine ran the bundle")
    problems = [*(() if verdict.status is ParityStatus.UNCHECKED else verdict.reasons), *data.failures, *devices]
    for problem in problems:
        print_line(f"failed: {problem}", error=True)
    for reason in unchecked:
        print_line(f"unchecked: {reason}", error=True)
    print_line(f"{out}: {data.name} is {'NOT verified' if problems else 'unchecked' if unchecked else 'verified'}")
    raise typer.Exit(1 if problems else 0)


def demo(
    out: Annotated[
        Path,
        typer.Option("-o", "--out", metavar="DIR", help="Folder for the bundle `demo` and the images."),
        PathUse.WRITE_FOLDER,
    ] = Path("dist"),
    json_file: JsonOption = None,
) -> None:
    """Run every step on the built-in demo checkpoint: export, parity check, faces in a photo, latency.

    No weights are downloaded. An earlier demo in the same folder is replaced.
    """
    from synergy.benchmarks.commands.tables import print_demo
    from synergy.benchmarks.demo import run_demo

    report = run_demo(out, formats_here(None), log=print_line)
    print_demo(report)
    write_json(json_file, report)
    for picture in report.pictures:
        print_line(f"image: {picture}")
