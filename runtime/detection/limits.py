"""Check the limits of a detector's results, without loading a detector."""

from __future__ import annotations


def check_limits(min_score: float | None, max_faces: int | None, detector: object = None) -> None:
    """Raises ValueError for a limit that is out of range, or given together with a detector of the caller's own."""
    if detector is not None and (min_score, max_faces) != (None, None):
        raise ValueError("min_score and max_faces are for the default detector: set them in your own detector")
    if min_score is not None and not 0 <= min_score <= 1:
        raise ValueError(f"min_score must be 0 to 1, not {min_score}")
    if max_faces is not None and max_faces < 1:
        raise ValueError(f"max_faces must be 1 or more, not {max_faces}")
