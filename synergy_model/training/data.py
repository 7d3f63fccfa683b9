"""The data of a training run: training faces, the morphable model of their labels, validation faces."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from synergy.synergy_model.training.datasets import (
    FaceSource,
    ListedSource,
    MorphableArrays,
    SyntheticSource,
    Validation,
    listed_validation,
    load_arrays,
    synthetic_arrays,
    synthetic_validation,
)

HELD_OUT_SEED_OFFSET = 900_000  # added to the training seed: these faces are not trained on
RENDER_WORKERS = 2


@dataclass(frozen=True)
class TrainingData:
    """The data arguments of `loop.train`."""

    source: FaceSource
    arrays: MorphableArrays
    validation: Validation


@dataclass(frozen=True)
class ListedFiles:
    """Training data in 3DDFA's layout; pictures of both lists are relative to `root`."""

    image_list: Path
    params: Path
    root: Path
    held_out_list: Path
    held_out_params: Path
    whitening: Path
    morphable: Path


def synthetic_data(seed: int, count: int, held_out: int, cache: Path) -> TrainingData:
    """`count` procedural faces, rendered when first needed and kept in `cache`; `held_out` others for validation."""
    validation = synthetic_validation(seed + HELD_OUT_SEED_OFFSET, held_out, workers=RENDER_WORKERS)
    source = SyntheticSource(seed, count, cache=cache, workers=RENDER_WORKERS)
    return TrainingData(source, synthetic_arrays(), validation)


def listed_data(files: ListedFiles, held_out: int) -> TrainingData:
    """Read and check all lists and labels. Raises DatasetError naming file and line, before any training."""
    arrays = load_arrays(files.morphable, files.whitening)
    source = ListedSource(files.image_list, files.root, files.params)
    validation = ListedSource(files.held_out_list, files.root, files.held_out_params)
    return TrainingData(source, arrays, listed_validation(validation, arrays, held_out))
