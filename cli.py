"""The command line: each command parses, imports what it needs, calls one function and prints."""

from __future__ import annotations

import sys
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.commands import (
    BundleArgument,
    DeviceOption,
    EngineName,
    EngineOption,
    JsonOption,
    RawOption,
    RootOption,
    ThreadsOption,
    accuracy_data,
    evaluate,
    prepare,
    report_json,
    train,
    write_json,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
lite_app = typer.Typer(help="MindSpore Lite on this machine.", no_args_is_help=True)
app.add_typer(lite_app, name="lite")
aflw2000_app = typer.Typer(help="The AFLW2000-3D benchmark's data.", no_args_is_help=True)
app.add_typer(aflw2000_app, name="aflw2000")
app.command()(train)
app.command("eval")(evaluate)
aflw2000_app.command()(prepare)


# packages that a base install lacks, and the extra that brings them
EXTRAS = {"mindspore": "export", "onnx": "export", "onnxruntime": "onnx"}


class DetectorName(str, Enum):
    """Face detectors."""

    haar = "haar"
    yunet = "yunet"


@app.callback(epilog="--debug, anywhere, shows the traceback of an error.")
def options() -> None:
    """Freeze SynergyNet into MindIR, ONNX and MindSpore Lite, prove every artifact, and run it."""


@app.command()
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


@app.command()
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

    wanted = ExportOptions(_formats(formats), _batch(batch), force)
    data = accuracy_data(root, raw)
    try:
        manifest = export_bundle(ckpt, bundle, wanted, partial(gate, data=data), say=print)
    except ParityError as error:
        print_parity(error.report)
        raise
    for artifact in manifest.artifacts:
        print(f"  {artifact.file:16} {artifact.bytes / 1e6:6.1f} MB  sha256 {artifact.sha256[:12]}")
    print(f"{bundle}: every artifact agrees with the Cell")


@app.command()
def infer(
    bundle: BundleArgument,
    images: Annotated[list[str], typer.Argument(help="Pictures, folders or patterns.", metavar="IMAGES...")],
    engine: EngineOption = EngineName.auto,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    boxes: Annotated[Path | None, typer.Option(help="Known face boxes instead of a detector.")] = None,
    detector: Annotated[DetectorName, typer.Option(help="Face detector.")] = DetectorName.haar,
    detector_model: Annotated[Path | None, typer.Option(help="Model file of the yunet detector.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for overlay pictures.")] = None,
    json_file: JsonOption = None,
    mesh: Annotated[bool, typer.Option("--mesh", help="Also write an OBJ per face (needs --out).")] = False,
) -> None:
    """Find the faces in pictures: overlays, JSON, meshes."""
    from benchmarks.console import print_record, tracked
    from runtime import FaceAligner
    from runtime.detection import make_detector
    from runtime.inference import InferOptions, InferReport, infer_images
    from runtime.media import BoxFile, expand_inputs

    if mesh and out is None:
        raise typer.BadParameter("--mesh writes beside the overlays: give --out DIR")
    paths = expand_inputs(images)
    known = BoxFile.read(boxes) if boxes else None
    chosen = make_detector(detector.value, detector_model)
    with FaceAligner.load(bundle, engine.value, device, threads, detector=chosen) as aligner:
        done = infer_images(aligner, paths, InferOptions(known, out, mesh))
        records = list(tracked(done, "pictures", len(paths)))
        print(f"{aligner.artifact.file} on {aligner.engine.name}, {aligner.engine.device}")
    write_json(json_file, InferReport(records))
    for record in records:
        print_record(record)
    if any(record.error for record in records):
        raise typer.Exit(1)


@app.command()
def parity(
    bundle: BundleArgument,
    ckpt: Annotated[Path, typer.Option(help="The checkpoint the bundle was exported from.")],
    root: RootOption = None,
    raw: RawOption = None,
    json_file: JsonOption = None,
) -> None:
    """Compare every artifact on every engine with the Cell again: outputs, then NME and MAE."""
    from benchmarks.console import print_parity
    from benchmarks.parity import summary
    from benchmarks.proof import prove_bundle
    from runtime import Bundle
    from synergy_model.checkpoint import load_checkpoint

    data = accuracy_data(root, raw)
    report = prove_bundle(Bundle.open(bundle), load_checkpoint(ckpt).network, data)
    print_parity(report)
    write_json(json_file, report)
    print(summary(report))
    raise typer.Exit(0 if report.passed else 1)


@app.command()
def bench(
    bundle: BundleArgument,
    engine: Annotated[list[EngineName] | None, typer.Option(help="Only this engine; may be repeated.")] = None,
    device: DeviceOption = "cpu",
    threads: Annotated[list[int] | None, typer.Option(help="May be repeated; 1 and all cores if not given.")] = None,
    batch: Annotated[list[int] | None, typer.Option(help="May be repeated; 1 and 16 if not given.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns that each configuration takes.")] = 20,
    all_artifacts: Annotated[bool, typer.Option("--all", help="Every artifact that an engine reads.")] = False,
    json_file: JsonOption = None,
) -> None:
    """Latency, cold start and memory of every engine present, interleaved in one run."""
    from benchmarks.console import print_bench, progress
    from benchmarks.latency import BenchOptions, bench_bundle

    named = None if not engine or EngineName.auto in engine else tuple(name.value for name in engine)
    options = BenchOptions(named, all_artifacts, device, _some(threads), _some(batch), rounds)
    with progress() as say:
        report = bench_bundle(bundle, options, say)
    print_bench(report)
    write_json(json_file, report)
    raise typer.Exit(1 if report.failures else 0)


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, or write it to FILE.")] = False,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="With --json.")] = None,
) -> None:
    """What works on this machine, what does not, and how to get it."""
    from benchmarks.console import print_doctor
    from benchmarks.doctor import run_doctor

    if file is not None and not as_json:
        raise typer.BadParameter("a file is written with --json only")
    report = run_doctor()
    if as_json and file is None:
        print(report_json(report))
    else:
        print_doctor(report)
        write_json(file, report)
    raise typer.Exit(0 if report.ok else 1)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the bundle `demo` and its pictures.")] = Path("dist"),
    json_file: JsonOption = None,
) -> None:
    """The whole road on the demo checkpoint: export, proof, faces in a photo, latency. No weights are fetched."""
    from benchmarks.console import print_bench, print_parity
    from benchmarks.demo import run_demo

    report = run_demo(out, _formats(None), say=print)
    print_parity(report.parity)
    print_bench(report.bench)
    write_json(json_file, report)
    for picture in report.pictures:
        print(f"picture: {picture}")


