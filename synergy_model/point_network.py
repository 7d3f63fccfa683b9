"""The PointNet trunk (Qi et al., CVPR 2017) that both landmark networks of SynergyNet share.

Points are (N,3,P,1): one 1x1 convolution per layer works on every export route, a 1-D one does not.
"""

from __future__ import annotations

from mindspore import Tensor, nn, ops

LOCAL_DIM = 64
GLOBAL_DIM = 1024


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
