"""The training loop, on a backbone of one layer to save time."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from synergy.synergy_model.backbones import BACKBONES
from synergy.synergy_model.checkpoints.checkpoint import CheckpointError, load_checkpoint
from synergy.synergy_model.training import log as training_log
from synergy.synergy_model.training.augmentation import AugmentOptions
from synergy.synergy_model.training.datasets import (
    MorphableArrays,
    SyntheticSource,
    Validation,
    synthetic_arrays,
    synthetic_validation,
)
from synergy.synergy_model.training.learning_curve import draw_curve, smooth, write_curve
from synergy.synergy_model.training.log import LogEntry
from synergy.synergy_model.training.loop import BEST, CURVE, LOG, STATE, train, validate
from synergy.synergy_model.training.options import Progress, TrainOptions, TrainResult
from synergy.synergy_model.training.schedule import Schedule, batch_indices, default_milestones
from synergy.synergy_model.training.state import TrainingState, load_state
from synergy.synergy_model.training.step import StepResult, Trainer, WeightAverage

STEPS, BATCH, FACES = 6, 4, 18
ARCH = "one_layer"


class OneLayer(nn.Cell):
    """Mean of one convolution -> 62 parameters."""

    pooled_dim = 8

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.SequentialCell([nn.Conv2d(3, 8, 7, 4, has_bias=False), nn.BatchNorm2d(8), nn.ReLU6()])
        self.head = nn.SequentialCell([nn.Dropout(p=0.2), nn.Dense(8, 62)])

    def construct(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pooled = ops.mean(self.features(images), (2, 3))
        return self.head(pooled), pooled


@pytest.fixture(scope="module", autouse=True)
def one_layer() -> Iterator[None]:
    BACKBONES[ARCH] = OneLayer
    yield
    del BACKBONES[ARCH]


@pytest.fixture(scope="module")
def source() -> SyntheticSource:
    return SyntheticSource(0, FACES)


@pytest.fixture(scope="module")
def arrays() -> MorphableArrays:
    return synthetic_arrays()


@pytest.fixture(scope="module")
def validation() -> Validation:
    return synthetic_validation(99, 7)


def _options(folder: Path) -> TrainOptions:
    schedule = Schedule(STEPS, 0.002, warmup_steps=2, milestones=(4,))
    return TrainOptions(folder, schedule, ARCH, BATCH, validate_every=4, save_every=3)


@dataclasses.dataclass(frozen=True)
class Finished:
    """A finished run, and a copy of its folder from one step after the last save: that of a killed run."""

    result: TrainResult
    reports: list[Progress]
    folder: Path
    killed: Path


@pytest.fixture(scope="module")
def finished(
    source: SyntheticSource,
    arrays: MorphableArrays,
    validation: Validation,
    tmp_path_factory: pytest.TempPathFactory,
) -> Finished:
    folder, killed = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("killed") / "run"
    reports: list[Progress] = []

    def report(progress: Progress) -> None:
        reports.append(progress)
        if progress.step == 5:
            shutil.copytree(folder, killed)

    return Finished(train(_options(folder), source, arrays, validation, report), reports, folder, killed)


def _weights(folder: Path) -> dict[str, np.ndarray]:
    network = load_checkpoint(folder / BEST).network
    return {name: parameter.asnumpy() for name, parameter in network.parameters_and_names()}


def test_every_step_is_reported_and_validation_where_due(finished: Finished) -> None:
    assert [report.step for report in finished.reports] == [1, 2, 3, 4, 5, 6]
    assert [report.step for report in finished.reports if report.validation] == [4, 6]
    assert [report.rate for report in finished.reports] == pytest.approx([1e-3, 2e-3, 2e-3, 2e-3, 4e-4, 4e-4])
    assert all(np.isfinite([report.loss, *report.terms]).all() for report in finished.reports)
    assert finished.result.skipped == 0 and finished.result.steps == STEPS


def test_the_refiner_is_kept_on_request(arrays: MorphableArrays, tmp_path: Path) -> None:
    """For `synergy export --head refined`; the regressor never is."""
    trainer = Trainer(TrainOptions(tmp_path, Schedule(1, 1e-3), batch_size=2, keep_refiner=True), arrays)
    kept = trainer.deploy()
    assert kept.refiner is not None and kept.regressor is None
    trained = {name: parameter.asnumpy() for name, parameter in trainer.network.parameters_and_names()}
    names = [name for name, _ in kept.parameters_and_names() if name.startswith("refiner.")]
    assert len(names) > 20
    found = dict(kept.parameters_and_names())
    assert all(np.array_equal(found[name].asnumpy(), trained[name]) for name in names)


def test_a_backbone_without_refiner_is_refused(arrays: MorphableArrays, tmp_path: Path) -> None:
    options = TrainOptions(tmp_path, Schedule(1, 1e-3), "mobilenet_1", 2, keep_refiner=True)
    with pytest.raises(ValueError, match="1280 pooled features, mobilenet_1 has 1024"):
        Trainer(options, arrays)


def test_the_best_checkpoint_is_the_one_with_the_best_validation(finished: Finished, validation: Validation) -> None:
    scores = [report.validation.nme for report in finished.reports if report.validation]
    network = load_checkpoint(finished.folder / BEST).network
    network.set_train(False)
    assert network.refiner is None and network.regressor is None
    assert finished.result.best_nme == min(scores)
    assert validate(network, validation).nme == pytest.approx(min(scores), abs=1e-4)


def test_the_log_holds_every_step_and_the_picture_is_there(finished: Finished) -> None:
    entries = training_log.read(finished.folder / LOG, STEPS)
    assert [entry.step for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert [entry.nme is not None for entry in entries] == [False, False, False, True, False, True]
    assert (finished.folder / CURVE).read_bytes()[:4] == b"\x89PNG"


def test_a_resumed_run_has_the_same_numbers(
    finished: Finished, source: SyntheticSource, arrays: MorphableArrays, validation: Validation
) -> None:
    reports: list[Progress] = []
    folder = finished.killed
    result = train(_options(folder), source, arrays, validation, reports.append)
    assert [report.step for report in reports] == [5, 6]
    assert [report.loss for report in reports] == [report.loss for report in finished.reports[4:]]
    assert result.best_nme == finished.result.best_nme
    assert [dataclasses.astuple(entry) for entry in training_log.read(folder / LOG, STEPS)] == [
        dataclasses.astuple(entry) for entry in training_log.read(finished.folder / LOG, STEPS)
    ]
    resumed = _weights(folder)
    for name, value in _weights(finished.folder).items():
        assert (resumed[name] == value).all(), name


@pytest.fixture(scope="module")
def trainer(arrays: MorphableArrays, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """Shared, because its step is compiled for seconds."""
    return Trainer(_options(tmp_path_factory.mktemp("trainer")), arrays)


def _pixels() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((BATCH, 3, 120, 120)).astype(np.float32)


def test_a_step_without_a_finite_gradient_is_skipped_and_counted(trainer: Trainer, source: SyntheticSource) -> None:
    good, bad = source.params[:BATCH], np.full((BATCH, 62), np.inf, np.float32)
    assert trainer.step(_pixels(), good, 0.01).applied
    before = {parameter.name: parameter.asnumpy().copy() for parameter in trainer.parameters}
    result = trainer.step(_pixels(), bad, 0.01)
    assert not result.applied and not np.isfinite(result.gradient_norm)
    for parameter in trainer.parameters:
        assert (parameter.asnumpy() == before[parameter.name]).all(), parameter.name
    assert trainer.step(_pixels(), good, 0.01).applied


def test_skipped_steps_reach_the_result(
    source: SyntheticSource,
    arrays: MorphableArrays,
    validation: Validation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The step itself is replaced, to save its compilation."""
    applied = iter([True, False, True])
    monkeypatch.setattr(Trainer, "step", lambda *_: StepResult(1.0, (0.2,) * 5, 1.0, next(applied)))
    reports: list[Progress] = []
    options = dataclasses.replace(_options(tmp_path), schedule=Schedule(3, 0.001))
    result = train(options, source, arrays, validation, reports.append)
    assert [report.skipped for report in reports] == [0, 1, 1] and result.skipped == 1
    assert np.isfinite(result.last.nme)


