"""`synergy convert` and `synergy train`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from synergy.runtime.terminal.paths import PathUse
from synergy.runtime.terminal.streams import print_line

if TYPE_CHECKING:
    from synergy.synergy_model.training.options import Progress as TrainingStep

LINE_EVERY_S = 30.0  # seconds between progress lines


def convert(
    source: Annotated[
        Path,
        typer.Argument(metavar="SRC", help="PyTorch checkpoint: .pth or .pth.tar of SynergyNet, 3DDFA_V2 or 3DDFA."),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="DST.ckpt", help="MindSpore checkpoint to write."), PathUse.WRITE_FILE
    ],
    arch: Annotated[
        str | None, typer.Option(show_default="found from the keys", help="Architecture, e.g. mobilenet_v2.")
    ] = None,
    whitening: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Mean and standard deviation of the parameters, if SRC has none: .npz or .pkl."
        ),
    ] = None,
    morphable: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="3DMM bases, if SRC has none: .npz with u_base, w_shp_base, w_exp_base, or bfm_noneck_v3.pkl of "
            "3DDFA_V2; once more for its tri.pkl.",
        ),
    ] = None,
) -> None:
    """Convert an official PyTorch checkpoint to MindSpore.

    PyTorch is not needed, and no code in the file is executed.
    """
    from synergy.synergy_model.checkpoints.checkpoint import save_checkpoint
    from synergy.synergy_model.checkpoints.torch_conversion import convert_checkpoint

    done = convert_checkpoint(source, arch, whitening, morphable)
    save_checkpoint(target, done.checkpoint)
    network = done.checkpoint.network
    for note in done.notes:
        print_line(f"note: {note}")
    print_line(f"{target}: {network.arch}, {network.morphable.convention} conventions")


def train(
    folder: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="Folder of the run. A run that was stopped continues from its last state."),
        PathUse.WRITE_FOLDER,
    ],
    synthetic: Annotated[
        int | None, typer.Option(min=2, help="Train on N procedural face images.", metavar="N")
    ] = None,
    image_list: Annotated[
        Path | None,
        typer.Option("--list", metavar="FILE", help="Train on these images: a text file, one path per line (300W-LP)."),
    ] = None,
    root: Annotated[Path | None, typer.Option(metavar="DIR", help="For --list: folder of the images.")] = None,
    params: Annotated[
        Path | None, typer.Option(metavar="FILE", help="For --list: 3DMM parameters of the images, .pkl or .npy.")
    ] = None,
    held_out_list: Annotated[
        Path | None, typer.Option(metavar="FILE", help="For --list: list of validation images.")
    ] = None,
    held_out_params: Annotated[
        Path | None, typer.Option(metavar="FILE", help="For --list: parameters of the validation images.")
    ] = None,
    whitening: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="For --list: mean and standard deviation of the parameters, .npz or .pkl."),
    ] = None,
    morphable: Annotated[
        Path | None, typer.Option(metavar="FILE", help="For --list: .npz with u_base, w_shp_base, w_exp_base.")
    ] = None,
    held_out: Annotated[int, typer.Option(min=2, help="Number of faces for validation.")] = 500,
    arch: Annotated[str, typer.Option(help="Architecture of the backbone.")] = "mobilenet_v2",
    steps: Annotated[int, typer.Option(min=1, help="Training steps (batches).")] = 20000,
    batch: Annotated[int, typer.Option(min=2, help="Images per step.")] = 16,
    rate: Annotated[float, typer.Option(help="Learning rate after the warm-up.")] = 0.001,
    warmup: Annotated[int, typer.Option(min=0, help="Steps over which the learning rate rises to --rate.")] = 50,
    milestones: Annotated[
        str | None,
        typer.Option(
            metavar="STEPS",
            help="Steps at which the learning rate drops to a fifth, e.g. 12000,16000; an empty string for none.",
            show_default="at 55 % and 82 % of the steps",
        ),
    ] = None,
    optimizer: Annotated[
        str, typer.Option(metavar="NAME", help="Optimizer: sgd (Nesterov momentum) or adam.")
    ] = "adam",
    head_rate: Annotated[float, typer.Option(help="Learning rate of the head layers, as a factor of --rate.")] = 0.1,
    weight_decay: Annotated[float, typer.Option(help="Weight decay.")] = 0.0,
    ema: Annotated[
        float, typer.Option(help="Decay per step of the moving average of the weights, which is validated; 0 for none.")
    ] = 0.999,
    augment: Annotated[
        str, typer.Option(metavar="NAME", help="Augmentations: wide (as for the built-in network), paper, or none.")
    ] = "wide",
    official_codes: Annotated[
        bool,
        typer.Option(
            "--official-codes", help="Repeat a mistake of the official code in the 3DMM loss (docs/training.md)."
        ),
    ] = False,
    keep_refiner: Annotated[
        bool,
        typer.Option(
            "--keep-refiner", help="Keep the landmark refiner in the checkpoint, for `export --head refined` (6 MB)."
        ),
    ] = False,
    validate_every: Annotated[int, typer.Option(min=1, help="Steps between validations.")] = 100,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
) -> None:
    """Train a network.

    Writes the best checkpoint, the state to continue from, a log and the
    learning curve to RUN.
    """
    from synergy.synergy_model.losses import LossOptions
    from synergy.synergy_model.training.augmentation import find_recipe
    from synergy.synergy_model.training.data import ListedFiles, listed_data, synthetic_data
    from synergy.synergy_model.training.loop import train as run
    from synergy.synergy_model.training.options import TrainOptions
    from synergy.synergy_model.training.schedule import Schedule, default_milestones, parse_milestones

    drops = default_milestones(steps) if milestones is None else parse_milestones(milestones)
    schedule = Schedule(steps, rate, warmup, drops)
    losses = LossOptions(official_codes=official_codes)
    chosen = TrainOptions(
        folder, schedule, arch, batch, seed, optimizer,
        head_rate=head_rate, weight_decay=weight_decay, ema_decay=ema, losses=losses, augment=find_recipe(augment),
        validate_every=validate_every, keep_refiner=keep_refiner,
    )  # fmt: skip
    files = (image_list, params, root, held_out_list, held_out_params, whitening, morphable)
    if synthetic is not None and not any(files):
        print_line(f"rendering {held_out} faces for validation", flush=True)
        data = synthetic_data(seed, synthetic, held_out, folder)
    elif synthetic is None and all(files):
        data = listed_data(ListedFiles(*cast("list[Path]", files)), held_out)
    else:
        raise typer.BadParameter(
            "give --synthetic N, or all of --list, --params, --root, --held-out-list, "
            "--held-out-params, --whitening and --morphable"
        )
    with training_progress() as show:
        result = run(chosen, data.source, data.arrays, data.validation, show)
    print_line(f"{result.checkpoint}: NME {result.best_nme:.3f} %; learning curve: {result.curve}")


@contextmanager
def training_progress() -> Iterator[Callable[[TrainingStep], None]]:
    """Yield a function that updates a progress bar after each step.

    It prints a line after the first step, after each validation, and otherwise every LINE_EVERY_S seconds.
    """
    from synergy.runtime.terminal.progress import progress

    printed: float | None = None
    with progress() as update:

        def show(step: TrainingStep) -> None:
            nonlocal printed
            update(step.step / step.steps, f"step {step.step} of {step.steps}, loss {step.loss:.3f}")
            if step.validation is not None or printed is None or time.monotonic() - printed > LINE_EVERY_S:
                print_line(_line(step), flush=True)
                printed = time.monotonic()

        yield show


def _line(step: TrainingStep) -> str:
    text = f"step {step.step} of {step.steps}: loss {step.loss:.3f}, {step.seconds:.2f} s"
    accuracy = step.validation
    return text if accuracy is None else f"{text}, NME {accuracy.nme:.3f} %, MAE {accuracy.mae:.3f} deg"
