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
FUSED_WIDTH = 512
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
        self.layer6 = PointLayer(FUSED_DIM, FUSED_WIDTH)
        self.layer7 = PointLayer(FUSED_WIDTH, 256)
        self.layer8 = PointLayer(256, 128)
        self.layer9 = PointLayer(128, 3)
        self.convolution = ops.Conv2D(FUSED_WIDTH, 1)

    def construct(self, landmarks: Tensor, pooled: Tensor, params: Tensor) -> Tensor:
        local, shared = self.trunk(ops.expand_dims(landmarks, 3))
        codes = ops.concat((ops.reshape(shared, (-1, GLOBAL_DIM)), pooled, params[:, CAMERA:PARAMS]), 1)
        fused = ops.relu(self.layer6.bn(self._fuse(local, codes)))
        residual = self.layer9(self.layer8(self.layer7(fused)))
        return ops.reshape(residual, (-1, 3, POINTS))

    def _fuse(self, local: Tensor, codes: Tensor) -> Tensor:
        """`layer6`'s convolution of local features (N,64,68,1) and codes (N,2354), which all points share.

        The codes go through their part of the weights once, instead of 68 times as copies beside each point.
        """
        weight = self.layer6.conv.weight
        codes_weight = ops.transpose(ops.reshape(weight[:, LOCAL_DIM:], (FUSED_WIDTH, -1)), (1, 0))
        shared = ops.matmul(codes, codes_weight) + self.layer6.conv.bias
        return self.convolution(local, weight[:, :LOCAL_DIM]) + ops.reshape(shared, (-1, FUSED_WIDTH, 1, 1))


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
