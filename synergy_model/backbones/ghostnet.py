"""GhostNet 1.0 (Han et al., CVPR 2020) with SynergyNet's four heads."""

from __future__ import annotations

import math

from mindspore import Tensor, nn, ops

from synergy.synergy_model.backbones.heads import ParameterHeads
from synergy.synergy_model.backbones.resnet import conv

STEM_WIDTH = 16
LAST_WIDTH = 960
POOLED_DIM = 1280
SE_RATIO = 0.25
HEADS = (("classifier_ori", 12), ("classifier_shape", 40), ("classifier_exp", 10), ("classifier_texture", 40))

# per stage, per block: kernel, expanded width, output width, squeeze-excite, stride (table 7 of the paper)
STAGES = (
    ((3, 16, 16, False, 1),),
    ((3, 48, 24, False, 2),),
    ((3, 72, 24, False, 1),),
    ((5, 72, 40, True, 2),),
    ((5, 120, 40, True, 1),),
    ((3, 240, 80, False, 2),),
    (
        (3, 200, 80, False, 1),
        (3, 184, 80, False, 1),
        (3, 184, 80, False, 1),
        (3, 480, 112, True, 1),
        (3, 672, 112, True, 1),
    ),
    ((5, 672, 160, True, 2),),
    (
        (5, 960, 160, False, 1),
        (5, 960, 160, True, 1),
        (5, 960, 160, False, 1),
        (5, 960, 160, True, 1),
    ),
)


class GhostModule(nn.Cell):
    """Half of the channels from a 1x1 convolution, the other half from those by a depthwise 3x3 convolution."""

    def __init__(self, inp: int, out: int, relu: bool) -> None:
        super().__init__()
        half = math.ceil(out / 2)
        last = [nn.ReLU()] if relu else []
        self.primary_conv = nn.SequentialCell([conv(inp, half, 1), nn.BatchNorm2d(half), *last])
        last = [nn.ReLU()] if relu else []
        self.cheap_operation = nn.SequentialCell([conv(half, half, 3, group=half), nn.BatchNorm2d(half), *last])

    def construct(self, x: Tensor) -> Tensor:
        primary = self.primary_conv(x)
        return ops.concat((primary, self.cheap_operation(primary)), 1)


class SqueezeExcite(nn.Cell):
    """Scale channels by a hard sigmoid of their pooled values."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = _divisible(channels * SE_RATIO, 4)
        self.conv_reduce = nn.Conv2d(channels, squeezed, 1, has_bias=True)
        self.conv_expand = nn.Conv2d(squeezed, channels, 1, has_bias=True)

    def construct(self, x: Tensor) -> Tensor:
        gate = self.conv_expand(ops.relu(self.conv_reduce(ops.mean(x, (2, 3), True))))
        return x * (ops.relu6(gate + 3.0) / 6.0)  # nn.HSigmoid has no ONNX export


class GhostBottleneck(nn.Cell):
    """Expand, filter where the stride is 2, squeeze-excite where specified, project; with a shortcut."""

    def __init__(self, inp: int, hidden: int, out: int, kernel: int, stride: int, se: bool) -> None:
        super().__init__()
        self.strided = stride > 1
        self.ghost1 = GhostModule(inp, hidden, relu=True)
        if self.strided:
            self.conv_dw, self.bn_dw = conv(hidden, hidden, kernel, stride, group=hidden), nn.BatchNorm2d(hidden)
        self.se = SqueezeExcite(hidden) if se else nn.Identity()
        self.ghost2 = GhostModule(hidden, out, relu=False)
        self.shortcut = _shortcut(inp, out, kernel, stride)

    def construct(self, x: Tensor) -> Tensor:
        y = self.ghost1(x)
        if self.strided:
            y = self.bn_dw(self.conv_dw(y))
        return self.ghost2(self.se(y)) + self.shortcut(x)


class ConvBnRelu(nn.Cell):
    """The last 1x1 convolution before pooling."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__()
        self.conv, self.bn1 = conv(inp, out, 1), nn.BatchNorm2d(out)

    def construct(self, x: Tensor) -> Tensor:
        return ops.relu(self.bn1(self.conv(x)))


class GhostNet(nn.Cell):
    """Normalised images (N,3,120,120) float32 -> whitened parameters (N,62), pooled features (N,1280)."""

    pooled_dim = POOLED_DIM

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem, self.bn1 = conv(3, STEM_WIDTH, 3, 2), nn.BatchNorm2d(STEM_WIDTH)
        inp = STEM_WIDTH
        stages = []
        for stage in STAGES:
            blocks = []
            for kernel, hidden, out, se, stride in stage:
                blocks.append(GhostBottleneck(inp, hidden, out, kernel, stride, se))
                inp = out
            stages.append(nn.SequentialCell(blocks))
        stages.append(nn.SequentialCell([ConvBnRelu(inp, LAST_WIDTH)]))
        self.blocks = nn.SequentialCell(stages)
        self.conv_head = nn.Conv2d(LAST_WIDTH, POOLED_DIM, 1, has_bias=True)
        self.heads = ParameterHeads(POOLED_DIM, HEADS)

    def construct(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.blocks(ops.relu(self.bn1(self.conv_stem(images))))
        pooled = ops.relu(self.conv_head(ops.mean(x, (2, 3), True)))
        pooled = ops.reshape(pooled, (-1, POOLED_DIM))
        return self.heads(pooled), pooled


def _shortcut(inp: int, out: int, kernel: int, stride: int) -> nn.SequentialCell | nn.Identity:
    if stride == 1 and inp == out:
        return nn.Identity()
    depthwise = [conv(inp, inp, kernel, stride, group=inp), nn.BatchNorm2d(inp)]
    return nn.SequentialCell([*depthwise, conv(inp, out, 1), nn.BatchNorm2d(out)])


def _divisible(value: float, divisor: int) -> int:
    """Round to a multiple of `divisor`, never losing more than a tenth (MobileNet's rule)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded
