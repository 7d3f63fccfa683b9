"""`synergy bench`: what to measure, and what is shown of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synergy.runtime.commands.options import (
    AffinityOption,
    BundleArgument,
    DeviceOption,
    DevicePrecisionOption,
    EngineName,
    JsonOption,
    LiteConfigOption,
    engine_names,
    engine_options,
    write_json,
)

if TYPE_CHECKING:
    from synergy.benchmarks.speed.latency import BenchOptions


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
    throughput: Annotated[bool, typer.Option("--throughput", help="Workers beside a loop and beside peers.")] = False,
    stages: Annotated[bool, typer.Option("--stages", help="Where time goes, from file to drawn picture.")] = False,
    start: Annotated[bool, typer.Option("--start", help="From nothing to a face, beside plain scripts.")] = False,
    chart: Annotated[Path | None, typer.Option(help="With --peers: draw faces per second, an SVG file.")] = None,
    json_file: JsonOption = None,
    device_precision: DevicePrecisionOption = "auto",
    affinity: AffinityOption = None,
    lite_config: LiteConfigOption = None,
) -> None:
    """Latency, cold start and memory of every engine present, interleaved in one run."""
    from synergy.benchmarks.speed.latency import BenchOptions

    subjects = {"--tune": tune, "--peers": peers, "--throughput": throughput, "--stages": stages, "--start": start}
    asked = [option for option, given in subjects.items() if given]
    if len(asked) > 1:
        raise typer.BadParameter(f"{' and '.join(asked)} measure different things: give one of them")
    if chart is not None and not peers:
        raise typer.BadParameter("--chart draws what --peers measures: give both")
    chosen = engine_options(device_precision, affinity, lite_config)
    options = BenchOptions(
        engine_names(engine), all_artifacts, device, _some(threads), _some(batch), rounds, against, chosen
    )
    subject = asked[0] if asked else ""
    _check(subject, options, json_file)
    raise typer.Exit(SUBJECTS[subject](Wanted(bundle, options, json_file, chart)))


@dataclass(frozen=True)
class Wanted:
    """What was typed."""

    bundle: Path
    options: BenchOptions
    json_file: Path | None
    chart: Path | None


def _engines(wanted: Wanted) -> int:
    from synergy.benchmarks.commands.tables import print_bench
    from synergy.benchmarks.speed.latency import bench_bundle
    from synergy.runtime.commands.progress import progress

    with progress() as say:
        report = bench_bundle(wanted.bundle, wanted.options, say)
    print_bench(report)
    write_json(wanted.json_file, report)
    return 1 if report.failures else 0


def _tune(wanted: Wanted) -> int:
    from synergy import Bundle
    from synergy.benchmarks.commands.tables import print_tuning
    from synergy.runtime.autotune import TuneRequest, tune
    from synergy.runtime.engines import Device
    from synergy.runtime.inference.worker import POOL_BATCH

    bundle, device, options = Bundle.open(wanted.bundle), Device.parse(wanted.options.device), wanted.options
    request = TuneRequest(options=options.engine_options)
    print_tuning("what --engine auto takes: the first", tune(bundle, device, request, again=True))
    request = TuneRequest(1, options=options.engine_options, batch=POOL_BATCH)
    print_tuning(
        f"what each of several workers takes, {POOL_BATCH} crops at once", tune(bundle, device, request, again=True)
    )
    return 0


def _peers(wanted: Wanted) -> int:
    from synergy.benchmarks.commands.peer_tables import print_peers
    from synergy.benchmarks.peers.compare import bench_peers
    from synergy.benchmarks.report.charts import require_packages
    from synergy.benchmarks.report.peer_chart import peers_chart
    from synergy.runtime.commands.progress import progress
    from synergy.runtime.media.inputs import write_file

    if wanted.chart is not None:
        require_packages("matplotlib")
    with progress() as say:
        report = bench_peers(wanted.bundle, wanted.options, say)
    print_peers(report)
    write_json(wanted.json_file, report)
    if wanted.chart is not None:
        write_file(wanted.chart, peers_chart(report).encode())
    return 1 if report.failures else 0


def _throughput(wanted: Wanted) -> int:
    from synergy.benchmarks.commands.stage_tables import print_throughput
    from synergy.benchmarks.peers.throughput import bench_throughput
    from synergy.runtime.commands.progress import progress

    with progress() as say:
        report = bench_throughput(wanted.bundle, wanted.options.engine_options, say)
    print_throughput(report)
    write_json(wanted.json_file, report)
    return 1 if report.failures else 0


def _stages(wanted: Wanted) -> int:
    from synergy.benchmarks.commands.stage_tables import print_stages
    from synergy.benchmarks.speed.stages import bench_stages
    from synergy.runtime.commands.progress import progress

    engines, threads = wanted.options.engines or ("auto",), wanted.options.threads or (None,)
    with progress() as say:
        report = bench_stages(wanted.bundle, engines[0], threads[0], wanted.options.engine_options, say)
    print_stages(report)
    write_json(wanted.json_file, report)
    return 0


def _start(wanted: Wanted) -> int:
    from synergy.benchmarks.commands.stage_tables import print_startup
    from synergy.benchmarks.peers.startup import bench_startup
    from synergy.runtime.commands.progress import progress
    from synergy.runtime.engines import DEFAULT_OPTIONS

    if wanted.options.engine_options != DEFAULT_OPTIONS:
        raise ValueError("plain scripts know no --device-precision, --affinity or --lite-config: leave them out")
    threads = wanted.options.threads or (None,)
    with progress() as say:
        report = bench_startup(wanted.bundle, threads[0], say)
    print_startup(report)
    write_json(wanted.json_file, report)
    return 1 if report.failures else 0


SUBJECTS: dict[str, Callable[[Wanted], int]] = {
    "": _engines,
    "--tune": _tune,
    "--peers": _peers,
    "--throughput": _throughput,
    "--stages": _stages,
    "--start": _start,
}


# What a subject takes besides --device-precision, --affinity and --lite-config; the others check it themselves.
TAKES = {
    "--tune": {"--device"},
    "--throughput": {"--json"},
    "--stages": {"--engine", "--threads", "--json"},
    "--start": {"--threads", "--json"},
}


def _check(subject: str, options: BenchOptions, json_file: Path | None) -> None:
    """Refuse what a subject would ignore. Raises BadParameter naming it."""
    from synergy.benchmarks.speed.latency import BenchOptions

    usual = BenchOptions()
    given = {
        "--engine": options.engines != usual.engines,
        "--device": options.device != usual.device,
        "--threads": options.threads != usual.threads,
        "--batch": options.batches != usual.batches,
        "--all": options.all_artifacts,
        "--rounds": options.rounds != usual.rounds,
        "--against": options.against is not None,
        "--json": json_file is not None,
    }
    surplus = [option for option, is_given in given.items() if is_given and option not in TAKES.get(subject, given)]
    if surplus:
        raise typer.BadParameter(f"{subject} takes no {', '.join(surplus)}: leave it out")
    for option, values in {"--engine": options.engines, "--threads": options.threads}.items():
        if subject in ("--stages", "--start") and len(values or ()) > 1:
            raise typer.BadParameter(f"{subject} takes one {option}")


def _some(values: list[int] | None) -> tuple[int, ...] | None:
    return tuple(values) if values else None
