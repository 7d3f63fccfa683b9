"""Measure a network on faces of `draw_faces.py` that are difficult in a known way, and draw where it fails.

    python draw_faces.py held-out --count 1384 --seed 1001 --wide 0.75
    python measure.py held-out failures.jpg

The table has one row per difficulty. The picture has one column per difficulty, from the median error at the top to the
largest at the bottom: labels green, predictions red. PyTorch is not needed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from draw_faces import distribution_of
from face_files import DESCRIPTION, open_files

from synergy import FaceAligner
from synergy.runtime.decode import SYNERGYNET_FRAME, SYNERGYNET_POSE, euler_deg, vertices
from synergy.synergy_model.metrics import nme_percent
from synergy.synergy_model.synthetic.appearance import LONG, SUNGLASSES, Appearance
from synergy.synergy_model.synthetic.distribution import STANDARD, WIDE, Distribution
from synergy.synergy_model.synthetic.faces import SyntheticFaces
from synergy.synergy_model.synthetic.morphable_bases import CAMERA_DIM, SHAPE_DIM, procedural_morphable

JAW_OPEN = CAMERA_DIM + SHAPE_DIM  # index of the coefficient in the parameters
JAW, CHIN = slice(0, 17), 8  # iBUG indices
WIDE_OPEN, LONG_BEARD_MM, CHEEK_HAIR_MM, NARROW_OPENING = 1.2, 8.0, 15.0, 0.75
SHOWN_PERCENTILES = (50, 75, 90, 100)
TILE = 128  # px
LABEL_BGR, PREDICTED_BGR = (0, 220, 0), (30, 30, 255)


@dataclass(frozen=True)
class Face:
    """What decides the difficulties of a face."""

    distribution: Distribution
    yaw: float
    pitch: float
    jaw_open: float
    appearance: Appearance

    @property
    def steep(self) -> bool:
        return abs(self.yaw) > 30 or abs(self.pitch) > 20

    @property
    def mouth_open(self) -> bool:
        return self.jaw_open > WIDE_OPEN

    @property
    def covered_jaw(self) -> bool:
        details = self.appearance.details
        narrow = details.opening_left_right is not None and min(details.opening_left_right) < NARROW_OPENING
        return details.scarf or (self.appearance.style == LONG and narrow) or max(details.cheek_hair) > CHEEK_HAIR_MM

    @property
    def long_beard(self) -> bool:
        return self.appearance.details.beard_length > LONG_BEARD_MM

    @property
    def dark_glasses(self) -> bool:
        return self.appearance.glasses == SUNGLASSES

    @property
    def plain(self) -> bool:
        return not (self.mouth_open or self.covered_jaw or self.long_beard or self.dark_glasses)


# Appearance is judged on faces that are nearly frontal, so that pose does not add to it.
CASES: dict[str, Callable[[Face], bool]] = {
    "standard distribution": lambda face: face.distribution == STANDARD,
    "wide distribution": lambda face: face.distribution == WIDE,
    "nearly frontal, none of the below": lambda face: not face.steep and face.plain,
    "yaw of 60 to 90 degrees": lambda face: abs(face.yaw) > 60,
    "seen from below, pitch over 20": lambda face: face.pitch > 20 and abs(face.yaw) <= 60,
    "seen from above, pitch under -20": lambda face: face.pitch < -20 and abs(face.yaw) <= 60,
    "mouth opened wide": lambda face: not face.steep and face.mouth_open,
    "hair or cloth over the jaw": lambda face: not face.steep and face.covered_jaw,
    "beard longer than 8 mm": lambda face: not face.steep and face.long_beard,
    "dark glasses": lambda face: not face.steep and face.dark_glasses,
}


def describe(folder: Path, count: int) -> list[Face]:
    """What the first `count` faces of `folder` show."""
    drawn = json.loads((folder / DESCRIPTION).read_text())
    faces = []
    for index in range(count):
        source = SyntheticFaces(drawn["seed"], distribution_of(index, drawn["wide"]))
        label = source.labels(index)
        yaw, pitch, _ = map(float, label.euler_deg)
        faces.append(Face(source.distribution, yaw, pitch, float(label.params[JAW_OPEN]), source.appearance(index)))
    return faces


def report(faces: list[Face], predicted: np.ndarray, truth: np.ndarray, pose_error: np.ndarray) -> str:
    """A Markdown table. Landmarks (N, 3, 68) in crop px; `pose_error` (N,) in degrees."""
    nme, jaw = nme_percent(predicted, truth), _jaw_error(predicted, truth)
    height = np.ptp(truth[:, 1], axis=1)
    chin = 100 * (predicted[:, 1, CHIN] - truth[:, 1, CHIN]) / height
    lines = [
        "| faces | number | NME % | 90th percentile | jaw % | chin too low by % | pose degrees |",
        "|" + "---|" * 7,
    ]
    for name, belongs in CASES.items():
        rows = np.flatnonzero([belongs(face) for face in faces])
        if len(rows):
            figures = (nme[rows].mean(), np.percentile(nme[rows], 90), jaw[rows].mean(), chin[rows].mean())
            numbers = " | ".join(f"{value:.2f}" for value in figures)
            lines.append(f"| {name} | {len(rows)} | {numbers} | {np.median(pose_error[rows]):.2f} |")
    return "\n".join(lines)


def _jaw_error(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(N,) mean distance of the jaw's 17 points, in percent of the root of the area of all landmarks' box."""
    distance = np.linalg.norm(predicted[:, :2, JAW] - truth[:, :2, JAW], axis=1).mean(axis=1)
    return np.asarray(100 * distance / np.sqrt(np.ptp(truth[:, :2], axis=2).prod(axis=1)))


