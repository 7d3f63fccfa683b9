"""Options, progress and result of a training run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from synergy.synergy_model.losses import LossOptions
from synergy.synergy_model.metrics import Accuracy
from synergy.synergy_model.training.augmentation import AugmentOptions
from synergy.synergy_model.training.schedule import Schedule

OPTIMIZERS = ("sgd", "adam")


@dataclass(frozen=True)
class TrainOptions:
    """All options of a run; a step is one batch. Files go to `folder`, which holds one run.

    `optimizer`: "sgd" (with Nesterov momentum, as the paper) or "adam". `head_rate`: share of the learning rate
    of the backbone's last layers, whose outputs sum over a thousand features and change most per step.
    `ema_decay`: validation and the best checkpoint use an exponential moving average of the weights, this much of which
    is kept per step (less in the first steps); 0 uses the weights themselves.
    `keep_refiner`: the best checkpoint also has the landmark refiner, for the refined head; 6 MB more.
    Raises ValueError for an invalid value.
    """

    folder: Path
    schedule: Schedule
    arch: str = "mobilenet_v2"
    batch_size: int = 32
    seed: int = 0
    optimizer: str = "sgd"
    momentum: float = 0.9
    head_rate: float = 1.0
    weight_decay: float = 5e-4
    ema_decay: float = 0.999
    losses: LossOptions = field(default_factory=LossOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    validate_every: int = 100
    save_every: int = 10
    keep_refiner: bool = False

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"unknown optimizer {self.optimizer!r}: use one of {', '.join(OPTIMIZERS)}")
        if self.batch_size < 2:
            raise ValueError(f"batch_size is {self.batch_size}: batch normalisation needs at least 2")
        if not 0.0 <= self.ema_decay < 1.0:
            raise ValueError(f"ema_decay is {self.ema_decay}: it must be 0 (off) or more, and below 1")
        if min(self.validate_every, self.save_every) < 1:
            raise ValueError("validate_every and save_every count steps: give 1 or more")

    def identity(self, faces: int) -> str:
        """The options that determine the finished steps, as JSON. Milestones and the number of steps may change."""
        chosen = asdict(self)
        for name in ("folder", "schedule", "validate_every", "save_every", "keep_refiner"):
            del chosen[name]
        chosen |= {"base_lr": self.schedule.base_lr, "warmup_steps": self.schedule.warmup_steps}
        return json.dumps(chosen | {"faces": faces}, sort_keys=True)


@dataclass(frozen=True)
class Progress:
    """One finished step, counted from 1: `terms` unweighted in the order of `losses.TERMS`; `skipped` steps so far
    whose gradient was not finite; `validation` where it was due.
    """

    step: int
    steps: int
    loss: float
    terms: tuple[float, ...]
    gradient_norm: float
    rate: float
    seconds: float
    skipped: int
    validation: Accuracy | None


@dataclass(frozen=True)
class TrainResult:
    """`checkpoint`: the file with the best validation NME, `best_nme` percent; `last`: accuracy after the last step;
    `curve`: the picture of the learning curve; `skipped`: steps without a finite gradient.
    """

    checkpoint: Path
    curve: Path
    best_nme: float
    last: Accuracy
    steps: int
    skipped: int
