"""Commands that make artifacts and look into them: convert, export, inspect."""

from __future__ import annotations

from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks.commands.options import JsonOption, RawOption, RootOption, accuracy_data, formats_here, write_json

if TYPE_CHECKING:
    from runtime.manifest import Artifact, Drift, Manifest


class Head(str, Enum):
    """`runtime.manifest.HEADS`."""

    params = "params"
    landmarks = "landmarks"
    refined = "refined"
    mesh = "mesh"


class PrecisionName(str, Enum):
    """`export.artifacts.PRECISIONS`."""

    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"
    int8 = "int8"


def convert(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Official .pth or .pth.tar file.")],
    target: Annotated[Path, typer.Argument(metavar="DST.ckpt", help="MindSpore checkpoint to write.")],
    arch: Annotated[str | None, typer.Option(help="Architecture, if the keys do not tell.")] = None,
    whitening: Annotated[Path | None, typer.Option(help=".npz or .pkl with param_mean and param_std.")] = None,
    morphable: Annotated[Path | None, typer.Option(help=".npz with u_base, w_shp_base, w_exp_base ...")] = None,
) -> None:
    """Official PyTorch checkpoint to MindSpore, without PyTorch and without running anything in the file."""
    from synergy_model.checkpoint import save_checkpoint
    from synergy_model.conversion import convert_checkpoint

    done = convert_checkpoint(source, arch, whitening, morphable)
    save_checkpoint(target, done.checkpoint)
    network = done.checkpoint.network
    for note in done.notes:
        print(f"note: {note}")
    print(f"{target}: {network.arch}, {network.morphable.convention} conventions")


def export(
    ckpt: Annotated[Path, typer.Argument(metavar="CKPT", help="Checkpoint from `synergy convert`.")],
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Directory to make.")],
    formats: Annotated[str | None, typer.Option(help="mindir,onnx,lite; all that this machine can make.")] = None,
    batch: Annotated[str, typer.Option(help="Crops per run: a number, or dynamic.")] = "dynamic",
    head: Annotated[Head, typer.Option(help="What the graph ends in.")] = Head.landmarks,
    precision: Annotated[
        PrecisionName, typer.Option(help="fp16: .ms; bf16: on OpenVINO; int8: ONNX.")
    ] = PrecisionName.fp32,
    calibration: Annotated[Path | None, typer.Option(help="Folder of face crops from which int8 learns.")] = None,
    accept_drift: Annotated[bool, typer.Option("--accept-drift", help="Also where accuracy suffers.")] = False,
    root: RootOption = None,
    raw: RawOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle.")] = False,
) -> None:
    """Freeze a checkpoint into a bundle. Parity runs first: a failed proof is exit 1 and no bundle."""
    from benchmarks.console import print_parity
    from benchmarks.inputs import read_crops
    from benchmarks.parity_report import ParityError
    from benchmarks.proof import gate
    from export.artifacts import ExportOptions, kept_fp32
    from export.bundle import export_bundle

    if calibration is not None and precision is not PrecisionName.int8:
        raise typer.BadParameter("--calibration is for --precision int8")
    crops = read_crops(calibration) if calibration else None
    wanted = ExportOptions(formats_here(formats), _batch(batch), force, head.value, precision.value, crops)
    proof = partial(gate, data=accuracy_data(root, raw), accept_drift=accept_drift)
    try:
        manifest = export_bundle(ckpt, bundle, wanted, proof, say=print)
    except ParityError as error:
        print_parity(error.report)
        raise
    for artifact in manifest.artifacts:
        print(f"  {artifact_line(artifact)}")
    if kept_fp32(wanted):
        print(f"note: left in fp32, as their formats have no {precision.value} here: {', '.join(kept_fp32(wanted))}")
    print(f"{bundle}: {_verdict(manifest)}")


def inspect(
    path: Annotated[Path, typer.Argument(metavar="FILE|BUNDLE", help="A .mindir, .onnx or .ms file, or a bundle.")],
    json_file: JsonOption = None,
) -> None:
    """What a model file or a bundle is, and which engines here can run it. Hashes of a bundle are verified."""
    from benchmarks.console import print_inspection
    from export.inspection import inspect_path

    found = inspect_path(path)
    print_inspection(found)
    write_json(json_file, found)


def artifact_line(artifact: Artifact) -> str:
    """One artifact in words: file, precision, size, hash, and the drift of reduced precisions."""
    line = f"{artifact.file:16} {artifact.precision} {artifact.bytes / 1e6:6.1f} MB  sha256 {artifact.sha256[:12]}"
    drift = artifact.drift
    parts = [] if drift is None or artifact.precision == "fp32" else [_drift(drift)]
    parts += [f"{each.engine} in {each.precision}: {_drift(each.drift)}" for each in artifact.computing if each.drift]
    return "  ".join([line, *parts])


def _verdict(manifest: Manifest) -> str:
    drifts = [artifact.drift for artifact in manifest.artifacts]
    drifts += [each.drift for artifact in manifest.artifacts for each in artifact.computing]
    if any(drift is not None and drift.accepted for drift in drifts):
        return "proved, but for the drift that was accepted"
    exact = all(artifact.precision == "fp32" and not artifact.computing for artifact in manifest.artifacts)
    return f"every artifact {'agrees with the Cell' if exact else 'is within its limits of the Cell'}"


def _drift(drift: Drift) -> str:
    mae = "" if drift.mae is None else f", MAE by {drift.mae:.3f} deg"
    return f"NME drifts by {drift.nme:.3f} points{mae}{', accepted' if drift.accepted else ''}"


def _batch(text: str) -> int | None:
    if text == "dynamic":
        return None
    if not text.isascii() or not text.isdigit():
        raise typer.BadParameter(f"--batch takes a number or dynamic, not {text!r}")
    return int(text)
