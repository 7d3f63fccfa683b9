"""Decode the network's 62 3DMM parameters into head pose and face geometry.

The parameters are those of 3DDFA (Guo et al., ECCV 2020): a 3x4 camera matrix in row-major order (3x3 scaled rotation
and translation), 40 shape and 10 expression coefficients. The model's axes are x right, y up and z towards the viewer.
Images have y down, hence the `LandmarkFrame`.
"""

from __future__ import annotations

import msgspec
import numpy as np

PARAMS = 62
CAMERA, SHAPE, EXPRESSION = slice(0, 12), slice(12, 52), slice(52, 62)
# If sine and cosine are both below this, they are rounding errors of float32 zeros and the angle is undefined.
UNDEFINED_ANGLE = 1e-6
TINY = np.finfo(np.float64).tiny
YZX, ZXY = np.array([1, 2, 0]), np.array([2, 0, 1])


class PoseRule(msgspec.Struct, frozen=True):
    """Which (row, column) entries of the rotation R give the angles; SynergyNet and 3DDFA_V2 differ.

    yaw = asin(R[2,0]); pitch = atan2(R[pitch_rc], R[2,2]); roll = atan2(R[roll_rc], R[0,0]).
    """

    pitch_rc: tuple[int, int]
    roll_rc: tuple[int, int]

    def __post_init__(self) -> None:
        if any(len(rc) != 2 or not all(0 <= i <= 2 for i in rc) for rc in (self.pitch_rc, self.roll_rc)):
            raise ValueError("a pose rule names entries of a 3x3 matrix: (row, column), each 0 to 2")


class LandmarkFrame(msgspec.Struct, frozen=True):
    """Convert points from model axes (y up) to crop axes (y down), with the origin that each network's code uses.

    All in crop pixels: x + x_shift, y_from - y, z + z_shift. If z_min_to_zero is set, z is then shifted so that the
    smallest z of each face is 0.
    """

    y_from: float
    x_shift: float = 0.0
    z_shift: float = 0.0
    z_min_to_zero: bool = False

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Points (N,3,P) in model axes -> a new array (N,3,P) in crop axes."""
        x, y, z = points[:, 0] + self.x_shift, self.y_from - points[:, 1], points[:, 2] + self.z_shift
        if self.z_min_to_zero:
            z = z - z.min(axis=1, keepdims=True)
        return np.stack([x, y, z], axis=1)


SYNERGYNET_POSE = PoseRule(pitch_rc=(1, 2), roll_rc=(0, 1))
DDFA_V2_POSE = PoseRule(pitch_rc=(2, 1), roll_rc=(1, 0))
# by convention; "3ddfa" is the first version of 3DDFA_V2
POSE_RULES = {"synergynet": SYNERGYNET_POSE, "3ddfa_v2": DDFA_V2_POSE, "3ddfa": DDFA_V2_POSE}
COMMON_POSE = SYNERGYNET_POSE  # of the results of every bundle; docs/pose.md has a picture per sign
ANGLES = ("common", "official")  # what a caller may choose
SYNERGYNET_FRAME = LandmarkFrame(y_from=121.0)
DDFA_V2_FRAME = LandmarkFrame(y_from=120.0, x_shift=-1.0, z_shift=-1.0, z_min_to_zero=True)
# The official codes differ by one crop pixel: SynergyNet and 3DDFA keep the 1-based pixels of their MATLAB labels.
LANDMARK_FRAMES = {"synergynet": SYNERGYNET_FRAME, "3ddfa_v2": DDFA_V2_FRAME, "3ddfa": SYNERGYNET_FRAME}


def choose_pose_rule(angles: str, official: PoseRule) -> PoseRule:
    """The rule for `angles`: "common", the same for every bundle, or "official", that of the network's own code.

    official: `pose` of the bundle's manifest. Raises ValueError for another name.
    """
    if angles not in ANGLES:
        raise ValueError(f"unknown angles {angles!r}: use {' or '.join(ANGLES)}")
    return COMMON_POSE if angles == "common" else official


def dewhiten(params: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Undo the whitening: network output (N,62) -> parameters (N,62) in the model's units, same dtype."""
    _check_params(params)
    return (params * std.reshape(PARAMS) + mean.reshape(PARAMS)).astype(params.dtype)


def rotation(params: np.ndarray) -> np.ndarray:
    """De-whitened parameters (N,62) -> rotations (N,3,3) float64, rows r1, r2, r1 x r2.

    r1 and r2 are the first two rows of the camera matrix, each normalised. They are not orthogonalised, because the
    official code does not do that and its published pose errors depend on it.
    """
    _check_params(params)
    return rows_to_rotation(params[:, CAMERA].reshape(-1, 3, 4)[:, :2, :3].astype(np.float64))


def rows_to_rotation(rows: np.ndarray) -> np.ndarray:
    """The first two rows of scaled rotations (N,2,3) -> rotations (N,3,3), as `rotation`; a zero row stays zero."""
    rows = rows / np.maximum(np.sqrt((rows * rows).sum(axis=2, keepdims=True)), TINY)
    r1, r2 = rows[:, 0], rows[:, 1]
    r3 = r1[:, YZX] * r2[:, ZXY] - r1[:, ZXY] * r2[:, YZX]  # np.cross is ten times slower
    return np.concatenate([rows, r3[:, None]], axis=1)


