"""Where the official codes differ outside the graph: which square is cropped, how angles are read."""

from __future__ import annotations

from dataclasses import dataclass

from synergy.runtime.crop import DDFA_V2_CROP, SYNERGYNET_CROP, CropRule
from synergy.runtime.decode import DDFA_V2_POSE, SYNERGYNET_POSE, PoseRule


@dataclass(frozen=True)
class Convention:
    """What a bundle's manifest states beside the landmark frame, which is the network's own."""

    crop: CropRule
    pose: PoseRule


CONVENTIONS = {
    "synergynet": Convention(SYNERGYNET_CROP, SYNERGYNET_POSE),
    "3ddfa_v2": Convention(DDFA_V2_CROP, DDFA_V2_POSE),
}
