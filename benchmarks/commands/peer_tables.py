"""Tables of `synergy bench peers`, for terminals of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from synergy.runtime.terminal.console import FAIL, STYLE, make_console, plain, short_ms
from synergy.runtime.text import counted

if TYPE_CHECKING:
    from synergy.benchmarks.peers.report import OverheadRow, PeerReport, PeerRow, PipelineRow

LABEL_WIDTH = 19
TABLE_BATCHES = 3  # batches per table: more do not fit 80 columns
TARGET_RATIO = {False: 1.05, True: 1.10}  # predict over the bare session: in the process, and in a child process
TARGET_ADDED_MS = 0.3  # in a child process, where that allows more


def print_peers(report: PeerReport) -> None:
    """The network by threads, the overhead of `predict`, picture to landmarks, and jitter."""
    console = make_console()
    for part in _network_tables(report):
        console.print(part)
    console.print(
        "[dim](bare): the library used directly; others: FaceAligner.predict. x: time divided by bare onnxruntime's "
        "in the same rounds, below 1 is faster. peak: share of the GFLOP/s of a float32 matrix product, at the best "
        "batch; bf16 and int8 can exceed 100%. start: seconds from process start to first output. MB: peak memory.[/]\n"
    )
    console.print(_title("overhead of FaceAligner.predict over its bare session: ratio, and added ms"))
    console.print(_overhead_table(report.overhead))
    same, child = TARGET_RATIO[False], TARGET_RATIO[True]
    console.print(f"[dim]targets: {same:.2f}; in a child process {child:.2f} or +{TARGET_ADDED_MS} ms[/]\n")
    console.print(_title(f"JPEG and box to 68 landmarks, ms per picture, {_threads(report)}"))
    console.print(_pipeline_table(report.pipeline))
    for line in _summary(report):
        console.print(line)
    for note in report.notes:
        console.print(f"[yellow]note[/] {plain(note)}")
    for failure in report.failures:
        console.print(f"{FAIL} {plain(failure)}")


def _network_tables(report: PeerReport) -> Iterator[Table | str]:
    batches = sorted({row.batch for row in report.rows})
    peaks = {row.threads: f", peak {row.gflops:.0f} GFLOP/s" for row in report.peak}
    for threads in sorted({row.threads for row in report.rows}):
        rows = [row for row in report.rows if row.threads == threads]
        for start in range(0, len(batches), TABLE_BATCHES):
            yield _title(f"network only, ms by batch, {counted(threads, 'thread')}{peaks.get(threads, '')}")
            yield _network_table(rows, batches[start : start + TABLE_BATCHES])


def _title(text: str) -> str:
    """A line of its own: a table's title is wrapped where the table is narrow."""
    return f"[italic]{plain(text)}[/]"


def _threads(report: PeerReport) -> str:
    return counted(report.pipeline[0].threads, "thread") if report.pipeline else "not measured"


def _network_table(rows: Sequence[PeerRow], batches: Sequence[int]) -> Table:
    table = Table(**STYLE)
    table.add_column("", max_width=LABEL_WIDTH)  # longer labels take two lines
    for batch in batches:
        table.add_column(f"b={batch}", justify="right", no_wrap=True)
        table.add_column("x", justify="right", no_wrap=True)
    for name in ("peak", "start", "MB"):
        table.add_column(name, justify="right", no_wrap=True)
    for engine in dict.fromkeys(row.engine for row in rows):
        by_batch = {row.batch: row for row in rows if row.engine == engine}
        cells = [text for batch in batches for text in _time_and_ratio(by_batch.get(batch))]
        shares = [row.share_of_peak for row in by_batch.values() if row.share_of_peak is not None]
        first = next(iter(by_batch.values()))
        peak = f"{100 * max(shares):.0f}%" if shares else "-"
        table.add_row(plain(engine), *cells, peak, f"{first.cold_start_s:.2f}", f"{first.rss_mb:.0f}")
    return table


def _time_and_ratio(row: PeerRow | None) -> tuple[str, str]:
    return ("-", "-") if row is None else (short_ms(row.median_ms), _ratio(row.ratio_to_onnxruntime))


def _overhead_table(rows: Sequence[OverheadRow]) -> Table:
    batches = sorted({row.batch for row in rows})[: 2 * TABLE_BATCHES]
    table = Table(**STYLE)
    for name in ("", "process"):
        table.add_column(name, no_wrap=True)
    table.add_column("thr", justify="right")
    for batch in batches:
        table.add_column(f"batch {batch}", justify="right", no_wrap=True)
    for key in dict.fromkeys((row.engine, row.isolated, row.threads) for row in rows):
        by_batch = {row.batch: row for row in rows if (row.engine, row.isolated, row.threads) == key}
        cells = (overhead_text(by_batch[batch]) if batch in by_batch else "-" for batch in batches)
        table.add_row(key[0], "child" if key[1] else "same", str(key[2]), *cells)
    return table


def overhead_text(row: OverheadRow) -> str:
    on_target = row.ratio <= TARGET_RATIO[row.isolated] or (row.isolated and row.added_ms <= TARGET_ADDED_MS)
    text = f"{row.ratio:.2f} {row.added_ms:+.2f}"
    return text if on_target else f"[yellow]{text}[/]"


def _pipeline_table(rows: Sequence[PipelineRow]) -> Table:
    table = Table(**STYLE)
    table.add_column("", no_wrap=True)
    for name in ("ms", "p95", "pictures/s", "x"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        times = (short_ms(row.median_ms), short_ms(row.p95_ms), f"{row.fps:.0f}")
        table.add_row(plain(row.engine), *times, _ratio(row.ratio_to_onnxruntime))
    return table


def _summary(report: PeerReport) -> Iterator[str]:
    from synergy.benchmarks.peers.report import fastest

    package = fastest(report.rows, lambda row: not row.is_bare)
    library = fastest(report.rows, lambda row: row.is_bare)
    if package is not None and library is not None:
        ratio = f"ratio {package.even_fps / library.even_fps:.2f}"
        yield f"highest faces/s: FaceAligner {_named(package)}, libraries {_named(library)}; {ratio}"
    if report.jitter is not None:
        found = report.jitter
        yield (
            f"landmark jitter per frame, still face with noise, of the face size: {found.raw_percent:.2f} % raw, "
            f"{found.smoothed_percent:.2f} % smoothed"
        )


def _named(row: PeerRow) -> str:
    where = f"{plain(row.engine)}, {counted(row.threads, 'thread')}, batch {row.batch}"
    return f"[bold]{row.even_fps:.0f}[/] ({where})"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
