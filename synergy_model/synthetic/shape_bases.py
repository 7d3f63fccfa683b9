"""Shape and expression bases: smooth displacement fields over the mean head, in mm per unit coefficient."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from synergy.synergy_model.synthetic.head_mesh import EAR, SLIT_END, SLIT_Y, HeadMesh

Field = Callable[[np.ndarray], np.ndarray]  # (V, 3) positions in mm -> (V, 3) displacements in mm

TMJ_YZ = (8.0, 12.0)  # the jaw's hinge
JAW_BACK = 0.5  # an opening jaw also slides forward, which halves its backward motion
CORNER_SHARE = 0.46  # how much of the jaw's movement the mouth's corners follow
EYE_XY, EYE_HALF_WIDTH = (31.0, 25.4), 13.5
EYE_TILT = 0.8  # mm by which the outer corner is above the middle
UPPER_LID, LOWER_LID, CLOSED_LID = 5.6, -4.4, -3.0  # mm above the corners' line, at the middle of the eye
RANDOM_FIELDS, RANDOM_WAVES, RANDOM_RMS = 8, 6, 1.0
GOLDEN = (np.sqrt(5) - 1) / 2
SHAPE_UNIT = 0.8  # one standard deviation of a population, as a multiple of the fields below


def shape_fields(mesh: HeadMesh) -> np.ndarray:
    """(V, 3, 40): identity. Similarity motion of the landmarks is removed, because the camera has it."""
    points = mesh.anchors
    fields = [make(points) for make in SHAPES] + [_ear_field(mesh)]
    fields += [_random_field(points, index) for index in range(RANDOM_FIELDS)]
    return SHAPE_UNIT * np.stack([_without_similarity(field, mesh) for field in fields], axis=2)


def expression_fields(mesh: HeadMesh) -> np.ndarray:
    """(V, 3, 10), in the order of EXPRESSION_NAMES."""
    points, jaw, upper = mesh.anchors, _jaw_weight(mesh), _upper_weight(mesh)
    moved = np.zeros((*points.shape, 10))
    moved[:, 1, 0] = -0.2 * jaw * (points[:, 2] - TMJ_YZ[1])
    moved[:, 2, 0] = 0.2 * JAW_BACK * jaw * (points[:, 1] - TMJ_YZ[0])
    moved[:, :, 1] = _smile(points)
    moved[:, :, 2] = _pucker(points)
    moved[:, :, 3] = _bump((27, 48), (22, 14), (0, 6, 0.5))(points) + _lids(1.2, 0.0)(points)
    moved[:, :, 4] = _bump((12, 44), (11, 11), (-2.5, -4, 1.5))(points)
    moved[:, :, 5] = _lids(CLOSED_LID - UPPER_LID, CLOSED_LID - LOWER_LID)(points)
    moved[:, 0, 6] = 6.0 * jaw
    moved[:, 1, 7] = 5.0 * upper
    moved[:, :, 8] = _bump((26, -43), (12, 9), (0.5, -5, -0.5))(points)
    moved[:, 0, 9] = 5.0 * _window(points, (0, -42), (28, 16))
    return moved


EXPRESSION_NAMES = (
    "jaw_open", "smile", "pucker", "brow_raise", "frown", "blink", "jaw_sideways", "upper_lip_raise",
    "corners_down", "mouth_sideways",
)  # fmt: skip


def _window(points: np.ndarray, centre_xy: tuple[float, float], sigma_xy: tuple[float, float]) -> np.ndarray:
    """Gaussian in the frontal plane, mirrored in x, fading out behind the face."""
    x = (np.abs(points[:, 0]) - centre_xy[0]) / sigma_xy[0]
    y = (points[:, 1] - centre_xy[1]) / sigma_xy[1]
    return np.exp(-0.5 * (x * x + y * y)) * _step(points[:, 2], -20.0, 40.0)


def _step(value: np.ndarray, start: float, stop: float) -> np.ndarray:
    """Smooth step from 0 at `start` to 1 at `stop` (which may be the smaller)."""
    t = np.clip((value - start) / (stop - start), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def _side(points: np.ndarray) -> np.ndarray:
    """-1 to 1: which side of the face, smooth across the middle."""
    return np.tanh(points[:, 0] / 9.0)


def _bump(centre_xy: tuple[float, float], sigma_xy: tuple[float, float], move: tuple[float, float, float]) -> Field:
    """Both sides move by `move`; positive x is outwards."""

    def field(points: np.ndarray) -> np.ndarray:
        weight = _window(points, centre_xy, sigma_xy)
        return np.stack([weight * _side(points) * move[0], weight * move[1], weight * move[2]], axis=1)

    return field


def _stretch(centre_y: float, sigma_xy: tuple[float, float], rate: float) -> Field:
    """Widening in proportion to x, around (0, centre_y)."""

    def field(points: np.ndarray) -> np.ndarray:
        moved = np.zeros_like(points)
        moved[:, 0] = rate * points[:, 0] * _window(points, (0, centre_y), sigma_xy)
        return moved

    return field


def _scale(rates: tuple[float, float, float]) -> Field:
    return lambda points: (points - np.array([0.0, 0.0, 40.0])) * np.array(rates)


def _taper(points: np.ndarray) -> np.ndarray:
    moved = np.zeros_like(points)
    moved[:, 0] = 0.0009 * points[:, 0] * np.clip(points[:, 1], -100.0, 90.0)
    return moved


def _lower_face(points: np.ndarray) -> np.ndarray:
    moved = np.zeros_like(points)
    moved[:, 1] = -4.0 * _step(points[:, 1], -10.0, -65.0) * _step(points[:, 2], -30.0, 40.0)
    return moved


def _eye_tilt(points: np.ndarray) -> np.ndarray:
    moved = np.zeros_like(points)
    along = np.clip((np.abs(points[:, 0]) - EYE_XY[0]) / EYE_HALF_WIDTH, -1.5, 1.5)
    moved[:, 1] = 1.6 * along * _window(points, EYE_XY, (17, 12))
    return moved


def _lids(upper: float, lower: float) -> Field:
    """Upper and lower lids move by so many mm at the eye's middle, the skin around follows."""

    def field(points: np.ndarray) -> np.ndarray:
        along = (np.abs(points[:, 0]) - EYE_XY[0]) / EYE_HALF_WIDTH
        arch = np.clip(1 - along * along, 0.0, None)
        height = points[:, 1] - EYE_XY[1] - EYE_TILT * along
        above, below = height - UPPER_LID * arch, height - LOWER_LID * arch
        share = np.clip(-below / np.minimum(above - below, -1e-6), 0.0, 1.0)
        moved = np.zeros_like(points)
        moved[:, 1] = (lower + (upper - lower) * share) * arch
        moved[:, 1] *= _step(above, 11.0, 0.0) * _step(below, -7.0, 0.0) * (points[:, 2] > 50)
        return moved

    return field


