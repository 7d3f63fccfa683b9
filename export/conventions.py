"""Where the official codes differ outside the graph: which square is cropped, how angles are read."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.crop import CropRule
from runtime.decode import PoseRule


@dataclass(frozen=True)
class Convention:
    """What a bundle's manifest states beside the landmark frame, which is the network's own."""

    crop: CropRule
    pose: PoseRule


CONVENTIONS = {
    "synergynet": Convention(
        crop=CropRule(side_of="height", scale=1.2, round_to=2, shift_y=0.0, interpolation="linear"),
        pose=PoseRule(pitch_rc=(1, 2), roll_rc=(0, 1)),
    ),
    "3ddfa_v2": Convention(
        crop=CropRule(side_of="mean", scale=1.58, round_to=1, shift_y=0.14, interpolation="linear"),
        pose=PoseRule(pitch_rc=(2, 1), roll_rc=(1, 0)),
    ),
}
