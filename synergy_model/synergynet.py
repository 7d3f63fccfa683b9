"""SynergyNet (Wu, Xu, Neumann, 3DV 2021): image -> 3DMM -> landmarks, with both landmark networks."""

from __future__ import annotations

import os

from mindspore import Tensor, nn

from synergy.runtime.crop import CROP_SIZE
from synergy.runtime.engines.base import ONEDNN_ISA_LIMIT
from synergy.synergy_model.backbones import build_backbone
from synergy.synergy_model.landmark_networks import REFINER_POOLED_DIM, RESIDUAL_SCALE, LandmarkRefiner, LandmarkTo3DMM
from synergy.synergy_model.morphable import MorphableModel

IMAGE_SIZE = CROP_SIZE

os.environ.setdefault(*ONEDNN_ISA_LIMIT)  # read when MindSpore runs its first operator in the process


class SynergyNet(nn.Cell):
    """Normalised BGR images (N,3,120,120) float32 -> whitened parameters (N,62), landmarks (N,3,68) crop px.

    The output is the first stage alone, as in the official test code. `refiner` (MLP_for) and `regressor`
    (MLP_rev) are for training; either may be None where a checkpoint does not have it.
    """

    def __init__(self, arch: str, convention: str, refiner: bool, regressor: bool) -> None:
        super().__init__()
        self.arch = arch
        self.backbone = build_backbone(arch)
        self.morphable = MorphableModel(convention)
        if refiner and self.backbone.pooled_dim != REFINER_POOLED_DIM:
            width = self.backbone.pooled_dim
            raise ValueError(f"the landmark refiner takes {REFINER_POOLED_DIM} pooled features, {arch} has {width}")
        self.refiner = LandmarkRefiner() if refiner else None
        self.regressor = LandmarkTo3DMM() if regressor else None

    def construct(self, images: Tensor) -> tuple[Tensor, Tensor]:
        params, _ = self.backbone(images)
        return params, self.morphable(params)

    def refine(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `construct`, and the refined landmarks (N,3,68) crop px. Only where there is a `refiner`."""
        params, pooled = self.backbone(images)
        landmarks = self.morphable(params)
        refined = landmarks + RESIDUAL_SCALE * self.refiner(landmarks, pooled, params)  # type: ignore[misc]
        return params, landmarks, refined


class RefinedNetwork(nn.Cell):
    """`SynergyNet.refine` as a network of its own, which graph mode compiles."""

    def __init__(self, network: SynergyNet) -> None:
        super().__init__()
        self.network = network

    def construct(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.network.refine(images)
