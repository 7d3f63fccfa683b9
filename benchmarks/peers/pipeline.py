"""From a JPEG in memory to 68 landmarks in its pixels: with `FaceAligner`, and with a minimal script."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from synergy.benchmarks.speed.engine_process import Picture
from synergy.runtime.bundle import Bundle
from synergy.runtime.crop import CropRule
from synergy.runtime.decode import dewhiten, vertices
from synergy.runtime.media.image import decode_image

if TYPE_CHECKING:
    from synergy.benchmarks.peers.sessions import Run
    from synergy.runtime.aligner import FaceAligner

INTERPOLATIONS = {"linear": cv2.INTER_LINEAR, "lanczos4": cv2.INTER_LANCZOS4}

# a picture -> landmarks (68,3) in its pixels
Pipeline = Callable[[Picture], np.ndarray]


def package_pipeline(aligner: FaceAligner) -> Pipeline:
    """What a user of this package writes: `decode_image`, then `FaceAligner.align`."""

    def pipeline(picture: Picture) -> np.ndarray:
        return aligner.align(decode_image(picture.jpeg), [picture.box_xyxy])[0].landmarks

    return pipeline


def script_pipeline(run: Run, bundle: Bundle) -> Pipeline:
    """What a user of a library alone writes: for one face that lies inside the picture, without checks."""
    manifest = bundle.manifest
    size, rule, flag = manifest.preprocessing.size, manifest.crop, INTERPOLATIONS[manifest.crop.interpolation]
    batch = max(manifest.inputs[0].shape[0], 1)  # the bundle's fixed batch; -1 is a dynamic one
    network = _landmark_network(run, bundle)

    def pipeline(picture: Picture) -> np.ndarray:
        image: Any = cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_COLOR)
        left, top, side = square(picture.box_xyxy, rule)
        region = image[round(top) : round(top + side), round(left) : round(left + side)]
        crop = cv2.resize(region, (size, size), interpolation=flag)
        points = network(np.repeat(crop[None], batch, axis=0))[0].T * (side / size)
        return points + np.array([left, top, 0], np.float32)

    return pipeline


def square(box_xyxy: tuple[float, float, float, float], rule: CropRule) -> tuple[float, float, float]:
    """Left, top and side in pixels of the square region that is cropped around a face box."""
    x1, y1, x2, y2 = box_xyxy
    base = y2 - y1 if rule.side_of == "height" else (x2 - x1 + y2 - y1) / 2
    side = rule.scale * base // rule.round_to * rule.round_to
    return (x1 + x2 - side) / 2, (y1 + y2 - side) / 2 + rule.shift_y * base, side


def _landmark_network(run: Run, bundle: Bundle) -> Callable[[np.ndarray], np.ndarray]:
    """Crops -> landmarks (N,3,68) in crop px: an output of the network, or computed from its parameters."""
    outputs = [output.name for output in bundle.manifest.outputs]
    if "landmarks" in outputs:
        index = outputs.index("landmarks")
        return lambda crops: run(crops)[index]
    basis, frame, index = bundle.morphable(), bundle.manifest.landmark_frame, outputs.index("params")

    def network(crops: np.ndarray) -> np.ndarray:
        params = dewhiten(run(crops)[index], basis.param_mean, basis.param_std)
        return vertices(params, basis.u_base, basis.w_shp_base, basis.w_exp_base, frame)

    return network
