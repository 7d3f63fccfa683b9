"""Backbones by the names that official checkpoints and the command line use."""

from __future__ import annotations

from collections.abc import Callable

from mindspore import nn

from synergy_model.backbones.mobilenet_v1 import TDDFA_V2_HEADS, MobileNetV1
from synergy_model.backbones.mobilenet_v2 import MobileNetV2

BACKBONES: dict[str, Callable[[], nn.Cell]] = {
    "mobilenet_v2": MobileNetV2,
    "mobilenet_1": MobileNetV1,
    "mb05": lambda: MobileNetV1(width=0.5, heads=TDDFA_V2_HEADS),
}


def build_backbone(arch: str) -> nn.Cell:
    """A backbone with fresh weights. Raises ValueError listing the valid names."""
    if arch not in BACKBONES:
        raise ValueError(f"unknown architecture {arch!r}: use one of {', '.join(BACKBONES)}")
    return BACKBONES[arch]()
