"""The training loop: validation, best checkpoint, learning curve, exact resume of a killed run."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor

from synergy.runtime.crop import PIXEL_MEAN, PIXEL_SCALE
from synergy.runtime.decode import dewhiten
from synergy.synergy_model.checkpoints.checkpoint import Checkpoint, save_checkpoint
from synergy.synergy_model.metrics import Accuracy, label_euler_deg, measure
from synergy.synergy_model.synergynet import SynergyNet
from synergy.synergy_model.training import log as training_log
from synergy.synergy_model.training.augmentation import augment_batch
from synergy.synergy_model.training.datasets import FaceSource, MorphableArrays, Validation
from synergy.synergy_model.training.learning_curve import write_curve
from synergy.synergy_model.training.options import Progress, TrainOptions, TrainResult
from synergy.synergy_model.training.schedule import batch_indices
from synergy.synergy_model.training.state import TrainingState, load_state, save_state
from synergy.synergy_model.training.step import Trainer

STATE, BEST, LOG, CURVE = "state.ckpt", "best.ckpt", "log.jsonl", "learning_curve.png"
VALIDATION_BATCH = 50


def train(
    options: TrainOptions,
    source: FaceSource,
    arrays: MorphableArrays,
    validation: Validation,
    report: Callable[[Progress], None],
) -> TrainResult:
    """Train to the end of the schedule, from the state saved in `options.folder` if there is one.

    Writes there `state.ckpt` (to resume), `best.ckpt` (lowest validation NME; without the training networks, but with
    the refiner if `keep_refiner` is set), `log.jsonl` and `learning_curve.png`. `report` is called after every
    step. Raises CheckpointError where the folder holds another run, ValueError for data that cannot be trained on,
    ImportError without matplotlib.
    """
    if find_spec("matplotlib") is None:  # needed at the first validation: better to fail before hours of training
        raise ImportError("matplotlib is not installed: pip install 'synergy-mindir[train]'")
    ms.set_context(mode=ms.GRAPH_MODE)
    run = _Run(options, Trainer(options, arrays), len(source))
    state = run.resume()
    for step, (images, target) in enumerate(_batches(options, source, arrays, state.step), start=state.step):
        state = run.advance(state, step, images, target, validation, report)
    last = validate(run.trainer.deploy(), validation)
    return TrainResult(run.path(BEST), run.path(CURVE), state.best_nme, last, state.step, state.skipped)


def validate(network: SynergyNet, faces: Validation) -> Accuracy:
    """Accuracy of `network` on `faces`, with the network's own whitening and convention."""
    params, landmarks = predict(network, faces.images)
    mean, std = network.morphable.param_mean.asnumpy(), network.morphable.param_std.asnumpy()
    return measure(landmarks, label_euler_deg(params, mean, std), faces.landmarks, faces.euler_deg)


def predict(network: SynergyNet, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images (N,120,120,3) uint8 BGR -> whitened parameters (N,62), landmarks (N,3,68) crop px, both float32."""
    parts = []
    for start in range(0, len(images), VALIDATION_BATCH):
        part = images[start : start + VALIDATION_BATCH]
        padding = np.zeros((VALIDATION_BATCH - len(part), *part.shape[1:]), np.uint8)  # one shape, one compilation
        outputs = network(Tensor(normalise(np.concatenate([part, padding]))))
        parts.append([output.asnumpy()[: len(part)].copy() for output in outputs])
    params, landmarks = (np.concatenate(part) for part in zip(*parts, strict=True))
    return params, landmarks


def normalise(images: np.ndarray) -> np.ndarray:
    """(N,H,W,3) uint8 BGR -> (N,3,H,W) float32, (pixel - 127.5) / 128."""
    scaled = (images.astype(np.float32) - np.float32(PIXEL_MEAN)) / np.float32(PIXEL_SCALE)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


@dataclass(frozen=True)
class _Run:
    """A trainer and the files of the run."""

    options: TrainOptions
    trainer: Trainer
    faces: int

    @property
    def identity(self) -> str:
        return self.options.identity(self.faces)

    def path(self, name: str) -> Path:
        return self.options.folder / name

    def resume(self) -> TrainingState:
        self.options.folder.mkdir(parents=True, exist_ok=True)
        if not self.path(STATE).exists():
            self.path(LOG).unlink(missing_ok=True)
            return TrainingState(0, 0, float("inf"), self.identity)
        state = load_state(self.path(STATE), self.identity, self.trainer.parameters)
        training_log.truncate(self.path(LOG), state.step)
        return state

    def advance(
        self,
        state: TrainingState,
        step: int,
        images: np.ndarray,
        target: np.ndarray,
        validation: Validation,
        report: Callable[[Progress], None],
    ) -> TrainingState:
        """Run one step, then validation, saving and drawing where they are due."""
        started, schedule = time.perf_counter(), self.options.schedule
        rate = schedule.rate(step)
        result = self.trainer.step(images, target, rate)
        done, skipped = step + 1, state.skipped + (not result.applied)
        seconds = time.perf_counter() - started
        accuracy, best = None, state.best_nme
        last = done == schedule.steps
        if last or done % self.options.validate_every == 0:
            accuracy = validate(self.trainer.deploy(), validation)
            best = self._keep_best(accuracy, best)
        progress = Progress(
            done, schedule.steps, result.loss, result.terms, result.gradient_norm, rate, seconds, skipped, accuracy
        )
        training_log.append(self.path(LOG), progress)
        state = TrainingState(done, skipped, best, self.identity)
        if accuracy is not None or done % self.options.save_every == 0:
            save_state(self.path(STATE), state, self.trainer.parameters)
        if accuracy is not None:
            write_curve(self.path(CURVE), training_log.read(self.path(LOG), done))
        report(progress)
        return state

    def _keep_best(self, accuracy: Accuracy, best: float) -> float:
        if accuracy.nme >= best:
            return best
        save_checkpoint(self.path(BEST), Checkpoint(self.trainer.deployed, dense=None))
        return accuracy.nme


def _batches(
    options: TrainOptions, source: FaceSource, arrays: MorphableArrays, first: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The batches from step `first` on; the next one is prepared while a step runs."""
    loader = ThreadPoolExecutor(1)
    try:
        steps = range(first, options.schedule.steps)
        coming = (loader.submit(_batch, options, source, arrays, step) for step in steps)
        waiting = deque(islice(coming, 1))
        while waiting:
            batch = waiting.popleft().result()
            waiting.extend(islice(coming, 1))
            yield batch
    finally:
        loader.shutdown(wait=False, cancel_futures=True)  # Ctrl-C does not wait for a batch


def _batch(
    options: TrainOptions, source: FaceSource, arrays: MorphableArrays, step: int
) -> tuple[np.ndarray, np.ndarray]:
    """Normalised images (N,3,120,120) and whitened parameters (N,62) of step `step`, augmented, float32."""
    indices = batch_indices(options.seed, len(source), options.batch_size, step)
    images, whitened = source.batch(indices)
    params = dewhiten(whitened, arrays.param_mean, arrays.param_std)
    augmented, labels = augment_batch(images, params, options.augment, options.seed, step)
    target = (labels - arrays.param_mean) / arrays.param_std
    return normalise(augmented), target.astype(np.float32)
