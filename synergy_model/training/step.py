"""One training step in MindSpore's graph mode: loss, gradients, and an update if all gradients are finite."""

from __future__ import annotations

from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from synergy.synergy_model.checkpoints.checkpoint import fill
from synergy.synergy_model.landmark_networks import REFINER_POOLED_DIM
from synergy.synergy_model.losses import SynergyLoss
from synergy.synergy_model.synergynet import SynergyNet
from synergy.synergy_model.training.datasets import MorphableArrays
from synergy.synergy_model.training.options import TrainOptions

HEAD_DEVIATION = 0.01  # small, as in the official code: training starts near the mean face
CONVENTION = "synergynet"


@dataclass(frozen=True)
class StepResult:
    """`applied` is False where a gradient was not finite: the network is then unchanged."""

    loss: float
    terms: tuple[float, ...]
    gradient_norm: float
    applied: bool


class GradientStep(nn.Cell):
    """Images (N,3,120,120), target (N,62) -> total loss, terms (5,), norm of all gradients, gradients."""

    def __init__(self, loss: SynergyLoss, weights: ms.ParameterTuple) -> None:
        super().__init__()
        self.loss = loss
        self.gradient = ops.value_and_grad(loss, None, weights, has_aux=True)

    def construct(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, ...]]:
        (total, terms), gradients = self.gradient(images, target)
        norm = ops.sqrt(sum([ops.sum(ops.square(gradient)) for gradient in gradients]))
        return total, terms, norm, gradients


class Trainer:
    """The network being trained, its optimiser, and a second network for the weights to deploy."""

    def __init__(self, options: TrainOptions, arrays: MorphableArrays) -> None:
        self.deployed = SynergyNet(options.arch, CONVENTION, refiner=options.keep_refiner, regressor=False)
        self.deployed.set_train(False)
        refiner = self.deployed.backbone.pooled_dim == REFINER_POOLED_DIM
        self.network = SynergyNet(options.arch, CONVENTION, refiner, regressor=True)
        initialise(self.network, arrays, options.seed)
        self.optimizer, self.rates = _optimizer(options, self.network)
        self.gradient = GradientStep(SynergyLoss(self.network, options.losses), self.optimizer.parameters)
        self.average = WeightAverage(self.network, self.deployed, options.ema_decay)
        _prepare_for_training(self.gradient)

    @property
    def parameters(self) -> list[Parameter]:
        """All parameters of network, optimiser and weight average, each once."""
        every = (*self.network.get_parameters(), *self.optimizer.get_parameters(), *self.average.parameters)
        return list({parameter.name: parameter for parameter in every}.values())

    def step(self, images: np.ndarray, target: np.ndarray, rate: float) -> StepResult:
        """One update from normalised images (N,3,120,120) float32 and whitened target (N,62) float32.

        Without a finite gradient the network and the optimiser stay unchanged.
        """
        moving = [(p, p.asnumpy().copy()) for p in self.network.get_parameters() if ".moving_" in p.name]
        total, terms, norm, gradients = self.gradient(Tensor(images), Tensor(target))
        gradient_norm = float(norm.asnumpy())
        applied = bool(np.isfinite(gradient_norm))
        if applied:
            for parameter, share in self.rates:
                parameter.set_data(Tensor(rate * share, ms.float32))
            self.optimizer(gradients)
            self.average.update()
        else:
            for parameter, before in moving:
                parameter.set_data(Tensor(before))
        values = tuple(float(term) for term in terms.asnumpy())
        return StepResult(float(total.asnumpy()), values, gradient_norm, applied)

    def deploy(self) -> SynergyNet:
        """The network as `synergy export` takes it: averaged weights, without the training networks."""
        fill(self.deployed, self.average.weights(), source="the network in training")
        return self.deployed


