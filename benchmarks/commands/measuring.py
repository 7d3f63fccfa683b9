"""Commands that measure: parity, eval, bench, demo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

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
    engine_options,
    formats_here,
    write_json,
)

if TYPE_CHECKING:
    from benchmarks.latency import BenchOptions
    from runtime.engines import EngineOptions


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
    from runtime import Bundle
    from synergy_model.checkpoint import load_checkpoint

    data = accuracy_data(root, raw)
    report = prove_bundle(Bundle.open(bundle), load_checkpoint(ckpt), data)
    print_parity(report)
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
    device_precision: DevicePrecisionOption = "fp32",
    affinity: AffinityOption = None,
    lite_config: LiteConfigOption = None,
) -> None:
    """NME and pose MAE by the AFLW2000-3D protocol; on held-out synthetic faces without --root or --raw."""
    from benchmarks.accuracy import format_source, format_table
    from benchmarks.accuracy_files import write_csv, write_montage
    from benchmarks.console import progress
    from benchmarks.evaluation import EvalOptions, run_eval

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
    print(format_source(done.report), file=sys.stderr)
    write_json(json_file, done.report)
    if csv_file:
        write_csv(csv_file, done.report, done.predictions, done.data)
    if montage:
        write_montage(montage, done.report, done.predictions, done.data)


def bench(
    bundle: BundleArgument,
    engine: Annotated[list[EngineName] | None, typer.Option(help="Only this engine; may be repeated.")] = None,
    device: DeviceOption = "cpu",
    threads: Annotated[list[int] | None, typer.Option(help="May be repeated; 1 and all cores if not given.")] = None,
    batch: Annotated[list[int] | None, typer.Option(help="May be repeated; 1 and 16 if not given.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns that each configuration takes.")] = 20,
    all_artifacts: Annotated[bool, typer.Option("--all", help="Every artifact that an engine reads.")] = False,
    against: Annotated[Path | None, typer.Option(help="Another bundle, in the same rounds; the ratios' base.")] = None,
    tune: Annotated[bool, typer.Option("--tune", help="Only measure again what --engine auto takes.")] = False,
    peers: Annotated[bool, typer.Option("--peers", help="Beside onnxruntime, OpenVINO and MindSpore alone.")] = False,
    chart: Annotated[Path | None, typer.Option(help="With --peers: draw faces per second, an SVG file.")] = None,
    json_file: JsonOption = None,
    device_precision: DevicePrecisionOption = "fp32",
    affinity: AffinityOption = None,
    lite_config: LiteConfigOption = None,
) -> None:
    """Latency, cold start and memory of every engine present, interleaved in one run."""
    chosen = engine_options(device_precision, affinity, lite_config)
    if chart is not None and not peers:
        raise typer.BadParameter("--chart draws what --peers measures: give both")
    if tune and peers:
        raise typer.BadParameter("--tune measures this program alone: leave --peers out")
    if tune:
        _tune(bundle, device, chosen)
        return
    from benchmarks.console import print_bench, progress
    from benchmarks.latency import BenchOptions, bench_bundle

    options = BenchOptions(_names(engine), all_artifacts, device, _some(threads), _some(batch), rounds, against, chosen,
    )  # fmt: skip
    if peers:
        _bench_peers(bundle, options, json_file, chart)
    with progress() as say:
        report = bench_bundle(bundle, options, say)
    print_bench(report)
    write_json(json_file, report)
    raise typer.Exit(1 if report.failures else 0)


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
    from benchmarks.console import progress
    from benchmarks.report.collect import ReportOptions
    from benchmarks.report.page import write_report
    from benchmarks.report.verdict import objections

    options = ReportOptions(_names(engine), device, threads, root, raw, bench_file)
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


def _names(engines: list[EngineName] | None) -> tuple[str, ...] | None:
    """None, for all that are present, unless engines were named."""
    return None if not engines or EngineName.auto in engines else tuple(engine.value for engine in engines)


def _some(values: list[int] | None) -> tuple[int, ...] | None:
    return tuple(values) if values else None


def _tune(folder: Path, device: str, options: EngineOptions) -> None:
    from benchmarks.console import print_tuning
    from runtime import Bundle
    from runtime.engines import Device
    from runtime.tuning import Wish, tune

    print_tuning(tune(Bundle.open(folder), Device.parse(device), Wish(options=options), again=True))


def _bench_peers(bundle: Path, options: BenchOptions, json_file: Path | None, chart: Path | None) -> NoReturn:
    from benchmarks.console import progress
    from benchmarks.console_peers import print_peers
    from benchmarks.peers import bench_peers
    from benchmarks.report.peer_chart import peers_chart
    from runtime.media import write_file

    with progress() as say:
        report = bench_peers(bundle, options, say)
    print_peers(report)
    write_json(json_file, report)
    if chart is not None:
        write_file(chart, peers_chart(report).encode())
    raise typer.Exit(1 if report.failures else 0)