def _smile(points: np.ndarray) -> np.ndarray:
    corners = _bump((26, -41), (12, 11), (3.5, 5.5, -3.0))(points)
    cheeks = _bump((35, -8), (13, 13), (1.5, 2.5, 3.0))(points)
    return corners + cheeks + _stretch(-42, (22, 10), 0.12)(points) + _lids(0.0, 1.2)(points)


def _pucker(points: np.ndarray) -> np.ndarray:
    return _stretch(-42, (22, 12), -0.28)(points) + _bump((0, -42), (17, 11), (0, 0, 5.5))(points)


def _slit_profile(points: np.ndarray) -> np.ndarray:
    """1 at the middle of the mouth's line, 0 from its corners outwards."""
    return np.sqrt(np.clip(1 - (points[:, 0] / SLIT_END) ** 2, 0.0, None))


def _is_lower(mesh: HeadMesh) -> np.ndarray:
    return np.where(np.isnan(mesh.lower), mesh.anchors[:, 1] < SLIT_Y, mesh.lower > 0.5)


def _jaw_weight(mesh: HeadMesh) -> np.ndarray:
    """How far each vertex follows the mandible: the lower lip fully, the upper not, the corners half."""
    points, profile = mesh.anchors, _slit_profile(mesh.anchors)
    at_lower = CORNER_SHARE + (1 - CORNER_SHARE) * profile
    at_upper = CORNER_SHARE * (1 - profile)
    gap = points[:, 1] - SLIT_Y
    lower = at_lower + (1 - at_lower) * _step(gap, 0.0, -18.0)
    upper = at_upper * _step(gap, 30.0, 0.0)
    weight = np.where(_is_lower(mesh), lower, upper)
    return weight * _step(points[:, 2], 5.0, 45.0) * (mesh.parts_of_vertices != EAR)


def _upper_weight(mesh: HeadMesh) -> np.ndarray:
    points = mesh.anchors
    weight = _slit_profile(points) ** 2 * _step(points[:, 1] - SLIT_Y, 24.0, 3.0) * (points[:, 2] > 50)
    return np.where(_is_lower(mesh), 0.0, weight)


def _ear_field(mesh: HeadMesh) -> np.ndarray:
    """Moves the rims of the ears away from the head."""
    rim = np.where(mesh.parts_of_vertices == EAR, _step(mesh.vertices[:, 2], 15.0, -20.0), 0.0)
    return rim[:, None] * np.sign(mesh.vertices[:, :1]) * np.array([4.0, 0.0, 0.0])


