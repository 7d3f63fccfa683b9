"""The whole road in one call: export, proof, faces in a picture, latency. Nothing is downloaded."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import mindspore as ms
import msgspec
import numpy as np
from mindspore import Tensor
from mindspore.common.initializer import HeNormal, initializer

from benchmarks.inputs import PORTRAIT, PORTRAIT_BOX_XYXY
from benchmarks.latency import BenchOptions, BenchReport, bench_bundle
from benchmarks.parity import Accuracy, ParityReport
from benchmarks.proof import gate
from export.bundle import ExportOptions, export_bundle
from runtime.aligner import FaceAligner
from runtime.drawing import draw_faces
from runtime.engines import default_threads
from runtime.media import read_image, write_image
from synergy_model.checkpoint import Checkpoint, save_checkpoint
from synergy_model.procedural_face import procedural_morphable
from synergy_model.synergynet import SynergyNet
from synergy_model.synthetic import whitening

SEED = 62
BENCH_ROUNDS = 20


class DemoReport(msgspec.Struct, frozen=True):
    """The JSON of `synergy demo`, in the forms that parity, eval and bench have on their own."""

    bundle: str
    parity: ParityReport
    accuracy: tuple[Accuracy, ...]
    bench: BenchReport
    pictures: tuple[str, ...]


def run_demo(out: Path, formats: tuple[str, ...], say: Callable[[str], None]) -> DemoReport:
    """Make the bundle `out/demo` and pictures beside it. An earlier demo there is replaced."""
    folder = out / "demo"
    with _seeded_checkpoint(say) as ckpt:
        export_bundle(ckpt, folder, ExportOptions(formats=formats, replace=True), gate, say)
    parity = msgspec.json.decode((folder / "parity.json").read_bytes(), type=ParityReport)
    picture = _draw_portrait(folder, out / "demo-portrait.png")
    say("measuring latency")
    bench = bench_bundle(folder, BenchOptions(threads=(default_threads(),), rounds=BENCH_ROUNDS))
    return DemoReport(str(folder), parity, parity.accuracy, bench, (str(picture),))


@contextmanager
def _seeded_checkpoint(say: Callable[[str], None]) -> Iterator[Path]:
    """MobileNetV2 with seeded random weights: the road is real, the landmarks mean nothing."""
    say(f"the demo checkpoint has random weights (seed {SEED}): the landmarks it finds mean nothing")
    network = SynergyNet("mobilenet_v2", "synergynet", refiner=False, regressor=False)
    ms.set_seed(SEED)
    for parameter in network.trainable_params():
        if parameter.ndim == 4:  # MindSpore's default for convolutions lets the signal die out in 50 layers
            parameter.set_data(initializer(HeNormal(), parameter.shape, parameter.dtype))
    for name, array in _morphable_arrays().items():
        getattr(network.morphable, name).set_data(Tensor(array))
    with tempfile.TemporaryDirectory() as private:
        ckpt = Path(private) / "seeded.ckpt"
        save_checkpoint(ckpt, Checkpoint(network, dense=None))
        yield ckpt


def _morphable_arrays() -> dict[str, np.ndarray]:
    bases = procedural_morphable().sparse()
    mean, std = whitening()
    arrays = {"u_base": bases.u_base, "w_shp_base": bases.w_shp_base, "w_exp_base": bases.w_exp_base}
    return {**arrays, "param_mean": mean, "param_std": std}


def _draw_portrait(folder: Path, picture: Path) -> Path:
    with FaceAligner.load(folder) as aligner:
        image = read_image(PORTRAIT)
        faces = aligner(image) or aligner.align(image, [PORTRAIT_BOX_XYXY])
    write_image(picture, draw_faces(image, faces))
    return picture
