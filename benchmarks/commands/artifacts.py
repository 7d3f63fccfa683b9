"""Commands that make artifacts: convert, export."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.commands.options import RawOption, RootOption, accuracy_data, formats_here


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
    root: RootOption = None,
    raw: RawOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle.")] = False,
) -> None:
    """Freeze a checkpoint into a bundle. Parity runs first: a failed proof is exit 1 and no bundle."""
    from benchmarks.console import print_parity
    from benchmarks.parity import ParityError
    from benchmarks.proof import gate
    from export.bundle import ExportOptions, export_bundle

    wanted = ExportOptions(formats_here(formats), _batch(batch), force)
    data = accuracy_data(root, raw)
    try:
        manifest = export_bundle(ckpt, bundle, wanted, partial(gate, data=data), say=print)
    except ParityError as error:
        print_parity(error.report)
        raise
    for artifact in manifest.artifacts:
        print(f"  {artifact.file:16} {artifact.bytes / 1e6:6.1f} MB  sha256 {artifact.sha256[:12]}")
    print(f"{bundle}: every artifact agrees with the Cell")


def _batch(text: str) -> int | None:
    if text == "dynamic":
        return None
    if not text.isascii() or not text.isdigit():
        raise typer.BadParameter(f"--batch takes a number or dynamic, not {text!r}")
    return int(text)
