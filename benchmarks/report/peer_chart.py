"""A bar chart that is a file of its own: an SVG for a README, of one width, readable on a light and a dark page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from synergy.benchmarks.peers.report import PeerReport, PeerRow
from synergy.benchmarks.report.charts import Bar
from synergy.benchmarks.report.markup import Html, joined, tag

WIDTH_PX, MARGIN_PX = 760, 28
LABEL_PX = 178  # the longest label, "openvino bf16 (bare)", and a gap
NUMBER_PX = 112  # "1234   1.23x" after the longest bar
HEADER_PX, GROUP_PX, ROW_PX, BAR_PX = 84, 34, 24, 15
NOTE_PX, NOTE_LINE_PX = 20, 17
# Its own background, because an image follows the system's colours and not those of the page around it
STYLE = """
svg{font:13px system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif}
.card{fill:#fff;stroke:#d8dee4}.title{font-size:18px;font-weight:650;fill:#1f2328}
.group{font-weight:650;fill:#1f2328}.label,.value{fill:#1f2328}.about,.note,.ratio{fill:#59636e}
.note{font-size:12px}.value{font-weight:600}.axis{stroke:#d8dee4}.ours{fill:#0b7a75}.peer{fill:#a9b4c0}
text{font-variant-numeric:tabular-nums}
@media(prefers-color-scheme:dark){.card{fill:#0d1117;stroke:#3d444d}
.title,.group,.label,.value{fill:#f0f6fc}.about,.note,.ratio{fill:#9198a1}.axis{stroke:#3d444d}
.ours{fill:#2bb5a6}.peer{fill:#57606a}}
"""


@dataclass(frozen=True)
class Group:
    """Bars under one heading; `series` is `ours` or `peer`, and what follows a tab in `text` is written fainter."""

    title: str
    bars: Sequence[Bar]


def peers_chart(report: PeerReport) -> str:
    """Faces per second of the network alone with most threads, by batch, the fastest first; an SVG file's text.

    Raises ValueError where nothing was measured.
    """
    if not report.rows:
        raise ValueError("nothing was measured, so there is nothing to draw")
    threads = max(row.threads for row in report.rows)
    rows = [row for row in report.rows if row.threads == threads]
    groups = [_group(rows, batch) for batch in sorted({row.batch for row in rows})]
    about = f"{report.network}, 120x120, {threads} thread{'s' * (threads > 1)}, {report.host.cpu}"
    notes = (
        "(bare): the library's own session. The others: FaceAligner.predict, with all that it adds.",
        "x: speed over bare onnxruntime in the same rounds. bf16: less exact than float32.",
    )
    return bar_groups("Faces per second", about, groups, notes)


def bar_groups(title: str, about: str, groups: Sequence[Group], notes: Sequence[str]) -> str:
    """Groups of horizontal bars on one scale from 0, as an SVG file's text."""
    longest = max((bar.value for group in groups for bar in group.bars), default=0)
    scale = (WIDTH_PX - 2 * MARGIN_PX - LABEL_PX - NUMBER_PX) / longest if longest > 0 else 0
    parts, y = [], HEADER_PX
    for group in groups:
        parts.append(_text(group.title, "group", MARGIN_PX, y + 14))
        y += GROUP_PX
        parts += [_bar(bar, y + index * ROW_PX, scale) for index, bar in enumerate(group.bars)]
        axis: dict[str, float] = {
            "x1": MARGIN_PX + LABEL_PX,
            "x2": MARGIN_PX + LABEL_PX,
            "y1": y - 6,
            "y2": y + len(group.bars) * ROW_PX,
        }
        parts.append(tag("line", css="axis", attributes=_numbers(axis)))
        y += len(group.bars) * ROW_PX + 12
    parts += [_text(note, "note", MARGIN_PX, y + NOTE_PX + index * NOTE_LINE_PX) for index, note in enumerate(notes)]
    height = y + NOTE_PX + len(notes) * NOTE_LINE_PX + 8
    return _file(title, about, height, parts)


def _group(rows: Sequence[PeerRow], batch: int) -> Group:
    chosen = sorted((row for row in rows if row.batch == batch), key=lambda row: -row.even_fps)
    one = "one face at a time" if batch == 1 else f"{batch} faces at a time"
    return Group(one, [_row_bar(row) for row in chosen])


def _row_bar(row: PeerRow) -> Bar:
    ratio = "" if row.ratio_to_onnxruntime is None else f"{1 / row.ratio_to_onnxruntime:.2f}x"
    return Bar(row.engine, row.even_fps, f"{row.even_fps:.0f}\t{ratio}", "peer" if row.is_bare else "ours")


def _bar(bar: Bar, top: float, scale: float) -> Html:
    """Its label, the bar, and the number with what follows a tab in it."""
    left, middle = MARGIN_PX + LABEL_PX, top + BAR_PX / 2 + 4.5
    end = left + bar.value * scale
    box = {"x": left, "y": top, "width": max(bar.value * scale, 1), "height": BAR_PX, "rx": 2}
    number, _, beside = bar.text.partition("\t")
    return joined(
        [
            _text(bar.label, "label", left - 10, middle, end=True),
            tag("rect", css=bar.series, attributes=_numbers(box)),
            _text(number, "value", end + 8, middle),
            _text(beside, "ratio", end + 20 + 8 * len(number), middle),
        ]
    )


def _file(title: str, about: str, height: float, parts: Sequence[Html]) -> str:
    card = _numbers({"x": 0.5, "y": 0.5, "width": WIDTH_PX - 1, "height": height - 1, "rx": 8})
    size = {"width": f"{WIDTH_PX}", "height": f"{height:g}", "viewBox": f"0 0 {WIDTH_PX} {height:g}"}
    svg = tag(
        "svg",
        tag("title", f"{title}: {about}"),
        tag("style", Html(STYLE)),
        tag("rect", css="card", attributes=card),
        _text(title, "title", MARGIN_PX, 40),
        _text(about, "about", MARGIN_PX, 62),
        *parts,
        attributes={"xmlns": "http://www.w3.org/2000/svg", "role": "img", **size},
    )
    return f"{svg}\n"


def _text(text: str, css: str, x: float, y: float, end: bool = False) -> Html:
    place = _numbers({"x": x, "y": y})
    return tag("text", text, css=css, attributes={**place, "text-anchor": "end"} if end else place)


def _numbers(values: dict[str, float]) -> dict[str, str]:
    return {name: f"{value:g}" for name, value in values.items()}
