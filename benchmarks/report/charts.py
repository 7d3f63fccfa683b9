"""Charts as SVG text, drawn with Matplotlib. On a dark screen the SVG's own style sheet changes the colours."""

from __future__ import annotations

import importlib.util
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, LINE = "#17212b", "#566473", "#dde4eb"
SERIES = {
    "lite": "#1f6fd6",
    "onnx": "#b26207",
    "openvino": "#0f766e",
    "mindspore": "#7b46c2",
    "other": "#5a6b7b",
    "ours": "#0b7a75",
    "peer": "#a9b4c0",
}
POINT, MEDIANS = SERIES["lite"], (INK, "#c2410c", "#0e756d", SERIES["mindspore"])
PAPER = "#ffffff"
# The colours of a dark page, by those of a light one
DARK = {
    INK: "#e4ebf2",
    SOFT: "#9aa9b8",
    LINE: "#2b3743",
    PAPER: "#10161d",
    "#1f6fd6": "#62a6ff",
    "#b26207": "#efa54a",
    "#0f766e": "#3fc3b4",
    "#7b46c2": "#b891f2",
    "#5a6b7b": "#8fa1b3",
    "#0b7a75": "#2bb5a6",
    "#a9b4c0": "#57606a",
    "#c2410c": "#ff9a62",
    "#0e756d": "#4fd1c0",
}
TEXT_PX, SMALL_PX = 13.0, 12.0
BARS_PX, ROW_PX = 440, 44
BAR_SHARE = 0.74  # of the width; the rest is for the number after the longest bar
PLOT_PX = (440, 230)  # of the axes; small, so that text stays readable where a phone scales the chart down
PLOT_MARGIN_PX = (42, 42, 14)  # left, bottom, right
LEGEND_COLUMNS, LEGEND_ROW_PX = 2, 20
TICKS = 5
SHOWN_QUANTILE = 0.99  # points above it are marked at the upper edge
YAW_STEP_DEG = 10  # width of a bin of the running median
MIN_PER_MEDIAN = 5  # a median of fewer faces says little
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
STYLE = ".chart *{stroke-linejoin:round}.chart text{font-variant-numeric:tabular-nums}"
RC = {  # settings of Matplotlib's SVG writer
    "svg.hashsalt": "synergy",  # the same input gives the same file
    "svg.fonttype": "none",  # text stays text
}


@dataclass(frozen=True)
class Bar:
    """A labelled value; `upto` is where its whisker ends, `series` names a colour of `SERIES`."""

    label: str
    value: float
    text: str
    series: str
    upto: float | None = None


@dataclass(frozen=True)
class Series:
    """Values (N,) under one name."""

    name: str
    values: np.ndarray


def require_packages(*names: str) -> None:
    """Raise ModuleNotFoundError for the first package that is missing, before minutes of measuring."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"{name} is not installed: pip install 'synergy-mindir[bench]'", name=name)


def bar_chart(title: str, bars: Sequence[Bar]) -> str:
    """Horizontal bars from 0, each under its label and with its number after it."""
    return svg_text(bar_figure(bars), title)


def bar_figure(bars: Sequence[Bar]) -> Figure:
    """The figure of `bar_chart`."""
    figure, axes = new_figure(BARS_PX, ROW_PX * max(len(bars), 1))
    longest = max([bar.value for bar in bars] + [bar.upto or 0 for bar in bars], default=0) or 1
    axes.set(xlim=(0, longest / BAR_SHARE), ylim=(len(bars) or 1, 0))
    for row, bar in enumerate(bars):
        middle, end = row + 0.62, max(bar.value, bar.upto or 0)
        axes.barh(middle, bar.value, height=0.32, color=SERIES[bar.series])
        if bar.upto is not None:
            axes.plot([bar.value, end], [middle, middle], color=SOFT, linewidth=2, solid_capstyle="butt")
        axes.text(0, row + 0.36, bar.label, size=TEXT_PX, color=INK)
        write_after(axes, bar.text, (end, middle))
    return figure


def scatter_by_yaw(title: str, yaw_deg: np.ndarray, series: Sequence[Series], bin_edges: Sequence[int]) -> str:
    """Points of the first series over yaw, and the running median of each. `bin_edges` are of |yaw|, degrees."""
    return svg_text(yaw_figure(yaw_deg, series, bin_edges), title)


def yaw_figure(yaw_deg: np.ndarray, series: Sequence[Series], bin_edges: Sequence[int]) -> Figure:
    """The figure of `scatter_by_yaw`."""
    highest, step = _scale(float(np.quantile(series[0].values, SHOWN_QUANTILE)))
    values = series[0].values
    above = values > highest
    medians = median_lines(yaw_deg, series)
    entries = len(medians) + 1 + bool(above.any())
    figure, axes = _plot_figure(LEGEND_ROW_PX * math.ceil(entries / LEGEND_COLUMNS) + 6)
    widest = max(90, math.ceil(float(np.abs(yaw_deg).max()) / 10) * 10)
    edges = sorted({side * edge for edge in bin_edges for side in (-1, 1)})
    axes.set(xlim=(-widest, widest), ylim=(0, highest), xticks=edges, yticks=np.arange(0, highest + step / 2, step))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}°".replace("-", "−"))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
    axes.tick_params(length=0, pad=6, labelsize=SMALL_PX, labelcolor=SOFT)
    axes.spines[:].set_visible(False)
    axes.grid(axis="y", color=LINE, linewidth=1)
    axes.grid(axis="x", color=LINE, linewidth=1, linestyle=(0, (3, 3)))
    axes.set_xlabel("true yaw", size=SMALL_PX, color=SOFT)
    dots: dict[str, Any] = {"color": POINT, "linestyle": "none", "markeredgewidth": 0, "clip_on": False}
    axes.plot(yaw_deg[~above], values[~above], "o", markersize=4, alpha=0.42, label="one face", **dots)
    if above.any():
        edge = np.full(int(above.sum()), highest)
        axes.plot(yaw_deg[above], edge, "^", markersize=8, alpha=0.7, label=f"above {highest:g} %", **dots)
    for (name, places), colour in zip(medians, MEDIANS, strict=False):
        middle, height = np.array(places).T
        axes.plot(middle, height.clip(max=highest), color=colour, linewidth=3, label=f"median, {name}")
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=LEGEND_COLUMNS, frameon=False, fontsize=SMALL_PX,
        labelcolor=SOFT, borderaxespad=0.3, handlelength=1.4, labelspacing=0.3,
    )  # fmt: skip
    return figure


def median_lines(yaw_deg: np.ndarray, series: Sequence[Series]) -> list[tuple[str, list[tuple[float, float]]]]:
    """Name and running median of each series that has a line: with few faces there are less than two places."""
    lines = [(each.name, running_median(yaw_deg, each.values)) for each in series]
    return [(name, places) for name, places in lines if len(places) > 1]


def running_median(yaw_deg: np.ndarray, values: np.ndarray) -> list[tuple[float, float]]:
    """(middle of the bin in degrees, median) of every bin of YAW_STEP_DEG with enough faces, in rising order."""
    number = np.floor(yaw_deg / YAW_STEP_DEG).astype(int)
    bins = ((index, values[number == index]) for index in np.unique(number).tolist())
    return [
        ((index + 0.5) * YAW_STEP_DEG, float(np.median(chosen)))
        for index, chosen in bins
        if len(chosen) >= MIN_PER_MEDIAN
    ]


def above_shown(values: np.ndarray) -> tuple[int, float]:
    """How many points a scatter plot marks at its upper edge, and the value there."""
    highest, _ = _scale(float(np.quantile(values, SHOWN_QUANTILE)))
    return int((values > highest).sum()), highest


def new_figure(
    width_px: float, height_px: float, box: tuple[float, float, float, float] = (0, 0, 1, 1)
) -> tuple[Figure, Axes]:
    """A figure without background, whose unit of length and text is a pixel, and its axes, not drawn, in `box`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_px / 72, height_px / 72), facecolor="none")  # 72 pixels per inch in an SVG
    axes = figure.add_axes(box, facecolor="none")
    axes.set_axis_off()
    return figure, axes