def draw_sheet(faces: list[Face], images: np.ndarray, predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """One column per difficulty that occurs, one row per percentile of its NME."""
    nme = nme_percent(predicted, truth)
    columns = []
    for belongs in list(CASES.values())[3:]:
        rows = np.flatnonzero([belongs(face) for face in faces])
        if len(rows):
            ranked = rows[np.argsort(nme[rows])]
            chosen = [ranked[round(share / 100 * (len(ranked) - 1))] for share in SHOWN_PERCENTILES]
            columns.append(np.vstack([_tile(images[one], predicted[one], truth[one]) for one in chosen]))
    return np.hstack(columns)


def _tile(image: np.ndarray, predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    scale = TILE / len(image)
    tile = cv2.resize(image, (TILE, TILE), interpolation=cv2.INTER_CUBIC)
    for points, colour in ((truth, LABEL_BGR), (predicted, PREDICTED_BGR)):
        for x, y in (points[:2].T + 0.5) * scale:
            cv2.circle(tile, (round(float(x)), round(float(y))), 1, colour, -1, cv2.LINE_AA)
    return tile


def main() -> None:
    """Run the network on all complete faces, print the table, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of draw_faces.py")
    parser.add_argument("picture", type=Path, help="file to write, .jpg")
    parser.add_argument("--bundle", type=Path, help="bundle to measure (default: the built-in one)")
    chosen = parser.parse_args()
    files = open_files(chosen.folder, "r")
    count = int(np.argmin(files.ready)) if not files.ready.all() else len(files.ready)
    if count == 0:
        raise SystemExit(f"{chosen.folder} has no complete faces: wait for draw_faces.py")
    images, params = np.array(files.images[:count]), np.array(files.params[:count])
    bases = procedural_morphable().sparse()
    truth = vertices(params, bases.u_base, bases.w_shp_base, bases.w_exp_base, SYNERGYNET_FRAME)
    with FaceAligner.load(chosen.bundle) as aligner:
        found = aligner.predict(images)
    pose_error = np.abs(found.euler_deg - euler_deg(params.astype(np.float64), SYNERGYNET_POSE)).mean(axis=1)
    faces = describe(chosen.folder, count)
    print(report(faces, found.landmarks, truth, pose_error))
    sheet = draw_sheet(faces, images, found.landmarks, truth)
    cv2.imwrite(str(chosen.picture), sheet, [cv2.IMWRITE_JPEG_QUALITY, 76])


if __name__ == "__main__":
    main()
