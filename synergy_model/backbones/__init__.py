"""Backbones by the names that official checkpoints and the command line use."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from mindspore import nn

from synergy.synergy_model.backbones.ghostnet import GhostNet
from synergy.synergy_model.backbones.heads import TDDFA_V2_HEADS
from synergy.synergy_model.backbones.mobilenet_v1 import MobileNetV1
from synergy.synergy_model.backbones.mobilenet_v2 import MobileNetV2
from synergy.synergy_model.backbones.resnest import ResNeSt
from synergy.synergy_model.backbones.resnet import DEPTHS, ResNet, ResNet22

BACKBONES: dict[str, Callable[[], nn.Cell]] = {
    "mobilenet_v2": MobileNetV2,
    "mobilenet_1": MobileNetV1,
    **{f"resnet{depth}": partial(ResNet, depth) for depth in DEPTHS},
    "ghostnet": GhostNet,
    "resnest50": ResNeSt,
    "mb1": partial(MobileNetV1, heads=TDDFA_V2_HEADS),
    "mb05": partial(MobileNetV1, width=0.5, heads=TDDFA_V2_HEADS),
    "resnet22": ResNet22,
}


def build_backbone(arch: str) -> nn.Cell:
    """A backbone with fresh weights. Raises ValueError listing the valid names."""
    if arch not in BACKBONES:
        raise ValueError(f"unknown architecture {arch!r}: use one of {', '.join(BACKBONES)}")
    return BACKBONES[arch]()
