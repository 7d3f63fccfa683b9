"""MLP_rev of the official code: landmarks -> 3DMM parameters, the second half of the paper's cycle."""

from __future__ import annotations

from mindspore import Tensor, nn, ops

from synergy.synergy_model.point_network import GLOBAL_DIM, PointLayer, PointTrunk


class LandmarkTo3DMM(nn.Cell):
    """Landmarks (N,3,68) in crop px -> whitened parameters (N,62): 12 camera, 40 shape, 10 expression.

    Every output is >= 0, because each head ends in BatchNorm and ReLU: it serves as a training signal.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = PointTrunk()
        self.camera = PointLayer(GLOBAL_DIM, 12)
        self.shape = PointLayer(GLOBAL_DIM, 40)
        self.expression = PointLayer(GLOBAL_DIM, 10)

    def construct(self, landmarks: Tensor) -> Tensor:
        _, shared = self.trunk(ops.expand_dims(landmarks, 3))
        params = ops.concat((self.camera(shared), self.shape(shared), self.expression(shared)), 1)
        return ops.reshape(params, (-1, 62))
