"""Commands that run models on this machine: infer, doctor, lite install."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from enum import Enum
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks.commands.options import (
    AffinityOption,
    BundleArgument,
    DeviceOption,
    DevicePrecisionOption,
    EngineName,
    EngineOption,
    JsonOption,
    LiteConfigOption,
    ThreadsOption,
    engine_options,
    report_json,
    write_json,
)

if TYPE_CHECKING:
    from runtime import FaceAligner
    from runtime.inference import VideoOptions
    from runtime.video import Camera

INTERRUPTED = 130  # the exit status of a program that Ctrl-C ended


class DetectorName(str, Enum):
    """Face detectors."""

    haar = "haar"
    yunet = "yunet"


def infer(
    bundle: BundleArgument,
    images: Annotated[
        list[str], typer.Argument(help="Pictures, folders, patterns, videos or camera:N.", metavar="IMAGES...")
    ],
    engine: EngineOption = EngineName.auto,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    boxes: Annotated[Path | None, typer.Option(help="Known face boxes instead of a detector.")] = None,
    detector: Annotated[DetectorName, typer.Option(help="Face detector.")] = DetectorName.haar,
    detector_model: Annotated[Path | None, typer.Option(help="Model file of the yunet detector.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for overlay pictures and videos.")] = None,
    json_file: JsonOption = None,
    mesh: Annotated[bool, typer.Option("--mesh", help="Also write an OBJ per face (needs --out).")] = False,
    redetect: Annotated[int, typer.Option(min=1, help="Video: frames between searches for new faces.")] = 50,
    smooth: Annotated[bool, typer.Option(help="Video: smooth landmarks and pose.")] = True,
    device_precision: DevicePrecisionOption = "fp32",
    affinity: AffinityOption = None,
    lite_config: LiteConfigOption = None,
) -> None:
    """Find the faces in pictures: overlays, JSON, meshes; follow those in videos: JSON is then a line per frame."""
    from benchmarks.console import print_record, tracked
    from runtime import FaceAligner
    from runtime.detection import make_detector
    from runtime.inference import InferOptions, InferReport, infer_images
    from runtime.media import BoxFile
    from runtime.video import split_inputs

    if mesh and out is None:
        raise typer.BadParameter("--mesh writes beside the overlays: give --out DIR")
    paths, videos = split_inputs(images)
    known = BoxFile.read(boxes) if boxes else None
    found = make_detector(detector.value, detector_model)
    wanted = engine_options(device_precision, affinity, lite_config)
    if videos:
        if paths or (json_file and len(videos) > 1):
            raise ValueError("pictures and videos, and several videos with --json, go in separate commands")
        if known or mesh:
            raise ValueError("--boxes and --mesh are for pictures, not for videos")
        with FaceAligner.load(bundle, engine.value, device, threads, detector=found, options=wanted) as aligner:
            code = _infer_videos(aligner, videos, out, _video_options(json_file, redetect, smooth))
        raise typer.Exit(code)
    with FaceAligner.load(bundle, engine.value, device, threads, detector=found, options=wanted) as aligner:
        done = infer_images(aligner, paths, InferOptions(known, out, mesh))
        records = list(tracked(done, "pictures", len(paths)))
        print(f"{aligner.artifact.file} on {aligner.engine.name}, {aligner.engine.device}")
    write_json(json_file, InferReport(records))
    for record in records:
        print_record(record)
    if any(record.error for record in records):
        raise typer.Exit(1)


def _video_options(json_lines: Path | None, redetect: int, smooth: bool) -> VideoOptions:
    from runtime.inference import VideoOptions
    from runtime.smoothing import OneEuro
    from runtime.tracking import TrackOptions

    return VideoOptions(json_lines=json_lines, tracking=TrackOptions(redetect, OneEuro() if smooth else None))


def _infer_videos(aligner: FaceAligner, sources: list[Path | Camera], out: Path | None, options: VideoOptions) -> int:
    """The exit status. A bad video is reported and the next one done; Ctrl-C ends the command after its frame."""
    from runtime.errors import MediaError
    from runtime.inference import video_outputs

    overlays = video_outputs(sources, out) if out else [None] * len(sources)
    code = 0
    with interruptible() as interrupted:
        for source, overlay in zip(sources, overlays, strict=True):
            try:
                _infer_video(aligner, source, replace(options, overlay=overlay), interrupted)
            except MediaError as error:
                print(f"error: {error}", file=sys.stderr)
                code = 1
            if interrupted.is_set():
                return INTERRUPTED
    return code


def _infer_video(
    aligner: FaceAligner, source: Path | Camera, options: VideoOptions, interrupted: threading.Event
) -> None:
    from benchmarks.console import tracked
    from runtime.inference import infer_video
    from runtime.video import VideoReader

    start_s, frames, faces = perf_counter(), 0, 0
    with VideoReader(source) as reader, closing(infer_video(aligner, reader, options)) as records:
        try:
            for record in tracked(records, "frames", reader.frame_count or None):
                frames = record.frame + 1
                faces = max([faces, *(face.id for face in record.faces)])  # ids count from 1
                if interrupted.is_set():
                    break
        finally:
            rate = frames / (perf_counter() - start_s)
            print(f"{source}: {frames} frames, {faces} face{'' if faces == 1 else 's'}, {rate:.1f} frames/s")


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Ctrl-C, or a polite kill, sets the event, so that the frame in hand is finished; the second one ends at once."""
    event = threading.Event()
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(number: int, frame: object) -> None:
        event.set()
        restore()

    for number in before:
        signal.signal(number, stop)
    try:
        yield event
    finally:
        restore()


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
