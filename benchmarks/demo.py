"""Runs every step on the demo checkpoint: export, parity check, faces in a photo, latency. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import msgspec
import numpy as np

from synergy.benchmarks.accuracy.data import HELD_OUT_SEED, synthetic_data
from synergy.benchmarks.accuracy.report import NmeBinRecord
from synergy.benchmarks.parity.drift import CELL, VariantAccuracy, drift_rows
from synergy.benchmarks.parity.gate import gate_and_measure
from synergy.benchmarks.sample_crops import PORTRAIT, PORTRAIT_BOX_XYXY
from synergy.benchmarks.speed.latency import BenchOptions, BenchReport, bench_bundle
from synergy.export.artifacts import ExportOptions
from synergy.export.bundle import ParityResult, export_bundle
from synergy.runtime.aligner import FaceAligner
from synergy.runtime.bundle import Bundle
from synergy.runtime.engines import default_threads
from synergy.runtime.manifest import Manifest
from synergy.runtime.media.drawing import draw_faces
from synergy.runtime.media.image import read_image, write_image
from synergy.runtime.media.layers import Layers
from synergy.runtime.verification.parity_record import Accuracy, ParityReport
from synergy.synergy_model.checkpoints.checkpoint import Checkpoint
from synergy.synergy_model.synthetic.faces import SyntheticFaces

DEMO_CHECKPOINT = Path(__file__).parent.parent / "synergy_model" / "assets" / "synthetic.ckpt"
ACCURACY_FACES = 128  # enough for a mean in every yaw bin, few enough for a demo
BENCH_ROUNDS = 20
SHEET_COLUMNS, SHEET_ROWS = 6, 3
SHEET_LAYERS = Layers(box=False, label=False)
SHEET_TILE = 240  # pixels; at the 120 of the crops, the drawn lines would hide the face


class DemoAccuracy(Accuracy, frozen=True):
    """The accuracy row of a parity report with NME per yaw bin, median latency per crop (ms) and file size (bytes).

    median_ms is None for the Cell: its exported graph model.mindir is timed instead.
    """

    bins: tuple[NmeBinRecord, ...] = ()
    median_ms: float | None = None
    bytes: int = 0


class DemoReport(msgspec.Struct, frozen=True):
    """The JSON of `synergy demo`; its parts have the same form as those of parity, eval and bench."""

    bundle: str
    parity: ParityReport
    accuracy: tuple[DemoAccuracy, ...]
    bench: BenchReport
    pictures: tuple[str, ...]


def run_demo(
    out: Path,
    formats: tuple[str, ...],
    log: Callable[[str], None],
    faces: int = ACCURACY_FACES,
    rounds: int = BENCH_ROUNDS,
) -> DemoReport:
    """Make the bundle `out/demo` and the images next to it; an earlier demo is replaced. `log` gets a line per step.

    `faces`: held-out faces on which accuracy is measured. `rounds`: samples of latency per engine and artifact.
    """
    folder = out / "demo"
    measured: list[VariantAccuracy] = []

    def verify(unpublished: Path, checkpoint: Checkpoint) -> ParityResult:
        proof, rows = gate_and_measure(unpublished, checkpoint, synthetic_data(faces))
        measured.extend(rows)
        return proof

    log("the demo network is MobileNetV2, trained on procedural faces only (docs/training.md)")
    export_bundle(DEMO_CHECKPOINT, folder, ExportOptions(formats=formats, replace=True), verify, log)
    parity = msgspec.json.decode((folder / "parity.json").read_bytes(), type=ParityReport)
    pictures = (_draw_sheet(folder, out / "demo-faces.png"), _draw_portrait(folder, out / "demo-portrait.png"))
    log("measuring latency")
    options = BenchOptions(all_artifacts=True, threads=(default_threads(),), batches=(1,), rounds=rounds)
    bench = bench_bundle(folder, options)
    rows = accuracy_rows(measured, bench, Bundle.open(folder).manifest)
    return DemoReport(str(folder), parity, rows, bench, tuple(str(picture) for picture in pictures))


def accuracy_rows(
    measured: Sequence[VariantAccuracy], bench: BenchReport, manifest: Manifest
) -> tuple[DemoAccuracy, ...]:
    """One row for the Cell, then one per artifact and engine: accuracy, latency and size."""
    times = {(row.artifact, row.where): row.median_ms for row in bench.rows}
    sizes = {artifact.file: artifact.bytes for artifact in manifest.artifacts}
    sizes[CELL] = DEMO_CHECKPOINT.stat().st_size
    return tuple(
        DemoAccuracy(
            **msgspec.structs.asdict(row),
            bins=entry.report.nme.bins,
            median_ms=times.get((row.artifact, row.where)),
            bytes=sizes[row.artifact],
        )
        for row, entry in zip(drift_rows(measured), measured, strict=True)
    )


def _draw_sheet(folder: Path, picture: Path) -> Path:
    """An image of held-out procedural faces with the landmarks and pose that the network finds."""
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
