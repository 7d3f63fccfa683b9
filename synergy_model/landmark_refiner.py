"""MLP_for of the official code, the paper's MAFA: landmarks and image features -> landmark residual."""

from __future__ import annotations

from mindspore import Tensor, nn, ops

from synergy.synergy_model.point_network import GLOBAL_DIM, LOCAL_DIM, PointLayer, PointTrunk

POINTS = 68
POOLED_DIM = 1280  # the only width that official weights fit
CODE_DIM = 50  # 40 shape and 10 expression values, whitened
FUSED_DIM = LOCAL_DIM + GLOBAL_DIM + POOLED_DIM + CODE_DIM
RESIDUAL_SCALE = 0.05


class LandmarkRefiner(nn.Cell):
    """Landmarks (N,3,68) crop px, pooled features (N,1280), whitened parameters (N,62) -> residual (N,3,68).

    The residual is >= 0 (it ends in BatchNorm and ReLU); refined landmarks = landmarks + 0.05 residual.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = PointTrunk()
        self.layer6 = PointLayer(FUSED_DIM, 512)
        self.layer7 = PointLayer(512, 256)
        self.layer8 = PointLayer(256, 128)
        self.layer9 = PointLayer(128, 3)

    def construct(self, landmarks: Tensor, pooled: Tensor, params: Tensor) -> Tensor:
        local, shared = self.trunk(ops.expand_dims(landmarks, 3))
        codes = ops.concat((ops.reshape(shared, (-1, GLOBAL_DIM)), pooled, params[:, 12:62]), 1)
        codes = ops.tile(ops.reshape(codes, (-1, FUSED_DIM - LOCAL_DIM, 1, 1)), (1, 1, POINTS, 1))
        fused = ops.concat((local, codes), 1)
        residual = self.layer9(self.layer8(self.layer7(self.layer6(fused))))
        return ops.reshape(residual, (-1, 3, POINTS))