def test_a_finished_run_is_not_run_again(
    finished: Finished, source: SyntheticSource, arrays: MorphableArrays, validation: Validation
) -> None:
    result = train(_options(finished.folder), source, arrays, validation, lambda _: pytest.fail("a step was run"))
    assert result.best_nme == finished.result.best_nme
    assert result.last.nme == pytest.approx(finished.result.last.nme, abs=1e-5)


def test_a_folder_of_another_run_is_refused(
    finished: Finished, source: SyntheticSource, arrays: MorphableArrays, validation: Validation
) -> None:
    augment = AugmentOptions(noise=9.0)
    options = dataclasses.replace(_options(finished.folder), seed=5, augment=augment, validate_every=2)
    changed = r"other options \(saved -> given: augment\.noise: 18\.0 -> 9\.0, seed: 0 -> 5\): give the saved options"
    with pytest.raises(CheckpointError, match=changed):
        train(options, source, arrays, validation, lambda _: None)


def test_a_truncated_state_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / STATE).write_bytes(b"half a file")
    with pytest.raises(CheckpointError, match="remove it to start again"):
        load_state(tmp_path / STATE, "", [])


def test_sgd_has_nesterov_momentum_and_adam_is_an_option(arrays: MorphableArrays, tmp_path: Path) -> None:
    sgd = Trainer(_options(tmp_path), arrays).optimizer
    assert isinstance(sgd, nn.SGD) and sgd.nesterov
    adam = Trainer(dataclasses.replace(_options(tmp_path), optimizer="adam"), arrays).optimizer
    assert isinstance(adam, nn.Adam)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": "lion"}, "sgd, adam"),
        ({"batch_size": 1}, "at least 2"),
        ({"save_every": 0}, "1 or more"),
        ({"ema_decay": 1.0}, "below 1"),
    ],
)
def test_invalid_options_are_refused(change: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(_options(tmp_path), **change)


def test_the_deployed_weights_are_the_moving_average(trainer: Trainer, source: SyntheticSource) -> None:
    """The share kept is (1 + n) / (10 + n) at the n-th update, at most `ema_decay`."""
    name = "backbone.features.0.weight"
    weight = dict(trainer.network.parameters_and_names())[name]
    expected = weight.asnumpy().copy()
    trainer.average = WeightAverage(trainer.network, trainer.deployed, decay=0.2)
    for kept in (2 / 11, 0.2):
        assert trainer.step(_pixels(), source.params[:BATCH], 0.01).applied
        expected = kept * expected + (1 - kept) * weight.asnumpy()
    found = dict(trainer.deploy().parameters_and_names())[name].asnumpy()
    assert found == pytest.approx(expected, abs=1e-6) and (found != weight.asnumpy()).any()


def test_without_an_average_the_current_weights_are_deployed(arrays: MorphableArrays, tmp_path: Path) -> None:
    trainer = Trainer(dataclasses.replace(_options(tmp_path), ema_decay=0.0), arrays)
    assert trainer.average.parameters == []
    weights = dict(trainer.network.parameters_and_names())
    assert all(
        (value.asnumpy() == weights[name].asnumpy()).all() for name, value in trainer.deploy().parameters_and_names()
    )


def test_default_milestones_are_shares_of_the_steps() -> None:
    assert default_milestones(20000) == (11000, 16400) and default_milestones(1) == (1,)


def test_schedules_by_hand() -> None:
    steps = Schedule(10, 1.0, warmup_steps=2, milestones=(4, 6))
    assert [steps.rate(step) for step in range(8)] == pytest.approx([0.5, 1, 1, 1, 0.2, 0.2, 0.04, 0.04])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "above 0"),
        ({"base_lr": 0.0}, "above 0"),
        ({"milestones": (5, 3)}, "rising order"),
    ],
)
def test_invalid_schedules_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(Schedule(10, 0.1), **change)


