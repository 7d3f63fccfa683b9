"""Inline SVG charts. Places are percentages and sizes are pixels, so that a chart is as wide as the screen or the sheet
and its text still has its size. Colours are the stylesheet's: `.series-0`, `.axis` and so on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synergy.benchmarks.report.markup import Html, joined, tag

ROW_PX, BAR_TOP_PX, BAR_PX = 44, 20, 14
LONGEST_BAR = 74.0  # percent; the rest is for the number beside it
PLOT_PX = 260
TICKS = 5
SHOWN_QUANTILE = 0.99  # of the points; what is higher is marked at the upper edge
YAW_STEP_DEG = 10  # of a median
MIN_PER_MEDIAN = 5  # fewer faces say little of the typical one


@dataclass(frozen=True)
class Bar:
    """A labelled value; `upto` is where its whisker ends, `series` picks the colour."""

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


def bar_chart(title: str, bars: Sequence[Bar]) -> Html:
    """Horizontal bars from 0, each under its label."""
    longest = max([bar.value for bar in bars] + [bar.upto or 0 for bar in bars])
    rows = (_bar(index * ROW_PX, bar, LONGEST_BAR / longest if longest > 0 else 0) for index, bar in enumerate(bars))
    return _svg(title, "bars", ROW_PX * len(bars), *rows)


def scatter_by_yaw(title: str, yaw_deg: np.ndarray, series: Sequence[Series], bin_edges: Sequence[int]) -> Html:
    """Points of the first series over yaw, and the running median of each. `bin_edges` are of |yaw|, degrees."""
    widest = max(90, math.ceil(float(np.abs(yaw_deg).max()) / 10) * 10)
    highest, step = _scale(float(np.quantile(series[0].values, SHOWN_QUANTILE)))
    x = 50 + 50 * yaw_deg / widest
    grid = [_level(value, highest) for value in np.arange(0, highest + step / 2, step).tolist()]
    edges = [_edge(50 + 50 * edge / widest, edge) for edge in sorted({side * e for e in bin_edges for side in (-1, 1)})]
    points = [_point(*place) for place in zip(x.tolist(), (series[0].values / highest).tolist(), strict=True)]
    lines = [_median_line(index, yaw_deg, each.values, widest, highest) for index, each in enumerate(series)]
    return _svg(title, "plot", PLOT_PX, *grid, *edges, *points, *lines)


def running_median(yaw_deg: np.ndarray, values: np.ndarray) -> list[tuple[float, float]]:
    """(yaw, median) of every stretch of YAW_STEP_DEG that has enough faces, from left to right."""
    stretch = np.floor(yaw_deg / YAW_STEP_DEG).astype(int)
    found = ((number, values[stretch == number]) for number in np.unique(stretch).tolist())
    return [
        ((number + 0.5) * YAW_STEP_DEG, float(np.median(chosen)))
        for number, chosen in found
        if len(chosen) >= MIN_PER_MEDIAN
    ]


def above_shown(values: np.ndarray) -> tuple[int, float]:
    """How many points a scatter plot marks at its upper edge, and the value there."""
    highest, _ = _scale(float(np.quantile(values, SHOWN_QUANTILE)))
    return int((values > highest).sum()), highest


def _bar(top: int, bar: Bar, percent: float) -> Html:
    middle = f"{top + BAR_TOP_PX + BAR_PX / 2}"
    end = max(bar.value, bar.upto or 0) * percent
    box = {"y": str(top + BAR_TOP_PX), "width": _percent(bar.value * percent), "height": str(BAR_PX), "rx": "2"}
    number = {"x": _percent(end), "dx": "8", "y": middle, "dy": "0.35em"}
    parts = [
        tag("text", bar.label, attributes={"x": "0", "y": str(top + BAR_TOP_PX - 6)}),
        tag("rect", css=f"series-{bar.series}", attributes=box),
        tag("text", bar.text, css="value", attributes=number),
    ]
    if bar.upto is not None:
        whisker = {"x1": _percent(bar.value * percent), "x2": _percent(end), "y1": middle, "y2": middle}
        parts.append(tag("line", css="whisker", attributes=whisker))
    return joined(parts)


def _scale(value: float) -> tuple[float, float]:
    """The end of an axis from 0 that shows `value`, and the step between its round ticks."""
    if not value > 0:
        return 1.0, 0.5
    rough = value / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor for factor in (1, 2, 5, 10) if factor * power >= rough) * power
    return math.ceil(value / step) * step, step


def _level(value: float, highest: float) -> Html:
    y = _percent(100 - 100 * value / highest)
    line = tag("line", css="axis", attributes={"x1": "0", "x2": "100%", "y1": y, "y2": y})
    label = {"x": "0", "dx": "-6", "y": y, "dy": "0.35em", "text-anchor": "end"}
    return joined([line, tag("text", f"{value:g}", attributes=label)])


def _edge(x: float, degrees: int) -> Html:
    line = tag("line", css="edge", attributes={"x1": _percent(x), "x2": _percent(x), "y1": "0", "y2": "100%"})
    label = {"x": _percent(x), "y": "100%", "dy": "1.4em", "text-anchor": "middle"}
    return joined([line, tag("text", f"{degrees}°".replace("-", "−"), attributes=label)])


def _point(x: float, height: float) -> Html:
    """A dot, or a triangle at the upper edge for what is higher than the plot (1)."""
    if height > 1:
        up = tag("path", css="beyond", attributes={"d": "M-4 7L0 0L4 7z"})
        return tag("svg", up, attributes={"x": _percent(x), "y": "0", "overflow": "visible"})
    return tag("circle", css="point", attributes={"cx": _percent(x), "cy": _percent(100 - 100 * height), "r": "2"})


def _median_line(index: int, yaw_deg: np.ndarray, values: np.ndarray, widest: float, highest: float) -> Html:
    median = running_median(yaw_deg, values)
    places = [(_percent(50 + 50 * yaw / widest), _percent(100 - 100 * min(y / highest, 1))) for yaw, y in median]
    pieces = (
        tag("line", css=f"median median-{index}", attributes={"x1": x1, "y1": y1, "x2": x2, "y2": y2})
        for (x1, y1), (x2, y2) in itertools.pairwise(places)
    )
    return joined(pieces)


def _svg(title: str, css: str, height: int, *children: Html) -> Html:
    return tag(
        "svg",
        tag("title", title),
        *children,
        css=css,
        attributes={"role": "img", "width": "100%", "height": str(height)},
    )


def _percent(value: float) -> str:
    return f"{value:.2f}%"
