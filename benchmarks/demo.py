"""The whole road in one call, on the demo checkpoint: export, proof, faces, latency. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import msgspec
import numpy as np

from benchmarks.evaluation_data import HELD_OUT_SEED
from benchmarks.inputs import PORTRAIT, PORTRAIT_BOX_XYXY
from benchmarks.latency import BenchOptions, BenchReport, bench_bundle
from benchmarks.parity import Accuracy, ParityReport
from benchmarks.proof import gate
from export.bundle import ExportOptions, export_bundle
from runtime.aligner import FaceAligner
from runtime.drawing import Layers, draw_faces
from runtime.engines import default_threads
from runtime.media import read_image, write_image
from synergy_model.synthetic import SyntheticFaces

DEMO_CHECKPOINT = Path(__file__).parent.parent / "synergy_model" / "assets" / "demo.ckpt"
BENCH_ROUNDS = 20
SHEET_COLUMNS, SHEET_ROWS = 6, 3
SHEET_LAYERS = Layers(box=False, label=False)
SHEET_TILE = 240  # pixels; the crops have 120, at which lines hide what they show


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
    say("the demo network is MobileNetV2, trained on procedural faces only (docs/training.md)")
    export_bundle(DEMO_CHECKPOINT, folder, ExportOptions(formats=formats, replace=True), gate, say)
    parity = msgspec.json.decode((folder / "parity.json").read_bytes(), type=ParityReport)
    pictures = (_draw_sheet(folder, out / "demo-faces.png"), _draw_portrait(folder, out / "demo-portrait.png"))
    say("measuring latency")
    bench = bench_bundle(folder, BenchOptions(threads=(default_threads(),), rounds=BENCH_ROUNDS))
    return DemoReport(str(folder), parity, parity.accuracy, bench, tuple(str(picture) for picture in pictures))


def _draw_sheet(folder: Path, picture: Path) -> Path:
    """Held-out procedural faces with what the network finds in them."""
    crops = SyntheticFaces(HELD_OUT_SEED).batch(range(SHEET_COLUMNS * SHEET_ROWS)).images
    tiles = [cv2.resize(crop, (SHEET_TILE, SHEET_TILE), interpolation=cv2.INTER_CUBIC) for crop in crops]
    with FaceAligner.load(folder) as aligner:
        faces = [aligner.align_rois(tile, [(0, 0, SHEET_TILE, SHEET_TILE)]) for tile in tiles]
    tiles = [draw_faces(tile, found, SHEET_LAYERS) for tile, found in zip(tiles, faces, strict=True)]
    rows = [np.hstack(tiles[start : start + SHEET_COLUMNS]) for start in range(0, len(tiles), SHEET_COLUMNS)]
    write_image(picture, np.vstack(rows))
    return picture


def _draw_portrait(folder: Path, picture: Path) -> Path:
    with FaceAligner.load(folder) as aligner:
        image = read_image(PORTRAIT)
        faces = aligner(image) or aligner.align(image, [PORTRAIT_BOX_XYXY])
    write_image(picture, draw_faces(image, faces))
    return picture
