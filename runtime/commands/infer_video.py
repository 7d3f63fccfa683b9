"""`synergy infer` on videos and camera streams."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import msgspec

from synergy.runtime.aligner import FaceAligner
from synergy.runtime.engines import default_threads
from synergy.runtime.errors import MediaError
from synergy.runtime.inference.overlay import mesh_triangles
from synergy.runtime.inference.videos import VideoOptions, infer_video, video_outputs
from synergy.runtime.inference.worker import WorkerSetup
from synergy.runtime.media.layers import Layers
from synergy.runtime.media.video import Camera, VideoReader
from synergy.runtime.terminal.interrupt import INTERRUPTED, interruptible
from synergy.runtime.terminal.output import write_report
from synergy.runtime.terminal.paths import STDOUT
from synergy.runtime.terminal.progress import tracked
from synergy.runtime.terminal.streams import print_line
from synergy.runtime.text import counted
from synergy.runtime.tracking.smoothing import OneEuro
from synergy.runtime.tracking.tracker import TrackOptions


@dataclass(frozen=True)
class VideoRun:
    """One run of the command. out: folder of the overlays; json_file: JSON lines, `-` for stdout; None for none."""

    setup: WorkerSetup
    out: Path | None
    json_file: Path | None
    redetect: int
    smooth: bool
    layers: Layers


def run_videos(run: VideoRun, sources: Sequence[Path | Camera]) -> int:
    """The exit status. A bad video is reported and skipped; Ctrl-C ends the command after the current frame."""
    setup = replace(run.setup, threads=engine_threads(run))
    with setup.open() as aligner:
        code = _infer_videos(aligner, sources, run)
        mark = ", NOT verified" if aligner.unverified else ""
        print_line(f"{aligner.artifact.file} on {aligner.engine.label}, {setup.device}{mark}")
    return code


def engine_threads(run: VideoRun) -> int | None:
    """CPU threads of the engine, None for all cores.

    Where videos are drawn, one core is left for drawing and encoding, which take about as long as the network.
    """
    setup = run.setup
    if setup.threads is not None or setup.options.affinity or setup.device != "cpu" or run.out is None:
        return setup.threads
    return max(1, default_threads() - 1)


def _infer_videos(aligner: FaceAligner, sources: Sequence[Path | Camera], run: VideoRun) -> int:
    if run.layers.need_mesh:
        mesh_triangles(aligner)  # a bundle without a mesh is refused before the first frame
    tracking = TrackOptions(run.redetect, OneEuro() if run.smooth else None)
    options = VideoOptions(json_lines=run.json_file, tracking=tracking, layers=run.layers)
    overlays = video_outputs(sources, run.out) if run.out else [None] * len(sources)
    code = 0
    with interruptible() as interrupted:
        for source, overlay in zip(sources, overlays, strict=True):
            try:
                _infer_video(aligner, source, replace(options, overlay=overlay), interrupted)
            except MediaError as error:
                print_line(f"error: {error}", error=True)
                code = 1
            if interrupted.is_set():
                return INTERRUPTED
    return code


def _infer_video(
    aligner: FaceAligner, source: Path | Camera, options: VideoOptions, interrupted: threading.Event
) -> None:
    to_stdout = options.json_lines == STDOUT
    if to_stdout:
        options = replace(options, json_lines=None)
    start_s, frames, faces = perf_counter(), 0, 0
    with VideoReader(source) as reader, closing(infer_video(aligner, reader, options)) as records:
        try:
            for record in tracked(records, "frames", reader.frame_count or None):
                if to_stdout:
                    write_report(msgspec.json.encode(record).decode() + "\n")
                frames = record.frame + 1
                faces = max([faces, *(face.id for face in record.faces)])  # ids count from 1
                if interrupted.is_set():
                    break
        finally:
            rate = frames / (perf_counter() - start_s)
            print_line(f"{source}: {frames} frames, {counted(faces, 'face')}, {rate:.1f} frames/s")
