"""Tables of `synergy bench stages`, `throughput` and `startup`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from synergy.runtime.terminal.console import FAIL, STYLE, make_console, plain, short_ms
from synergy.runtime.text import counted

if TYPE_CHECKING:
    from synergy.benchmarks.peers.startup import StartupReport
    from synergy.benchmarks.peers.throughput import ThroughputReport
    from synergy.benchmarks.speed.stages import StageReport


def print_stages(report: StageReport) -> None:
    """A row for each stage, a column for each picture."""
    table = Table(title="time per stage in ms", **STYLE)
    table.add_column("picture", no_wrap=True)
    for row in report.rows:
        table.add_column(f"{row.side}²", justify="right", no_wrap=True)
    table.add_row("faces", *(str(row.faces) for row in report.rows), end_section=True)
    for stage in report.rows[0].ms:
        table.add_row(stage, *(short_ms(row.ms[stage]) for row in report.rows))
    console = make_console()
    console.print(table)
    console.print(
        f"[dim]{report.artifact} on {report.engine}, {counted(report.threads, 'thread')}; each stage is measured "
        "separately; geometry: network outputs to faces in image pixels[/]"
    )
    video = report.tracking
    console.print(
        f"tracking one face in 640 x 480 video: {short_ms(video.frame_ms)} ms per frame; network alone "
        f"{short_ms(video.network_ms)} ms; ratio {video.ratio:.2f}"
    )
    if video.lost:
        console.print(f"[yellow]note[/] the face was not found in {video.lost} of {video.frames} frames")


def print_throughput(report: ThroughputReport) -> None:
    """Crops and pictures per second; ratios over the fastest library, for pictures over the loop."""
    table = Table(title="throughput in crops or pictures per second", **STYLE)
    for name in ("work", "method"):
        table.add_column(name, no_wrap=True)
    for name in ("size", "per s", "ratio"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.rows:
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        per_s = f"{row.per_s:.0f}" if row.per_s >= 100 else f"{row.per_s:.2f}"
        method = row.method if row.engine in row.method else f"{row.method}, {row.engine}"
        table.add_row(row.work, method, f"{row.workers} x {row.threads}", per_s, ratio)
    console = make_console()
    console.print(table)
    console.print(
        "[dim]size: sessions x threads; ratio: over the fastest library (in float32 if the pool "
        "computes in float32), for pictures over the loop; above 1 is faster[/]"
    )
    for note in report.notes:
        console.print(f"[yellow]note[/] {plain(note)}")
    for failure in report.failures:
        console.print(f"{FAIL} {plain(failure)}")


def print_startup(report: StartupReport) -> None:
    """Seconds of whole processes; ratios over minimal scripts."""
    table = Table(title=f"process start to first result in s, {counted(report.threads, 'thread')}", **STYLE)
    for name in ("input", "method", "engine"):
        table.add_column(name, no_wrap=True)
    for name in ("s", "ratio"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.rows:
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        table.add_row(row.work, row.method, row.engine, f"{row.seconds:.3f}", ratio)
    console = make_console()
    console.print(table)
    console.print("[dim]ratio: over a minimal script that loads and runs the same engine; below 1 is faster[/]")
    for failure in report.failures:
        console.print(f"{FAIL} {plain(failure)}")
