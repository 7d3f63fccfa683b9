"""`synergy eval` and `synergy aflw2000 prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synergy.benchmarks.commands.options import RawOption, RootOption
from synergy.runtime.commands.options import (
    AffinityOption,
    DeviceOption,
    DevicePrecisionOption,
    EngineName,
    EngineOption,
    JsonOption,
    LiteConfigOption,
    ThreadsOption,
    engine_options,
    write_json,
)
from synergy.runtime.terminal.paths import PathUse
from synergy.runtime.terminal.streams import print_line


def evaluate(
    subject: Annotated[
        Path | None, typer.Argument(metavar="BUNDLE|CKPT", help="Bundle or checkpoint to evaluate.")
    ] = None,
    engine: EngineOption = EngineName.auto,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    artifact: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", show_default="the engine's best", help="File of the bundle, e.g. model.v1.mindir."
        ),
    ] = None,
    root: RootOption = None,
    raw: RawOption = None,
    labels: Annotated[
        str, typer.Option(metavar="NAME", help="Landmark labels of --root: original or reannotated.")
    ] = "original",
    border: Annotated[
        int | None,
        typer.Option(
            min=0, show_default="5 with --root, else 0", help="Width of the black border drawn into crops, pixels."
        ),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Score the predictions in this .npz (landmarks or params) instead of a model."
        ),
    ] = None,
    whitening: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="For params in --predictions: mean and standard deviation, .npz or .pkl."),
    ] = None,
    morphable: Annotated[
        Path | None, typer.Option(metavar="FILE", help="For params in --predictions: .npz with the 3DMM bases.")
    ] = None,
    convention: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="For params in --predictions: their network, synergynet, 3ddfa_v2 or 3ddfa."),
    ] = None,
    json_file: JsonOption = None,
    csv_file: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Write the errors per image as CSV."),
        PathUse.WRITE_TEXT,
    ] = None,
    montage: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write an image of the faces with the largest error."),
        PathUse.WRITE_FILE,
    ] = None,
    device_precision: DevicePrecisionOption = "auto",
    affinity: AffinityOption = None,
    lite_config: LiteConfigOption = None,
) -> None:
    """Measure the accuracy: NME of the landmarks and MAE of the head pose.

    Follows the AFLW2000-3D protocol. Without --root or --raw, the data are
    held-out synthetic faces. NME is in percent of the size of the face box,
    MAE in degrees.
    """
    from synergy.benchmarks.accuracy.evaluate import EvalOptions, run_eval
    from synergy.benchmarks.accuracy.per_face import write_csv, write_montage
    from synergy.benchmarks.accuracy.report import format_source, format_table
    from synergy.runtime.terminal.progress import progress

    chosen = EvalOptions(
        engine.value,
        device,
        threads,
        artifact,
        root,
        raw,
        labels,
        border,
        predictions,
        whitening,
        morphable,
        engine_options(device_precision, affinity, lite_config),
        convention,
    )
    with progress() as update:
        done = run_eval(subject, chosen, update)
    for line in format_table(done.report).splitlines():
        print_line(line)
    print_line(f"{format_source(done.report)}{done.by and f', by {done.by}'}", error=True)
    write_json(json_file, done.report)
    if csv_file:
        write_csv(csv_file, done.report, done.predictions, done.data)
    if montage:
        write_montage(montage, done.report, done.predictions, done.data)


aflw2000_app = typer.Typer(help="Prepare the AFLW2000-3D data set.", no_args_is_help=True)


@aflw2000_app.command()
def prepare(
    raw: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the download: image*.jpg and .mat files.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Folder to make."), PathUse.WRITE_FOLDER],
) -> None:
    """Convert the AFLW2000-3D download to the layout of the official evaluation."""
    from synergy.benchmarks.accuracy.aflw2000 import prepare as prepare_layout
    from synergy.runtime.terminal.progress import progress

    with progress() as update:
        count = prepare_layout(raw, out, update)
    print_line(f"{out}: {count} samples")
