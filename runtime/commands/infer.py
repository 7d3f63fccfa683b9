"""`synergy infer`: landmarks and pose of the faces in images, videos and camera streams."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synergy.runtime.commands.infer_inputs import bundle_and_images
from synergy.runtime.commands.options import (
    AffinityOption,
    DeviceOption,
    DevicePrecisionOption,
    EngineName,
    EngineOption,
    JsonOption,
    LiteConfigOption,
    engine_options,
)
from synergy.runtime.terminal.paths import PathUse, refuse_inputs
from synergy.runtime.terminal.streams import print_line

if TYPE_CHECKING:
    from synergy.runtime.media.layers import Layers


RAY_ADDRESS = re.compile(r"auto|local|(ray://)?(?!camera:)[\w.-]+:\d+|ray://.+")


def ray_address(value: str | None) -> str | None:
    """Refuse what is no address: usually the next argument after a `--ray` without a value."""
    if value is not None and not RAY_ADDRESS.fullmatch(value):
        raise typer.BadParameter(f"give auto, local, HOST:PORT or ray://HOST:PORT, not {value!r}")
    return value


class AnglesName(str, Enum):
    """Conventions of yaw, pitch and roll."""

    common = "common"
    official = "official"


class BoxFormat(str, Enum):
    """The four numbers of a box."""

    xyxy = "xyxy"
    xywh = "xywh"


class DetectorName(str, Enum):
    """Face detectors."""

    auto = "auto"
    haar = "haar"
    yunet = "yunet"


def infer(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="A bundle (without one, the built-in bundle is used), then image files, folders, patterns such as "
            "'a/**/*.jpg', videos, or camera:N.",
            metavar="[BUNDLE] IMAGES",
        ),
        PathUse.READ,
    ],
    engine: EngineOption = EngineName.auto,
    device: DeviceOption = "cpu",
    threads: Annotated[
        int | None,
        typer.Option(min=1, show_default="all cores, divided among the workers", help="CPU threads per engine."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, show_default="1 for up to 7 images, else one per core", help="Worker processes."),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            callback=ray_address,
            help="Run the workers on a Ray cluster: HOST:PORT, ray://HOST:PORT, local (a new one on this machine) or "
            "auto (the running one, else a new one).",
        ),
    ] = None,
    boxes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON or text file of face boxes; the detector does not run.")
    ] = None,
    box_format: Annotated[
        BoxFormat, typer.Option(help="Numbers of --boxes: xyxy (two corners) or xywh (corner, width, height).")
    ] = BoxFormat.xyxy,
    detector: Annotated[
        DetectorName, typer.Option(help="Face detector; auto: yunet if it is installed, else haar.")
    ] = DetectorName.auto,
    detector_model: Annotated[Path | None, typer.Option(metavar="FILE", help="ONNX model of --detector yunet.")] = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, show_default="0.7 of yunet, 0 of haar", help="Drop detected faces with a lower score."
        ),
    ] = None,
    max_faces: Annotated[
        int | None,
        typer.Option(min=1, show_default="all", help="Keep only so many faces per image, those with the best scores."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder for images and videos with the faces drawn in."),
        PathUse.WRITE_FOLDER,
    ] = None,
    draw: Annotated[
        str | None,
        typer.Option(
            metavar="LAYERS",
            show_default="landmarks, axes, box, label",
            help="What --out draws: any of landmarks, axes, box, label, mesh, depth, separated by commas.",
        ),
    ] = None,
    json_file: JsonOption = None,
    mesh: Annotated[bool, typer.Option("--mesh", help="Write an OBJ file per face (needs --out).")] = False,
    confidence: Annotated[
        bool, typer.Option(help="Images: compute how sure it is that each face is one; takes one more crop per face.")
    ] = True,
    allow_damaged: Annotated[
        bool,
        typer.Option("--allow-damaged", help="Images: use a damaged JPEG as far as it can be decoded, with a warning."),
    ] = False,
    angles: Annotated[
        AnglesName,
        typer.Option(
            help="Signs of yaw, pitch, roll: common, the same for every bundle, or official, of the network's own code."
        ),
    ] = AnglesName.common,
    redetect: Annotated[int, typer.Option(min=1, help="Video: run the detector every N frames.")] = 50,
    smooth: Annotated[bool, typer.Option(help="Video: smooth landmarks and pose over time.")] = True,
    device_precision: DevicePrecisionOption = "auto",
    affinity: AffinityOption = None,
    lite_config: LiteConfigOption = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="First check the engine with the golden values of the bundle; always done on GPU and Ascend.",
        ),
    ] = False,
    unverified: Annotated[
        bool,
        typer.Option(
            "--unverified", help="GPU and Ascend: skip that check; every output is then marked as not verified."
        ),
    ] = False,
) -> None:
    """Find faces, landmarks and head pose in images and videos.

    The results are printed; --out draws them, --json writes them (for a
    video: one JSON object per line and frame), --mesh writes meshes.
    An image that cannot be read is reported and skipped; the exit status
    is then 1.
    """
    from synergy.runtime.commands.infer_pictures import PictureRun, run_pictures
    from synergy.runtime.detection.install import INSTALL_HINT, find_yunet
    from synergy.runtime.inference.pictures import InferOptions
    from synergy.runtime.inference.worker import WorkerSetup
    from synergy.runtime.media.video import split_inputs

    if mesh and out is None:
        raise typer.BadParameter("--mesh needs --out DIR")
    layers = _layers(draw, out)
    bundle, images = bundle_and_images(inputs)
    paths, videos = split_inputs(images)
    refuse_inputs([json_file], [*paths, *(video for video in videos if isinstance(video, Path))])
    if boxes and (min_score is not None or max_faces is not None):
        raise typer.BadParameter("--min-score and --max-faces limit the detector, which does not run with --boxes")
    known = None
    if boxes:
        from synergy.runtime.media.box_file import BoxFile

        known = BoxFile.read(boxes, box_format.value)
    if detector is DetectorName.auto and not known and not detector_model and find_yunet() is None:
        print_line(f"faces are detected with OpenCV's cascades; YuNet finds more of them: {INSTALL_HINT}")
    options = engine_options(device_precision, affinity, lite_config)
    if verify and unverified:
        raise typer.BadParameter("--verify and --unverified exclude each other")
    check = True if verify else False if unverified else None
    setup = WorkerSetup(
        bundle,
        engine.value,
        device,
        threads,
        None,
        options,
        detector.value,
        detector_model,
        check,
        angles.value,
        min_score,
        max_faces,
    )
    if not videos:
        run = PictureRun(
            setup, InferOptions(known, out, mesh, layers, confidence, allow_damaged), workers, ray, json_file
        )
        raise typer.Exit(run_pictures(run, paths))
    if paths or (json_file and len(videos) > 1):
        raise ValueError("images and videos need separate commands, and so do several videos with --json")
    if known or mesh or workers or ray:
        raise ValueError("--boxes, --mesh, --workers and --ray do not apply to videos: leave them out")
    from synergy.runtime.commands.infer_video import VideoRun, run_videos

    raise typer.Exit(run_videos(VideoRun(setup, out, json_file, redetect, smooth, layers), videos))


def _layers(names: str | None, out: Path | None) -> Layers:
    from synergy.runtime.media.layers import Layers

    if names is None:
        return Layers()
    if out is None:
        raise typer.BadParameter("--draw needs --out DIR")
    try:
        return Layers.parse(names)
    except ValueError as error:
        raise typer.BadParameter(f"--draw: {error}") from None
