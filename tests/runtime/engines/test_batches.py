"""Splitting and padding of batches, with a function that accepts only some batch sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from synergy.runtime.engines.batches import plan, run_in_batches


class Card:
    """Doubles its first input and sums up its second; keeps the sizes it was given."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes, self.seen = sizes, []

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        self.seen.append(len(arrays[0]))
        assert len(arrays[0]) in self.sizes and len({len(array) for array in arrays}) == 1
        return [arrays[0] * 2, arrays[1].sum(1)]


@pytest.mark.parametrize(
    ("batch", "sizes", "parts"),
    [
        (1, (1, 2, 4), [(0, 1, 1)]),
        (3, (1, 2, 4), [(0, 3, 4)]),
        (4, (1, 2, 4), [(0, 4, 4)]),
        (9, (1, 2, 4), [(0, 4, 4), (4, 4, 4), (8, 1, 1)]),
        (7, (1, 2, 4), [(0, 4, 4), (4, 3, 4)]),
        (1, (16,), [(0, 1, 16)]),
        (17, (16,), [(0, 16, 16), (16, 1, 16)]),
    ],
)
def test_plan(batch: int, sizes: tuple[int, ...], parts: list[tuple[int, int, int]]) -> None:
    assert list(plan(batch, sizes)) == parts


@pytest.mark.parametrize("sizes", [(1, 2, 4, 8), (3,), (2, 5)])
@pytest.mark.parametrize("batch", [1, 2, 3, 5, 8, 19])
def test_results_are_those_of_the_rows_given(batch: int, sizes: tuple[int, ...]) -> None:
    rows = np.arange(batch * 3, dtype=np.float32).reshape(batch, 3)
    kept, card = rows.copy(), Card(sizes)
    doubled, sums = run_in_batches(card, [rows, rows + 1], sizes)
    assert np.array_equal(doubled, rows * 2) and np.array_equal(sums, (rows + 1).sum(1))
    assert np.array_equal(rows, kept) and sum(card.seen) >= batch


def test_padding_repeats_the_last_row() -> None:
    """Zeros or noise could give NaN or be slow to compute."""
    seen = []
    run_in_batches(lambda arrays: [seen.append(arrays[0]) or arrays[0]], [np.array([[1], [7]])], (4,))
    assert seen[0].tolist() == [[1], [7], [7], [7]]
