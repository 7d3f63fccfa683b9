"""Boxes (4,) x1, y1, x2, y2: how far two overlap, which belong together, which come first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from synergy.runtime.faces import Detection

TRACKED_FACE = 0.3  # intersection over union of a detection's box, which has a forehead, and the landmarks' box
INSIDE = 0.6  # of the smaller box: a mouth or an eye in a face, not another face


def area(box_xyxy: np.ndarray) -> float:
    return float((box_xyxy[2:] - box_xyxy[:2]).prod())


def shared_area(one_xyxy: np.ndarray, other_xyxy: np.ndarray) -> float:
    sides = np.minimum(one_xyxy[2:], other_xyxy[2:]) - np.maximum(one_xyxy[:2], other_xyxy[:2])
    return float(sides.clip(0).prod())


def iou(one_xyxy: np.ndarray, other_xyxy: np.ndarray) -> float:
    """Intersection over union."""
    shared = shared_area(one_xyxy, other_xyxy)
    return shared / (area(one_xyxy) + area(other_xyxy) - shared)


def match(boxes_xyxy: Sequence[np.ndarray], others_xyxy: Sequence[np.ndarray]) -> dict[int, int]:
    """Pairs of indices, those that overlap most first, each box in one pair at most."""
    pairs = [(iou(one, other), i, j) for i, one in enumerate(boxes_xyxy) for j, other in enumerate(others_xyxy)]
    matched: dict[int, int] = {}
    for shared, i, j in sorted(pairs, key=lambda pair: -pair[0]):
        if shared > TRACKED_FACE and i not in matched and j not in matched.values():
            matched[i] = j
    return matched


def sort_by_score(detections: Iterable[Detection]) -> list[Detection]:
    """Of the same score, the largest first."""
    return sorted(detections, key=lambda found: (-found.score, -area(found.box_xyxy)))


def suppress_nested(detections: Sequence[Detection]) -> list[Detection]:
    """Drop what lies mostly inside an earlier one."""
    kept: list[Detection] = []
    for detection in detections:
        box = detection.box_xyxy
        shares = (shared_area(box, other.box_xyxy) / min(area(box), area(other.box_xyxy)) for other in kept)
        if all(share < INSIDE for share in shares):
            kept.append(detection)
    return kept
