"""Run any batch size on a device whose model is compiled for fixed batch sizes, by splitting and padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

Run = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]


def run_in_batches(run: Run, arrays: Sequence[np.ndarray], sizes: Sequence[int]) -> list[np.ndarray]:
    """Run the batch (first dimension) in parts of the increasing `sizes`; the last part is padded with its last row."""
    parts = []
    for start, count, size in plan(arrays[0].shape[0], sizes):
        outputs = run([_padded(array[start : start + count], size) for array in arrays])
        parts.append([output[:count] for output in outputs])
    return [np.concatenate(pieces) for pieces in zip(*parts, strict=True)]


def plan(batch: int, sizes: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Start, count and size of each part: the largest size is used until the rest fits into one part."""
    start = 0
    while start < batch:
        rest = batch - start
        size = next((size for size in sizes if size >= rest), sizes[-1])
        count = min(rest, size)
        yield start, count, size
        start += count


def _padded(rows: np.ndarray, size: int) -> np.ndarray:
    missing = size - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows
