"""The five training losses of SynergyNet (Wu, Xu, Neumann, 3DV 2021, section 3.4) and their weighted sum."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mindspore import Tensor, nn, ops

from synergy.synergy_model.landmark_networks import RESIDUAL_SCALE
from synergy.synergy_model.morphable import CAMERA
from synergy.synergy_model.synergynet import SynergyNet

WING_OMEGA, WING_EPSILON = 10.0, 2.0  # px; Feng et al., CVPR 2018
TERMS = ("landmarks", "params", "refined_landmarks", "regressed_params", "cycle")


@dataclass(frozen=True)
class LossOptions:
    """Weights of the terms, in the order of `TERMS`, and how codes are compared.

    `official_codes` compares the regressor's first 50 outputs with shape and expression, as the official code
    does; the regressor is ordered camera, shape, expression, so the default compares its outputs 12 to 62.
    """

    landmarks: float = 0.05
    params: float = 0.02
    refined_landmarks: float = 0.05
    regressed_params: float = 0.02
    cycle: float = 0.001
    official_codes: bool = False

    @property
    def weights(self) -> tuple[float, float, float, float, float]:
        """The five weights in the order of `TERMS`."""
        return self.landmarks, self.params, self.refined_landmarks, self.regressed_params, self.cycle


def wing_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean Wing loss over every coordinate of (N,3,68) landmarks in crop px -> scalar.

    omega ln(1 + |d| / epsilon) where |d| < omega, else |d| - C, joined without a step.
    """
    distance = ops.abs(predicted - target)
    offset = WING_OMEGA - WING_OMEGA * math.log(1.0 + WING_OMEGA / WING_EPSILON)
    curved = WING_OMEGA * ops.log(1.0 + distance / WING_EPSILON)
    return ops.mean(ops.select(distance < WING_OMEGA, curved, distance - offset))


def param_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Whitened parameters (N,62): sqrt(MSE of the camera + MSE of the codes), averaged over the batch -> scalar."""
    squared = ops.square(predicted - target)
    return ops.mean(ops.sqrt(ops.mean(squared[:, :CAMERA], 1) + ops.mean(squared[:, CAMERA:], 1)))


def code_loss(regressed: Tensor, target: Tensor, official: bool = False) -> Tensor:
    """Root mean square distance of the shape and expression codes of (N,62) parameters, batch mean -> scalar.

    `official` takes the codes of `regressed` from columns 0 to 50 instead of 12 to 62.
    """
    codes = regressed[:, :50] if official else regressed[:, CAMERA:]
    return ops.mean(ops.sqrt(ops.mean(ops.square(codes - target[:, CAMERA:]), 1)))


class SynergyLoss(nn.Cell):
    """Images (N,3,120,120) normalised, whitened target (N,62) -> total, terms (5,) unweighted, in order of `TERMS`.

    Without a refiner, the regressor's input is the unrefined landmarks and the refined term is 0. Without a
    regressor, its two terms are 0.
    """

    def __init__(self, network: SynergyNet, options: LossOptions) -> None:
        super().__init__()
        self.network = network
        self.backbone = network.backbone
        self.morphable = network.morphable
        self.refiner = network.refiner
        self.regressor = network.regressor
        self.official = options.official_codes
        self.weights = options.weights

    def construct(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        params, pooled = self.backbone(images)
        landmarks = self.morphable(params)
        true_landmarks = self.morphable(target)
        direct = wing_loss(landmarks, true_landmarks)
        terms = [direct, param_loss(params, target), direct * 0.0, direct * 0.0, direct * 0.0]
        if self.refiner is not None:
            landmarks = landmarks + RESIDUAL_SCALE * self.refiner(landmarks, pooled, params)
            terms[2] = wing_loss(landmarks, true_landmarks)
        if self.regressor is not None:
            regressed = self.regressor(landmarks)
            terms[3] = code_loss(regressed, target, self.official)
            terms[4] = code_loss(regressed, params, self.official)
        total = direct * 0.0
        for index in range(5):
            total = total + self.weights[index] * terms[index]
        return total, ops.stack(terms)
