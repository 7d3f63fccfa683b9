"""The graph that is exported: uint8 pixels to named outputs. The training network has no code for export."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from synergy.export.folding import FoldedMorphable, FoldedRefiner
from synergy.runtime.crop import PIXEL_MEAN, PIXEL_SCALE
from synergy.runtime.manifest import HEADS
from synergy.synergy_model.checkpoints.checkpoint import Checkpoint, DenseMorphable
from synergy.synergy_model.landmark_networks import RESIDUAL_SCALE
from synergy.synergy_model.synergynet import IMAGE_SIZE, SynergyNet

INPUT_NAME = "images"


class HeadError(ValueError):
    """The checkpoint lacks a part that the requested head needs."""


class DeployGraph(nn.Cell):
    """uint8 BGR crops (N,120,120,3) -> the outputs that `runtime.manifest.HEADS` lists for `head`.

    params (N,62) whitened; landmarks and refined_landmarks (N,3,68), vertices (N,3,V) in crop px, y down. `dense`
    is for the mesh head only. Preprocessing is part of the graph, so a device cannot apply a different one. Only
    operators of `export.lowering.operators.OPERATORS` are used.
    """

    def __init__(self, network: SynergyNet, head: str = "landmarks", dense: DenseMorphable | None = None) -> None:
        super().__init__()
        self.head = head
        self.backbone = network.backbone
        self.refiner = FoldedRefiner(network.refiner) if head == "refined" else None  # type: ignore[arg-type]
        sparse = [getattr(network.morphable, name).asnumpy() for name in ("u_base", "w_shp_base", "w_exp_base")]
        self.landmarks = FoldedMorphable(network.morphable, *sparse)
        self.vertices = None
        if dense is not None:
            self.vertices = FoldedMorphable(network.morphable, dense.u, dense.w_shp, dense.w_exp)

    def construct(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        pixels = ops.transpose(ops.cast(images, ms.float32), (0, 3, 1, 2))
        params, pooled = self.backbone((pixels - PIXEL_MEAN) / PIXEL_SCALE)
        if self.head == "params":
            return params
        landmarks = self.landmarks(params)
        if self.head == "refined":
            return params, landmarks, landmarks + RESIDUAL_SCALE * self.refiner(landmarks, pooled, params)  # type: ignore[misc]
        if self.head == "mesh":
            return params, landmarks, self.vertices(params)  # type: ignore[misc]
        return params, landmarks


def deploy_graph(checkpoint: Checkpoint, head: str) -> DeployGraph:
    """The graph of a checkpoint for a head that `check_head` accepts."""
    return DeployGraph(checkpoint.network, head, checkpoint.dense if head == "mesh" else None)


def check_head(checkpoint: Checkpoint, head: str) -> None:
    """Raise ValueError for an unknown head, HeadError for one that the checkpoint does not support, with the fix."""
    if head not in HEADS:
        raise ValueError(f"unknown head {head!r}: use {', '.join(HEADS)}")
    if head == "refined" and checkpoint.network.refiner is None:
        raise HeadError(
            "the checkpoint has no landmark refiner, which the refined head needs: convert an official checkpoint of "
            "mobilenet_v2, or train with --keep-refiner"
        )
    if head == "mesh" and checkpoint.dense is None:
        raise HeadError(
            "the checkpoint has no dense basis, which the mesh head needs: convert it with --morphable FILE.npz "
            "(u, w_shp, w_exp, triangles)"
        )


def example_input(batch: int | None) -> Tensor:
    """An input to trace the graph with: `batch` crops, or a dynamic batch for None."""
    crop = (IMAGE_SIZE, IMAGE_SIZE, 3)
    if batch is None:
        return Tensor(shape=[None, *crop], dtype=ms.uint8)
    return Tensor(np.zeros((batch, *crop), np.uint8))
