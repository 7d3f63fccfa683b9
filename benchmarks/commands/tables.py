"""Tables of parity, demo, latency and tuning results for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from rich.table import Table

from synergy.runtime.terminal.console import ACCEPTED, DENSE, FAIL, PASS, STYLE, make_console, plain, short_ms

if TYPE_CHECKING:  # the demo imports MindSpore, which is not needed to print a benchmark
    from synergy.benchmarks.demo import DemoAccuracy, DemoReport
    from synergy.benchmarks.speed.latency import BenchReport
    from synergy.benchmarks.speed.tuning import TuneReport
    from synergy.runtime.verification.parity_record import ParityReport


def print_parity(report: ParityReport) -> None:
    """Every check, then the accuracy, then a line for each variant that could not be run."""
    table = Table(title="maximum absolute difference from the Cell", **DENSE)
    for name in ("artifact", "engine", "output"):
        table.add_column(name, no_wrap=True)
    for name in ("max abs", "tolerance", "sensitivity"):
        table.add_column(name, justify="right")
    table.add_column("")
    for check in report.checks:
        numbers = (f"{check.max_abs:.1e}", f"{check.tolerance:.1e}", f"{check.input_sensitivity:.2g}")
        table.add_row(check.artifact, check.where, check.output, *numbers, PASS if check.passed else FAIL)
    console = make_console(highlight=True)
    console.print(table)
    console.print("[dim]sensitivity: input sensitivity, by how much the output varies with the input[/]")
    if report.accuracy:
        console.print(_accuracy_table(report))
    for failure in report.failures:
        console.print(f"{FAIL} {plain(failure)}", highlight=False)


def _accuracy_table(report: ParityReport) -> Table:
    table = Table(title="accuracy, and its drift from the Cell", **DENSE)
    for name in ("artifact", "engine"):
        table.add_column(name, no_wrap=True)
    for name in ("NME %", "drift", "MAE deg", "drift"):
        table.add_column(name, justify="right")
    table.add_column("")
    for row in report.accuracy:
        mae = "-" if row.mae is None else f"{row.mae:.3f}"
        mae_drift = "-" if row.mae_drift is None else f"{row.mae_drift:.1e}"
        verdict = PASS if row.passed else ACCEPTED if row.accepted else FAIL
        table.add_row(row.artifact, row.where, f"{row.nme:.3f}", f"{row.nme_drift:.1e}", mae, mae_drift, verdict)
    return table


def print_demo(report: DemoReport) -> None:
    """The parity checks, then accuracy, latency and size of the Cell and every artifact, then the latency table."""
    print_parity(msgspec.structs.replace(report.parity, accuracy=()))
    faces = sum(each.count for each in report.accuracy[0].bins)
    table = Table(title=f"accuracy, latency and size of every artifact, on {faces} held-out faces", **STYLE)
    for name in ("artifact", "engine"):
        table.add_column(name, no_wrap=True)
    bins = [f"{low}-{high}" for low, high in (each.range for each in report.accuracy[0].bins)]
    for name in (*bins, "NME", "drift", "MAE", "ms", "MB"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.accuracy:
        table.add_row(row.artifact, row.where, *_demo_numbers(row))
    console = make_console(highlight=True)
    console.print(table)
    console.print(
        "columns 0-30 to NME: NME in % by yaw in degrees, and its mean; drift: of NME from the Cell; ms: one crop\n"
    )
    print_bench(report.bench)


def _demo_numbers(row: DemoAccuracy) -> tuple[str, ...]:
    bins = ("-" if each.mean is None else f"{each.mean:.2f}" for each in row.bins)
    mae = "-" if row.mae is None else f"{row.mae:.2f}"
    ms = "-" if row.median_ms is None else short_ms(row.median_ms)
    return (*bins, f"{row.nme:.2f}", f"{row.nme_drift:.0e}", mae, ms, f"{row.bytes / 1e6:.1f}")


def print_bench(report: BenchReport) -> None:
    """A row per configuration; ratios below 1 are faster than onnxruntime in the same run."""
    table = Table(title="latency in ms per run, cold start in s, memory in MB", **DENSE)
    for name in ("engine", "artifact"):
        table.add_column(name, no_wrap=True)
    for name in ("thr", "batch", "ms", "p95", "fps", "start s", "MB", "ratio"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.rows:
        ratio = "-" if row.ratio_to_onnxruntime is None else f"{row.ratio_to_onnxruntime:.2f}"
        speed = (short_ms(row.median_ms), short_ms(row.p95_ms), f"{row.fps:.0f}")
        start = (f"{row.cold_start_s:.2f}", f"{row.rss_mb:.0f}")
        table.add_row(row.where, row.artifact, str(row.threads), str(row.batch), *speed, *start, ratio)
    console = make_console(highlight=True)
    console.print(table)
    console.print(
        "[dim]thr: threads; fps: crops per second; start: process start to first output; MB: peak memory; ratio: time "
        "divided by onnxruntime's in the same rounds[/]",
        highlight=False,
    )
    for failure in report.failures:
        console.print(f"{FAIL} {plain(failure)}", highlight=False)


def print_tuning(report: TuneReport) -> None:
    """A table for each purpose, fastest first: `--engine auto` selects the first row."""
    console = make_console()
    for purpose in dict.fromkeys(row.purpose for row in report.rows):
        rows = [row for row in report.rows if row.purpose == purpose]
        table = Table(title=f"tuning result, {purpose}, batch {rows[0].batch}", **STYLE)
        for name in ("engine", "artifact"):
            table.add_column(name, no_wrap=True)
        for name in ("threads", "ms"):
            table.add_column(name, justify="right")
        for row in rows:
            table.add_row(row.where, row.artifact, str(row.threads), short_ms(row.median_ms))
        console.print(table)
    console.print("[dim]--engine auto selects the first row of each table[/]")
