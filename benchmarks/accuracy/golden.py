"""Task accuracy on the labelled faces of a bundle's golden values, from outputs that are already there."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from synergy.benchmarks.accuracy.data import SYNTHETIC_TITLE, EvaluationData
from synergy.benchmarks.accuracy.predictions import Predictions
from synergy.benchmarks.accuracy.report import AccuracyReport, score
from synergy.runtime.bundle import Bundle
from synergy.runtime.crop import CROP_SIZE
from synergy.runtime.decode import dewhiten, vertices
from synergy.runtime.verification.golden import Golden
from synergy.synergy_model.metrics import label_euler_deg


def golden_data(golden: Golden, source: str, real_faces: bool) -> EvaluationData:
    """The labelled faces as evaluation data, in crop px. real_faces: they are photographs, not procedural faces."""
    count = len(golden.landmarks)
    scored = np.isfinite(golden.euler_deg).all(axis=1)
    return EvaluationData(
        title="golden faces" if real_faces else SYNTHETIC_TITLE,
        source=source,
        names=tuple(f"golden-{index:02d}" for index in range(count)),
        crops=golden.reference.crops[:count],
        landmarks=golden.landmarks,
        yaw_deg=golden.yaw_deg,
        roi_xyxy=np.tile(np.array([0.0, 0.0, CROP_SIZE, CROP_SIZE]), (count, 1)),
        pose_deg=golden.euler_deg if scored.any() else None,
        scored=scored if scored.any() else None,
        pose_missing=None if scored.any() else "the golden faces have no pose labels",
    )


def golden_accuracy(outputs: Mapping[str, np.ndarray], bundle: Bundle, golden: Golden) -> AccuracyReport:
    """NME and pose MAE of a graph's outputs for the golden crops, params (N,62) and perhaps landmarks (N,3,68)."""
    count, morphable = len(golden.landmarks), bundle.morphable()
    params = outputs["params"][:count]
    if "landmarks" in outputs:
        landmarks = outputs["landmarks"][:count]
    else:  # of the params head
        physical = dewhiten(params, morphable.param_mean, morphable.param_std)
        bases = (morphable.u_base, morphable.w_shp_base, morphable.w_exp_base)
        landmarks = vertices(physical, *bases, bundle.manifest.landmark_frame)
    euler = label_euler_deg(params, morphable.param_mean, morphable.param_std)
    entry = bundle.manifest.golden
    source, real_faces = ("", False) if entry is None else (entry.data, entry.real_faces)
    return score(Predictions(landmarks, euler), golden_data(golden, source, real_faces))
