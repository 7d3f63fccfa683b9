"""Parts of the network with constants folded in: fewer operators, and values within the range of float16.

The Cell's 3DMM works in micrometres, the unit of its bases, and the whitening multiplies by up to 1e5. That is beyond
65504, the largest float16 number, so a model with float16 weights would output infinity.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mindspore import Tensor, nn, ops

from synergy.runtime.decode import LANDMARK_FRAMES
from synergy.synergy_model.landmark_networks import GLOBAL_DIM, LOCAL_DIM, LandmarkRefiner, PointLayer
from synergy.synergy_model.morphable import CAMERA, POINTS, MorphableModel, nearest_z_to_zero

LARGEST = 100.0  # largest coordinate of the mean face after the change of unit (about millimetres)


class FoldedMorphable(nn.Cell):
    """Whitened parameters (N,62) -> P points (N,3,P) in crop px, y down, as `morphable` places its landmarks.

    `u` (3P,1), `w_shp` (3P,40), `w_exp` (3P,10), x, y, z interleaved: the sparse basis or the dense one. With
    3DDFA_V2's frame the smallest z of the given points is 0, as in its code, so the z of a mesh and of the landmarks
    differ by a constant. Folding is done in float64.
    """

    def __init__(self, morphable: MorphableModel, u: np.ndarray, w_shp: np.ndarray, w_exp: np.ndarray) -> None:
        super().__init__()
        mean, std = (getattr(morphable, name).asnumpy().astype(np.float64) for name in ("param_mean", "param_std"))
        bases = np.concatenate([w_shp, w_exp], axis=1).astype(np.float64)
        centre = u[:, 0] + bases @ mean[CAMERA:]
        unit = 2.0 ** np.ceil(np.log2(np.abs(centre).max() / LARGEST))  # a power of two: no rounding
        camera = np.repeat([[unit, unit, unit, 1.0]], 3, axis=0) * np.array([[1.0], [-1.0], [1.0]])  # y points down
        frame = LANDMARK_FRAMES[morphable.convention]
        shift = np.zeros((3, 4))
        shift[:, 3] = frame.x_shift, frame.y_from, frame.z_shift
        self.points = len(u) // 3
        self.z_min_to_zero = frame.z_min_to_zero
        self.camera_scale = _constant(std[:CAMERA] * camera.ravel())
        self.camera_mean = _constant(mean[:CAMERA] * camera.ravel() + shift.ravel())
        self.centre = _constant(_planar(centre[:, None])[:, 0] / unit)
        self.bases = _constant((_planar(bases) * std[CAMERA:] / unit).T)

    def construct(self, params: Tensor) -> Tensor:
        camera = ops.reshape(params[:, :CAMERA] * self.camera_scale + self.camera_mean, (-1, 3, 4))
        flat = ops.matmul(params[:, CAMERA:], self.bases) + self.centre
        placed = ops.bmm(camera[:, :, :3], ops.reshape(flat, (-1, 3, self.points))) + camera[:, :, 3:]
        return nearest_z_to_zero(placed) if self.z_min_to_zero else placed


class FoldedRefiner(nn.Cell):
    """The same function as `LandmarkRefiner`, with batch normalisation folded in and every layer a matrix product.

    Features that all 68 points share pass the widest layer once instead of 68 times, which needs a quarter of the
    arithmetic. The converter of MindSpore Lite 2.0 fails on 1x1 convolutions over points, but not on matrix products.
    """

    def __init__(self, refiner: LandmarkRefiner) -> None:
        super().__init__()
        trunk = refiner.trunk
        wide, bias = _dense(refiner.layer6)
        self.local = PointLayers([_dense(trunk.layer1), _dense(trunk.layer2)])
        self.deep = PointLayers([_dense(trunk.layer3), _dense(trunk.layer4), _dense(trunk.layer5)])
        self.wide_local, self.wide_shared, self.bias = map(_constant, (wide[:LOCAL_DIM], wide[LOCAL_DIM:], bias))
        self.width = len(bias)
        self.last = PointLayers([_dense(refiner.layer7), _dense(refiner.layer8), _dense(refiner.layer9)])

    def construct(self, landmarks: Tensor, pooled: Tensor, params: Tensor) -> Tensor:
        local = self.local(ops.reshape(ops.transpose(landmarks, (0, 2, 1)), (-1, 3)))
        deep = ops.reshape(self.deep(local), (-1, POINTS, GLOBAL_DIM))
        shared = ops.amax(
            ops.transpose(deep, (0, 2, 1)), (2,)
        )  # Lite 2.0 computes a maximum correctly over the last axis only
        codes = ops.concat((shared, pooled, params[:, CAMERA:]), 1)
        common = ops.reshape(ops.matmul(codes, self.wide_shared) + self.bias, (-1, 1, self.width))
        fused = ops.relu(ops.reshape(ops.matmul(local, self.wide_local), (-1, POINTS, self.width)) + common)
        residual = self.last(ops.reshape(fused, (-1, self.width)))
        return ops.transpose(ops.reshape(residual, (-1, POINTS, 3)), (0, 2, 1))


class PointLayers(nn.Cell):
    """Dense layers with ReLU: points (M,inp) -> (M,out); each layer has a weight (inp,out) and a bias (out,)."""

    def __init__(self, layers: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        super().__init__()
        self.weights = [_constant(weight) for weight, _ in layers]
        self.biases = [_constant(bias) for _, bias in layers]

    def construct(self, points: Tensor) -> Tensor:
        for index in range(len(self.weights)):
            points = ops.relu(ops.matmul(points, self.weights[index]) + self.biases[index])
        return points


def _dense(layer: PointLayer) -> tuple[np.ndarray, np.ndarray]:
    """Weight (inp,out) and bias (out,) of a layer's convolution and normalisation together, float64."""
    conv, norm = layer.conv, layer.bn
    weight, bias = (part.asnumpy().astype(np.float64) for part in (conv.weight, conv.bias))
    gamma, beta = (part.asnumpy().astype(np.float64) for part in (norm.gamma, norm.beta))
    mean, variance = (part.asnumpy().astype(np.float64) for part in (norm.moving_mean, norm.moving_variance))
    scale = gamma / np.sqrt(variance + norm.eps)
    return weight[:, :, 0, 0].T * scale, (bias - mean) * scale + beta


def _planar(rows: np.ndarray) -> np.ndarray:
    """Rows x0 y0 z0 x1 ... -> all x, all y, all z."""
    return rows.reshape(-1, 3, rows.shape[1]).transpose(1, 0, 2).reshape(rows.shape)


def _constant(values: np.ndarray) -> Tensor:
    return Tensor(np.ascontiguousarray(values, np.float32))
