"""Run exported bundles: `FaceAligner.load(folder)`.

Names are imported when first used, so that a child process that only runs an engine does not load OpenCV.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.aligner import FaceAligner
    from runtime.bundle import Bundle
    from runtime.errors import BundleError, EngineError, EngineUnavailableError, MediaError
    from runtime.faces import Face, Pose, Prediction
    from runtime.pool import FacePool
    from runtime.tracking import FaceTracker, TrackedFace, TrackOptions

HOMES = {
    "Face": "runtime.faces",
    "FaceAligner": "runtime.aligner",
    "FacePool": "runtime.pool",
    "FaceTracker": "runtime.tracking",
    "TrackOptions": "runtime.tracking",
    "TrackedFace": "runtime.tracking",
    "Pose": "runtime.faces",
    "Prediction": "runtime.faces",
    "Bundle": "runtime.bundle",
    "BundleError": "runtime.errors",
    "EngineError": "runtime.errors",
    "EngineUnavailableError": "runtime.errors",
    "MediaError": "runtime.errors",
}

__all__ = [
    "Bundle",
    "BundleError",
    "EngineError",
    "EngineUnavailableError",
    "Face",
    "FaceAligner",
    "FacePool",
    "FaceTracker",
    "MediaError",
    "Pose",
    "Prediction",
    "TrackOptions",
    "TrackedFace",
]


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
