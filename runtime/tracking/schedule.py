"""When the detector runs on a tracked video."""

from __future__ import annotations

# Least number of frames between detector runs; it doubles while nothing is found. OpenCV's cascades take as long as
# hundreds of network runs.
MIN_DETECT_INTERVAL = 5


class DetectionSchedule:
    """In which frames the detector runs."""

    def __init__(self, interval: int) -> None:
        self._interval, self._min_interval = interval, min(MIN_DETECT_INTERVAL, interval)
        self._retry_after = 0  # frames; grows while faces are missing
        self._next, self._earliest = 0, 0  # frame numbers

    def is_due(self, frame: int, scene_changed: bool) -> bool:
        """scene_changed: a face was lost or there was a scene cut."""
        if scene_changed:
            self._retry_after, self._next = 0, min(self._next, self._earliest)
        return frame >= self._next

    def detected(self, frame: int, faces_missing: bool) -> None:
        """The detector ran in this frame. faces_missing: a lost face was not found again, or there is no face."""
        retry_after = min(max(2 * self._retry_after, self._min_interval), self._interval)
        self._retry_after = retry_after if faces_missing else 0
        self._next, self._earliest = frame + (self._retry_after or self._interval), frame + self._min_interval
