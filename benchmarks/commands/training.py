"""Commands of the training side: train, aflw2000 prepare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer


def train(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of the run; a killed run goes on from there.")],
    synthetic: Annotated[int | None, typer.Option(min=2, help="Train on this many synthetic faces.")] = None,
    image_list: Annotated[Path | None, typer.Option("--list", help="3DDFA's list of training pictures.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the listed pictures.")] = None,
    params: Annotated[Path | None, typer.Option(help="Parameters of the listed pictures, .pkl or .npy.")] = None,
    held_out_list: Annotated[Path | None, typer.Option(help="For --list: pictures to validate on.")] = None,
    held_out_params: Annotated[Path | None, typer.Option(help="Their parameters.")] = None,
    whitening: Annotated[Path | None, typer.Option(help="For --list: .npz or .pkl.")] = None,
    morphable: Annotated[Path | None, typer.Option(help="For --list: .npz with the sparse bases.")] = None,
    held_out: Annotated[int, typer.Option(min=2, help="Faces to validate on.")] = 500,
    arch: Annotated[str, typer.Option(help="Backbone.")] = "mobilenet_v2",
    steps: Annotated[int, typer.Option(min=1)] = 20000,
    batch: Annotated[int, typer.Option(min=2)] = 32,
    rate: Annotated[float, typer.Option(help="Learning rate after warm-up.")] = 0.03,
    warmup: Annotated[int, typer.Option(min=0, help="Steps of warm-up.")] = 100,
    milestones: Annotated[str, typer.Option(help="Steps at which the rate drops, e.g. 12000,16000.")] = "",
    optimizer: Annotated[str, typer.Option(help="sgd (Nesterov) or adam.")] = "sgd",
    head_rate: Annotated[float, typer.Option(help="Share of the rate for the last layers.")] = 0.02,
    weight_decay: Annotated[float, typer.Option()] = 5e-4,
    official_codes: Annotated[bool, typer.Option(help="Repeat the official slip in the 3DMM loss.")] = False,
    keep_refiner: Annotated[bool, typer.Option("--keep-refiner", help="For the refined head: 6 MB more.")] = False,
    validate_every: Annotated[int, typer.Option(min=1, help="Steps between validations.")] = 100,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Train a network; the best checkpoint, a log and the learning curve appear in RUN."""
    from benchmarks.progress import training_progress
    from synergy_model.losses import LossOptions
    from synergy_model.training import train as run
    from synergy_model.training_data import ListedFiles, listed_data, synthetic_data
    from synergy_model.training_options import TrainOptions
    from synergy_model.training_schedule import Schedule, parse_milestones

    schedule = Schedule(steps, rate, warmup, parse_milestones(milestones))
    losses = LossOptions(official_codes=official_codes)
    chosen = TrainOptions(
        folder, schedule, arch, batch, seed, optimizer,
        head_rate=head_rate, weight_decay=weight_decay, losses=losses, validate_every=validate_every,
        keep_refiner=keep_refiner,
    )  # fmt: skip
    files = (image_list, params, root, held_out_list, held_out_params, whitening, morphable)
    if synthetic is not None and not any(files):
        data = synthetic_data(seed, synthetic, held_out, folder)
    elif synthetic is None and all(files):
        data = listed_data(ListedFiles(*cast("list[Path]", files)), held_out)
    else:
        raise typer.BadParameter(
            "give --synthetic N, or all of --list, --params, --root, --held-out-list, "
            "--held-out-params, --whitening and --morphable"
        )
    with training_progress() as say:
        result = run(chosen, data.source, data.arrays, data.validation, say)
    print(f"{result.checkpoint}: NME {result.best_nme:.3f} %; learning curve: {result.curve}")


def prepare(
    raw: Annotated[Path, typer.Option(help="Folder of the raw dataset: image*.jpg and .mat files.")],
    out: Annotated[Path, typer.Option(help="Folder to make, in the official layout.")],
) -> None:
    """Build the official evaluation layout from the raw AFLW2000-3D download."""
    from benchmarks.aflw2000 import prepare as prepare_layout
    from benchmarks.progress import progress

    with progress() as say:
        count = prepare_layout(raw, out, say)
    print(f"{out}: {count} samples")
