"""Task accuracy of the Cell, and of every artifact on every engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from synergy.benchmarks.accuracy.data import EvaluationData
from synergy.benchmarks.accuracy.predictions import Predictions, Predictor, bundle_predictor
from synergy.benchmarks.accuracy.report import AccuracyReport, evaluate
from synergy.benchmarks.parity.cell import cell_outputs
from synergy.benchmarks.parity.drift_limits import accuracy_row
from synergy.runtime.aligner import FaceAligner
from synergy.runtime.variants import VariantEngines, runnable_variants
from synergy.runtime.verification.parity_record import Accuracy
from synergy.synergy_model.metrics import label_euler_deg
from synergy.synergy_model.synergynet import SynergyNet

CELL = "Cell"
CELL_ENGINE = "mindspore"
PARITY_FACES = 32  # held-out synthetic faces: every yaw bin has some; more would take longer and show the same
REDUCED_FACES = 256  # the drift of a reduced precision differs from face to face, so its mean needs more of them


@dataclass(frozen=True)
class VariantAccuracy:
    """Task accuracy of one variant, or of the Cell; `compute_precision` and `precision` as in `Variant`."""

    artifact: str
    engine: str
    report: AccuracyReport
    compute_precision: str = "fp32"
    precision: str = "fp32"


def cell_predictor(network: SynergyNet) -> Predictor:
    """Crops (N,120,120,3) uint8 BGR -> Predictions, by the training-side Cell."""
    mean, std = (getattr(network.morphable, name).asnumpy() for name in ("param_mean", "param_std"))

    def predict(crops_bgr_u8: np.ndarray) -> Predictions:
        outputs = cell_outputs(network, crops_bgr_u8)
        return Predictions(outputs["landmarks"], label_euler_deg(outputs["params"], mean, std))

    return predict


def measure_bundle(engines: VariantEngines, network: SynergyNet, data: EvaluationData) -> Iterator[VariantAccuracy]:
    """The Cell first, then every artifact on every engine present. Raises EngineError if an engine fails."""
    yield VariantAccuracy(CELL, CELL_ENGINE, evaluate(cell_predictor(network), data))
    artifacts = engines.bundle.manifest.artifacts
    found = runnable_variants(artifacts, include_unverified=True)
    for variant in (variant for artifact in artifacts for variant in found.of(artifact)):
        aligner = FaceAligner(engines.bundle, variant.artifact, engines.engine(variant))
        report = evaluate(bundle_predictor(aligner), data)
        yield VariantAccuracy(
            variant.artifact.file, variant.engine, report, variant.compute_precision, variant.precision
        )


def drift_rows(measured: Sequence[VariantAccuracy]) -> tuple[Accuracy, ...]:
    """Everything beside the first, which is the Cell. Where the data has no poses, `mae` and its drift are None."""
    cell = measured[0].report
    return tuple(
        accuracy_row(each.artifact, each.engine, each.report, cell, each.precision, each.compute_precision)
        for each in measured
    )
