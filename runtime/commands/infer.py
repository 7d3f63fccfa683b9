"""`synergy infer`: faces of pictures, videos and cameras."""

from __future__ import annotations

import re
import sys
from contextlib import closing
from dataclasses import replace
from enum import Enum
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

from synergy.runtime.commands.interrupt import INTERRUPTED, interruptible
from synergy.runtime.commands.options import (
    AffinityOption,
    BundleArgument,
    DeviceOption,
    DevicePrecisionOption,
    EngineName,
    EngineOption,
    JsonOption,
    LiteConfigOption,
    engine_options,
)
from synergy.runtime.text import counted

if TYPE_CHECKING:
    import threading

    from synergy import FaceAligner
    from synergy.runtime.inference.videos import VideoOptions
    from synergy.runtime.media.video import Camera


# What may follow --ray; anything else is the next argument.
ADDRESS = re.compile(r"auto|local|(ray://)?(?!camera:)[\w.-]+:\d+|ray://.+")


class DetectorName(str, Enum):
    """Face detectors."""

    auto = "auto"
    haar = "haar"
    yunet = "yunet"


def infer(
    bundle: BundleArgument,
    images: Annotated[
        list[str], typer.Argument(help="Pictures, folders, patterns, videos or camera:N.", metavar="IMAGES...")
    ],
    engine: EngineOption = EngineName.auto,
    device: DeviceOption = "cpu",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of an engine; 1 in each of several workers, else all cores.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; as many as cores for 8 pictures or more.")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="[ADDRESS]", help="Workers on a Ray cluster; without ADDRESS the one found, or a new one here."
        ),
    ] = None,
    boxes: Annotated[Path | None, typer.Option(help="Known face boxes instead of a detector.")] = None,
    detector: Annotated[DetectorName, typer.Option(help="Face detector.")] = DetectorName.auto,
    detector_model: Annotated[Path | None, typer.Option(help="Model file of the yunet detector.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for overlay pictures and videos.")] = None,
    json_file: JsonOption = None,
    mesh: Annotated[bool, typer.Option("--mesh", help="Also write an OBJ per face (needs --out).")] = False,
    redetect: Annotated[int, typer.Option(min=1, help="Video: frames between searches for new faces.")] = 50,
    smooth: Annotated[bool, typer.Option(help="Video: smooth landmarks and pose.")] = True,
    device_precision: DevicePrecisionOption = "auto",
    affinity: AffinityOption = None,
    lite_config: LiteConfigOption = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Replay the bundle's golden values first; always done on cards.")
    ] = False,
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Use a card without replaying golden values; every output says so.")
    ] = False,
) -> None:
    """Find the faces in pictures: overlays, JSON, meshes; follow those in videos: JSON is then a line per frame."""
    from synergy.runtime.commands.infer_pictures import PictureRun, run_pictures
    from synergy.runtime.detection.install import INSTALL_HINT, find_yunet
    from synergy.runtime.inference.pictures import InferOptions
    from synergy.runtime.inference.worker import WorkerSetup
    from synergy.runtime.media.box_file import BoxFile
    from synergy.runtime.media.video import split_inputs

    if mesh and out is None:
        raise typer.BadParameter("--mesh writes beside the overlays: give --out DIR")
    paths, videos = split_inputs(images)
    known = BoxFile.read(boxes) if boxes else None
    if detector is DetectorName.auto and not known and not detector_model and find_yunet() is None:
        print(f"faces are detected with OpenCV's cascades; YuNet finds more of them: {INSTALL_HINT}")
    options = engine_options(device_precision, affinity, lite_config)
    if verify and unverified:
        raise typer.BadParameter("--verify and --unverified exclude each other")
    check = True if verify else False if unverified else None
    setup = WorkerSetup(bundle, engine.value, device, threads, None, options, detector.value, detector_model, check)
    if not videos:
        run = PictureRun(setup, InferOptions(known, out, mesh), workers, ray, json_file)
        raise typer.Exit(run_pictures(run, paths))
    if paths or (json_file and len(videos) > 1):
        raise ValueError("pictures and videos, and several videos with --json, go in separate commands")
    if known or mesh or workers or ray:
        raise ValueError("--boxes, --mesh, --workers and --ray are for pictures, not for videos")
    with setup.open() as aligner:
        code = _infer_videos(aligner, videos, out, _video_options(json_file, redetect, smooth))
        mark = ", NOT verified" if aligner.unverified else ""
        print(f"{aligner.artifact.file} on {aligner.engine.label}, {setup.device}{mark}")
    raise typer.Exit(code)


def with_address(arguments: list[str]) -> list[str]:
    """The command line with an address after every --ray: the option's value may be left out, which Typer lacks."""
    filled: list[str] = []
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        filled.append(argument)
        if argument == "--ray" and not ADDRESS.fullmatch(following):
            filled.append("auto")
    return filled


def _video_options(json_lines: Path | None, redetect: int, smooth: bool) -> VideoOptions:
    from synergy.runtime.inference.videos import VideoOptions
    from synergy.runtime.tracking.smoothing import OneEuro
    from synergy.runtime.tracking.tracker import TrackOptions

    return VideoOptions(json_lines=json_lines, tracking=TrackOptions(redetect, OneEuro() if smooth else None))


def _infer_videos(aligner: FaceAligner, sources: list[Path | Camera], out: Path | None, options: VideoOptions) -> int:
    """The exit status. A bad video is reported and the next one done; Ctrl-C ends the command after its frame."""
    from synergy.runtime.errors import MediaError
    from synergy.runtime.inference.videos import video_outputs

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
    from synergy.runtime.commands.progress import tracked
    from synergy.runtime.inference.videos import infer_video
    from synergy.runtime.media.video import VideoReader

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
            print(f"{source}: {frames} frames, {counted(faces, 'face')}, {rate:.1f} frames/s")
