"""ResNet (He et al., CVPR 2016) as SynergyNet and 3DDFA_V2 train it: stride in the 3x3 convolution."""

from __future__ import annotations

from mindspore import Tensor, nn, ops

from synergy.synergy_model.backbones.heads import SYNERGYNET_HEADS, TDDFA_V2_HEADS, ParameterHeads

STAGE_WIDTHS = (64, 128, 256, 512)

# depth: whether blocks are bottlenecks, blocks per stage (table 1 of the paper)
DEPTHS = {
    18: (False, (2, 2, 2, 2)),
    34: (False, (3, 4, 6, 3)),
    50: (True, (3, 4, 6, 3)),
    101: (True, (3, 4, 23, 3)),
    152: (True, (3, 8, 36, 3)),
}


def conv(inp: int, out: int, kernel: int, stride: int = 1, group: int = 1) -> nn.Conv2d:
    """Padded so that a stride of 1 keeps the size; no bias, a BatchNorm follows."""
    padding = (kernel - 1) // 2
    return nn.Conv2d(inp, out, kernel, stride, pad_mode="pad", padding=padding, group=group, has_bias=False)


class PaddedMaxPool(nn.Cell):
    """3x3 maximum with stride 2 and padding 1, for inputs >= 0: the only form that every export route supports."""

    def __init__(self) -> None:
        super().__init__()
        self.pad = nn.Pad(((0, 0), (0, 0), (1, 1), (1, 1)))
        self.pool = nn.MaxPool2d(3, 2, pad_mode="valid")

    def construct(self, x: Tensor) -> Tensor:
        return self.pool(self.pad(x))


class BasicBlock(nn.Cell):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, inp: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(inp, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3), nn.BatchNorm2d(width)
        self.downsample = _projection(inp, width, stride)

    def construct(self, x: Tensor) -> Tensor:
        y = ops.relu(self.bn1(self.conv1(x)))
        return ops.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class Bottleneck(nn.Cell):
    """1x1 down, 3x3, 1x1 up, and a shortcut."""

    expansion = 4

    def __init__(self, inp: int, width: int, stride: int) -> None:
        super().__init__()
        out = width * self.expansion
        self.conv1, self.bn1 = conv(inp, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, out, 1), nn.BatchNorm2d(out)
        self.downsample = _projection(inp, out, stride)

    def construct(self, x: Tensor) -> Tensor:
        y = ops.relu(self.bn1(self.conv1(x)))
        y = ops.relu(self.bn2(self.conv2(y)))
        return ops.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class ResNet(nn.Cell):
    """Normalised images (N,3,120,120) float32 -> whitened parameters (N,62), pooled features (N,512 or 2048)."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        bottleneck, repeats = DEPTHS[depth]
        block = Bottleneck if bottleneck else BasicBlock
        self.conv1, self.bn1 = conv(3, 64, 7, 2), nn.BatchNorm2d(64)
        self.maxpool = PaddedMaxPool()
        inp = 64
        stages = []
        for index, (width, count) in enumerate(zip(STAGE_WIDTHS, repeats, strict=True)):
            stages.append(_stage(block, inp, width, count, 2 if index else 1))
            inp = width * block.expansion
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.pooled_dim = inp
        self.heads = ParameterHeads(inp, SYNERGYNET_HEADS)

    def construct(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.maxpool(ops.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        pooled = ops.mean(x, (2, 3))
        return self.heads(pooled), pooled


class ResNet22(nn.Cell):
    """3DDFA_V2's resnet22: normalised images (N,3,120,120) float32 -> whitened parameters (N,62), pooled (N,512).

    Two convolutions instead of the maximum, and three stages. The official head is a 1x1 convolution before the mean;
    both are linear, so the mean comes first here, as in the other backbones.
    """

    pooled_dim = 512

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(3, 32, 5, 2), nn.BatchNorm2d(32)
        self.conv2, self.bn2 = conv(32, 64, 3), nn.BatchNorm2d(64)
        self.layer1 = _stage(BasicBlock, 64, 128, 3, 2)
        self.layer2 = _stage(BasicBlock, 128, 256, 4, 2)
        self.layer3 = _stage(BasicBlock, 256, self.pooled_dim, 3, 2)
        self.heads = ParameterHeads(self.pooled_dim, TDDFA_V2_HEADS)

    def construct(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = ops.relu(self.bn1(self.conv1(images)))
        x = ops.relu(self.bn2(self.conv2(x)))
        pooled = ops.mean(self.layer3(self.layer2(self.layer1(x))), (2, 3))
        return self.heads(pooled), pooled


def _stage(block: type[BasicBlock | Bottleneck], inp: int, width: int, count: int, stride: int) -> nn.SequentialCell:
    """`count` blocks; the first has the stride."""
    out = width * block.expansion
    return nn.SequentialCell([block(inp, width, stride), *(block(out, width, 1) for _ in range(count - 1))])


def _projection(inp: int, out: int, stride: int) -> nn.SequentialCell | nn.Identity:
    """The shortcut's own convolution, where shapes change."""
    if stride == 1 and inp == out:
        return nn.Identity()
    return nn.SequentialCell([conv(inp, out, 1, stride), nn.BatchNorm2d(out)])