@lite_app.command("install")
def lite_install() -> None:
    """Fetch MindSpore Lite and build its binding. Doing it twice is harmless."""
    from runtime.native.install import install

    home = install(print)
    print(f"MindSpore Lite {home.version} is ready in {home.root}")


def _some(values: list[int] | None) -> tuple[int, ...] | None:
    return tuple(values) if values else None


def _formats(text: str | None) -> tuple[str, ...]:
    from export.bundle import FORMATS
    from runtime.engines import available

    if text is not None:
        return tuple(name.strip() for name in text.split(","))
    lite = available("lite")
    if lite.ok:
        return FORMATS
    print(f"note: no .ms will be made. {lite.detail}: {lite.fix}", file=sys.stderr)
    return tuple(name for name in FORMATS if name != "lite")


def _batch(text: str) -> int | None:
    if text == "dynamic":
        return None
    if not text.isascii() or not text.isdigit():
        raise typer.BadParameter(f"--batch takes a number or dynamic, not {text!r}")
    return int(text)


def main() -> None:
    """Run a command; a failure is one line and exit 1, without a traceback unless --debug."""
    debug = "--debug" in sys.argv  # wherever it stands
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    try:
        app()
    except Exception as error:
        if debug:
            raise
        expected = isinstance(error, (ValueError, OSError, RuntimeError, ImportError))
        print(f"error: {_one_line(error) if expected else _unexpected(error)}", file=sys.stderr)
        sys.exit(1)


def _one_line(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
        return f"{error.name} is not installed: pip install 'synergy-mindir[{EXTRAS[error.name]}]'"
    return " ".join(str(error).split()) or type(error).__name__


def _unexpected(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return f"unexpected {type(error).__name__}: {first} (run again with --debug for the traceback)"


if __name__ == "__main__":
    main()
