"""`synergy eval` and `synergy aflw2000 prepare`."""

from __future__ import annotations

import sys
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


def evaluate(
    subject: Annotated[Path | None, typer.Argument(metavar="BUNDLE|CKPT", help="What to evaluate.")] = None,
    engine: EngineOption = EngineName.auto,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    artifact: Annotated[str | None, typer.Option(help="A file of the bundle, e.g. model.v1.mindir.")] = None,
    root: RootOption = None,
    raw: RawOption = None,
    labels: Annotated[str, typer.Option(help="original or reannotated landmarks of --root.")] = "original",
    border: Annotated[int | None, typer.Option(min=0, help="Black pixels around crops; 5 for --root, else 0.")] = None,
    predictions: Annotated[Path | None, typer.Option(help="Score this .npz instead: landmarks or params.")] = None,
    whitening: Annotated[Path | None, typer.Option(help="For params in --predictions.")] = None,
    morphable: Annotated[Path | None, typer.Option(help="For params in --predictions.")] = None,
    json_file: JsonOption = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write one line per picture.")] = None,
    montage: Annotated[Path | None, typer.Option(help="Write a picture of the worst faces.")] = None,
    device_precision: DevicePrecisionOption = "auto",
    affinity: AffinityOption = None,
    lite_config: LiteConfigOption = None,
) -> None:
    """NME and pose MAE by the AFLW2000-3D protocol; on held-out synthetic faces without --root or --raw."""
    from synergy.benchmarks.accuracy.evaluate import EvalOptions, run_eval
    from synergy.benchmarks.accuracy.per_face import write_csv, write_montage
    from synergy.benchmarks.accuracy.report import format_source, format_table
    from synergy.runtime.commands.progress import progress

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
    )
    with progress() as say:
        done = run_eval(subject, chosen, say)
    print(format_table(done.report))
    print(f"{format_source(done.report)}{done.by and f', by {done.by}'}", file=sys.stderr)
    write_json(json_file, done.report)
    if csv_file:
        write_csv(csv_file, done.report, done.predictions, done.data)
    if montage:
        write_montage(montage, done.report, done.predictions, done.data)


def prepare(
    raw: Annotated[Path, typer.Option(help="Folder of the raw dataset: image*.jpg and .mat files.")],
    out: Annotated[Path, typer.Option(help="Folder to make, in the official layout.")],
) -> None:
    """Build the official evaluation layout from the raw AFLW2000-3D download."""
    from synergy.benchmarks.accuracy.aflw2000 import prepare as prepare_layout
    from synergy.runtime.commands.progress import progress

    with progress() as say:
        count = prepare_layout(raw, out, say)
    print(f"{out}: {count} samples")
