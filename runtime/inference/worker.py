"""What every worker opens and does, in a local process or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from synergy.runtime.bundle import Bundle
from synergy.runtime.engines import default_threads
from synergy.runtime.errors import BundleError
from synergy.runtime.inference.records import ImageRecord
from synergy.runtime.manifest import manifest_hash
from synergy.runtime.specs import DEFAULT_OPTIONS, Device, EngineOptions, engine_label

if TYPE_CHECKING:  # these import OpenCV, which only the workers need
    from synergy.runtime.aligner import FaceAligner
    from synergy.runtime.faces import Prediction
    from synergy.runtime.inference.pictures import PictureJob

POOL_BATCH = 8  # crops per request that the engine is tuned for


def default_workers(threads: int = 1) -> int:
    """The number of workers that uses all cores of this process."""
    return max(1, default_threads() // threads)


@dataclass(frozen=True)
class WorkerSetup:
    """What a worker opens. Plain data, since it is sent to other processes and machines.

    engine, device, threads, artifact, options, verify, angles: as for `FaceAligner.load`; detector, detector_model,
    min_score, max_faces: as for `runtime.detection.detector.make_detector`. manifest_sha256: hash of the manifest that
    all workers must find, set by `resolved`.
    """

    bundle: Path
    engine: str = "auto"
    device: str = "cpu"
    threads: int | None = None
    artifact: str | None = None
    options: EngineOptions = DEFAULT_OPTIONS
    detector: str = "auto"
    detector_model: Path | None = None
    verify: bool | None = None
    angles: str = "common"
    min_score: float | None = None
    max_faces: int | None = None
    manifest_sha256: str = ""

    @property
    def label(self) -> str:
        """As `Engine.label`."""
        return engine_label(self.engine, self.options.compute_precision)

    def resolved(self, batch: int = 1) -> WorkerSetup:
        """A copy with the artifact's file, and with the engine "auto" replaced by the fastest one for `batch` crops, so
        that it is measured once and not by every worker. It is bound to the bundle that is in the folder now."""
        bundle, device = Bundle.open(self.bundle), Device.parse(self.device)
        bound = replace(self, manifest_sha256=self.manifest_sha256 or manifest_hash(bundle.manifest))
        if self.engine != "auto":
            found = bundle.artifact(self.artifact) if self.artifact else bundle.artifact_for(self.engine, device)
            return replace(bound, artifact=found.file)
        from synergy.runtime.autotune import TuneRequest, tune  # imported only for "auto"

        best = tune(bundle, device, TuneRequest(self.threads, self.artifact, self.options, batch))[0]
        options = replace(self.options, precision=best.compute_precision)
        return replace(bound, engine=best.engine, artifact=best.artifact, threads=best.threads, options=options)

    def open(self) -> FaceAligner:
        """Open the aligner. Raises the errors of `FaceAligner.load` and `make_detector`, and BundleError if the bundle
        was replaced after `resolved`."""
        from synergy.runtime.aligner import FaceAligner
        from synergy.runtime.detection.detector import make_detector

        # the aligner itself makes the "auto" detector, once an image without boxes comes
        is_default = self.detector == "auto" and self.detector_model is None
        limits = self.min_score, self.max_faces
        detector = None if is_default else make_detector(self.detector, self.detector_model, *limits)
        aligner = FaceAligner.load(
            self.bundle,
            self.engine,
            self.device,
            self.threads,
            self.artifact,
            detector,
            options=self.options,
            verify=self.verify,
            angles=self.angles,
            min_score=self.min_score if is_default else None,
            max_faces=self.max_faces if is_default else None,
        )
        if self.manifest_sha256 not in ("", manifest_hash(aligner.bundle.manifest)):
            aligner.close()
            raise BundleError(
                f"{self.bundle} was replaced by another bundle after the workers started: open a new pool"
            )
        return aligner


def open_in_worker(setup: WorkerSetup) -> FaceAligner:
    from synergy.runtime.opencv import cv2

    if setup.threads is not None:
        cv2.setNumThreads(setup.threads)  # OpenCV's threads would take the cores of the other workers
    return setup.open()


def work(aligner: FaceAligner, request: np.ndarray | Sequence[PictureJob]) -> Prediction | list[ImageRecord]:
    """Process one request: crops (N,120,120,3) -> their prediction, picture jobs -> their records."""
    from synergy.runtime.inference.pictures import infer_pictures

    return aligner.predict(request) if isinstance(request, np.ndarray) else list(infer_pictures(aligner, request))
