"""How often which poses, expressions and appearances are drawn: `STANDARD`, and `WIDE` with more difficult faces."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from synergy.runtime.decode import SYNERGYNET_POSE, euler_deg_to_rotation, rotation_to_euler_deg
from synergy.synergy_model.synthetic.appearance import (
    CAP,
    LONG,
    SUNGLASSES,
    Appearance,
    Details,
    GlassesShape,
    draw_cloth,
)

MAX_YAW, MAX_PITCH, MAX_ROLL = 88.0, 35.0, 30.0  # degrees; at yaw 90 pitch and roll are no longer defined
YAW_STD, PITCH_STD, ROLL_STD = 27.0, 11.0, 9.0
NEAR_FRONTAL = 0.5  # share of faces drawn around yaw 0; the rest is uniform
PITCH_ROLL_KEPT_IN_PROFILE = 0.3  # share of pitch and roll at yaw 90, where Euler angles are ill-defined
# Per expression: chance to be neutral, then mean, standard deviation, lowest and highest coefficient.
EXPRESSIONS = np.array(
    [
        [0.45, 0.35, 0.5, 0.0, 1.7],  # jaw_open
        [0.35, 0.4, 0.5, -0.2, 1.4],  # smile
        [0.75, 0.4, 0.4, 0.0, 1.2],  # pucker
        [0.40, 0.1, 0.5, -0.6, 1.4],  # brow_raise
        [0.60, 0.2, 0.5, -0.3, 1.3],  # frown
        [0.30, 0.1, 0.18, -0.15, 1.0],  # blink; CLOSED_SHARE of faces have their eyes shut
        [0.70, 0.0, 0.5, -1.2, 1.2],  # jaw_sideways
        [0.65, 0.25, 0.35, 0.0, 1.2],  # upper_lip_raise
        [0.65, 0.25, 0.35, -0.3, 1.2],  # corners_down
        [0.70, 0.0, 0.45, -1.2, 1.2],  # mouth_sideways
    ]
)
JAW_OPEN, SMILE, BLINK = 0, 1, 5
CLOSED_SHARE = 0.07
# Of the wide distribution only.
OPEN_SHARE, OPEN_RANGE = 0.15, (1.2, 2.6)  # mouths opened wide, and their coefficient of jaw_open
FAR_SHARE, FAR_RANGE = 0.3, (50.0, 88.0)  # more yaws towards profile, degrees
BELOW_SHARE, BELOW_RANGE = 0.2, (10.0, 38.0)  # heads seen from below, degrees
CAMERA_STD, NOD_STD, TILT_STD = 9.0, 11.0, 10.0
MAX_WIDE_TILT = 60.0  # degrees of pitch and roll


@dataclass(frozen=True)
class Distribution:
    """`wide`: more profiles, heads seen from below, wide open mouths, dark glasses, hair and cloth over the jaw, long
    beards, hats and covered parts. Otherwise the faces of evaluations, golden values and the whitening.
    """

    wide: bool

    def draw_expression(self, rng: np.random.Generator) -> np.ndarray:
        """(10,) coefficients."""
        neutral, mean, std, low, high = EXPRESSIONS.T
        values = np.clip(mean + std * rng.standard_normal(len(EXPRESSIONS)), low, high)
        values = np.where(rng.random(len(EXPRESSIONS)) < neutral, 0.0, values)
        if rng.random() < CLOSED_SHARE:
            values[BLINK] = rng.uniform(0.85, 1.0)
        if self.wide and rng.random() < OPEN_SHARE:
            values[JAW_OPEN] = rng.uniform(*OPEN_RANGE)
            values[SMILE] = rng.choice([0.0, rng.uniform(0.3, 1.4)])
        return values

    def rotation_of(self, rng: np.random.Generator) -> np.ndarray:
        """(3, 3) from the head's axes to the camera's."""
        if not self.wide:
            return np.asarray(euler_deg_to_rotation(_draw_pose(rng)[None])[0])
        while True:
            rotation = _draw_wide_rotation(rng)
            angles = rotation_to_euler_deg(rotation[None], SYNERGYNET_POSE)[0]
            if np.abs(angles[1:]).max() < MAX_WIDE_TILT:
                return rotation

    def vary(self, appearance: Appearance, rng: np.random.Generator) -> Appearance:
        """`appearance`, in the wide distribution with details drawn anew."""
        return _vary(appearance, rng) if self.wide else appearance


STANDARD, WIDE = Distribution(wide=False), Distribution(wide=True)


def _draw_pose(rng: np.random.Generator) -> np.ndarray:
    near, wide = rng.normal(0, YAW_STD), rng.uniform(-MAX_YAW, MAX_YAW)
    yaw = np.clip(near if rng.random() < NEAR_FRONTAL else wide, -MAX_YAW, MAX_YAW)
    steady = PITCH_ROLL_KEPT_IN_PROFILE + (1 - PITCH_ROLL_KEPT_IN_PROFILE) * np.cos(np.radians(yaw))
    pitch = np.clip(rng.normal(0, PITCH_STD), -MAX_PITCH, MAX_PITCH) * steady
    roll = np.clip(rng.normal(0, ROLL_STD), -MAX_ROLL, MAX_ROLL) * steady
    return np.array([yaw, pitch, roll])


def _draw_wide_rotation(rng: np.random.Generator) -> np.ndarray:
    """A head that tilts and nods, then turns on its body, seen by a camera from above or below."""
    yaw = _draw_pose(rng)[0]
    if rng.random() < FAR_SHARE:
        yaw = rng.choice([-1, 1]) * rng.uniform(*FAR_RANGE)
    nod, tilt, camera = rng.normal(0, (NOD_STD, TILT_STD, CAMERA_STD))
    if rng.random() < BELOW_SHARE:
        camera = rng.uniform(*BELOW_RANGE)
    seen, turned, nodded, tilted = euler_deg_to_rotation(
        np.array([[0, camera, 0], [yaw, 0, 0], [0, nod, 0], [0, 0, tilt]])
    )
    return np.asarray(seen @ turned @ nodded @ tilted)


def _vary(appearance: Appearance, rng: np.random.Generator) -> Appearance:
    """Other hairlines, hair over cheeks and jaw, headscarves, brims, beards with volume, glasses of all shapes."""
    scarf = rng.random() < 0.05
    style = LONG if scarf else appearance.style
    glasses = SUNGLASSES if rng.random() < 0.1 else appearance.glasses
    covers = style == LONG and rng.random() < 0.6
    beard = appearance.beard
    details = Details(
        opening_left_right=_draw_openings(rng, covers or scarf),
        hair_width=rng.uniform(0.82, 1.0) if covers or scarf else rng.uniform(0.9, 1.15),
        hair_depth=rng.uniform(1.05, 1.3) if covers or scarf else rng.uniform(0.9, 1.1),
        hair_end=-200.0 if scarf or rng.random() < 0.5 else rng.uniform(-130, -30),
        hair_wave=0.0 if scarf else float(rng.uniform(0, 0.14)),
        cheek_hair=(rng.uniform(0, 38), rng.uniform(0, 38)) if style == LONG and rng.random() < 0.6 else (0.0, 0.0),
        parting=float(rng.normal(0, 0.25)) if style != CAP else 0.0,
        scarf=scarf,
        brim=style == CAP and rng.random() < 0.7,
        beard_length=float(rng.gamma(1.5, 7)) if beard > 0 and rng.random() < 0.6 else 0.0,
        glasses_shape=GLASSES_SHAPES[rng.integers(len(GLASSES_SHAPES))],
        lens_rgb=_draw_lens(rng),
        tongue=rng.uniform(0.0, 1.0),
        lower_teeth=rng.uniform(0.2, 1.0) if rng.random() < 0.5 else 0.0,
    )
    hairline = appearance.hairline + rng.normal(0, 8) - (rng.uniform(8, 26) if rng.random() < 0.2 else 0.0)
    return replace(
        appearance,
        style=style,
        hair=draw_cloth(rng) if scarf else appearance.hair,
        glasses=glasses,
        hairline=float(hairline),
        collar=rng.uniform(-112, -82) if rng.random() < 0.15 else appearance.collar,
        details=details,
    )


def _draw_openings(rng: np.random.Generator, covers: bool) -> tuple[float, float]:
    """Angles in radians between the middle of the face and the hair's edges, image left and right."""
    low, high = (0.4, 1.0) if covers else (0.8, 1.5)
    middle, difference = rng.uniform(low, high), rng.normal(0, 0.15)
    return float(middle + difference), float(middle - difference)


def _draw_lens(rng: np.random.Generator) -> tuple[float, float, float]:
    """Mostly black or dark; some brown, some mirrored."""
    grey = rng.uniform(0.003, 0.03) if rng.random() < 0.75 else rng.uniform(0.03, 0.35)
    red, green, blue = grey * np.exp(rng.normal(0, 0.25, 3))
    return float(red), float(green), float(blue)


GLASSES_SHAPES = (
    GlassesShape(),
    GlassesShape(27.0, 20.0, 0.6),  # large, rectangular
    GlassesShape(29.0, 23.0, 0.85, drop=4.0),  # aviator
    GlassesShape(31.0, 24.0, 0.7, drop=3.0),  # very large
    GlassesShape(22.0, 21.0, 1.0),  # round
    GlassesShape(26.0, 12.5, 0.6),  # flat
    GlassesShape(30.0, 17.0, 0.45, rim=3.2),  # thick frame
)
