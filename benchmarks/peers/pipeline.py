"""From a JPEG in memory to 68 landmarks in its pixels: a plain script around a peer's session, and our way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from synergy.runtime.bundle import Bundle
from synergy.runtime.crop import CropRule
from synergy.runtime.decode import dewhiten, vertices
from synergy.runtime.media.image import decode_image

if TYPE_CHECKING:
    from synergy.benchmarks.peers.sessions import Run
    from synergy.runtime.aligner import FaceAligner

INTERPOLATIONS = {"linear": cv2.INTER_LINEAR, "lanczos4": cv2.INTER_LANCZOS4}


@dataclass(frozen=True)
class Picture:
    """A JPEG file's bytes and the box of the face in it, x1, y1, x2, y2 in its pixels."""

    jpeg: bytes
    box_xyxy: tuple[float, float, float, float]


# the next picture's landmarks (68,3) in its pixels
Path = Callable[[Picture], np.ndarray]


def our_path(aligner: FaceAligner) -> Path:
    """What the package's user writes: decode, then `FaceAligner.align`."""

    def path(picture: Picture) -> np.ndarray:
        return aligner.align(decode_image(picture.jpeg), [picture.box_xyxy])[0].landmarks

    return path


def plain_path(run: Run, bundle: Bundle) -> Path:
    """What someone writes around a bare session: for one face inside the picture, and with no checks."""
    manifest = bundle.manifest
    size, rule, flag = manifest.preprocessing.size, manifest.crop, INTERPOLATIONS[manifest.crop.interpolation]
    batch = max(manifest.inputs[0].shape[0], 1)  # of a bundle for a fixed one; -1 stands for any
    network = _landmark_network(run, bundle)

    def path(picture: Picture) -> np.ndarray:
        image: Any = cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_COLOR)
        left, top, side = square(picture.box_xyxy, rule)
        region = image[round(top) : round(top + side), round(left) : round(left + side)]
        crop = cv2.resize(region, (size, size), interpolation=flag)
        points = network(np.repeat(crop[None], batch, axis=0))[0].T * (side / size)
        return points + np.array([left, top, 0], np.float32)

    return path


def square(box_xyxy: tuple[float, float, float, float], rule: CropRule) -> tuple[float, float, float]:
    """Left, top and side of the square that the network wants around a face box."""
    x1, y1, x2, y2 = box_xyxy
    base = y2 - y1 if rule.side_of == "height" else (x2 - x1 + y2 - y1) / 2
    side = rule.scale * base // rule.round_to * rule.round_to
    return (x1 + x2 - side) / 2, (y1 + y2 - side) / 2 + rule.shift_y * base, side


def _landmark_network(run: Run, bundle: Bundle) -> Callable[[np.ndarray], np.ndarray]:
    """Crops -> landmarks (N,3,68) in crop px: an output of the network, or computed from its parameters."""
    outputs = [output.name for output in bundle.manifest.outputs]
    if "landmarks" in outputs:
        which = outputs.index("landmarks")
        return lambda crops: run(crops)[which]
    basis, frame, which = bundle.morphable(), bundle.manifest.landmark_frame, outputs.index("params")

    def network(crops: np.ndarray) -> np.ndarray:
        params = dewhiten(run(crops)[which], basis.param_mean, basis.param_std)
        return vertices(params, basis.u_base, basis.w_shp_base, basis.w_exp_base, frame)

    return network