def test_an_epoch_shows_every_face_at_most_once_and_epochs_differ() -> None:
    first = np.concatenate([batch_indices(1, 10, 3, step) for step in range(3)])
    second = np.concatenate([batch_indices(1, 10, 3, step) for step in range(3, 6)])
    assert len(set(first)) == len(set(second)) == 9 and (first != second).any()
    assert (batch_indices(1, 10, 3, 4) == second[3:6]).all()
    with pytest.raises(ValueError, match="smaller batch"):
        batch_indices(1, 2, 3, 0)


def test_an_incomplete_log_line_is_removed(tmp_path: Path) -> None:
    log = tmp_path / LOG
    for step in (1, 2, 3):
        training_log.append(log, Progress(step, 9, float("nan"), (1.0,), 1.0, 0.1, 0.5, 0, None))
    log.write_text(log.read_text()[:-7])
    training_log.truncate(log, 9)
    assert [entry.step for entry in training_log.read(log, 9)] == [1, 2]
    training_log.truncate(log, 1)
    assert [entry.step for entry in training_log.read(log, 9)] == [1]


def test_smoothing_starts_at_the_first_value_and_passes_over_gaps() -> None:
    assert smooth(np.array([4.0, 4.0])) == pytest.approx([4.0, 4.0])
    assert smooth(np.array([4.0, np.nan])) == pytest.approx([4.0, 4.0])
    assert np.isnan(smooth(np.array([np.nan]))).all()


