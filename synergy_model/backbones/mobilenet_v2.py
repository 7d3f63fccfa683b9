"""MobileNetV2 (Sandler et al., CVPR 2018) with SynergyNet's three regression heads."""

from __future__ import annotations

from mindspore import Tensor, nn, ops

STEM_WIDTH = 32
POOLED_DIM = 1280
DROPOUT = 0.2  # before each head, as in the paper's classifier

# t: expansion, c: output channels, n: repeats, s: stride of the first repeat (table 2 of the paper)
BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def conv_bn_relu6(inp: int, out: int, kernel: int = 3, stride: int = 1, group: int = 1) -> nn.SequentialCell:
    """Padded so that a stride of 1 keeps the size, as PyTorch's `padding=(kernel - 1) // 2`."""
    padding = (kernel - 1) // 2
    conv = nn.Conv2d(inp, out, kernel, stride, pad_mode="pad", padding=padding, group=group, has_bias=False)
    return nn.SequentialCell([conv, nn.BatchNorm2d(out), nn.ReLU6()])


class InvertedResidual(nn.Cell):
    """Expand, filter depthwise, project; with a shortcut where input and output have equal shapes."""

    def __init__(self, inp: int, out: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inp * expansion
        expand = [conv_bn_relu6(inp, hidden, kernel=1)] if expansion != 1 else []
        depthwise = conv_bn_relu6(hidden, hidden, stride=stride, group=hidden)
        project = [nn.Conv2d(hidden, out, 1, has_bias=False), nn.BatchNorm2d(out)]
        self.conv = nn.SequentialCell([*expand, depthwise, *project])
        self.shortcut = stride == 1 and inp == out

    def construct(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return x + y if self.shortcut else y


class MobileNetV2(nn.Cell):
    """Normalised images (N,3,120,120) float32 -> whitened parameters (N,62), pooled features (N,1280)."""

    pooled_dim = POOLED_DIM

    def __init__(self) -> None:
        super().__init__()
        layers = [conv_bn_relu6(3, STEM_WIDTH, stride=2)]
        width = STEM_WIDTH
        for expansion, out, repeats, first_stride in BLOCKS:
            for index in range(repeats):
                stride = first_stride if index == 0 else 1
                layers.append(InvertedResidual(width, out, stride, expansion))
                width = out
        layers.append(conv_bn_relu6(width, POOLED_DIM, kernel=1))
        self.features = nn.SequentialCell(layers)
        self.classifier_ori = _head(12)
        self.classifier_shape = _head(40)
        self.classifier_exp = _head(10)

    def construct(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pooled = ops.mean(self.features(images), (2, 3))
        heads = (self.classifier_ori(pooled), self.classifier_shape(pooled), self.classifier_exp(pooled))
        return ops.concat(heads, 1), pooled


def _head(out: int) -> nn.SequentialCell:
    return nn.SequentialCell([nn.Dropout(p=DROPOUT), nn.Dense(POOLED_DIM, out)])
