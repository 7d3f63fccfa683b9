"""SynergyNet with MobileNetV2 in PyTorch, with the names of the official checkpoint's entries, and its five losses.

Wu, Xu and Neumann, "Synergy between 3DMM and 3D Landmarks for Accurate 3D Facial Geometry", 3DV 2021.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CAMERA, SHAPE, EXPRESSION = 12, 40, 10
CODES = SHAPE + EXPRESSION
POOLED = 1280
RESIDUAL_SCALE = 0.05  # of the refiner's output, as in the official code
Y_FROM = 121.0  # y = 121 - Y: the official crop frame
WING_OMEGA, WING_EPSILON = 10.0, 2.0  # px
HEAD_STD = 0.01
# expansion, channels, repeats, first stride (Sandler et al., CVPR 2018, table 2)
BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
POINT_CHANNELS = (3, 64, 64, 64, 128, 1024)


def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU6."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU6())


class InvertedResidual(nn.Module):
    """MobileNetV2's block: expand, filter per channel, project."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        expand = [conv_bn(inputs, hidden, 1)] if expansion != 1 else []
        project = [nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.conv = nn.Sequential(*expand, conv_bn(hidden, hidden, 3, stride, hidden), *project)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """Images (N,3,120,120), (pixel - 127.5) / 128, BGR -> whitened parameters (N,62), pooled features (N,1280)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv_bn(3, 32, 3, 2)]
        channels = 32
        for expansion, outputs, repeats, first_stride in BLOCKS:
            for index in range(repeats):
                layers.append(InvertedResidual(channels, outputs, first_stride if index == 0 else 1, expansion))
                channels = outputs
        layers.append(conv_bn(channels, POOLED, 1))
        self.features = nn.Sequential(*layers)
        self.classifier_ori = nn.Sequential(nn.Dropout(0.2), nn.Linear(POOLED, CAMERA))
        self.classifier_shape = nn.Sequential(nn.Dropout(0.2), nn.Linear(POOLED, SHAPE))
        self.classifier_exp = nn.Sequential(nn.Dropout(0.2), nn.Linear(POOLED, EXPRESSION))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pooled = self.features(images).mean((2, 3)).float()
        with torch.autocast(images.device.type, enabled=False):  # the heads stay float32: 1280 terms are added
            heads = (self.classifier_ori(pooled), self.classifier_shape(pooled), self.classifier_exp(pooled))
        return torch.cat(heads, 1), pooled


class PointNetwork(nn.Module):
    """Layers `conv<k>` and `bn<k>`, applied to each point alike."""

    def add_layers(self, first: int, channels: tuple[int, ...]) -> None:
        """Layers number `first`, `first` + 1 ... from channels[0] to channels[1], from there to channels[2] ..."""
        for number, (inputs, outputs) in enumerate(itertools.pairwise(channels), start=first):
            self.add_module(f"conv{number}", nn.Conv1d(inputs, outputs, 1))
            self.add_module(f"bn{number}", nn.BatchNorm1d(outputs))

    def layer(self, number: int | str, x: Tensor) -> Tensor:
        return F.relu(getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x)))


class LandmarkRefiner(PointNetwork):
    """`forwardDirection`: landmarks (N,3,68), pooled features, parameters -> corrections (N,3,68)."""

    def __init__(self) -> None:
        super().__init__()
        self.add_layers(1, POINT_CHANNELS)
        self.add_layers(6, (POINT_CHANNELS[2] + POINT_CHANNELS[-1] + POOLED + CODES, 512, 256, 128, 3))

    def forward(self, landmarks: Tensor, pooled: Tensor, params: Tensor) -> Tensor:
        local = self.layer(2, self.layer(1, landmarks))
        whole = self.layer(5, self.layer(4, self.layer(3, local))).amax(2, keepdim=True)
        shared = torch.cat((whole, pooled[:, :, None], params[:, CAMERA:, None]), 1)
        # The widest layer in two parts: `shared` is the same for all points and need not be repeated 68 times.
        split = local.shape[1]
        weight = self.conv6.weight
        x = F.conv1d(local, weight[:, :split], self.conv6.bias) + F.conv1d(shared, weight[:, split:])
        return self.layer(9, self.layer(8, self.layer(7, F.relu(self.bn6(x)))))


class ParameterRegressor(PointNetwork):
    """`reverseDirection`: landmarks (N,3,68) -> parameters (N,62)."""

    def __init__(self) -> None:
        super().__init__()
        self.add_layers(1, POINT_CHANNELS)
        for number, outputs in enumerate((CAMERA, SHAPE, EXPRESSION), start=1):
            self.add_module(f"conv6_{number}", nn.Conv1d(POINT_CHANNELS[-1], outputs, 1))
            self.add_module(f"bn6_{number}", nn.BatchNorm1d(outputs))

    def forward(self, landmarks: Tensor) -> Tensor:
        x = landmarks
        for number in range(1, 6):
            x = self.layer(number, x)
        x = x.amax(2, keepdim=True)
        return torch.cat([self.layer(f"6_{number}", x) for number in (1, 2, 3)], 1)[:, :, 0]


class Morphable(nn.Module):
    """Whitened parameters (N,62) -> landmarks (N,3,68), crop px, y down. Nothing in it is trained."""

    NAMES = ("param_mean", "param_std", "u_base", "w_shp_base", "w_exp_base")

    def __init__(self, arrays: object) -> None:
        super().__init__()
        for name in self.NAMES:
            self.register_buffer(name, torch.as_tensor(getattr(arrays, name), dtype=torch.float32))

    def forward(self, whitened: Tensor) -> Tensor:
        params = whitened * self.param_std + self.param_mean
        camera = params[:, :CAMERA].view(-1, 3, 4)
        bases = torch.cat((self.w_shp_base, self.w_exp_base), 1)
        shape = (params[:, CAMERA:] @ bases.T + self.u_base.view(1, -1)).view(len(params), -1, 3)
        points = camera[:, :, :3] @ shape.transpose(1, 2) + camera[:, :, 3:]
        return torch.stack((points[:, 0], Y_FROM - points[:, 1], points[:, 2]), 1)


class SynergyNet(nn.Module):
    """Backbone, morphable model and the two training networks; `forward` returns the sum of the five losses."""

    def __init__(self, arrays: object) -> None:
        super().__init__()
        self.backbone, self.morphable = MobileNetV2(), Morphable(arrays)
        self.refiner, self.regressor = LandmarkRefiner(), ParameterRegressor()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, HEAD_STD)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor, target: Tensor) -> Tensor:
        """Images (N,3,120,120) normalised, target (N,62) whitened -> loss (). bfloat16 is used on a GPU only."""
        bfloat16 = torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda)
        with bfloat16:
            params, pooled = self.backbone(images)
        params = params.float()
        with torch.autocast(images.device.type, enabled=False):  # pixels need more than 8 bits
            landmarks, true_landmarks = self.morphable(params), self.morphable(target)
        with bfloat16:
            correction = self.refiner(landmarks, pooled, params)
        refined = landmarks + RESIDUAL_SCALE * correction.float()
        with bfloat16:
            regressed = self.regressor(refined)
        regressed = regressed.float()
        return (
            0.05 * wing_loss(landmarks, true_landmarks)
            + 0.02 * param_loss(params, target)
            + 0.05 * wing_loss(refined, true_landmarks)
            + 0.02 * code_loss(regressed, target)
            + 0.001 * code_loss(regressed, params)
        )


def wing_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean Wing loss over all coordinates, crop px (Feng et al., CVPR 2018)."""
    distance = (predicted - target).abs()
    offset = WING_OMEGA - WING_OMEGA * math.log(1 + WING_OMEGA / WING_EPSILON)
    curved = WING_OMEGA * torch.log1p(distance / WING_EPSILON)
    return torch.where(distance < WING_OMEGA, curved, distance - offset).mean()


def param_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """sqrt(MSE of the camera + MSE of the codes) of whitened parameters, mean over the batch."""
    squared = (predicted - target) ** 2
    return (squared[:, :CAMERA].mean(1) + squared[:, CAMERA:].mean(1) + 1e-9).sqrt().mean()


def code_loss(regressed: Tensor, target: Tensor) -> Tensor:
    """Root mean square distance of shape and expression codes, mean over the batch."""
    return (((regressed[:, CAMERA:] - target[:, CAMERA:]) ** 2).mean(1) + 1e-9).sqrt().mean()


def official_state(network: SynergyNet, backbone: MobileNetV2) -> dict[str, Tensor]:
    """The official checkpoint's `state_dict`, on the CPU; the backbone is taken from `backbone`."""
    parts = {
        "module.": {name: getattr(network.morphable, name) for name in Morphable.NAMES},
        "module.I2P.backbone.": backbone.state_dict(),
        "module.forwardDirection.": network.refiner.state_dict(),
        "module.reverseDirection.": network.regressor.state_dict(),
    }
    return {
        prefix + name: value.detach().cpu().contiguous()
        for prefix, part in parts.items()
        for name, value in part.items()
    }
