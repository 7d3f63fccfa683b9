"""The learning curve of a training run as a PNG: loss, validation NME and learning rate over the steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from synergy.runtime.files import whole_file
from synergy.synergy_model.training.log import LogEntry

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

SIZE_INCHES, DPI = (10.0, 6.4), 100
LOSS_COLOUR, NME_COLOUR, RATE_COLOUR = "tab:blue", "tab:red", "tab:gray"
SMOOTHING = 0.95  # share of the running mean that each step keeps
SPIKE_PERCENTILE = 99.5  # losses above it do not stretch the axis
HEADROOM = 1.1  # upper end of an axis over the largest value shown


def write_curve(path: Path, entries: Sequence[LogEntry]) -> None:
    """Write the PNG of `draw_curve` to `path`; an earlier one is replaced only by a complete file."""
    with whole_file(path) as temporary:
        draw_curve(entries).savefig(temporary, format="png")


def draw_curve(entries: Sequence[LogEntry]) -> Figure:
    """Log entries -> figure of 1000 x 640 px: above, the loss per step and its running mean (left axis) and the NME
    in percent (right axis); below, the learning rate. Raises ValueError when there are no entries.
    """
    from matplotlib.figure import Figure

    if not entries:
        raise ValueError("there is no finished step to draw")
    steps = np.array([entry.step for entry in entries])
    losses = np.array([entry.loss for entry in entries])
    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    upper.set_title(f"Training, {steps[-1]} steps")
    lines = upper.plot(steps, losses, color=LOSS_COLOUR, alpha=0.3, linewidth=0.8, label="loss of each step")
    lines += upper.plot(steps, smooth(losses), color=LOSS_COLOUR, linewidth=2, label="loss, running mean")
    upper.set_ylabel("loss (weighted sum of all terms)", color=LOSS_COLOUR)
    upper.set_ylim(0.0, _upper_limit(losses))
    upper.grid(alpha=0.3)
    scored = [(entry.step, entry.nme) for entry in entries if entry.nme is not None]
    if scored:
        lines += _draw_nme(upper.twinx(), *np.array(scored).T)
    upper.legend(handles=lines, loc="upper right")
    lower.plot(steps, [entry.rate for entry in entries], color=RATE_COLOUR)
    lower.set_yscale("log")
    lower.set_ylabel("learning rate")
    lower.set_xlabel("step (one batch each)")
    lower.grid(alpha=0.3)
    return figure


def smooth(losses: np.ndarray) -> np.ndarray:
    """Running mean of (N,), corrected for its start at 0; values that are not finite leave it unchanged."""
    mean, weight, result = 0.0, 0.0, np.empty(len(losses))
    for index, value in enumerate(losses):
        if np.isfinite(value):
            mean = SMOOTHING * mean + (1 - SMOOTHING) * value
            weight = SMOOTHING * weight + (1 - SMOOTHING)
        result[index] = mean / weight if weight else np.nan
    return result


def _draw_nme(axes: Axes, steps: np.ndarray, nme: np.ndarray) -> list[Line2D]:
    """Draw the NME on the right axis; returns its line for the legend."""
    axes.set_ylabel("validation NME (%)", color=NME_COLOUR)
    axes.set_ylim(0.0, _upper_limit(nme))
    label = f"validation NME, lowest {nme.min():.3f} %"
    return axes.plot(steps, nme, color=NME_COLOUR, marker="o", markersize=4, label=label)


def _upper_limit(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return HEADROOM * float(np.percentile(finite, SPIKE_PERCENTILE)) if finite.any() else 1.0
