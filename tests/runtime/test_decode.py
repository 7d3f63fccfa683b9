"""Pose and geometry against the two official codes, and against rotations whose angles are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synergy.runtime.crop import roi_to_image
from synergy.runtime.decode import (
    COMMON_POSE,
    DDFA_V2_FRAME,
    DDFA_V2_POSE,
    SYNERGYNET_FRAME,
    SYNERGYNET_POSE,
    LandmarkFrame,
    PoseRule,
    dewhiten,
    euler_deg,
    euler_deg_to_rotation,
    rotation,
    rotation_to_euler_deg,
    vertices,
)

RULES = {"synergynet": SYNERGYNET_POSE, "3ddfa_v2": DDFA_V2_POSE}
ANGLES = [(y, p, r) for y in (-89, -60, 0, 30, 85) for p in (-80, -20, 0, 45) for r in (-170, -45, 0, 20, 120)]


def about(axis: int, degrees: float) -> np.ndarray:
    """The right-handed rotation about one axis."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(3)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix[[i, i, j, j], [i, j, i, j]] = cos, -sin, sin, cos
    return matrix


def head(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """The rotation to which 3DDFA_V2 gives these angles."""
    return about(2, roll) @ about(1, -yaw) @ about(0, pitch)


def camera(rotations: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Parameters (N,62) with these rotations and no shape or expression."""
    params = np.zeros((len(rotations), 62))
    params[:, :12] = np.concatenate([rotations * scale, np.zeros((len(rotations), 3, 1))], axis=2).reshape(-1, 12)
    return params


@pytest.fixture(scope="module")
def morphable(shared: Path) -> dict[str, np.ndarray]:
    with np.load(shared / "morphable" / "sparse68.npz") as arrays:
        return dict(arrays)


class TestReference:
    @pytest.mark.parametrize("name", ["emma", "JianzhuGuo"])
    def test_3ddfa_v2(self, shared: Path, morphable: dict[str, np.ndarray], name: str) -> None:
        real = np.load(shared / "reference" / f"real_{name}.npz")
        params = dewhiten(real["param_whitened"], morphable["param_mean_v2"], morphable["param_std_v2"])
        np.testing.assert_allclose(params, real["param"], rtol=1e-6)
        np.testing.assert_allclose(euler_deg(params, DDFA_V2_POSE), real["pose_yaw_pitch_roll_deg"], atol=1e-4)
        np.testing.assert_allclose(rotation(params), real["P_noscale"][:, :, :3], atol=1e-6)
        basis = (morphable[key] for key in ("u_base", "w_shp_base", "w_exp_base"))
        points = roi_to_image(vertices(params, *basis, DDFA_V2_FRAME), real["roi_box"])
        np.testing.assert_allclose(points, real["landmarks"], atol=2e-3)

    @pytest.mark.parametrize("arch", ["mobilenet_v2", "mobilenet_1"])
    def test_synergynet(self, shared: Path, morphable: dict[str, np.ndarray], arch: str) -> None:
        reference = np.load(shared / "reference" / f"io_{arch}.npz")
        params = dewhiten(reference["params"], morphable["param_mean_v1"], morphable["param_std_v1"])
        angles = reference["euler_yaw_pitch_roll_deg"]
        np.testing.assert_allclose(euler_deg(params, SYNERGYNET_POSE), angles, atol=1e-4)
        basis = (morphable[key] for key in ("u_base", "w_shp_base", "w_exp_base"))
        np.testing.assert_allclose(vertices(params, *basis, SYNERGYNET_FRAME), reference["lm68"], atol=1e-3)


class TestEuler:
    @pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
    def test_no_faces(self, rule: PoseRule) -> None:
        assert euler_deg(np.zeros((0, 62), np.float32), rule).shape == (0, 3)

    def test_3ddfa_v2_undoes_known_rotations(self) -> None:
        params = camera(np.array([head(*angles) for angles in ANGLES]), scale=7e-4)
        np.testing.assert_allclose(euler_deg(params, DDFA_V2_POSE), ANGLES, atol=1e-9)

    def test_synergynet_is_the_printed_formula(self) -> None:
        rotations = np.array([head(*angles) for angles in ANGLES])
        yaw = np.arcsin(rotations[:, 2, 0])
        pitch = np.arctan2(rotations[:, 1, 2] / np.cos(yaw), rotations[:, 2, 2] / np.cos(yaw))
        roll = np.arctan2(rotations[:, 0, 1] / np.cos(yaw), rotations[:, 0, 0] / np.cos(yaw))
        expected = np.degrees(np.stack([yaw, pitch, roll], axis=1))
        np.testing.assert_allclose(euler_deg(camera(rotations), SYNERGYNET_POSE), expected, atol=1e-9)

    @pytest.mark.parametrize("angle", [-80, -30, 0, 10, 75])
    def test_the_rules_differ_in_the_signs_of_pitch_and_roll(self, angle: float) -> None:
        """Turned about one axis, so that the order of the axes plays no part."""
        turns = [(angle, 0, 0), (0, angle, 0), (0, 0, angle)]
        params = camera(np.array([head(*turn) for turn in turns]))
        np.testing.assert_allclose(euler_deg(params, DDFA_V2_POSE), np.diag([angle] * 3), atol=1e-9)
        np.testing.assert_allclose(euler_deg(params, SYNERGYNET_POSE), np.diag([angle, -angle, -angle]), atol=1e-9)

    @pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
    @pytest.mark.parametrize("beyond", [1.0, 1.0 + 1e-7, -1.0 - 1e-7])
    def test_rounding_beyond_one_is_90_degrees(self, rule: PoseRule, beyond: float) -> None:
        rotations = np.diag([0.0, 1.0, 0.0])[None].copy()
        rotations[0, 2, 0] = beyond
        assert rotation_to_euler_deg(rotations, rule).tolist() == [[np.sign(beyond) * 90, 0, 0]]

    @pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
    @pytest.mark.parametrize("noise", [0.0, 1e-9])
    def test_noise_at_profile_does_not_turn_the_head_over(self, rule: PoseRule, noise: float) -> None:
        rotations = np.array([head(90, 0, 0)])
        rotations[0, [0, 2, 2, 1], [0, 2, 1, 0]] = -noise
        assert np.abs(rotation_to_euler_deg(rotations, rule)[0, 1:]).max() < 1e-3

    @pytest.mark.parametrize("yaw", [90, -90])
    @pytest.mark.parametrize("pitch", [-40, 0, 25])
    @pytest.mark.parametrize("roll", [-30, 0, 60])
    def test_the_locked_angles_rebuild_the_rotation(self, yaw: float, pitch: float, roll: float) -> None:
        rotations = np.array([head(yaw, pitch, roll)])
        (angles,) = rotation_to_euler_deg(rotations, DDFA_V2_POSE)
        assert angles[2] == 0
        np.testing.assert_allclose(head(*angles), rotations[0], atol=1e-9)


class TestAnglesToRotation:
    @pytest.mark.parametrize("angles_deg", [(0, 0, 0), (40, -20, 10), (-75, 12, -25), (89, 3, 3)])
    def test_is_a_rotation_and_reads_back(self, angles_deg: tuple[float, float, float]) -> None:
        """Pitch and roll read back exactly; yaw exactly where it is the only angle."""
        only_yaw = (angles_deg[0], 0, 0)
        rotations = euler_deg_to_rotation(np.array([angles_deg, only_yaw]))
        np.testing.assert_allclose(rotations[0] @ rotations[0].T, np.eye(3), atol=1e-12)
        assert np.linalg.det(rotations[0]) == pytest.approx(1)
        found = rotation_to_euler_deg(rotations, SYNERGYNET_POSE)
        np.testing.assert_allclose(found[0, 1:], angles_deg[1:], atol=1e-6)
        np.testing.assert_allclose(found[1], only_yaw, atol=1e-6)

    def test_no_angles(self) -> None:
        assert euler_deg_to_rotation(np.zeros((0, 3))).shape == (0, 3, 3)


class TestRotation:
    def test_rows_are_normalised_but_not_made_orthogonal(self) -> None:
        params = np.zeros((1, 62), np.float32)
        params[0, :12] = 3, 0, 0, 9, 0.5, 0.5, 0, 9, 7, 7, 7, 9
        half = np.sqrt(0.5)
        np.testing.assert_allclose(rotation(params)[0], [[1, 0, 0], [half, half, 0], [0, 0, half]], atol=1e-7)

    def test_an_empty_camera_is_finite(self) -> None:
        assert not rotation(np.zeros((1, 62), np.float32)).any()


class TestVertices:
    def test_by_hand(self) -> None:
        """Two vertices, a mirror as camera, one shape and one expression coefficient."""
        params = np.zeros((1, 62), np.float32)
        params[0, :12] = -1, 0, 0, 10, 0, 1, 0, 20, 0, 0, 1, 30
        params[0, 12], params[0, 61] = 2, 3
        u = np.arange(6, dtype=np.float32).reshape(6, 1)
        w_shp, w_exp = np.zeros((6, 40), np.float32), np.zeros((6, 10), np.float32)
        w_shp[0, 0], w_exp[5, 9] = 1, 1
        points = vertices(params, u, w_shp, w_exp, LandmarkFrame(y_from=100))
        assert points.dtype == np.float32
        assert points[0].tolist() == [[10 - (0 + 2), 10 - 3], [100 - 21, 100 - 24], [32, 30 + 5 + 3]]

    def test_no_faces(self) -> None:
        basis = np.zeros((6, 1)), np.zeros((6, 40)), np.zeros((6, 10))
        assert vertices(np.zeros((0, 62)), *basis, SYNERGYNET_FRAME).shape == (0, 3, 2)

    @pytest.mark.parametrize(("u", "shp", "exp"), [((5, 1), (5, 40), (5, 10)), ((6, 1), (6, 10), (6, 40)), ((0,),) * 3])
    def test_bases_must_fit(self, u: tuple[int, ...], shp: tuple[int, ...], exp: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="a basis has u"):
            vertices(np.zeros((1, 62)), np.zeros(u), np.zeros(shp), np.zeros(exp), SYNERGYNET_FRAME)


class TestLandmarkFrame:
    points = np.array([[[1.0, 2], [30, 40], [-5, 7]]])

    @pytest.mark.parametrize(
        ("frame", "expected"),
        [
            (SYNERGYNET_FRAME, [[1, 2], [91, 81], [-5, 7]]),
            (DDFA_V2_FRAME, [[0, 1], [90, 80], [0, 12]]),
            (LandmarkFrame(120, z_shift=-1), [[1, 2], [90, 80], [-6, 6]]),
        ],
    )
    def test_by_hand(self, frame: LandmarkFrame, expected: list[list[float]]) -> None:
        before = self.points.copy()
        assert frame.apply(self.points)[0].tolist() == expected
        assert np.array_equal(self.points, before)


@pytest.mark.parametrize("shape", [(62,), (1, 61), (1, 2, 62)])
def test_parameters_must_be_62(shape: tuple[int, ...]) -> None:
    params = np.zeros(shape)
    for decode in (rotation, lambda p: euler_deg(p, DDFA_V2_POSE), lambda p: dewhiten(p, np.zeros(62), np.ones(62))):
        with pytest.raises(ValueError, match=r"must be \(N, 62\)"):
            decode(params)


@pytest.mark.parametrize("rc", [(3, 0), (-1, 0), (1,)])
def test_a_pose_rule_names_matrix_entries(rc: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="3x3"):
        PoseRule(pitch_rc=rc, roll_rc=(0, 1))


@pytest.mark.parametrize(
    ("angles", "point", "moved_xy"),
    [
        ((30, 0, 0), (0, 0, 1), (-0.5, 0)),  # + yaw: the nose points to the left of the image
        ((0, 30, 0), (0, 0, 1), (0, 0.5)),  # + pitch: the nose points up
        ((0, 0, 30), (0, 1, 0), (0.5, 3**0.5 / 2)),  # + roll: the crown tilts to the right of the image
    ],
)
def test_signs_of_the_common_angles(
    angles: tuple[int, int, int], point: tuple[int, int, int], moved_xy: tuple[float, float]
) -> None:
    """The table of docs/pose.md; x right, y up, z to the viewer."""
    (rotated,) = euler_deg_to_rotation(np.array([angles], float))
    np.testing.assert_allclose((rotated @ point)[:2], moved_xy, atol=1e-9)
    np.testing.assert_allclose(rotation_to_euler_deg(rotated[None], COMMON_POSE), [angles], atol=1e-9)
