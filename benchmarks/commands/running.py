"""Commands that run models on this machine: infer, doctor, lite install."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.commands.options import (
    BundleArgument,
    DeviceOption,
    EngineName,
    EngineOption,
    JsonOption,
    ThreadsOption,
    report_json,
    write_json,
)


class DetectorName(str, Enum):
    """Face detectors."""

    haar = "haar"
    yunet = "yunet"


def infer(
    bundle: BundleArgument,
    images: Annotated[list[str], typer.Argument(help="Pictures, folders or patterns.", metavar="IMAGES...")],
    engine: EngineOption = EngineName.auto,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    boxes: Annotated[Path | None, typer.Option(help="Known face boxes instead of a detector.")] = None,
    detector: Annotated[DetectorName, typer.Option(help="Face detector.")] = DetectorName.haar,
    detector_model: Annotated[Path | None, typer.Option(help="Model file of the yunet detector.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for overlay pictures.")] = None,
    json_file: JsonOption = None,
    mesh: Annotated[bool, typer.Option("--mesh", help="Also write an OBJ per face (needs --out).")] = False,
) -> None:
    """Find the faces in pictures: overlays, JSON, meshes."""
    from benchmarks.console import print_record, tracked
    from runtime import FaceAligner
    from runtime.detection import make_detector
    from runtime.inference import InferOptions, InferReport, infer_images
    from runtime.media import BoxFile, expand_inputs

    if mesh and out is None:
        raise typer.BadParameter("--mesh writes beside the overlays: give --out DIR")
    paths = expand_inputs(images)
    known = BoxFile.read(boxes) if boxes else None
    chosen = make_detector(detector.value, detector_model)
    with FaceAligner.load(bundle, engine.value, device, threads, detector=chosen) as aligner:
        done = infer_images(aligner, paths, InferOptions(known, out, mesh))
        records = list(tracked(done, "pictures", len(paths)))
        print(f"{aligner.artifact.file} on {aligner.engine.name}, {aligner.engine.device}")
    write_json(json_file, InferReport(records))
    for record in records:
        print_record(record)
    if any(record.error for record in records):
        raise typer.Exit(1)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, or write it to FILE.")] = False,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="With --json.")] = None,
) -> None:
    """What works on this machine, what does not, and how to get it."""
    from benchmarks.console import print_doctor
    from benchmarks.doctor import run_doctor

    if file is not None and not as_json:
        raise typer.BadParameter("a file is written with --json only")
    report = run_doctor()
    if as_json and file is None:
        print(report_json(report))
    else:
        print_doctor(report)
        write_json(file, report)
    raise typer.Exit(0 if report.ok else 1)


def lite_install() -> None:
    """Fetch MindSpore Lite and build its binding. Doing it twice is harmless."""
    from runtime.native.install import install

    home = install(print)
    print(f"MindSpore Lite {home.version} is ready in {home.root}")
