"""`synergy verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from synergy.runtime.commands.options import (
    BundleArgument,
    DeviceOption,
    EngineName,
    JsonOption,
    ThreadsOption,
    engine_names,
    write_json,
)
from synergy.runtime.terminal.streams import print_line

if TYPE_CHECKING:
    from synergy.benchmarks.parity.verify import VerifyReport


def verify(
    bundle: BundleArgument,
    engine: Annotated[
        list[EngineName] | None,
        typer.Option(metavar="NAME", show_default="all", help="Only this engine; may be repeated."),
    ] = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    json_file: JsonOption = None,
) -> None:
    """Check a bundle on this machine against its golden values.

    Compares outputs and accuracy of every artifact on every engine, and
    measures latency. Needs no MindSpore and no checkpoint. The exit status
    is 1 if a comparison fails.
    """
    from synergy.benchmarks.parity.verify import VerifyOptions, verify_bundle

    report = verify_bundle(bundle, VerifyOptions(engine_names(engine), device, threads))
    print_verify(report)
    write_json(json_file, report)
    raise typer.Exit(0 if report.passed else 1)


def print_verify(report: VerifyReport) -> None:
    """A row per artifact and engine, then what was skipped and what failed."""
    from rich.table import Table

    from synergy.runtime.terminal.console import ACCEPTED, DENSE, FAIL, PASS, make_console, plain, short_ms

    table = Table(title=f"{report.bundle} on {report.device}, compared with its golden values", **DENSE)
    for name in ("artifact", "engine"):
        table.add_column(name, no_wrap=True)
    for name in ("of limit", "NME %", "drift", "MAE deg", "drift", "ms"):
        table.add_column(name, justify="right")
    table.add_column("")
    latency = {(row.artifact, row.engine, row.compute_precision): row.median_ms for row in report.latency}
    for row in report.accuracy:
        key = (row.artifact, row.engine, row.compute_precision)
        checks = [each for each in report.checks if (each.artifact, each.engine, each.compute_precision) == key]
        used = max((each.tolerance_used for each in checks), default=0.0)
        mae = ("-", "-") if row.mae is None else (f"{row.mae:.3f}", f"{row.mae_drift:.1e}")
        passed = all(each.passed for each in checks) and (row.passed or row.accepted)
        verdict = FAIL if not passed else ACCEPTED if row.accepted else PASS
        ms = short_ms(latency[key]) if key in latency else "-"
        nme = (f"{row.nme:.3f}", f"{row.nme_drift:.1e}")
        table.add_row(row.artifact, row.where, f"{used:.1%}", *nme, *mae, ms, verdict)
    console = make_console()
    console.print(table)
    console.print(f"[dim]of limit: largest difference as a share of its tolerance; golden values: {report.golden}[/]")
    for skipped in report.skipped:
        console.print(f"[yellow]skipped[/] {plain(skipped)}", soft_wrap=True)
    for failure in report.failures:
        print_line(f"failed: {failure}", error=True)
