"""Boxes that belong together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from runtime.association import SAME_FACE, match, overlap


@pytest.mark.parametrize(
    ("other", "shared"),
    [
        ((0, 0, 10, 10), 1.0),
        ((5, 0, 15, 10), 1 / 3),
        ((10, 0, 20, 10), 0.0),
        ((20, 20, 30, 30), 0.0),
        ((0, 0, 20, 20), 0.25),
    ],
)
def test_overlap_is_intersection_over_union(other: Sequence[float], shared: float) -> None:
    assert overlap(np.array([0.0, 0, 10, 10]), np.array(other, float)) == pytest.approx(shared)


def test_match_takes_the_largest_overlaps_first_and_each_box_once() -> None:
    boxes = [np.array([x, 0.0, x + 10, 10]) for x in (0, 2, 40)]
    others = [np.array([x, 0.0, x + 10, 10]) for x in (2.5, 5, 80)]
    assert match(boxes, others) == {1: 0, 0: 1} and overlap(boxes[0], others[1]) > SAME_FACE
    assert match([], others) == match(boxes, []) == {}
