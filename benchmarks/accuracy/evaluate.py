"""`synergy eval`: choose predictor and data, and evaluate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from synergy.benchmarks.accuracy.aflw2000 import OFFICIAL_BORDER, load_official, load_raw
from synergy.benchmarks.accuracy.data import EvaluationData, synthetic_data
from synergy.benchmarks.accuracy.predictions import Predictions, bundle_predictor, predictions_from_npz
from synergy.benchmarks.accuracy.report import AccuracyReport, run_predictor, score
from synergy.runtime.aligner import FaceAligner
from synergy.runtime.specs import DEFAULT_OPTIONS, EngineOptions

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class EvalOptions:
    """Predictor and data of an evaluation.

    root: folder in the official layout; raw: folder of raw samples; without both, held-out synthetic faces.
    border: width in pixels of the black border of crops; None: 5 for `root` as in the official benchmark, else 0.
    predictions: a file to score instead of a network; whitening, morphable and convention decode its parameters.
    """

    engine: str = "auto"
    device: str = "cpu"
    threads: int | None = None
    artifact: str | None = None
    root: Path | None = None
    raw: Path | None = None
    labels: str = "original"
    border: int | None = None
    predictions: Path | None = None
    whitening: Path | None = None
    morphable: Path | None = None
    engine_options: EngineOptions = DEFAULT_OPTIONS
    convention: str | None = None

    def __post_init__(self) -> None:
        if self.root and self.raw:
            raise ValueError("--root and --raw are two data sets: give only one")
        if self.predictions and not self.root:
            raise ValueError("--predictions are scored against the labels of --root: give it")


@dataclass(frozen=True)
class EvalResult:
    """The report with its predictions and data; `by`: artifact and engine, empty unless a bundle was evaluated."""

    report: AccuracyReport
    predictions: Predictions
    data: EvaluationData
    by: str = ""


def load_data(options: EvalOptions) -> EvaluationData:
    """Load and check labels and crops. Raises DataError naming the file and the line or row."""
    if options.root:
        border = OFFICIAL_BORDER if options.border is None else options.border
        return load_official(options.root, border, options.labels, pictures=options.predictions is None)
    if options.raw:
        return load_raw(options.raw, options.border or 0)
    return synthetic_data()


def run_eval(subject: Path | None, options: EvalOptions, progress: Progress) -> EvalResult:
    """Evaluate a bundle, the Cell of a checkpoint, or the file `options.predictions`. Data is checked first."""
    if (subject is None) == (options.predictions is None):
        raise ValueError("give either a bundle or checkpoint, or --predictions FILE.npz")
    data = load_data(options)
    if subject is not None and not subject.is_file():
        loaded = FaceAligner.load(
            subject, options.engine, options.device, options.threads, options.artifact, options=options.engine_options
        )
        with loaded as aligner:
            predictions = run_predictor(bundle_predictor(aligner), data, progress)
            by = f"{aligner.artifact.file} on {aligner.engine.label}"
        return EvalResult(score(predictions, data), predictions, data, by)
    predictions = _predict(subject, options, data, progress)
    return EvalResult(score(predictions, data), predictions, data)


def _predict(subject: Path | None, options: EvalOptions, data: EvaluationData, progress: Progress) -> Predictions:
    """Predictions of the Cell of a checkpoint, or from a file."""
    if subject is None:
        assert options.predictions is not None
        return predictions_from_npz(
            options.predictions, len(data), options.whitening, options.morphable, options.convention
        )
    from synergy.benchmarks.parity.drift import cell_predictor
    from synergy.synergy_model.checkpoints.checkpoint import load_checkpoint

    return run_predictor(cell_predictor(load_checkpoint(subject).network), data, progress)
