"""`synergy export` and `synergy parity`: make a bundle and compare its artifacts with the checkpoint."""

from __future__ import annotations

import hashlib
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synergy.benchmarks.commands.options import RawOption, RootOption, accuracy_data, formats_here
from synergy.runtime.commands.options import BundleArgument, JsonOption, write_json
from synergy.runtime.terminal.paths import PathUse
from synergy.runtime.terminal.streams import print_line

if TYPE_CHECKING:
    from synergy.runtime.manifest import Artifact, Drift, Manifest
    from synergy.runtime.verification.parity_record import ParityReport


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


def export(
    ckpt: Annotated[Path, typer.Argument(metavar="CKPT", help="Checkpoint from `synergy convert` or `synergy train`.")],
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder to make."), PathUse.WRITE_FOLDER],
    formats: Annotated[
        str | None,
        typer.Option(
            "--formats",
            "--format",
            metavar="LIST",
            show_default="all that this machine can make",
            help="Comma-separated: mindir,onnx,lite.",
        ),
    ] = None,
    batch: Annotated[str, typer.Option(metavar="N|dynamic", help="Batch size of the exported graph.")] = "dynamic",
    head: Annotated[
        Head,
        typer.Option(
            metavar="NAME", help="Outputs of the graph: params, or also landmarks, refined (landmarks) or mesh."
        ),
    ] = Head.landmarks,
    precision: Annotated[
        PrecisionName,
        typer.Option(help="Reduced precision: fp16 (.ms weights), bf16 (OpenVINO compute precision) or int8 (ONNX)."),
    ] = PrecisionName.fp32,
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", show_default="procedural faces", help="For int8: folder of face crops for calibration."
        ),
    ] = None,
    accept_drift: Annotated[
        bool, typer.Option("--accept-drift", help="Export even if the accuracy drift exceeds the limit.")
    ] = False,
    root: RootOption = None,
    raw: RawOption = None,
    golden_real: Annotated[
        bool, typer.Option("--golden-real", help="Put faces of --raw or --root, not procedural ones, in golden.npz.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle.")] = False,
) -> None:
    """Export a checkpoint to a bundle of MindIR, ONNX and MindSpore Lite files.

    Every artifact is first compared with the checkpoint: outputs, NME and
    MAE. If a comparison fails, no bundle is made and the exit status is 1.
    """
    from synergy.benchmarks.commands.tables import print_parity
    from synergy.benchmarks.parity.gate import gate
    from synergy.benchmarks.parity.report import ParityError
    from synergy.benchmarks.sample_crops import read_crops
    from synergy.export.artifacts import ExportOptions, kept_fp32
    from synergy.export.bundle import export_bundle
    from synergy.runtime.bundle import Bundle
    from synergy.runtime.verification.parity_record import read_parity

    if calibration is not None and precision is not PrecisionName.int8:
        raise typer.BadParameter("--calibration needs --precision int8")
    crops = read_crops(calibration) if calibration else None
    wanted = ExportOptions(formats_here(formats), _batch(batch), force, head.value, precision.value, crops)
    proof = partial(gate, data=accuracy_data(root, raw), accept_drift=accept_drift, golden_real=golden_real)
    try:
        manifest = export_bundle(ckpt, bundle, wanted, proof, log=print_line)
    except ParityError as error:
        print_parity(error.report)
        raise
    for artifact in manifest.artifacts:
        print_line(f"  {artifact_line(artifact)}")
    if kept_fp32(wanted):
        kept = ", ".join(kept_fp32(wanted))
        print_line(f"note: exported in fp32, as these formats do not support {precision.value}: {kept}")
    print_line(f"{bundle}: {verdict(manifest, read_parity(Bundle.open(bundle)))}")


def parity(
    bundle: BundleArgument,
    ckpt: Annotated[Path, typer.Option(metavar="CKPT", help="Checkpoint that the bundle was exported from.")],
    root: RootOption = None,
    raw: RawOption = None,
    json_file: JsonOption = None,
) -> None:
    """Compare every artifact of a bundle, on every engine, with its checkpoint.

    Compares the outputs, then NME and MAE on labelled faces. The exit
    status is 1 if a comparison fails.
    """
    from synergy import Bundle
    from synergy.benchmarks.commands.tables import print_parity
    from synergy.benchmarks.parity.gate import prove_bundle
    from synergy.benchmarks.parity.report import summary
    from synergy.runtime.variants import runnable_variants
    from synergy.synergy_model.checkpoints.checkpoint import load_checkpoint

    data, opened = accuracy_data(root, raw), Bundle.open(bundle)
    checkpoint = load_checkpoint(ckpt)  # first: it refuses devices and pipes
    source_sha256 = hashlib.sha256(ckpt.read_bytes()).hexdigest()
    report = prove_bundle(opened, checkpoint, data, source_sha256)
    print_parity(report)
    for skipped in runnable_variants(opened.manifest.artifacts).missing_precisions():
        print_line(f"note: not checked on this machine: {skipped}", error=True)
    write_json(json_file, report)
    print_line(summary(report))
    raise typer.Exit(0 if report.passed else 1)


def artifact_line(artifact: Artifact) -> str:
    """One line of text: file, precision, size, hash, and the accuracy drift of reduced precisions."""
    line = f"{artifact.file:16} {artifact.precision} {artifact.bytes / 1e6:6.1f} MB  sha256 {artifact.sha256[:12]}"
    drift = artifact.drift
    parts = [] if drift is None or artifact.precision == "fp32" else [_drift(drift)]
    parts += [
        f"{each.engine} in {each.precision}: {_drift(each.drift)}" for each in artifact.compute_precisions if each.drift
    ]
    return "  ".join([line, *parts])


def verdict(manifest: Manifest, report: ParityReport | None) -> str:
    """The last line of an export: what the parity check showed."""
    from synergy.runtime.verification.parity_record import ParityStatus, parity_verdict

    verdict = parity_verdict(manifest, report)
    if verdict.status is ParityStatus.ACCEPTED_DRIFT:
        return "verified, except for the accuracy drift that was accepted"
    if not verdict.verified:
        return f"not verified: {'; '.join(verdict.reasons)}"
    exact = all(artifact.precision == "fp32" and not artifact.compute_precisions for artifact in manifest.artifacts)
    return f"every artifact {'agrees with the checkpoint' if exact else 'is within the accuracy limits'}"


def _drift(drift: Drift) -> str:
    mae = "" if drift.mae is None else f", MAE drift {drift.mae:.3f} deg"
    return f"NME drift {drift.nme:.3f} points{mae}{' (accepted)' if drift.accepted else ''}"


def _batch(text: str) -> int | None:
    if text == "dynamic":
        return None
    if not text.isascii() or not text.isdigit():
        raise typer.BadParameter(f"--batch must be a number or dynamic, not {text!r}")
    return int(text)