def _plot_figure(legend_px: float) -> tuple[Figure, Axes]:
    """A figure for axes of PLOT_PX with room for their labels and a legend above."""
    left, bottom, right = PLOT_MARGIN_PX
    width, height = PLOT_PX[0] + left + right, PLOT_PX[1] + bottom + legend_px
    box = (left / width, bottom / height, PLOT_PX[0] / width, PLOT_PX[1] / height)
    figure, axes = new_figure(width, height, box)
    axes.set_axis_on()
    return figure, axes


def write_after(axes: Axes, text: str, place: tuple[float, float]) -> None:
    """A number to the right of a bar's end."""
    axes.annotate(
        text, place, xytext=(8, 0), textcoords="offset points", va="center", size=TEXT_PX, weight="bold", color=INK
    )


def svg_text(figure: Figure, title: str, style: str = "") -> str:
    """The figure as an `<svg>` element that may stand in an HTML page or be a file; `style`: more rules for it."""
    import matplotlib
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a dollar sign in a name is no formula
    stream = io.StringIO()
    with matplotlib.rc_context(RC):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    drawn = stream.getvalue()
    body = drawn[drawn.index("</metadata>") + len("</metadata>") : drawn.rindex("</svg>")]
    body = re.sub(r' id="\w+(\.\w+)?_\d+"', "", body)  # names of groups, the same in every chart of a page
    body = re.sub(r"<style.*?</style>", "", body)  # it would apply to the whole page
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)  # the family is that of the page, or of `style`
    body = re.sub(r"font: (?:(\w+) )?([\d.]+px) [^;\"]*", _without_family, body)  # as Matplotlib 3.10 writes it
    width, height = (72 * size for size in figure.get_size_inches())
    return (
        f'<svg xmlns="{SVG}" xmlns:xlink="{XLINK}" class="chart" role="img" '
        f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}{_dark_style(body)}</style>{body}</svg>\n"
    )


def _without_family(font: re.Match[str]) -> str:
    weight, size = font.groups()
    return f"font-size: {size}" + (f"; font-weight: {weight}" if weight else "")


def _dark_style(body: str) -> str:
    used = {light: dark for light, dark in DARK.items() if light in body}
    rules = (
        f'[style*="{kind}: {light}"]{{{kind}:{dark}!important}}'
        for light, dark in used.items()
        for kind in ("fill", "stroke")
    )
    return f"@media screen and (prefers-color-scheme:dark){{{''.join(rules)}}}"


def _scale(value: float) -> tuple[float, float]:
    """The end of an axis from 0 that shows `value`, and the step between its round ticks."""
    if not value > 0:
        return 1.0, 0.5
    rough = value / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor for factor in (1, 2, 5, 10) if factor * power >= rough) * power
    return math.ceil(value / step) * step, step
