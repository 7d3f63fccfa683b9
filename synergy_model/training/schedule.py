"""Learning rate and batch of each training step: functions of the step number alone, so that resuming is exact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MILESTONE_FACTOR = 0.2  # the official code multiplies the rate by this at every milestone
MILESTONE_SHARES = (0.55, 0.82)  # of the steps


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up over `warmup_steps` to `base_lr`; then a drop at each of `milestones` (steps)."""

    steps: int
    base_lr: float
    warmup_steps: int = 0
    milestones: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.steps < 1 or self.base_lr <= 0:
            raise ValueError(f"steps is {self.steps} and base_lr {self.base_lr}: both must be above 0")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones {self.milestones} must be in rising order")

    def rate(self, step: int) -> float:
        """Learning rate of step `step`, counted from 0."""
        if step < self.warmup_steps:
            return self.base_lr * (step + 1) / self.warmup_steps
        return self.base_lr * MILESTONE_FACTOR ** sum(step >= milestone for milestone in self.milestones)


def batch_indices(seed: int, size: int, batch_size: int, step: int) -> np.ndarray:
    """(batch_size,) indices below `size`: a new order in each epoch, whose last incomplete batch is left out."""
    per_epoch = size // batch_size
    if per_epoch == 0:
        raise ValueError(f"there are {size} faces, fewer than one batch of {batch_size}: use a smaller batch")
    epoch, place = divmod(step, per_epoch)
    order = np.random.Generator(np.random.PCG64([seed, epoch])).permutation(size)
    return order[place * batch_size : (place + 1) * batch_size]


def default_milestones(steps: int) -> tuple[int, ...]:
    """Where the rate drops if nothing is given: after 55 % and 82 % of the steps."""
    return tuple(sorted({max(1, round(share * steps)) for share in MILESTONE_SHARES}))


def parse_milestones(text: str) -> tuple[int, ...]:
    """Steps from "12000,16000"; none from "". Raises ValueError for anything else."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f"milestones are steps such as 12000,16000, not {text!r}")
    return tuple(int(part) for part in parts)
