"""Overlap, matching, sorting and suppression of boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from synergy.runtime.detection.boxes import MATCH_IOU, iou, match_boxes, sort_by_score, suppress_nested
from synergy.runtime.faces import Detection


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
def test_iou(other: Sequence[float], shared: float) -> None:
    assert iou(np.array([0.0, 0, 10, 10]), np.array(other, float)) == pytest.approx(shared)


def test_match_boxes_pairs_largest_overlaps_first_and_each_box_once() -> None:
    boxes = [np.array([x, 0.0, x + 10, 10]) for x in (0, 2, 40)]
    others = [np.array([x, 0.0, x + 10, 10]) for x in (2.5, 5, 80)]
    assert match_boxes(boxes, others) == {1: 0, 0: 1} and iou(boxes[0], others[1]) > MATCH_IOU
    assert match_boxes([], others) == match_boxes(boxes, []) == {}


class TestSuppressNested:
    """A detection inside one of a higher score is dropped; detections side by side are both kept."""

    @pytest.mark.parametrize(
        ("boxes", "kept"),
        [
            ([], []),
            ([[0, 0, 10, 10], [2, 2, 6, 6]], [0]),
            ([[2, 2, 6, 6], [0, 0, 10, 10]], [0]),
            ([[0, 0, 10, 10], [8, 0, 18, 10]], [0, 1]),
        ],
    )
    def test_table(self, boxes: list[list[float]], kept: list[int]) -> None:
        found = [Detection(np.array(box, float), 1.0) for box in boxes]
        assert suppress_nested(found) == [found[index] for index in kept]


def test_highest_score_then_largest_box_first() -> None:
    boxes = [(0, 0, 5, 5), (0, 0, 9, 9), (0, 0, 1, 1)]
    found = [Detection(np.array(box, float), score) for box, score in zip(boxes, (0.5, 0.5, 0.9), strict=True)]
    assert sort_by_score(found) == [found[2], found[1], found[0]]
