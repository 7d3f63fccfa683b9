"""`synergy convert` and `synergy train`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

if TYPE_CHECKING:
    from synergy.synergy_model.training.options import Progress as TrainingStep


def convert(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Official .pth or .pth.tar file.")],
    target: Annotated[Path, typer.Argument(metavar="DST.ckpt", help="MindSpore checkpoint to write.")],
    arch: Annotated[str | None, typer.Option(help="Architecture, if the keys do not tell.")] = None,
    whitening: Annotated[Path | None, typer.Option(help=".npz or .pkl with param_mean and param_std.")] = None,
    morphable: Annotated[Path | None, typer.Option(help=".npz with u_base, w_shp_base, w_exp_base ...")] = None,
) -> None:
    """Official PyTorch checkpoint to MindSpore, without PyTorch and without running anything in the file."""
    from synergy.synergy_model.checkpoints.checkpoint import save_checkpoint
    from synergy.synergy_model.checkpoints.torch_conversion import convert_checkpoint

    done = convert_checkpoint(source, arch, whitening, morphable)
    save_checkpoint(target, done.checkpoint)
    network = done.checkpoint.network
    for note in done.notes:
        print(f"note: {note}")
    print(f"{target}: {network.arch}, {network.morphable.convention} conventions")


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
    from synergy.synergy_model.losses import LossOptions
    from synergy.synergy_model.training.data import ListedFiles, listed_data, synthetic_data
    from synergy.synergy_model.training.loop import train as run
    from synergy.synergy_model.training.options import TrainOptions
    from synergy.synergy_model.training.schedule import Schedule, parse_milestones

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


@contextmanager
def training_progress() -> Iterator[Callable[[TrainingStep], None]]:
    """A bar that is told every step, and a line for each validation."""
    from synergy.runtime.commands.progress import progress

    with progress() as say:

        def tell(step: TrainingStep) -> None:
            say(step.step / step.steps, f"step {step.step} of {step.steps}, loss {step.loss:.3f}")
            if step.validation is not None:
                found = step.validation
                print(f"step {step.step}: loss {step.loss:.3f}, NME {found.nme:.3f} %, MAE {found.mae:.3f} deg")

        yield tell
