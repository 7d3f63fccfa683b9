"""MobileNetV1 (Howard et al., 2017) as 3DDFA uses it: SynergyNet's mobilenet_1 and 3DDFA_V2's mb1 and mb05."""

from __future__ import annotations

from collections import OrderedDict

from mindspore import Tensor, nn, ops

from synergy.synergy_model.backbones.heads import SYNERGYNET_HEADS, ParameterHeads

STEM_WIDTH = 32
FULL_POOLED_DIM = 1024

# name of the block in the official files, output channels at width 1, stride
BLOCKS = (
    ("dw2_1", 64, 1),
    ("dw2_2", 128, 2),
    ("dw3_1", 128, 1),
    ("dw3_2", 256, 2),
    ("dw4_1", 256, 1),
    ("dw4_2", 512, 2),
    ("dw5_1", 512, 1),
    ("dw5_2", 512, 1),
    ("dw5_3", 512, 1),
    ("dw5_4", 512, 1),
    ("dw5_5", 512, 1),
    ("dw5_6", 1024, 2),
    ("dw6", 1024, 1),
)


class DepthWiseSeparable(nn.Cell):
    """3x3 depthwise then 1x1 convolution, each with BatchNorm and ReLU."""

    def __init__(self, inp: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(inp, inp, 3, stride, pad_mode="pad", padding=1, group=inp, has_bias=False)
        self.bn_dw = nn.BatchNorm2d(inp)
        self.conv_sep = nn.Conv2d(inp, out, 1, has_bias=False)
        self.bn_sep = nn.BatchNorm2d(out)

    def construct(self, x: Tensor) -> Tensor:
        x = ops.relu(self.bn_dw(self.conv_dw(x)))
        return ops.relu(self.bn_sep(self.conv_sep(x)))


class MobileNetV1(nn.Cell):
    """Normalised images (N,3,120,120) float32 -> whitened parameters (N,62), pooled features (N,1024 width).

    `heads` pairs the linear layers' official names with their widths, in output order.
    """

    def __init__(self, width: float = 1.0, heads: tuple[tuple[str, int], ...] = SYNERGYNET_HEADS) -> None:
        super().__init__()
        self.pooled_dim = int(FULL_POOLED_DIM * width)
        channels = int(STEM_WIDTH * width)
        self.conv1 = nn.Conv2d(3, channels, 3, 2, pad_mode="pad", padding=1, has_bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        blocks = OrderedDict()
        for name, full_width, stride in BLOCKS:
            out = int(full_width * width)
            blocks[name] = DepthWiseSeparable(channels, out, stride)
            channels = out
        self.blocks = nn.SequentialCell(blocks)
        self.heads = ParameterHeads(self.pooled_dim, heads)

    def construct(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = ops.relu(self.bn1(self.conv1(images)))
        pooled = ops.mean(self.blocks(x), (2, 3))
        return self.heads(pooled), pooled
