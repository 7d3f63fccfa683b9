"""The chart of `synergy bench --peers --chart FILE.svg`: faces per second of engines and other libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synergy.benchmarks.peers.report import PeerReport, PeerRow
from synergy.benchmarks.report.charts import (
    INK,
    LINE,
    PAPER,
    SERIES,
    SMALL_PX,
    SOFT,
    TEXT_PX,
    new_figure,
    svg_text,
    write_after,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_PX, MARGIN_PX = 760, 28
LABEL_PX = 190  # the longest label, "openvino bf16 (bare)", and a gap
NUMBER_PX = 112  # "1234  1.23x" after the longest bar
HEADER_PX, GROUP_PX, ROW_PX, NOTE_PX, BAR_PX = 84, 34, 24, 17, 15
NOTES = (
    "(bare): the library's own session. The others: FaceAligner.predict, with its checks and conversions.",
    "x: speed relative to bare onnxruntime in the same rounds. bf16: less exact than float32.",
)
STYLE = 'text{font-family:system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif}'


def peers_chart(report: PeerReport) -> str:
    """Faces per second of the network alone with the most threads, by batch, fastest first: the text of an SVG file.

    Raises ValueError where nothing was measured, ModuleNotFoundError without Matplotlib.
    """
    return svg_text(peers_figure(report), f"Faces per second: {_subject(report)}", STYLE)


def peers_figure(report: PeerReport) -> Figure:
    """The figure of `peers_chart`. It has a background of its own: an image ignores the colours of the page around."""
    from matplotlib.patches import FancyBboxPatch

    if not report.rows:
        raise ValueError("nothing was measured, so there is no chart to draw")
    rows = [row for row in report.rows if row.threads == _threads(report)]
    batches = sorted({row.batch for row in rows})
    height = HEADER_PX + len(batches) * (GROUP_PX + 12) + len(rows) * ROW_PX + len(NOTES) * NOTE_PX + 24
    figure, axes = new_figure(WIDTH_PX, height)
    axes.set(xlim=(0, WIDTH_PX), ylim=(height, 0))  # pixels, y down
    corner, size = (8, 8), (WIDTH_PX - 16, height - 16)
    card = FancyBboxPatch(corner, *size, boxstyle="round,pad=7.5,rounding_size=8", facecolor=PAPER, edgecolor=LINE)
    axes.add_patch(card)
    axes.text(MARGIN_PX, 40, "Faces per second", size=18, weight="bold", color=INK)
    axes.text(MARGIN_PX, 62, _subject(report), size=TEXT_PX, color=SOFT)
    scale = (WIDTH_PX - 2 * MARGIN_PX - LABEL_PX - NUMBER_PX) / max(max(row.even_fps for row in rows), 1e-9)
    top: float = HEADER_PX
    for batch in batches:
        top = _draw_group(axes, [row for row in rows if row.batch == batch], top, scale)
    for index, note in enumerate(NOTES):
        axes.text(MARGIN_PX, top + 20 + index * NOTE_PX, note, size=SMALL_PX, color=SOFT)
    return figure


def _draw_group(axes: Axes, rows: list[PeerRow], top: float, scale: float) -> float:
    """The bars of one batch size under their heading; returns where the next group starts."""
    batch = rows[0].batch
    heading = "one face per run" if batch == 1 else f"{batch} faces per run"
    axes.text(MARGIN_PX, top + 14, heading, size=TEXT_PX, weight="bold", color=INK)
    top, left = top + GROUP_PX, MARGIN_PX + LABEL_PX
    axes.plot([left, left], [top - 6, top + len(rows) * ROW_PX], color=LINE, linewidth=1)
    for index, row in enumerate(sorted(rows, key=lambda row: -row.even_fps)):
        middle = top + index * ROW_PX + BAR_PX / 2
        width = max(row.even_fps * scale, 1)
        axes.barh(middle, width, height=BAR_PX, left=left, color=SERIES["peer" if row.is_bare else "ours"])
        axes.text(left - 10, middle, row.engine, size=TEXT_PX, color=INK, ha="right", va="center")
        number = f"{row.even_fps:.0f}"
        write_after(axes, number, (left + width, middle))
        if row.ratio_to_onnxruntime is not None:
            place, ratio = (left + width, middle), f"{1 / row.ratio_to_onnxruntime:.2f}x"
            offset = (20 + 8 * len(number), 0)
            axes.annotate(
                ratio, place, xytext=offset, textcoords="offset points", va="center", size=TEXT_PX, color=SOFT
            )
    return top + len(rows) * ROW_PX + 12


def _threads(report: PeerReport) -> int:
    return max((row.threads for row in report.rows), default=0)


def _subject(report: PeerReport) -> str:
    threads = _threads(report)
    return f"{report.network}, 120x120, {threads} thread{'s' * (threads > 1)}, {report.host.cpu}"
