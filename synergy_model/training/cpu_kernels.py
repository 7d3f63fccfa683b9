"""Faster training on a CPU: compiled kernels in place of the operators that MindSpore runs slowly there.

Measured on two cores at batch 32, MobileNetV2: see docs/training.md. Numbers agree with MindSpore's own operators up
to rounding (tested). Only networks in training are changed, never one that is saved or exported.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from mindspore import Tensor, nn, ops

from synergy.synergy_model.landmark_networks import CODE_DIM, GLOBAL_DIM, LOCAL_DIM, POINTS, LandmarkRefiner
from synergy.synergy_model.morphable import CAMERA
from synergy.synergy_model.synergynet import SynergyNet

SOURCE = Path(__file__).with_name("cpu_kernels.cpp")
COMPILE_FLAGS = ("-O3", "-march=native", "-fopenmp", "-std=c++17", "-shared", "-fPIC")
MOVING_SHARE = 0.9  # of the old running statistics kept at every step, as nn.BatchNorm2d
EPSILON = 1e-5


def build_kernels(folder: Path) -> Path | None:
    """Compile for this very CPU into `folder`; None without a C++ compiler that can."""
    compiler = _compiler()
    if not compiler:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".kernels-") as scratch:
        built = Path(scratch) / "kernels.so"
        done = subprocess.run(
            [*compiler, *COMPILE_FLAGS, str(SOURCE), "-o", str(built)], capture_output=True, check=False
        )
        if done.returncode != 0:
            return None
        target = folder / "kernels.so"
        built.replace(target)
    return target.resolve()


def use_compiled_kernels(network: SynergyNet, library: Path) -> None:
    """Replace cells of a network in training by equal, faster ones; parameters and their names stay."""
    parameters = list(network.get_parameters())
    names = [parameter.name for parameter in parameters]
    for _, cell in network.cells_and_names():
        if isinstance(cell, nn.SequentialCell):
            _lighten_sequence(cell, library)
    if network.refiner is not None:
        network.refiner = FactoredRefiner(network.refiner)
    for parameter, name in zip(parameters, names, strict=True):
        parameter.name = name  # assigning a parameter to another cell renames it


def _lighten_sequence(sequence: nn.SequentialCell, library: Path) -> None:
    cells = list(sequence)
    for index, cell in enumerate(cells):
        if _is_depthwise(cell):
            sequence[index] = DepthwiseConv(cell, library)
        elif isinstance(cell, nn.BatchNorm2d) and cell.eps == EPSILON:
            clipped = index + 1 < len(cells) and isinstance(cells[index + 1], nn.ReLU6)
            sequence[index] = BatchNorm(cell, library, clipped)
            if clipped:
                sequence[index + 1] = nn.Identity()


def _is_depthwise(cell: nn.Cell) -> bool:
    return (
        isinstance(cell, nn.Conv2d)
        and cell.group == cell.in_channels == cell.out_channels
        and cell.kernel_size == (3, 3)
        and cell.stride in ((1, 1), (2, 2))
        and cell.dilation == (1, 1)
        and cell.pad_mode == "pad"
        and cell.padding == 1
        and not cell.has_bias
    )


class DepthwiseConv(nn.Cell):
    """A depthwise 3x3 `nn.Conv2d` of padding 1 with the same weight."""

    def __init__(self, conv: nn.Conv2d, library: Path) -> None:
        super().__init__()
        self.weight = conv.weight
        stride = conv.stride[0]

        def shape(x: list[int], _: list[int]) -> list[int]:
            return [x[0], x[1], (x[2] - 1) // stride + 1, (x[3] - 1) // stride + 1]

        backward = _operator(library, "DepthwiseBackward", lambda x, w, dy: (x, w))

        def bprop(x: Tensor, weight: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
            return backward(x, weight, dout)

        self.forward = ops.Custom(
            f"{library}:DepthwiseForward", out_shape=shape, out_dtype=lambda x, w: x, func_type="aot", bprop=bprop
        )

    def construct(self, x: Tensor) -> Tensor:
        return self.forward(x, self.weight)


class BatchNorm(nn.Cell):
    """`nn.BatchNorm2d` in training, with the same parameters and running statistics; `clipped` adds ReLU6."""

    def __init__(self, norm: nn.BatchNorm2d, library: Path, clipped: bool) -> None:
        super().__init__()
        self.gamma, self.beta = norm.gamma, norm.beta
        self.moving_mean, self.moving_variance = norm.moving_mean, norm.moving_variance
        kind = "BatchNormRelu6" if clipped else "BatchNorm"
        backward = _operator(library, f"{kind}Backward", lambda x, gamma, beta, mean, var, dy: (x, gamma, beta))

        def bprop(x: Tensor, gamma: Tensor, beta: Tensor, out: Any, dout: Any) -> tuple[Tensor, Tensor, Tensor]:
            return backward(x, gamma, beta, out[1], out[2], dout[0])

        def like(x: Any, gamma: Any, beta: Any) -> tuple[Any, Any, Any]:
            return x, gamma, beta

        self.forward = ops.Custom(
            f"{library}:{kind}Forward", out_shape=like, out_dtype=like, func_type="aot", bprop=bprop
        )

    def construct(self, x: Tensor) -> Tensor:
        y, mean, variance = self.forward(x, self.gamma, self.beta)
        mean, variance = ops.stop_gradient(mean), ops.stop_gradient(variance)
        ops.assign(self.moving_mean, self.moving_mean * MOVING_SHARE + mean * (1.0 - MOVING_SHARE))
        ops.assign(self.moving_variance, self.moving_variance * MOVING_SHARE + variance * (1.0 - MOVING_SHARE))
        return y


class FactoredRefiner(nn.Cell):
    """`LandmarkRefiner` with the same parameters: what all points share goes through its layer once, not 68 times."""

    def __init__(self, refiner: LandmarkRefiner) -> None:
        super().__init__()
        self.trunk = refiner.trunk
        self.layer6, self.layer7, self.layer8, self.layer9 = (
            refiner.layer6,
            refiner.layer7,
            refiner.layer8,
            refiner.layer9,
        )
        self.width = refiner.layer6.conv.out_channels
        self.pointwise = ops.Conv2D(self.width, 1)

    def construct(self, landmarks: Tensor, pooled: Tensor, params: Tensor) -> Tensor:
        local, shared = self.trunk(ops.expand_dims(landmarks, 3))
        codes = ops.concat((ops.reshape(shared, (-1, GLOBAL_DIM)), pooled, params[:, CAMERA : CAMERA + CODE_DIM]), 1)
        weight = self.layer6.conv.weight
        common = ops.transpose(ops.reshape(weight[:, LOCAL_DIM:], (self.width, -1)), (1, 0))
        offset = ops.matmul(codes, common) + self.layer6.conv.bias
        fused = self.pointwise(local, weight[:, :LOCAL_DIM]) + ops.reshape(offset, (-1, self.width, 1, 1))
        fused = ops.relu(self.layer6.bn(fused))
        return ops.reshape(self.layer9(self.layer8(self.layer7(fused))), (-1, 3, POINTS))


def _operator(library: Path, name: str, like: Any) -> ops.Custom:
    return ops.Custom(f"{library}:{name}", out_shape=like, out_dtype=like, func_type="aot")


def _compiler() -> list[str]:
    chosen = shlex.split(os.environ.get("CXX", ""))
    if chosen:
        return chosen if shutil.which(chosen[0]) else []
    return next(([name] for name in ("c++", "g++", "clang++") if shutil.which(name)), [])
