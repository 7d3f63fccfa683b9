"""Tables of `synergy bench stages`, `throughput` and `startup`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from synergy.runtime.commands.console import FAIL, STYLE, short_ms

if TYPE_CHECKING:
    from synergy.benchmarks.peers.startup import StartupReport
    from synergy.benchmarks.peers.throughput import ThroughputReport
    from synergy.benchmarks.speed.stages import StageReport


def print_stages(report: StageReport) -> None:
    """A row for each stage, a column for each picture."""
    table = Table(title=f"ms by stage, {report.artifact} on {report.engine}, {report.threads} threads", **STYLE)
    table.add_column("picture", no_wrap=True)
    for row in report.rows:
        table.add_column(f"{row.side}²", justify="right", no_wrap=True)
    table.add_row("faces", *(str(row.faces) for row in report.rows), end_section=True)
    for stage in report.rows[0].ms:
        table.add_row(stage, *(short_ms(row.ms[stage]) for row in report.rows))
    console = Console(highlight=False)
    console.print(table)
    console.print("[dim]each stage alone, one picture at a time; geometry: from parameters to faces in image pixels[/]")
    video = report.following
    console.print(
        f"following one face in video of 640 x 480: {short_ms(video.frame_ms)} ms a frame, the network alone "
        f"{short_ms(video.network_ms)}: {video.ratio:.2f} times"
    )
    if video.lost:
        console.print(f"[yellow]note[/] the face was lost in {video.lost} of {video.frames} frames")


def print_throughput(report: ThroughputReport) -> None:
    """Crops and pictures per second; ratios over the fastest that is not a pool."""
    table = Table(title="throughput, interleaved", **STYLE)
    for name in ("work", "who"):
        table.add_column(name, no_wrap=True)
    for name in ("size", "per s", "ratio"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.rows:
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        per_s = f"{row.per_s:.0f}" if row.per_s >= 100 else f"{row.per_s:.2f}"
        who = row.who if row.engine in row.who else f"{row.who}, {row.engine}"
        table.add_row(row.work, who, f"{row.workers} x {row.threads}", per_s, ratio)
    console = Console(highlight=False)
    console.print(table)
    console.print(
        "[dim]size: sessions x threads of each; ratio: over the fastest single one, in float32 if the pool is; "
        "above 1 is more[/]"
    )
    for note in report.notes:
        console.print(f"[yellow]note[/] {escape(note)}")
    for failure in report.failures:
        console.print(f"{FAIL} {escape(failure)}")


def print_startup(report: StartupReport) -> None:
    """Seconds of whole processes; ratios over plain scripts."""
    table = Table(title=f"from nothing to the first face, {report.threads} threads, interleaved", **STYLE)
    for name in ("given", "who", "engine"):
        table.add_column(name, no_wrap=True)
    for name in ("s", "ratio"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.rows:
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        table.add_row(row.work, row.who, row.engine, f"{row.seconds:.3f}", ratio)
    console = Console(highlight=False)
    console.print(table)
    console.print("[dim]ratio: over a script that only loads and runs the same engine; below 1 is faster[/]")
    for failure in report.failures:
        console.print(f"{FAIL} {escape(failure)}")
