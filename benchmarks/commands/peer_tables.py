"""Tables of `synergy bench peers`, for terminals of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from synergy.runtime.commands.console import FAIL, STYLE, short_ms

if TYPE_CHECKING:
    from synergy.benchmarks.peers.report import OverheadRow, PathRow, PeerReport, PeerRow

BATCHES_ACROSS = 3  # in one table: more do not fit 80 columns
MOST_OVERHEAD = {False: 1.05, True: 1.10}  # over the bare session: in the process, and from another
MOST_ADDED_MS = 0.3  # from another process, where that is more


def print_peers(report: PeerReport) -> None:
    """The network by threads, our overhead, the way from a picture, and trembling."""
    console = Console(highlight=False)
    for part in _network_tables(report):
        console.print(part)
    console.print(
        "[dim](bare): a peer's own session; the others: FaceAligner.predict. x: time over bare onnxruntime's in the "
        "same rounds, below 1 is faster. peak: the best batch's share of a float32 matrix product's GFLOP/s; bf16 and "
        "int8 can exceed it. start: seconds to the first output.[/]\n"
    )
    console.print(_titled("FaceAligner.predict over the session in it: ratio, ms more"))
    console.print(_overhead_table(report.overhead))
    inside, away = MOST_OVERHEAD[False], MOST_OVERHEAD[True]
    console.print(f"[dim]aims: {inside:.2f}; in a child process {away:.2f} or {MOST_ADDED_MS} ms more[/]\n")
    console.print(_titled(f"JPEG and box to 68 landmarks, {_threads(report)}"))
    console.print(_path_table(report.path))
    for line in _summary(report):
        console.print(line)
    for note in report.notes:
        console.print(f"[yellow]note[/] {escape(note)}")
    for failure in report.failures:
        console.print(f"{FAIL} {escape(failure)}")


def _network_tables(report: PeerReport) -> Iterator[Table | str]:
    batches = sorted({row.batch for row in report.rows})
    peaks = {row.threads: f", peak {row.gflops:.0f} GFLOP/s" for row in report.peak}
    for threads in sorted({row.threads for row in report.rows}):
        rows = [row for row in report.rows if row.threads == threads]
        for start in range(0, len(batches), BATCHES_ACROSS):
            yield _titled(f"network alone, {counted(threads, 'thread')}{peaks.get(threads, '')}: ms by batch")
            yield _network_table(rows, batches[start : start + BATCHES_ACROSS])


def _titled(text: str) -> str:
    """Not as the table's own title, which is broken where the table is narrow."""
    return f"[italic]{escape(text)}[/]"


def _threads(report: PeerReport) -> str:
    return counted(report.path[0].threads, "thread") if report.path else "not measured"


def _network_table(rows: Sequence[PeerRow], batches: Sequence[int]) -> Table:
    table = Table(**STYLE)
    table.add_column("", no_wrap=True)
    for batch in batches:
        table.add_column(f"b={batch}", justify="right", no_wrap=True)
        table.add_column("x", justify="right", no_wrap=True)
    for name in ("peak", "start", "MB"):
        table.add_column(name, justify="right", no_wrap=True)
    for engine in dict.fromkeys(row.engine for row in rows):
        mine = {row.batch: row for row in rows if row.engine == engine}
        cells = [text for batch in batches for text in _time_and_ratio(mine.get(batch))]
        shares = [row.share_of_peak for row in mine.values() if row.share_of_peak is not None]
        some = next(iter(mine.values()))
        peak = f"{100 * max(shares):.0f}%" if shares else "-"
        table.add_row(escape(engine), *cells, peak, f"{some.cold_start_s:.2f}", f"{some.rss_mb:.0f}")
    return table


def _time_and_ratio(row: PeerRow | None) -> tuple[str, str]:
    return ("-", "-") if row is None else (short_ms(row.median_ms), _ratio(row.ratio_to_onnxruntime))


def _overhead_table(rows: Sequence[OverheadRow]) -> Table:
    batches = sorted({row.batch for row in rows})[: 2 * BATCHES_ACROSS]
    table = Table(**STYLE)
    for name in ("", "where"):
        table.add_column(name, no_wrap=True)
    table.add_column("thr", justify="right")
    for batch in batches:
        table.add_column(f"batch {batch}", justify="right", no_wrap=True)
    for key in dict.fromkeys((row.engine, row.isolated, row.threads) for row in rows):
        mine = {row.batch: row for row in rows if (row.engine, row.isolated, row.threads) == key}
        cells = (_overhead(mine[batch]) if batch in mine else "-" for batch in batches)
        table.add_row(key[0], "child" if key[1] else "in-process", str(key[2]), *cells)
    return table


def _overhead(row: OverheadRow) -> str:
    fine = row.ratio <= MOST_OVERHEAD[row.isolated] or (row.isolated and row.added_ms <= MOST_ADDED_MS)
    text = f"{row.ratio:.2f} {row.added_ms:+.2f}"
    return text if fine else f"[yellow]{text}[/]"


def _path_table(rows: Sequence[PathRow]) -> Table:
    table = Table(**STYLE)
    table.add_column("", no_wrap=True)
    for name in ("ms", "p95", "pictures/s", "x"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        times = (short_ms(row.median_ms), short_ms(row.p95_ms), f"{row.fps:.0f}")
        table.add_row(escape(row.engine), *times, _ratio(row.ratio_to_onnxruntime))
    return table


def _summary(report: PeerReport) -> Iterator[str]:
    from synergy.benchmarks.peers.report import fastest

    ours = fastest(report.rows, lambda row: not row.is_bare)
    peer = fastest(report.rows, lambda row: row.is_bare)
    if ours is not None and peer is not None:
        times = f"{ours.even_fps / peer.even_fps:.2f} times as many"
        yield f"most faces/s: {_named(ours)} here, {_named(peer)} of the peers: {times}"
    if report.jitter is not None:
        found = report.jitter
        yield (
            f"trembling of a still face in noise, of its size per frame: {found.raw_percent:.2f} % raw, "
            f"{found.smoothed_percent:.2f} % smoothed"
        )


def _named(row: PeerRow) -> str:
    where = f"{escape(row.engine)}, {counted(row.threads, 'thread')}, batch {row.batch}"
    return f"[bold]{row.even_fps:.0f}[/] ({where})"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def counted(count: int, what: str) -> str:
    """1 thread, 2 threads."""
    return f"{count} {what}{'' if count == 1 else 's'}"