def _random_field(points: np.ndarray, index: int) -> np.ndarray:
    """A sum of plane waves 70 to 160 mm long; the last two fields are not symmetric."""
    symmetric = index < RANDOM_FIELDS - 2
    inputs = points * np.array([1.0, 1.0, 0.7])
    if symmetric:
        inputs[:, 0] = np.hypot(inputs[:, 0], 25.0)  # even in x without a crease at the middle
    moved = np.zeros_like(points)
    for wave in range(RANDOM_WAVES):
        draw = np.mod((1 + index * RANDOM_WAVES + wave) * GOLDEN ** np.arange(1, 8), 1.0)
        axis = np.array([draw[0] - 0.5, draw[1] - 0.5, 0.5 * (draw[2] - 0.5)])
        length = 70.0 + 90.0 * draw[3]
        phase = inputs @ (axis / np.linalg.norm(axis)) * (2 * np.pi / length) + 2 * np.pi * draw[4]
        direction = np.array([draw[5] - 0.5, draw[6] - 0.5, 0.7 * np.cos(2 * np.pi * draw[5])])
        moved += np.sin(phase)[:, None] * direction
    if symmetric:
        moved[:, 0] *= _side(points)
    moved *= _step(points[:, 2], -40.0, 30.0)[:, None]
    return moved * (RANDOM_RMS / np.sqrt((moved**2).sum(axis=1).mean()))


def _without_similarity(field: np.ndarray, mesh: HeadMesh) -> np.ndarray:
    """Subtract the translation, rotation and scaling that best fit the landmarks' motion."""
    modes = _similarity_modes(mesh.vertices)
    marks = modes[mesh.landmarks].reshape(-1, modes.shape[2])
    share, *_ = np.linalg.lstsq(marks, field[mesh.landmarks].ravel(), rcond=None)
    return field - modes @ share


def _similarity_modes(points: np.ndarray) -> np.ndarray:
    """(V, 3, 7): three translations, three rotations and one scaling of a rigid body."""
    axes = np.eye(3)
    shifts = [np.broadcast_to(axis, points.shape) for axis in axes]
    rotations = [np.cross(axis, points) for axis in axes]
    return np.stack([*shifts, *rotations, points], axis=2)


SHAPES: tuple[Field, ...] = (
    _scale((0.05, 0, 0)),  # wide head
    _scale((0, 0.045, 0)),  # long head
    _taper,  # broad above, narrow below; no field for depth: width and length together are its inverse
    _lower_face,
    _bump((50, -48), (22, 20), (4.5, 0, 0)),  # wide jaw angle
    _bump((14, -78), (14, 14), (3.5, 0, 0)),  # broad chin
    _bump((0, -76), (24, 16), (0, 0, 4.5)),  # chin forward
    _bump((0, -82), (16, 16), (0, -4, 0)),  # pointed chin
    _bump((50, 4), (16, 20), (3.5, 0, 1)),  # cheekbones
    _bump((38, -26), (18, 20), (3.5, 0, 3)),  # full cheeks
    _bump((0, 88), (50, 28), (0, 0, 5)),  # upright forehead
    _bump((54, 62), (20, 28), (3.5, 0, 0)),  # broad temples
    _bump((24, 43), (20, 8), (0, -0.5, 3)),  # brow ridge
    _bump((29, 47), (22, 9), (0, 2.6, 0)),  # high brows
    _bump((45, 43), (11, 10), (0, 2.8, 0)),  # outer brows up
    _bump((31, 26), (16, 12), (2.2, 0, 0)),  # eyes apart
    _lids(1.3, -0.8),  # eyes open
    _bump((44, 26), (10, 10), (2.0, 0, 0)),  # long eyes
    _eye_tilt,
    _bump((30, 27), (15, 11), (0, 0, -2.5)),  # deep eyes
    _bump((0, -10), (17, 15), (0, -4, 0)),  # long nose
    _bump((13, -11), (9, 9), (2.8, 0, 0)),  # wide nose
    _bump((0, -6), (13, 14), (0, 0, 4.5)),  # nose forward
    _bump((0, 13), (9, 10), (0, 0, 3)),  # nose hump
    _bump((0, -3), (10, 9), (0, 2.6, 0)),  # nose tip up
    _bump((8, 16), (8, 16), (2, 0, 0)),  # wide bridge
    _stretch(-42, (24, 11), 0.11),  # wide mouth
    _bump((9, -33), (14, 4.5), (0, 1.6, 1.0)),  # full upper lip
    _bump((8, -51), (14, 5.5), (0, -1.8, 1.2)),  # full lower lip
    _bump((0, -42), (28, 13), (0, 3, 0)),  # short upper lip
    _bump((0, -42), (24, 14), (0, 0, 3.5)),  # mouth forward
)
