"""The training-side Cell on crops: what every exported artifact is compared with.

The Cell is fed by code that shares nothing with the exported graph's preprocessing.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from mindspore import nn

from synergy.runtime.crop import PIXEL_MEAN, PIXEL_SCALE
from synergy.runtime.decode import LANDMARK_FRAMES, dewhiten, vertices
from synergy.synergy_model.checkpoints.checkpoint import Checkpoint
from synergy.synergy_model.synergynet import RefinedNetwork, SynergyNet

CELL_BATCH = 16  # graph mode compiles for each batch size, in seconds, so all runs of a Cell have this one


def cell_outputs(network: SynergyNet, crops_bgr_u8: np.ndarray) -> dict[str, np.ndarray]:
    """The training-side Cell on crops (N,120,120,3), normalised here, by NumPy.

    params (N,62), landmarks (N,3,68), and refined_landmarks (N,3,68) if the network has the refiner.
    """
    import mindspore as ms

    ms.set_context(mode=ms.GRAPH_MODE)
    padded = np.concatenate([crops_bgr_u8, crops_bgr_u8[:1].repeat(-len(crops_bgr_u8) % CELL_BATCH, axis=0)])
    images = (padded.astype(np.float32).transpose(0, 3, 1, 2) - PIXEL_MEAN) / PIXEL_SCALE
    network.set_train(False)
    run = _with_refiner(network)
    parts = [
        run(ms.Tensor(np.ascontiguousarray(images[start : start + CELL_BATCH])))
        for start in range(0, len(images), CELL_BATCH)
    ]
    outputs = [np.concatenate([each.asnumpy() for each in output]) for output in zip(*parts, strict=True)]
    names = ("params", "landmarks", "refined_landmarks")[: len(outputs)]
    return {name: output[: len(crops_bgr_u8)] for name, output in zip(names, outputs, strict=True)}


@lru_cache(maxsize=1)
def _with_refiner(network: SynergyNet) -> nn.Cell:
    """The network with all its outputs; kept, because a new Cell is compiled anew."""
    return network if network.refiner is None else RefinedNetwork(network)


def cell_vertices(checkpoint: Checkpoint, params: np.ndarray) -> np.ndarray:
    """Whitened parameters (N,62) of the Cell -> vertices (N,3,V) crop px, in float64 by NumPy."""
    dense, morphable = checkpoint.dense, checkpoint.network.morphable
    if dense is None:
        raise ValueError("the bundle has a mesh, but this checkpoint no dense basis: give the one it was exported from")
    mean, std = (getattr(morphable, name).asnumpy().astype(np.float64) for name in ("param_mean", "param_std"))
    frame = LANDMARK_FRAMES[morphable.convention]
    return vertices(dewhiten(params.astype(np.float64), mean, std), dense.u, dense.w_shp, dense.w_exp, frame)
