"""The learning curve as a picture: loss, learning rate, and validation NME over the steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from synergy.synergy_model.training.log import LogEntry

SIZE_WH = (1000, 560)
BOX_XYXY = (80, 50, 910, 490)
INK, GRID, PALE = (40, 40, 40), (225, 225, 225), (215, 195, 170)  # BGR
LOSS_COLOUR, NME_COLOUR = (160, 90, 20), (30, 60, 200)
SMOOTHING = 0.95  # share of the running mean that each step keeps
TICKS = 5
ROUND_NUMBERS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.5, 10.0)  # a fifth of each reads well
FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True)
class Axis:
    """A linear scale from values to pixels."""

    low: float
    high: float
    start: int
    end: int

    def place(self, values: np.ndarray) -> np.ndarray:
        """Values (N,) -> pixels (N,)."""
        share = (np.asarray(values, float) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> np.ndarray:
        """Values at equal distances over the whole axis."""
        return np.linspace(self.low, self.high, TICKS + 1)


def draw_curve(entries: Sequence[LogEntry]) -> np.ndarray:
    """Log entries -> picture (560,1000,3) uint8 BGR: loss per step (pale) and smoothed (left axis, blue), NME in
    percent (right axis, red). Raises ValueError when there are none.
    """
    if not entries:
        raise ValueError("there is no finished step to draw")
    left, top, right, bottom = BOX_XYXY
    canvas = np.full((SIZE_WH[1], SIZE_WH[0], 3), 255, np.uint8)
    steps = np.array([entry.step for entry in entries])
    losses = np.array([entry.loss for entry in entries])
    finite = losses[np.isfinite(losses)]
    across = Axis(0.0, float(max(steps[-1], 1)), left, right)
    loss_axis = Axis(0.0, _ceiling(finite), bottom, top)
    _grid(canvas, across, loss_axis)
    _line(canvas, across.place(steps), loss_axis.place(losses), PALE, 1)
    _line(canvas, across.place(steps), loss_axis.place(smooth(losses)), LOSS_COLOUR, 2)
    _draw_nme(canvas, entries, across)
    _text(canvas, "loss", (left, top - 14), LOSS_COLOUR)
    _text(canvas, f"step (last: {steps[-1]}, loss {smooth(losses)[-1]:.3f})", (left, bottom + 48), INK)
    return canvas


def smooth(losses: np.ndarray) -> np.ndarray:
    """Running mean of (N,) without the start's bias; values that are not finite leave it unchanged."""
    mean, weight, result = 0.0, 0.0, np.empty(len(losses))
    for index, value in enumerate(losses):
        if np.isfinite(value):
            mean = SMOOTHING * mean + (1 - SMOOTHING) * value
            weight = SMOOTHING * weight + (1 - SMOOTHING)
        result[index] = mean / weight if weight else np.nan
    return result


def _draw_nme(canvas: np.ndarray, entries: Sequence[LogEntry], across: Axis) -> None:
    points = [(entry.step, entry.nme) for entry in entries if entry.nme is not None]
    if not points:
        return
    _, top, right, bottom = BOX_XYXY
    steps, scores = np.array(points).T
    axis = Axis(0.0, _ceiling(scores), bottom, top)
    _line(canvas, across.place(steps), axis.place(scores), NME_COLOUR, 2)
    for x, y in zip(across.place(steps), axis.place(scores), strict=True):
        cv2.circle(canvas, (round(x), round(y)), 3, NME_COLOUR, -1, cv2.LINE_AA)
    for value, y in zip(axis.ticks(), axis.place(axis.ticks()), strict=True):
        _text(canvas, f"{value:.3g}", (right + 8, round(y) + 5), NME_COLOUR)
    _text(canvas, f"validation NME %, best {scores.min():.3f}", (right - 270, top - 14), NME_COLOUR)


def _grid(canvas: np.ndarray, across: Axis, up: Axis) -> None:
    left, top, right, bottom = BOX_XYXY
    for value, x in zip(across.ticks(), across.place(across.ticks()), strict=True):
        cv2.line(canvas, (round(x), top), (round(x), bottom), GRID, 1)
        _text(canvas, f"{value:.0f}", (round(x) - 14, bottom + 22), INK)
    for value, y in zip(up.ticks(), up.place(up.ticks()), strict=True):
        cv2.line(canvas, (left, round(y)), (right, round(y)), GRID, 1)
        _text(canvas, f"{value:.3g}", (left - 52, round(y) + 5), LOSS_COLOUR)
    cv2.rectangle(canvas, (left, top), (right, bottom), INK, 1)


def _line(canvas: np.ndarray, x: np.ndarray, y: np.ndarray, colour: tuple[int, int, int], width: int) -> None:
    shown = np.isfinite(y)
    left, top, right, bottom = BOX_XYXY
    points = np.stack([np.clip(x[shown], left, right), np.clip(y[shown], top, bottom)], axis=1)
    cv2.polylines(canvas, [np.round(points).astype(np.int32)], False, colour, width, cv2.LINE_AA)


def _text(canvas: np.ndarray, text: str, place: tuple[int, int], colour: tuple[int, int, int]) -> None:
    cv2.putText(canvas, text, place, FONT, 0.48, colour, 1, cv2.LINE_AA)


def _ceiling(values: np.ndarray) -> float:
    """A round number a little above all but the highest spikes."""
    top = float(np.percentile(values, 99.5)) if values.size else 0.0
    if top <= 0.0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(top))
    return float(next(step * power for step in ROUND_NUMBERS if step * power >= top))
