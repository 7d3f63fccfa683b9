"""SynergyNet face geometry: 68 3-D landmarks, head pose and a face mesh from exported bundles.

>>> from synergy import FaceAligner, Pose
>>> Pose(yaw=10.0, pitch=0.0, roll=-5.0).yaw
10.0

The public names below are imported when they are first used, so that a process that only runs an engine does not load
OpenCV.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synergy.runtime.aligner import FaceAligner
    from synergy.runtime.bundle import Bundle
    from synergy.runtime.errors import BundleError, EngineError, EngineUnavailableError, MediaError
    from synergy.runtime.faces import Face, Pose, Prediction
    from synergy.runtime.inference.face_pool import FacePool
    from synergy.runtime.inference.ray_pool import FaceActor
    from synergy.runtime.tracking.tracker import FaceTracker, TrackedFace, TrackOptions

__version__ = "0.3.0"

__all__ = [
    "Bundle",
    "BundleError",
    "EngineError",
    "EngineUnavailableError",
    "Face",
    "FaceActor",
    "FaceAligner",
    "FacePool",
    "FaceTracker",
    "MediaError",
    "Pose",
    "Prediction",
    "TrackOptions",
    "TrackedFace",
]

# public name: the module that defines it
LAZY_EXPORTS = {
    "Bundle": "synergy.runtime.bundle",
    "BundleError": "synergy.runtime.errors",
    "EngineError": "synergy.runtime.errors",
    "EngineUnavailableError": "synergy.runtime.errors",
    "Face": "synergy.runtime.faces",
    "FaceActor": "synergy.runtime.inference.ray_pool",
    "FaceAligner": "synergy.runtime.aligner",
    "FacePool": "synergy.runtime.inference.face_pool",
    "FaceTracker": "synergy.runtime.tracking.tracker",
    "MediaError": "synergy.runtime.errors",
    "Pose": "synergy.runtime.faces",
    "Prediction": "synergy.runtime.faces",
    "TrackOptions": "synergy.runtime.tracking.tracker",
    "TrackedFace": "synergy.runtime.tracking.tracker",
}

_FOLDER = Path(__file__).parent
if not (_FOLDER / "runtime").is_dir():
    # A source tree: runtime/, export/ and the others lie beside this folder. In an installed package they lie in it.
    __path__.append(str(_FOLDER.parent))


def __getattr__(name: str) -> Any:
    if name not in LAZY_EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(LAZY_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
