"""Commands of the training side, and what all commands share: options, JSON files.

Kept apart from cli.py for its length only. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

if TYPE_CHECKING:
    import msgspec

    from benchmarks.evaluation_data import EvaluationData


class EngineName(str, Enum):
    """Engines, and `auto` for the first that is here and fits the bundle."""

    auto = "auto"
    lite = "lite"
    onnx = "onnx"
    mindspore = "mindspore"


BundleArgument = Annotated[Path, typer.Argument(help="Directory that `synergy export` made.", metavar="BUNDLE")]
EngineOption = Annotated[EngineName, typer.Option(help="What runs the model.")]
DeviceOption = Annotated[str, typer.Option(help="cpu, gpu[:N] or ascend[:N].")]
ThreadsOption = Annotated[int | None, typer.Option(min=1, help="CPU threads; all cores if not given.")]
RootOption = Annotated[Path | None, typer.Option(help="AFLW2000-3D in the official layout.")]
RawOption = Annotated[Path | None, typer.Option(help="Folder of raw AFLW2000-3D samples.")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Also write the result to this file.")]


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
    validate_every: Annotated[int, typer.Option(min=1, help="Steps between validations.")] = 100,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Train a network; the best checkpoint, a log and the learning curve appear in RUN."""
    from benchmarks.console import training_progress
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
) -> None:
    """NME and pose MAE by the AFLW2000-3D protocol; on held-out synthetic faces without --root or --raw."""
    from benchmarks.accuracy import format_source, format_table
    from benchmarks.accuracy_files import write_csv, write_montage
    from benchmarks.console import progress
    from benchmarks.evaluation import EvalOptions, run_eval

    chosen = EvalOptions(
        engine.value, device, threads, artifact, root, raw, labels, border, predictions, whitening, morphable
    )
    with progress() as say:
        done = run_eval(subject, chosen, say)
    print(format_table(done.report))
    print(format_source(done.report), file=sys.stderr)
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
    from benchmarks.aflw2000 import prepare as prepare_layout
    from benchmarks.console import progress

    with progress() as say:
        count = prepare_layout(raw, out, say)
    print(f"{out}: {count} samples")


def accuracy_data(root: Path | None, raw: Path | None) -> EvaluationData | None:
    """None stands for held-out synthetic faces, few enough to keep the proof quick."""
    from benchmarks.evaluation import EvalOptions, load_data

    options = EvalOptions(root=root, raw=raw)
    return load_data(options) if root or raw else None


def report_json(report: msgspec.Struct) -> str:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode()


def write_json(path: Path | None, report: msgspec.Struct) -> None:
    from runtime.media import write_file

    if path is not None:
        write_file(path, report_json(report).encode())
