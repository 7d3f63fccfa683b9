"""Task accuracy before and after export: the Cell, and every artifact on every engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from synergy.benchmarks.accuracy.data import EvaluationData
from synergy.benchmarks.accuracy.predictions import Predictions, Predictor, bundle_predictor
from synergy.benchmarks.accuracy.report import AccuracyReport, evaluate
from synergy.benchmarks.parity.cell import cell_outputs
from synergy.runtime.aligner import FaceAligner
from synergy.runtime.parity_record import Accuracy
from synergy.runtime.variants import VariantEngines, runnable_variants
from synergy.synergy_model.metrics import label_euler_deg
from synergy.synergy_model.synergynet import SynergyNet

CELL = "Cell"
CELL_ENGINE = "mindspore"
PARITY_FACES = 32  # held-out synthetic faces: every yaw bin has some, and more would only repeat the proof slowly
REDUCED_FACES = 256  # a reduced precision errs face by face: its mean drift needs more of them


@dataclass(frozen=True)
class DriftLimit:
    """How far the accuracy may be from the Cell's: `nme` in points of percent, `mae` in degrees."""

    nme: float
    mae: float


# fp32: a hundredth of the last digit of published tables; landmarks within parity's 0.01 px could move the NME by
# that much at most if all erred the same way. Reduced precisions: what may be given for their size and speed without
# being asked; beyond, the one who exports has to accept it.
DRIFT_LIMITS = {
    "fp32": DriftLimit(0.001, 0.01),
    "fp16": DriftLimit(0.02, 0.05),
    "bf16": DriftLimit(0.05, 0.1),
    "int8": DriftLimit(0.15, 0.3),
}
# The limits hold up to these errors, in percent and degrees. Beyond, as an untrained network has them, landmarks lie
# far outside the crop and float32 rounds in proportion.
NOMINAL_NME, NOMINAL_MAE = 10.0, 10.0


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
    return tuple(_row(entry, measured[0].report) for entry in measured)


def _row(entry: VariantAccuracy, cell: AccuracyReport) -> Accuracy:
    report, limit = entry.report, DRIFT_LIMITS[entry.precision]
    nme_drift = abs(report.nme.mean - cell.nme.mean)
    passed = nme_drift <= limit.nme * max(1.0, cell.nme.mean / NOMINAL_NME)
    mae, mae_drift = None, None
    if report.mae is not None and cell.mae is not None:
        mae, mae_drift = report.mae.mean, abs(report.mae.mean - cell.mae.mean)
        passed = passed and mae_drift <= limit.mae * max(1.0, cell.mae.mean / NOMINAL_MAE)
    return Accuracy(
        entry.artifact,
        entry.engine,
        report.nme.mean,
        nme_drift,
        mae,
        mae_drift,
        passed,
        compute_precision=entry.compute_precision,
    )
