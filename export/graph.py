"""The graph that is deployed: camera pixels in, named outputs out. The Cell itself has no export branch."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from synergy_model.synergynet import IMAGE_SIZE, PIXEL_MEAN, PIXEL_SCALE, SynergyNet

INPUT_NAME = "images"
OUTPUT_NAMES = ("params", "landmarks")


class DeployGraph(nn.Cell):
    """uint8 BGR crops (N,120,120,3) -> whitened parameters (N,62), landmarks (N,3,68) in crop px, y down.

    Preprocessing is inside, so that no device can get it wrong. Only operators of
    `export.lowering.OPERATORS` are used here.
    """

    def __init__(self, network: SynergyNet) -> None:
        super().__init__()
        self.network = network

    def construct(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pixels = ops.transpose(ops.cast(images, ms.float32), (0, 3, 1, 2))
        return self.network((pixels - PIXEL_MEAN) / PIXEL_SCALE)


def example_input(batch: int | None) -> Tensor:
    """What to trace the graph with: `batch` crops, or a dynamic batch for None."""
    crop = (IMAGE_SIZE, IMAGE_SIZE, 3)
    if batch is None:
        return Tensor(shape=[None, *crop], dtype=ms.uint8)
    return Tensor(np.zeros((batch, *crop), np.uint8))
