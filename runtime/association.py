"""Which of two sets of boxes belong together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SAME_FACE = 0.3  # intersection over union of a detection's box, which has a forehead, and the landmarks' box


def overlap(one_xyxy: np.ndarray, other_xyxy: np.ndarray) -> float:
    """Intersection over union of two boxes (4,)."""
    sides = np.minimum(one_xyxy[2:], other_xyxy[2:]) - np.maximum(one_xyxy[:2], other_xyxy[:2])
    shared = float(sides.clip(0).prod())
    areas = float((one_xyxy[2:] - one_xyxy[:2]).prod() + (other_xyxy[2:] - other_xyxy[:2]).prod())
    return shared / (areas - shared)


def match(boxes_xyxy: Sequence[np.ndarray], others_xyxy: Sequence[np.ndarray]) -> dict[int, int]:
    """Pairs of indices, those that overlap most first, each box in one pair at most."""
    pairs = [(overlap(one, other), i, j) for i, one in enumerate(boxes_xyxy) for j, other in enumerate(others_xyxy)]
    matched: dict[int, int] = {}
    for shared, i, j in sorted(pairs, key=lambda pair: -pair[0]):
        if shared > SAME_FACE and i not in matched and j not in matched.values():
            matched[i] = j
    return matched
