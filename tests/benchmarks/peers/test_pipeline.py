"""Both pipelines from a picture to landmarks give the same pixels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from synergy.benchmarks.peers.pipeline import package_pipeline, script_pipeline, square
from synergy.benchmarks.peers.sessions import bare_run
from synergy.benchmarks.sample_crops import PORTRAIT, PORTRAIT_BOX_XYXY
from synergy.benchmarks.speed.engine_process import Picture
from synergy.runtime.aligner import FaceAligner
from synergy.runtime.bundle import Bundle
from synergy.runtime.crop import DDFA_V2_CROP, SYNERGYNET_CROP, CropRule, roi_from_box


def jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image)[1].tobytes()


@pytest.mark.parametrize("rule", [SYNERGYNET_CROP, DDFA_V2_CROP])
@pytest.mark.parametrize("box", [PORTRAIT_BOX_XYXY, (10.5, 20.25, 60.0, 91.5)])
def test_the_square_is_that_of_the_crop_rule(rule: CropRule, box: tuple[float, float, float, float]) -> None:
    left, top, side = square(box, rule)
    assert np.allclose([left, top, left + side, top + side], roi_from_box(np.array(box), rule))


def test_script_and_align_agree(tiny_bundle: Path) -> None:
    pytest.importorskip("onnxruntime")
    pictures = [
        Picture(PORTRAIT.read_bytes(), PORTRAIT_BOX_XYXY),
        Picture(jpeg(np.full((300, 200, 3), (20, 90, 200), np.uint8)), (50.0, 60.0, 140.0, 190.0)),
    ]
    with FaceAligner.load(tiny_bundle, "onnx", threads=1) as aligner:
        package, script = package_pipeline(aligner), script_pipeline(bare_run(aligner.engine), aligner.bundle)
        for picture in pictures:
            assert package(picture).shape == (68, 3)
            assert np.allclose(package(picture), script(picture), atol=1e-3)


def test_network_with_parameters_only(tiny_bundle: Path) -> None:
    """The params head: the script has to compute the landmarks too."""
    from synergy.runtime.decode import dewhiten, vertices

    bundle = Bundle.open(tiny_bundle)
    bundle.manifest = _only_params(bundle)
    basis, params = bundle.morphable(), np.linspace(-1, 1, 62, dtype=np.float32)[None]
    frame = bundle.manifest.landmark_frame
    wanted = vertices(
        dewhiten(params, basis.param_mean, basis.param_std), basis.u_base, basis.w_shp_base, basis.w_exp_base, frame
    )
    left, top, side = square(PORTRAIT_BOX_XYXY, bundle.manifest.crop)
    found = script_pipeline(lambda crops: [params], bundle)(Picture(PORTRAIT.read_bytes(), PORTRAIT_BOX_XYXY))
    assert np.allclose(found, wanted[0].T * (side / 120) + [left, top, 0], rtol=1e-5)


def test_fixed_batch_is_filled(tiny_bundle: Path) -> None:
    import msgspec

    bundle = Bundle.open(tiny_bundle)
    fixed = msgspec.structs.replace(bundle.manifest.inputs[0], shape=(4, 120, 120, 3))
    bundle.manifest = msgspec.structs.replace(bundle.manifest, inputs=(fixed,))
    seen = []

    def run(crops: np.ndarray) -> list[np.ndarray]:
        seen.append(crops.shape)
        return [np.zeros((4, 62), np.float32), np.zeros((4, 3, 68), np.float32)]

    script_pipeline(run, bundle)(Picture(PORTRAIT.read_bytes(), PORTRAIT_BOX_XYXY))
    assert seen == [(4, 120, 120, 3)]


def _only_params(bundle: Bundle) -> object:
    import msgspec

    return msgspec.structs.replace(bundle.manifest, outputs=bundle.manifest.outputs[:1])
