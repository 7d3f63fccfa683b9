"""The 3D morphable model as a Cell: whitened parameters -> 68 landmarks in the crop's frame."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from synergy.runtime.decode import LANDMARK_FRAMES, PARAMS

POINTS = 68
CAMERA = 12


class MorphableModel(nn.Cell):
    """Sparse 3DMM: whitened parameters (N,62) -> landmarks (N,3,68), crop px, y down, z towards the viewer.

    vertex = P @ (u + W_shp a + W_exp b) + offset (Zhu et al., CVPR 2016). The bases are Parameters, so that
    a checkpoint carries them; they are never trained.
    """

    ARRAYS = ("param_mean", "param_std", "u_base", "w_shp_base", "w_exp_base")

    def __init__(self, convention: str = "synergynet") -> None:
        super().__init__()
        if convention not in LANDMARK_FRAMES:
            raise ValueError(f"unknown convention {convention!r}: use one of {', '.join(LANDMARK_FRAMES)}")
        self.convention = convention
        frame = LANDMARK_FRAMES[convention]
        self.z_min_to_zero = frame.z_min_to_zero
        self.param_mean = _constant("param_mean", (PARAMS,))
        self.param_std = _constant("param_std", (PARAMS,))
        self.u_base = _constant("u_base", (3 * POINTS, 1))
        self.w_shp_base = _constant("w_shp_base", (3 * POINTS, 40))
        self.w_exp_base = _constant("w_exp_base", (3 * POINTS, 10))
        self.flip = Tensor(np.array([1, -1, 1], np.float32).reshape(1, 3, 1))
        shift = np.array([frame.x_shift, frame.y_from, frame.z_shift], np.float32)
        self.shift = Tensor(shift.reshape(1, 3, 1))

    def construct(self, params: Tensor) -> Tensor:
        physical = params * self.param_std + self.param_mean
        camera = ops.reshape(physical[:, :CAMERA], (-1, 3, 4))
        bases = ops.concat((self.w_shp_base, self.w_exp_base), 1)
        flat = ops.matmul(physical[:, CAMERA:], ops.transpose(bases, (1, 0))) + ops.reshape(self.u_base, (1, -1))
        shape = ops.transpose(ops.reshape(flat, (-1, POINTS, 3)), (0, 2, 1))
        vertices = ops.bmm(camera[:, :, :3], shape) + camera[:, :, 3:]
        landmarks = vertices * self.flip + self.shift
        return nearest_z_to_zero(landmarks) if self.z_min_to_zero else landmarks


def nearest_z_to_zero(landmarks: Tensor) -> Tensor:
    """Points (N,3,P) with z moved so that the least of each face is 0."""
    # min(z) as -max(-z): the maximum is the reduction that every export route supports
    depth = landmarks[:, 2:, :]
    depth = depth + ops.amax(depth * -1.0, (2,), True)
    return ops.concat((landmarks[:, :2, :], depth), 1)


def _constant(name: str, shape: tuple[int, ...]) -> Parameter:
    return Parameter(Tensor(np.zeros(shape, np.float32), ms.float32), name=name, requires_grad=False)
