"""Random appearance of a synthetic face: colours, hair, glasses and light. Geometry and labels do not depend on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

# Linear RGB, from fair to dark.
SKIN_TONES = np.array(
    [
        [0.74, 0.50, 0.40],
        [0.66, 0.41, 0.29],
        [0.50, 0.29, 0.18],
        [0.32, 0.17, 0.10],
        [0.16, 0.082, 0.05],
        [0.07, 0.038, 0.026],
    ]
)
HAIR_TONES = np.array(
    [[0.012, 0.010, 0.009], [0.03, 0.018, 0.012], [0.075, 0.04, 0.02], [0.20, 0.11, 0.05], [0.42, 0.28, 0.14],
     [0.22, 0.07, 0.025], [0.38, 0.37, 0.36]]
)  # fmt: skip
HAIR_SHARES = np.array([0.26, 0.26, 0.2, 0.1, 0.07, 0.04, 0.07])
IRIS_TONES = np.array(
    [[0.03, 0.015, 0.008], [0.09, 0.04, 0.015], [0.12, 0.09, 0.04], [0.06, 0.11, 0.16], [0.06, 0.09, 0.055]]
)
BALD, SHORT, FULL, LONG, CAP = range(5)
STYLE_SHARES = np.array([0.08, 0.34, 0.26, 0.26, 0.06])
NO_GLASSES, CLEAR_GLASSES, SUNGLASSES = range(3)
GLASSES_SHARES = np.array([0.85, 0.11, 0.04])
LIGHTS = 64  # directions in which the surrounding light is sampled


@dataclass(frozen=True)
class GlassesShape:
    """Half width and half height of a lens in mm; `roundness` 1 is an ellipse, less is more rectangular."""

    half_width: float = 23.0
    half_height: float = 17.5
    roundness: float = 0.7
    drop: float = 0.0  # mm by which the lens hangs lower at its outer end
    rim: float = 1.7  # half the width of the frame


@dataclass(frozen=True)
class Details:
    """What only the wide distribution varies; the defaults are the standard faces.

    Left and right are those of the image. `opening_left_right` are the hair's edges in radians from the middle of the
    face (None: both `Appearance.opening`), `hair_width` and `hair_depth` scale long hair across and to the front,
    `hair_end` is its lower end in mm, `hair_wave` the waves of its edge in radians; `cheek_hair` hair in front of the
    ears, left and right, in mm; `parting` slopes the hairline (mm per mm); `beard_length` mm; `tongue` and
    `lower_teeth` 0 to 1 are brightnesses.
    """

    opening_left_right: tuple[float, float] | None = None
    hair_width: float = 1.0
    hair_depth: float = 1.0
    hair_end: float = -200.0
    hair_wave: float = 0.0
    cheek_hair: tuple[float, float] = (0.0, 0.0)
    parting: float = 0.0
    scarf: bool = False
    brim: bool = False
    beard_length: float = 0.0
    glasses_shape: GlassesShape = GlassesShape()
    lens_rgb: tuple[float, float, float] | None = None
    tongue: float = 0.0
    lower_teeth: float = 0.0


@dataclass(frozen=True)
class Appearance:
    """Colours are linear RGB (3,); lengths mm; shares 0 to 1. `light` (64, 3) is radiance per direction."""

    skin: np.ndarray
    hair: np.ndarray
    iris: np.ndarray
    lips: np.ndarray
    cloth: np.ndarray
    frame: np.ndarray
    style: int
    glasses: int
    hairline: float
    hair_volume: float
    opening: float
    beard: float
    stubble: float
    brows: float
    blush: float
    creases: float
    gloss: float
    fringe: float
    gaze: tuple[float, float]
    collar: float
    torso_turn: float
    noise_shift: tuple[float, float]
    light: np.ndarray
    key: np.ndarray
    key_rgb: np.ndarray
    details: Details = Details()


@cache
def light_directions() -> np.ndarray:
    """(64, 3) unit vectors spread evenly over the sphere (Fibonacci lattice)."""
    index = np.arange(LIGHTS) + 0.5
    height, angle = 1 - 2 * index / LIGHTS, np.pi * (1 + np.sqrt(5)) * index
    across = np.sqrt(1 - height**2)
    return np.stack([np.cos(angle) * across, height, np.sin(angle) * across], axis=1)


def draw_appearance(rng: np.random.Generator, rotation: np.ndarray) -> Appearance:
    """A random appearance; `rotation` (3, 3) from the head's axes to the camera's, in which light is drawn."""
    skin = (
        _interpolate(SKIN_TONES, rng.beta(1.0, 1.35) * (len(SKIN_TONES) - 1))
        * rng.uniform(0.8, 1.2)
        * rng.uniform(0.95, 1.05, 3)
    )
    hair = HAIR_TONES[_choice(rng, HAIR_SHARES)] * rng.uniform(0.7, 1.4)
    style = _choice(rng, STYLE_SHARES)
    light, key, key_rgb = _draw_light(rng, rotation)
    man = style != LONG and rng.random() < 0.7
    return Appearance(
        skin=skin,
        hair=draw_cloth(rng) if style == CAP else hair,
        iris=IRIS_TONES[rng.integers(len(IRIS_TONES))] * rng.uniform(0.7, 1.4),
        lips=_draw_lips(rng, skin, made_up=not man and rng.random() < 0.5),
        cloth=draw_cloth(rng),
        frame=draw_cloth(rng) * 0.4,
        style=style,
        glasses=_choice(rng, GLASSES_SHARES),
        hairline=float(rng.normal(80, 9)) - (14 if style == CAP else 0),
        hair_volume={BALD: 0.0, SHORT: rng.uniform(1, 7), CAP: 5.0}.get(style, rng.uniform(7, 18)),
        opening=rng.uniform(0.85, 1.45),
        beard=rng.uniform(0.5, 1.0) if man and rng.random() < 0.3 else 0.0,
        stubble=rng.uniform(0.05, 0.4) if man else 0.0,
        brows=rng.uniform(0.45, 1.0),
        blush=rng.uniform(0.0, 0.35),
        creases=rng.uniform(0.2, 1.0),
        gloss=rng.uniform(0.01, 0.10),
        fringe=rng.uniform(1, 10),
        gaze=(rng.normal(0, 1.5), rng.normal(0, 0.6)),
        collar=rng.uniform(-150, -112),
        torso_turn=rng.uniform(0.0, 0.7),
        noise_shift=(rng.uniform(0, 256), rng.uniform(0, 256)),
        light=light,
        key=key,
        key_rgb=key_rgb,
    )


def _choice(rng: np.random.Generator, shares: np.ndarray) -> int:
    """An index drawn with probabilities proportional to `shares`; faster than `rng.choice`, same result."""
    ends = shares.cumsum()
    return int(np.searchsorted(ends / ends[-1], rng.random(), side="right"))


def _interpolate(table: np.ndarray, position: float) -> np.ndarray:
    low = min(int(position), len(table) - 2)
    share = position - low
    return table[low] * (1 - share) + table[low + 1] * share


def _draw_lips(rng: np.random.Generator, skin: np.ndarray, made_up: bool) -> np.ndarray:
    if made_up:
        return np.array([rng.uniform(0.25, 0.6), rng.uniform(0.02, 0.12), rng.uniform(0.03, 0.14)])
    return skin * np.array([rng.uniform(0.7, 0.95), rng.uniform(0.45, 0.65), rng.uniform(0.5, 0.75)])


def draw_cloth(rng: np.random.Generator) -> np.ndarray:
    """Linear RGB (3,) of clothes, frames and caps."""
    grey = rng.uniform(0.01, 0.7) ** 1.5
    return np.clip(grey + rng.normal(0, 0.12, 3) * rng.random(), 0.005, 0.9)


def _draw_light(rng: np.random.Generator, rotation: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Light of sky and ground, a key light and sometimes a side light.

    Returns the radiance (64, 3) in the head's directions, the key light's direction (3,) and its RGB (3,).
    """
    towards = light_directions() @ rotation.T
    sky, ground = rng.uniform(0.15, 0.7) * _tint(rng, 0.1), rng.uniform(0.05, 0.3) * _tint(rng, 0.1)
    light = ground + (sky - ground) * (0.5 + 0.5 * towards[:, 1:2])
    key = _unit(np.array([rng.normal(0, 0.75), rng.normal(0.45, 0.4), rng.uniform(0.25, 1.1)]))
    key_rgb = rng.uniform(0.4, 3.0) * _tint(rng, 0.1)
    light = light + _lobe(towards, key, rng.uniform(3, 14)) * key_rgb
    if rng.random() < 0.4:
        side = _unit(np.array([rng.choice([-1, 1]) * rng.uniform(0.5, 1), rng.normal(0.1, 0.3), rng.normal(0, 0.5)]))
        light = light + _lobe(towards, side, 6.0) * rng.uniform(0.2, 1.6) * _tint(rng, 0.3)
    return light, key, key_rgb


def _lobe(towards: np.ndarray, centre: np.ndarray, sharpness: float) -> np.ndarray:
    """(64, 1) radiance of a light blurred around `centre`; its irradiance does not depend on `sharpness`."""
    weight = np.exp(sharpness * (towards @ centre - 1))
    return (weight * (LIGHTS / 4) / weight.sum())[:, None]


def _tint(rng: np.random.Generator, std: float) -> np.ndarray:
    warmth = rng.normal(0, std)
    return np.exp(np.array([warmth, 0.1 * rng.normal(0, std), -warmth]))


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