def euler_deg(params: np.ndarray, rule: PoseRule) -> np.ndarray:
    """De-whitened parameters (N,62) -> yaw, pitch, roll (N,3) float64 in degrees; yaw is in [-90, 90].

    At yaw +-90 (gimbal lock) only the sum or difference of pitch and roll is defined: it is returned as pitch, and
    roll is 0.

    >>> params = np.zeros((1, 62), np.float32)
    >>> params[0, :12] = np.eye(3, 4).ravel()  # identity rotation, no translation
    >>> euler_deg(params, SYNERGYNET_POSE).tolist()
    [[0.0, 0.0, 0.0]]
    """
    return rotation_to_euler_deg(rotation(params), rule)


def rotation_to_euler_deg(rotations: np.ndarray, rule: PoseRule) -> np.ndarray:
    """Rotations (N,3,3) -> yaw, pitch, roll (N,3) float64 in degrees; see `euler_deg`."""
    sin_yaw = rotations[:, 2, 0].clip(-1.0, 1.0)
    # The usual formulas divide both arguments of atan2 by cos(yaw) >= 0, which only adds a 0/0 case.
    pitch, pitch_undefined = _angle(rotations[:, rule.pitch_rc[0], rule.pitch_rc[1]], rotations[:, 2, 2])
    roll, roll_undefined = _angle(rotations[:, rule.roll_rc[0], rule.roll_rc[1]], rotations[:, 0, 0])
    in_plane = np.arctan2(-np.sign(sin_yaw) * rotations[:, 0, 1], rotations[:, 1, 1])
    pitch = np.where(pitch_undefined & roll_undefined, in_plane, pitch)
    return np.degrees(np.stack([np.arcsin(sin_yaw), pitch, roll], axis=1))


def euler_deg_to_rotation(angles_deg: np.ndarray) -> np.ndarray:
    """Yaw, pitch, roll (N,3) in degrees -> rotations (N,3,3) float64: roll is applied first, then yaw, then pitch.

    The signs are those of `SYNERGYNET_POSE`. `rotation_to_euler_deg` with that rule returns pitch and roll exactly;
    yaw exactly if pitch or roll is 0, else within a few degrees, because it reads sin(yaw) from R[2,0], where this
    order of rotations has it at -R[0,2].
    """
    sine, cosine = np.sin(np.radians(angles_deg)), np.cos(np.radians(angles_deg))
    (sin_yaw, sin_pitch, sin_roll), (cos_yaw, cos_pitch, cos_roll) = sine.T, cosine.T
    zero, one = np.zeros(len(sine)), np.ones(len(sine))
    about_x = np.array([[one, zero, zero], [zero, cos_pitch, sin_pitch], [zero, -sin_pitch, cos_pitch]])
    about_y = np.array([[cos_yaw, zero, -sin_yaw], [zero, one, zero], [sin_yaw, zero, cos_yaw]])
    about_z = np.array([[cos_roll, sin_roll, zero], [-sin_roll, cos_roll, zero], [zero, zero, one]])
    return about_x.transpose(2, 0, 1) @ about_y.transpose(2, 0, 1) @ about_z.transpose(2, 0, 1)


def vertices(
    params: np.ndarray, u: np.ndarray, w_shp: np.ndarray, w_exp: np.ndarray, frame: LandmarkFrame
) -> np.ndarray:
    """De-whitened parameters (N,62) -> points (N,3,V) float32 in crop pixels.

    The bases are as in `model_points`: the dense ones give the mesh, the sparse ones the 68 landmarks.
    """
    return frame.apply(model_points(params, u, w_shp, w_exp)).astype(np.float32)


def model_points(params: np.ndarray, u: np.ndarray, w_shp: np.ndarray, w_exp: np.ndarray) -> np.ndarray:
    """De-whitened parameters (N,62) -> points (N,3,V) in crop pixels, but in the model's axes (y up).

    Args:
        params: De-whitened parameters (N,62).
        u: Mean shape (3V,) or (3V,1); x, y, z interleaved, as in both bases.
        w_shp: Shape basis (3V,40).
        w_exp: Expression basis (3V,10).

    Returns:
        (N,3,V), float32 if all arguments are, else float64.

    Raises:
        ValueError: The shapes do not match.
    """
    _check_params(params)
    rows = u.size
    if rows == 0 or rows % 3 or w_shp.shape != (rows, 40) or w_exp.shape != (rows, 10):
        raise ValueError(
            f"a basis has u (3V,), w_shp (3V, 40), w_exp (3V, 10), not {u.shape}, {w_shp.shape}, {w_exp.shape}"
        )
    flat = u.reshape(1, rows) + params[:, SHAPE] @ w_shp.T + params[:, EXPRESSION] @ w_exp.T
    camera = params[:, CAMERA].reshape(-1, 3, 4)
    return camera[:, :, :3] @ flat.reshape(len(params), rows // 3, 3).transpose(0, 2, 1) + camera[:, :, 3:]


def _angle(sine: np.ndarray, cosine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """atan2 in radians, 0 where it is undefined, and a mask of where that is."""
    undefined = np.hypot(sine, cosine) < UNDEFINED_ANGLE
    return np.where(undefined, 0.0, np.arctan2(sine, cosine)), undefined


def _check_params(params: np.ndarray) -> None:
    if params.ndim != 2 or params.shape[1] != PARAMS:
        raise ValueError(f"parameters must be (N, {PARAMS}), not {params.shape}")
