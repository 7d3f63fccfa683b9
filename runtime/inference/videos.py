"""Find and track the faces in videos; decoding, tracking, and writing run in a thread each."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from synergy.runtime.aligner import FaceAligner
from synergy.runtime.files import whole_file
from synergy.runtime.inference.overlay import draw_overlay
from synergy.runtime.inference.records import FrameRecord, tracked_record
from synergy.runtime.media.drawing import FONT, SHADE, WHITE
from synergy.runtime.media.inputs import output_paths
from synergy.runtime.media.layers import DEFAULT_LAYERS, Layers
from synergy.runtime.media.video import Camera, Frame, VideoReader, VideoWriter
from synergy.runtime.opencv import cv2
from synergy.runtime.processes.prefetch import prefetch
from synergy.runtime.tracking.tracker import FaceTracker, TrackedFace, TrackOptions

VIDEO_SUFFIX = ".mp4"
ID_SCALE = 0.6
FRAMES_AHEAD = 4  # per thread; more would need more memory without being faster


@dataclass(frozen=True)
class VideoOptions:
    """overlay, json_lines: files to write, None for none. tracking: options of the tracker. layers: what the overlay
    shows; meshes are not smoothed."""

    overlay: Path | None = None
    json_lines: Path | None = None
    tracking: TrackOptions = field(default_factory=TrackOptions)
    layers: Layers = DEFAULT_LAYERS


def video_outputs(sources: Sequence[Path | Camera], folder: Path) -> list[Path]:
    """One overlay path per source, in order, as `output_paths` names them; camera:0 gives camera-0.mp4."""
    named = [Path(str(source).replace(":", "-")) if isinstance(source, Camera) else source for source in sources]
    return output_paths(named, folder, VIDEO_SUFFIX)


def infer_video(aligner: FaceAligner, reader: VideoReader, options: VideoOptions) -> Generator[FrameRecord, None, None]:
    """Yield one record per frame, in order, after it was written.

    The files appear when the iterator ends or is closed, with all frames that it yielded. Raises MediaError at the
    end if the video is incomplete; its files are kept. After any other error they are deleted.
    """
    with ExitStack() as stack:
        video = lines = None
        if options.overlay:
            video = stack.enter_context(
                VideoWriter(stack.enter_context(whole_file(options.overlay, stoppable=True, durable=False)), reader.fps)
            )
        if options.json_lines:  # unbuffered, so that no line is written in part
            place = stack.enter_context(whole_file(options.json_lines, stoppable=True))
            lines = stack.enter_context(place.open("wb", buffering=0))
        for frame, faces in _tracked(aligner, reader, options.tracking, stack):
            record = FrameRecord(frame.index, frame.time_s, [tracked_record(face) for face in faces])
            if video:
                video.write(
                    _draw_ids(draw_overlay(aligner, frame.image_bgr, faces, options.layers), faces), frame.time_s
                )
            if lines:
                lines.write(msgspec.json.encode(record) + b"\n")
            yield record
    reader.check_end()


def _tracked(
    aligner: FaceAligner, reader: VideoReader, options: TrackOptions, stack: ExitStack
) -> Iterator[tuple[Frame, list[TrackedFace]]]:
    """Frames with their faces. OpenCV decodes in one thread and the tracker runs in another."""
    tracker = FaceTracker(aligner, options)
    frames = stack.enter_context(closing(prefetch(reader.frames(), FRAMES_AHEAD)))
    found = ((frame, tracker.track(frame.image_bgr, frame.time_s)) for frame in frames)
    return stack.enter_context(closing(prefetch(found, FRAMES_AHEAD)))


def _draw_ids(canvas_bgr: np.ndarray, faces: Sequence[TrackedFace]) -> np.ndarray:
    """Draw the id of each face on a dark tag under its box; changes and returns the canvas."""
    for face in faces:
        text = str(face.id)
        (width, height), below = cv2.getTextSize(text, FONT, ID_SCALE, 1)
        left, top = (int(corner) for corner in face.box_xyxy[[0, 3]].clip(0, canvas_bgr.shape[1::-1]))
        cv2.rectangle(canvas_bgr, (left, top), (left + width + 8, top + height + below + 4), SHADE, cv2.FILLED)
        cv2.putText(canvas_bgr, text, (left + 4, top + height + 4), FONT, ID_SCALE, WHITE, 1, cv2.LINE_AA)
    return canvas_bgr