class WeightAverage:
    """Exponential moving average of the weights of `trained` that `deployed` also has, batch statistics included.

    The share kept per step rises from 2/11 to `decay`, so that the first weights are forgotten. With `decay` 0 the
    weights themselves are returned and there are no parameters.
    """

    def __init__(self, trained: SynergyNet, deployed: SynergyNet, decay: float) -> None:
        every = dict(trained.parameters_and_names())
        self.decay = decay
        self.sources = {name: every[name] for name, _ in deployed.parameters_and_names()}
        self.averages = {
            name: Parameter(Tensor(source.asnumpy().copy()), name=f"average.{name}", requires_grad=False)
            for name, source in self.sources.items()
            if decay
        }
        self.updates = Parameter(Tensor(np.zeros(1, np.int32)), name="average_updates", requires_grad=False)

    @property
    def parameters(self) -> list[Parameter]:
        """The average and the number of its updates, which a resumed run needs."""
        return [*self.averages.values(), self.updates] if self.decay else []

    def update(self) -> None:
        """Take the current weights into the average."""
        if not self.decay:
            return
        count = int(self.updates.asnumpy()[0]) + 1
        share = np.float32(1.0 - min(self.decay, (1 + count) / (10 + count)))
        for name, average in self.averages.items():
            before = average.asnumpy()
            average.set_data(Tensor(before + share * (self.sources[name].asnumpy() - before)))
        self.updates.set_data(Tensor(np.array([count], np.int32)))

    def weights(self) -> dict[str, np.ndarray]:
        """Arrays by name: the average, or the current weights if `decay` is 0."""
        chosen = self.averages or self.sources
        return {name: parameter.asnumpy() for name, parameter in chosen.items()}


def initialise(network: SynergyNet, arrays: MorphableArrays, seed: int) -> None:
    """Fresh weights from `seed`: He's normal (fan out) for convolutions, HEAD_DEVIATION for heads, zero biases."""
    rng = np.random.Generator(np.random.PCG64([seed]))
    for _, cell in network.cells_and_names():
        if isinstance(cell, nn.Conv2d):
            fan_out = cell.weight.shape[0] // cell.group * np.prod(cell.weight.shape[2:])
            _draw(cell, float(np.sqrt(2.0 / fan_out)), rng)
        elif isinstance(cell, nn.Dense):
            _draw(cell, HEAD_DEVIATION, rng)
    for name in network.morphable.ARRAYS:
        array = np.ascontiguousarray(getattr(arrays, name), np.float32)
        parameter = getattr(network.morphable, name)
        parameter.set_data(Tensor(array.reshape(parameter.shape)))


def _draw(cell: nn.Conv2d | nn.Dense, deviation: float, rng: np.random.Generator) -> None:
    cell.weight.set_data(Tensor((deviation * rng.standard_normal(cell.weight.shape)).astype(np.float32)))
    if cell.bias is not None:
        cell.bias.set_data(Tensor(np.zeros(cell.bias.shape, np.float32)))


def _optimizer(options: TrainOptions, network: SynergyNet) -> tuple[nn.Optimizer, list[tuple[Parameter, float]]]:
    """The optimiser, and its learning rates with the share of the schedule's rate that each gets."""
    base = options.schedule.base_lr
    dense = [cell for _, cell in network.backbone.cells_and_names() if isinstance(cell, nn.Dense)]
    heads = [parameter for cell in dense for parameter in cell.trainable_params()]
    own = {id(parameter) for parameter in heads}
    rest = [parameter for parameter in network.trainable_params() if id(parameter) not in own]
    groups = [{"params": rest, "lr": base}, {"params": heads, "lr": base * options.head_rate}]
    if options.optimizer == "adam":
        optimizer = nn.Adam(groups, base, beta1=options.momentum, weight_decay=options.weight_decay)
    else:
        optimizer = nn.SGD(groups, base, options.momentum, weight_decay=options.weight_decay, nesterov=True)
    shares = [options.head_rate if id(parameter) in own else 1.0 for parameter in optimizer.parameters]
    return optimizer, list(zip(optimizer.learning_rate, shares, strict=True))


def _prepare_for_training(cell: nn.Cell) -> None:
    cell.set_train()
    for _, inner in cell.cells_and_names():
        if isinstance(inner, nn.Dropout):
            inner.set_train(False)  # MindSpore cannot restore its random state: a resumed run would differ
