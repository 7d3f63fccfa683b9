"""The two landmark networks of SynergyNet, MLP_for and MLP_rev, which serve training and the refined landmarks.

Both are PointNets (Qi et al., CVPR 2017) with a trunk of their own. Points are (N,3,P,1): a 1x1 2-D convolution works
on every export route, a 1-D convolution does not.
"""

from __future__ import annotations

from mindspore import Tensor, nn, ops

from synergy.synergy_model.morphable import CAMERA, PARAMS, POINTS

LOCAL_DIM = 64
GLOBAL_DIM = 1024
REFINER_POOLED_DIM = 1280  # the only width that official weights fit
CODE_DIM = PARAMS - CAMERA  # 40 shape and 10 expression values, whitened
FUSED_DIM = LOCAL_DIM + GLOBAL_DIM + REFINER_POOLED_DIM + CODE_DIM
RESIDUAL_SCALE = 0.05


class PointLayer(nn.Cell):
    """The same linear map for every point, BatchNorm, ReLU. (N,inp,P,1) -> (N,out,P,1)."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inp, out, 1, has_bias=True)
        self.bn = nn.BatchNorm2d(out)

    def construct(self, points: Tensor) -> Tensor:
        return ops.relu(self.bn(self.conv(points)))


class PointTrunk(nn.Cell):
    """Points (N,3,P,1) -> features per point (N,64,P,1) and their global maximum (N,1024,1,1)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = PointLayer(3, 64)
        self.layer2 = PointLayer(64, LOCAL_DIM)
        self.layer3 = PointLayer(LOCAL_DIM, 64)
        self.layer4 = PointLayer(64, 128)
        self.layer5 = PointLayer(128, GLOBAL_DIM)

    def construct(self, points: Tensor) -> tuple[Tensor, Tensor]:
        local = self.layer2(self.layer1(points))
        deep = self.layer5(self.layer4(self.layer3(local)))
        return local, ops.amax(deep, (2,), True)


class LandmarkRefiner(nn.Cell):
    """MLP_for: landmarks (N,3,68) crop px, pooled features (N,1280), whitened parameters (N,62) -> residual (N,3,68).

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
        codes = ops.concat((ops.reshape(shared, (-1, GLOBAL_DIM)), pooled, params[:, CAMERA:PARAMS]), 1)
        codes = ops.tile(ops.reshape(codes, (-1, FUSED_DIM - LOCAL_DIM, 1, 1)), (1, 1, POINTS, 1))
        fused = ops.concat((local, codes), 1)
        residual = self.layer9(self.layer8(self.layer7(self.layer6(fused))))
        return ops.reshape(residual, (-1, 3, POINTS))


class LandmarkTo3DMM(nn.Cell):
    """MLP_rev: landmarks (N,3,68) in crop px -> whitened parameters (N,62): 12 camera, 40 shape, 10 expression.

    Every output is >= 0, because each head ends in BatchNorm and ReLU: it serves as a training signal.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = PointTrunk()
        self.camera = PointLayer(GLOBAL_DIM, CAMERA)
        self.shape = PointLayer(GLOBAL_DIM, 40)
        self.expression = PointLayer(GLOBAL_DIM, 10)

    def construct(self, landmarks: Tensor) -> Tensor:
        _, shared = self.trunk(ops.expand_dims(landmarks, 3))
        params = ops.concat((self.camera(shared), self.shape(shared), self.expression(shared)), 1)
        return ops.reshape(params, (-1, PARAMS))
