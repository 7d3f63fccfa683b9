"""Boxes (4,) x1, y1, x2, y2: overlap, matching, sorting and suppression."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from synergy.runtime.faces import Detection

MATCH_IOU = 0.3  # least overlap of a detector's box, which includes the forehead, and the box of the landmarks
NESTED_SHARE = 0.6  # share of the smaller box from which on it counts as a part of the larger face, such as a mouth


def area(box_xyxy: np.ndarray) -> float:
    return float((box_xyxy[2:] - box_xyxy[:2]).prod())


def intersection_area(box_xyxy: np.ndarray, other_xyxy: np.ndarray) -> float:
    sides = np.minimum(box_xyxy[2:], other_xyxy[2:]) - np.maximum(box_xyxy[:2], other_xyxy[:2])
    return float(sides.clip(0).prod())


def iou(box_xyxy: np.ndarray, other_xyxy: np.ndarray) -> float:
    """Intersection over union, 0 to 1."""
    shared = intersection_area(box_xyxy, other_xyxy)
    return shared / (area(box_xyxy) + area(other_xyxy) - shared)


def match_boxes(boxes_xyxy: Sequence[np.ndarray], others_xyxy: Sequence[np.ndarray]) -> dict[int, int]:
    """Pair boxes by overlap: index in `boxes_xyxy` -> index in `others_xyxy`.

    Pairs with the largest overlap are made first; each box is in one pair at most.
    """
    pairs = [(iou(box, other), i, j) for i, box in enumerate(boxes_xyxy) for j, other in enumerate(others_xyxy)]
    matched: dict[int, int] = {}
    for overlap, i, j in sorted(pairs, key=lambda pair: -pair[0]):
        if overlap > MATCH_IOU and i not in matched and j not in matched.values():
            matched[i] = j
    return matched


def sort_by_score(detections: Iterable[Detection]) -> list[Detection]:
    """Highest score first; of equal scores the largest box first."""
    return sorted(detections, key=lambda detection: (-detection.score, -area(detection.box_xyxy)))


def suppress_nested(detections: Sequence[Detection]) -> list[Detection]:
    """Drop every detection that shares most of the smaller box with an earlier one."""
    kept: list[Detection] = []
    for detection in detections:
        box = detection.box_xyxy
        shares = (intersection_area(box, other.box_xyxy) / min(area(box), area(other.box_xyxy)) for other in kept)
        if all(share < NESTED_SHARE for share in shares):
            kept.append(detection)
    return kept
