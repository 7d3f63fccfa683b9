"""The commands of `synergy bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from synergy.runtime.commands.options import (
    AffinityOption,
    BundleArgument,
    DeviceOption,
    DevicePrecisionOption,
    EngineName,
    EngineOption,
    JsonOption,
    LiteConfigOption,
    ThreadsOption,
    check_threads,
    engine_names,
    engine_options,
    write_json,
)
from synergy.runtime.terminal.paths import PathUse

DEFAULT_COMMAND = "latency"

EnginesOption = Annotated[
    list[EngineName] | None, typer.Option("--engine", help="Measure this engine only; may be repeated.")
]
ThreadCountsOption = Annotated[
    list[int] | None,
    typer.Option("--threads", help="CPU threads; may be repeated. Default: 1 and all cores.", callback=check_threads),
]
RoundsOption = Annotated[int, typer.Option(min=1, help="Samples per configuration.")]


class BenchGroup(TyperGroup):
    """Runs `latency` where the first argument is not a command: `synergy bench BUNDLE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the default command."""
        is_help = bool(args) and args[0] in ctx.help_option_names
        if args and not is_help and args[0] not in self.commands:
            args = [DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)


bench_app = typer.Typer(
    cls=BenchGroup,
    no_args_is_help=True,
    help="Measure the speed of a bundle. `synergy bench BUNDLE` is short for `synergy bench latency BUNDLE`.",
)


@bench_app.command()
def latency(
    bundle: BundleArgument,
    engine: EnginesOption = None,
    device: DeviceOption = "cpu",
    threads: ThreadCountsOption = None,
    batch: Annotated[list[int] | None, typer.Option(help="May be repeated. Default: 1 and 16.")] = None,
    rounds: RoundsOption = 20,
    all_artifacts: Annotated[
        bool, typer.Option("--all", help="Measure every artifact an engine can read, not only the preferred one.")
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option(help="Second bundle, measured in the same run; it becomes the baseline of the ratios."),
    ] = None,
    json_file: JsonOption = None,
    device_precision: DevicePrecisionOption = "auto",
    affinity: AffinityOption = None,
    lite_config: LiteConfigOption = None,
) -> None:
    """Latency, cold start and memory of every installed engine (default command)."""
    from synergy.benchmarks.commands.tables import print_bench
    from synergy.benchmarks.speed.latency import BenchOptions, bench_bundle
    from synergy.runtime.terminal.progress import progress

    chosen = engine_options(device_precision, affinity, lite_config)
    options = BenchOptions(
        engine_names(engine), all_artifacts, device, _optional(threads), _optional(batch), rounds, against, chosen
    )
    with progress() as update:
        report = bench_bundle(bundle, options, update)
    print_bench(report)
    write_json(json_file, report)
    raise typer.Exit(1 if report.failures else 0)


@bench_app.command()
def peers(
    bundle: BundleArgument,
    engine: EnginesOption = None,
    threads: ThreadCountsOption = None,
    batch: Annotated[list[int] | None, typer.Option(help="May be repeated. Default: 1, 4 and 16.")] = None,
    rounds: RoundsOption = 20,
    chart: Annotated[
        Path | None, typer.Option(help="Also draw faces per second to this SVG file."), PathUse.WRITE_TEXT
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Comparison with onnxruntime, OpenVINO and MindSpore used directly, on the CPU."""
    from synergy.benchmarks.commands.peer_tables import print_peers
    from synergy.benchmarks.peers.compare import bench_peers
    from synergy.benchmarks.report.charts import require_packages
    from synergy.benchmarks.report.peer_chart import peers_chart
    from synergy.benchmarks.speed.latency import BenchOptions
    from synergy.runtime.files import write_file
    from synergy.runtime.terminal.progress import progress

    if chart is not None:
        require_packages("matplotlib")
    options = BenchOptions(engine_names(engine), threads=_optional(threads), batches=_optional(batch), rounds=rounds)
    with progress() as update:
        report = bench_peers(bundle, options, update)
    print_peers(report)
    write_json(json_file, report)
    if chart is not None:
        write_file(chart, peers_chart(report).encode())
    raise typer.Exit(1 if report.failures else 0)


@bench_app.command()
def throughput(
    bundle: BundleArgument,
    json_file: JsonOption = None,
    device_precision: DevicePrecisionOption = "auto",
    affinity: AffinityOption = None,
    lite_config: LiteConfigOption = None,
) -> None:
    """Crops and images per second of worker processes, a plain loop and other libraries."""
    from synergy.benchmarks.commands.stage_tables import print_throughput
    from synergy.benchmarks.peers.throughput import bench_throughput
    from synergy.runtime.terminal.progress import progress

    options = engine_options(device_precision, affinity, lite_config)
    with progress() as update:
        report = bench_throughput(bundle, options, update)
    print_throughput(report)
    write_json(json_file, report)
    raise typer.Exit(1 if report.failures else 0)


@bench_app.command()
def stages(
    bundle: BundleArgument,
    engine: EngineOption = EngineName.auto,
    threads: ThreadsOption = None,
    json_file: JsonOption = None,
    device_precision: DevicePrecisionOption = "auto",
    affinity: AffinityOption = None,
    lite_config: LiteConfigOption = None,
) -> None:
    """Time of each stage from the image file to the drawn faces."""
    from synergy.benchmarks.commands.stage_tables import print_stages
    from synergy.benchmarks.speed.stages import bench_stages
    from synergy.runtime.terminal.progress import progress

    options = engine_options(device_precision, affinity, lite_config)
    with progress() as update:
        report = bench_stages(bundle, engine.value, threads, options, update)
    print_stages(report)
    write_json(json_file, report)


@bench_app.command()
def startup(bundle: BundleArgument, threads: ThreadsOption = None, json_file: JsonOption = None) -> None:
    """Time from process start to the first result, compared with minimal scripts."""
    from synergy.benchmarks.commands.stage_tables import print_startup
    from synergy.benchmarks.peers.startup import bench_startup
    from synergy.runtime.terminal.progress import progress

    with progress() as update:
        report = bench_startup(bundle, threads, update)
    print_startup(report)
    write_json(json_file, report)
    raise typer.Exit(1 if report.failures else 0)


@bench_app.command()
def tune(
    bundle: BundleArgument,
    device: DeviceOption = "cpu",
    json_file: JsonOption = None,
    device_precision: DevicePrecisionOption = "auto",
    affinity: AffinityOption = None,
    lite_config: LiteConfigOption = None,
) -> None:
    """Measure again what `--engine auto` selects, and store the result beside the bundle."""
    from synergy.benchmarks.commands.tables import print_tuning
    from synergy.benchmarks.speed.tuning import bench_tuning

    report = bench_tuning(bundle, device, engine_options(device_precision, affinity, lite_config))
    print_tuning(report)
    write_json(json_file, report)


def _optional(values: list[int] | None) -> tuple[int, ...] | None:
    return tuple(values) if values else None
