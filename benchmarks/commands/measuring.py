"""Commands that prove and tell: parity, eval, report, demo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.commands.options import (
    AffinityOption,
    BundleArgument,
    DeviceOption,
    DevicePrecisionOption,
    EngineName,
    EngineOption,
    JsonOption,
    LiteConfigOption,
    RawOption,
    RootOption,
    ThreadsOption,
    accuracy_data,
    engine_names,
    engine_options,
    formats_here,
    write_json,
)


def parity(
    bundle: BundleArgument,
    ckpt: Annotated[Path, typer.Option(help="The checkpoint the bundle was exported from.")],
    root: RootOption = None,
    raw: RawOption = None,
    json_file: JsonOption = None,
) -> None:
    """Compare every artifact on every engine with the Cell again: outputs, then NME and MAE."""
    from benchmarks.console import print_parity
    from benchmarks.parity_report import summary
    from benchmarks.proof import prove_bundle
    from benchmarks.ways import not_computed
    from runtime import Bundle
    from synergy_model.checkpoint import load_checkpoint

    data, opened = accuracy_data(root, raw), Bundle.open(bundle)
    report = prove_bundle(opened, load_checkpoint(ckpt), data)
    print_parity(report)
    for line in (line for artifact in opened.manifest.artifacts for line in not_computed(artifact)):
        print(f"note: not proved again here: {line}", file=sys.stderr)
    write_json(json_file, report)
    print(summary(report))
    raise typer.Exit(0 if report.passed else 1)


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
    from benchmarks.accuracy import format_source, format_table
    from benchmarks.accuracy_files import write_csv, write_montage
    from benchmarks.evaluation import EvalOptions, run_eval
    from benchmarks.progress import progress

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


def report(
    bundle: BundleArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write.")] = Path("report.html"),
    bench_file: Annotated[Path | None, typer.Option("--bench", help="What `synergy bench --json` wrote.")] = None,
    engine: Annotated[list[EngineName] | None, typer.Option(help="Only this engine; may be repeated.")] = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    root: RootOption = None,
    raw: RawOption = None,
) -> None:
    """One HTML page to send: what a bundle is, its proof, accuracy, latency, sizes, pictures and limits."""
    from benchmarks.progress import progress
    from benchmarks.report.collect import ReportOptions
    from benchmarks.report.page import write_report
    from benchmarks.report.verdict import objections

    options = ReportOptions(engine_names(engine), device, threads, root, raw, bench_file)
    with progress() as say:
        data = write_report(bundle, out, options, say)
    problems = [*objections(data.manifest, data.parity), *data.failures]
    for problem in problems:
        print(f"failed: {problem}", file=sys.stderr)
    print(f"{out}: {data.name} is {'NOT proved' if problems else 'proved'}")
    raise typer.Exit(1 if problems else 0)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the bundle `demo` and its pictures.")] = Path("dist"),
    json_file: JsonOption = None,
) -> None:
    """The whole road on the demo checkpoint: export, proof, faces in a photo, latency. No weights are fetched."""
    from benchmarks.console import print_demo
    from benchmarks.demo import run_demo

    report = run_demo(out, formats_here(None), say=print)
    print_demo(report)
    write_json(json_file, report)
    for picture in report.pictures:
        print(f"picture: {picture}")
