"""ResNeSt-50 (Zhang et al., 2020; radix 2, one cardinal group) with SynergyNet's four heads."""

from __future__ import annotations

import numpy as np
from mindspore import Tensor, nn, ops

from synergy.synergy_model.backbones.heads import SYNERGYNET_HEADS, ParameterHeads
from synergy.synergy_model.backbones.resnet import STAGE_WIDTHS, PaddedMaxPool, conv

RADIX = 2
REPEATS = (3, 4, 6, 3)
EXPANSION = 4
STEM_WIDTH = 32
REDUCTION = 4
MIN_ATTENTION = 32


class MeanPool(nn.Cell):
    """Average over `kernel` x `kernel` with stride 2, as a depthwise convolution: AvgPool is not exported.

    Zeros of the padding count, as PyTorch's AvgPool2d has it by default.
    """

    def __init__(self, channels: int, kernel: int, padding: int) -> None:
        super().__init__()
        self.weight = Tensor(np.full((channels, 1, kernel, kernel), 1 / kernel**2, np.float32))
        self.conv = ops.Conv2D(channels, (kernel, kernel), pad_mode="pad", pad=(padding,) * 4, stride=2, group=channels)

    def construct(self, x: Tensor) -> Tensor:
        return self.conv(x, self.weight)


class ShortcutPool(nn.Cell):
    """2x2 average with stride 2; a last odd row or column is averaged alone (ceil_mode without padding)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = MeanPool(channels, kernel=2, padding=0)

    def construct(self, x: Tensor) -> Tensor:
        if x.shape[2] % 2:  # the mean of a row and its copy is the row
            x = ops.concat((x, x[:, :, -1:, :]), 2)
            x = ops.concat((x, x[:, :, :, -1:]), 3)
        return self.pool(x)


class SplitAttention(nn.Cell):
    """Two branches in one grouped convolution, weighted against each other per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        inner = max(channels * RADIX // REDUCTION, MIN_ATTENTION)
        self.conv, self.bn0 = conv(channels, channels * RADIX, 3, group=RADIX), nn.BatchNorm2d(channels * RADIX)
        self.fc1, self.bn1 = nn.Conv2d(channels, inner, 1, has_bias=True), nn.BatchNorm2d(inner)
        self.fc2 = nn.Conv2d(inner, channels * RADIX, 1, has_bias=True)

    def construct(self, x: Tensor) -> Tensor:
        x = ops.relu(self.bn0(self.conv(x)))
        first, second = x[:, : self.channels], x[:, self.channels :]
        gap = ops.mean(first + second, (2, 3), True)
        scores = self.fc2(ops.relu(self.bn1(self.fc1(gap))))
        weights = ops.softmax(ops.reshape(scores, (-1, RADIX, self.channels)), 1)
        weights = ops.reshape(weights, (-1, RADIX * self.channels, 1, 1))
        return first * weights[:, : self.channels] + second * weights[:, self.channels :]


class Bottleneck(nn.Cell):
    """1x1 down, split attention, an average where the stride is 2, 1x1 up."""

    def __init__(self, inp: int, width: int, stride: int) -> None:
        super().__init__()
        out = width * EXPANSION
        self.conv1, self.bn1 = conv(inp, width, 1), nn.BatchNorm2d(width)
        self.conv2 = SplitAttention(width)
        self.avd = MeanPool(width, kernel=3, padding=1) if stride == 2 else nn.Identity()
        self.conv3, self.bn3 = conv(width, out, 1), nn.BatchNorm2d(out)
        self.downsample = _shortcut(inp, out, stride)

    def construct(self, x: Tensor) -> Tensor:
        y = self.conv2(ops.relu(self.bn1(self.conv1(x))))
        y = self.bn3(self.conv3(self.avd(y)))
        return ops.relu(y + self.downsample(x))


class ResNeSt(nn.Cell):
    """Normalised images (N,3,120,120) float32 -> whitened parameters (N,62), pooled features (N,2048)."""

    pooled_dim = STAGE_WIDTHS[-1] * EXPANSION

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _deep_stem()
        self.bn1 = nn.BatchNorm2d(2 * STEM_WIDTH)
        self.maxpool = PaddedMaxPool()
        inp = 2 * STEM_WIDTH
        stages = []
        for index, (width, count) in enumerate(zip(STAGE_WIDTHS, REPEATS, strict=True)):
            blocks = []
            for position in range(count):
                blocks.append(Bottleneck(inp, width, stride=2 if index and position == 0 else 1))
                inp = width * EXPANSION
            stages.append(nn.SequentialCell(blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.heads = ParameterHeads(self.pooled_dim, SYNERGYNET_HEADS)

    def construct(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.maxpool(ops.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        pooled = ops.mean(x, (2, 3))
        return self.heads(pooled), pooled


def _deep_stem() -> nn.SequentialCell:
    first = [conv(3, STEM_WIDTH, 3, 2), nn.BatchNorm2d(STEM_WIDTH), nn.ReLU()]
    second = [conv(STEM_WIDTH, STEM_WIDTH, 3), nn.BatchNorm2d(STEM_WIDTH), nn.ReLU()]
    return nn.SequentialCell([*first, *second, conv(STEM_WIDTH, 2 * STEM_WIDTH, 3)])


def _shortcut(inp: int, out: int, stride: int) -> nn.SequentialCell | nn.Identity:
    if stride == 1 and inp == out:
        return nn.Identity()
    pool = ShortcutPool(inp) if stride == 2 else nn.Identity()
    return nn.SequentialCell([pool, conv(inp, out, 1), nn.BatchNorm2d(out)])