def test_the_curve_shows_loss_and_nme() -> None:
    plain = [LogEntry(step, 2.0 / step, 0.1, None, None) for step in range(1, 50)]
    scored = [*plain, LogEntry(50, 0.03, 0.1, 4.2, 5.0)]
    labels = {"loss (weighted sum of all terms)", "learning rate"}
    assert {axes.get_ylabel() for axes in draw_curve(plain).axes} == labels
    assert {axes.get_ylabel() for axes in draw_curve(scored).axes} == labels | {"validation NME (%)"}
    legend = [text.get_text() for text in draw_curve(scored).axes[0].get_legend().get_texts()]
    assert legend == ["loss of each step", "loss, running mean", "validation NME, lowest 4.200 %"]
    with pytest.raises(ValueError, match="no finished step"):
        draw_curve([])


@pytest.mark.filterwarnings("error")
def test_a_curve_without_a_finite_loss_is_written(tmp_path: Path) -> None:
    write_curve(tmp_path / CURVE, [LogEntry(1, float("nan"), 0.1, None, None)])
    assert cv2.imread(str(tmp_path / CURVE)).shape == (640, 1000, 3)
    assert [path.name for path in tmp_path.iterdir()] == [CURVE]


def test_without_matplotlib_nothing_is_trained(
    source: SyntheticSource,
    arrays: MorphableArrays,
    validation: Validation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"matplotlib is not installed.*\[train\]"):
        train(_options(tmp_path / "run"), source, arrays, validation, lambda _: None)
    assert not (tmp_path / "run").exists()


def test_augmentation_is_part_of_the_run(finished: Finished, tmp_path: Path) -> None:
    identity = _options(tmp_path).identity(FACES)
    other = dataclasses.replace(_options(tmp_path), augment=AugmentOptions(noise=9.0))
    longer = dataclasses.replace(_options(tmp_path), schedule=Schedule(99, 0.002, 2, (50,)))
    assert other.identity(FACES) != identity
    assert longer.identity(FACES) == identity
    assert load_state_identity(finished.folder) == identity


def load_state_identity(folder: Path) -> str:
    import mindspore as ms

    return str(ms.load_checkpoint(str(folder / STATE))["identity"])


def test_state_has_plain_fields() -> None:
    assert [field.name for field in dataclasses.fields(TrainingState)] == ["step", "skipped", "best_nme", "identity"]
