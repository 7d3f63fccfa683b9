"""What people see in a terminal: tables, and lines for what they cannot hold. All on stdout."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from runtime.engines.base import engine_label

if TYPE_CHECKING:  # the demo imports MindSpore, which printing a benchmark must not need
    from benchmarks.demo import DemoAccuracy, DemoReport
    from benchmarks.doctor import DoctorReport
    from benchmarks.latency import BenchReport
    from benchmarks.parity_report import ParityReport
    from export.inspection import BundleInfo, Inspection, ModelInfo, TensorInfo
    from runtime.tuning import Choice


STYLE: dict = {
    "title_justify": "left",
    "box": SIMPLE_HEAD,
    "pad_edge": False,
    "padding": (0, 1, 0, 0),
}  # fits 80 columns
DENSE = {**STYLE, "padding": 0}  # for tables of many columns
Item = TypeVar("Item")
PASS, FAIL, ACCEPTED = "[green]pass[/]", "[bold red]FAIL[/]", "[yellow]accepted[/]"


def print_parity(report: ParityReport) -> None:
    """Every check, failed ones too; what could not be run at all follows."""
    table = Table(title="largest difference from the Cell", **DENSE)
    for name in ("artifact", "engine", "output"):
        table.add_column(name, no_wrap=True)
    for name in ("max abs", "tolerance", "moves by"):
        table.add_column(name, justify="right")
    table.add_column("")
    for check in report.checks:
        numbers = (f"{check.max_abs:.1e}", f"{check.tolerance:.1e}", f"{check.spread:.2g}")
        table.add_row(check.artifact, check.where, check.output, *numbers, PASS if check.passed else FAIL)
    console = Console()
    console.print(table)
    if report.accuracy:
        console.print(_accuracy_table(report))
    for failure in report.failures:
        console.print(f"{FAIL} {escape(failure)}", highlight=False)


def _accuracy_table(report: ParityReport) -> Table:
    table = Table(title="task accuracy and its drift from the Cell", **DENSE)
    for name in ("artifact", "engine"):
        table.add_column(name, no_wrap=True)
    for name in ("NME %", "drift", "MAE deg", "drift"):
        table.add_column(name, justify="right")
    table.add_column("")
    for row in report.accuracy:
        mae = "-" if row.mae is None else f"{row.mae:.3f}"
        mae_drift = "-" if row.mae_drift is None else f"{row.mae_drift:.1e}"
        verdict = PASS if row.passed else ACCEPTED if row.accepted else FAIL
        table.add_row(row.artifact, row.where, f"{row.nme:.3f}", f"{row.nme_drift:.1e}", mae, mae_drift, verdict)
    return table


def print_demo(report: DemoReport) -> None:
    """What was proved, then accuracy by yaw, speed and size of the Cell and every artifact in one table."""
    print_parity(msgspec.structs.replace(report.parity, accuracy=()))
    faces = sum(each.count for each in report.accuracy[0].bins)
    table = Table(title=f"the same network in every form, on {faces} held-out faces", **STYLE)
    for name in ("artifact", "engine"):
        table.add_column(name, no_wrap=True)
    bins = [f"{low}-{high}" for low, high in (each.range for each in report.accuracy[0].bins)]
    for name in (*bins, "NME", "drift", "MAE", "ms", "MB"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.accuracy:
        table.add_row(row.artifact, row.where, *_demo_numbers(row))
    console = Console()
    console.print(table)
    console.print("NME in % by yaw in degrees, their mean, its drift from the Cell; ms: of one crop\n")
    print_bench(report.bench)


def _demo_numbers(row: DemoAccuracy) -> tuple[str, ...]:
    bins = ("-" if each.mean is None else f"{each.mean:.2f}" for each in row.bins)
    mae = "-" if row.mae is None else f"{row.mae:.2f}"
    ms = "-" if row.median_ms is None else short_ms(row.median_ms)
    return (*bins, f"{row.nme:.2f}", f"{row.nme_drift:.0e}", mae, ms, f"{row.bytes / 1e6:.1f}")


def print_bench(report: BenchReport) -> None:
    """One line per configuration; ratios below 1 are faster than onnxruntime in the same run."""
    table = Table(title="latency of one run, interleaved", **DENSE)
    for name in ("engine", "artifact"):
        table.add_column(name, no_wrap=True)
    for name in ("thr", "batch", "ms", "p95", "fps", "start s", "MB", "ratio"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.rows:
        ratio = "-" if row.ratio_to_onnxruntime is None else f"{row.ratio_to_onnxruntime:.2f}"
        speed = (short_ms(row.median_ms), short_ms(row.p95_ms), f"{row.fps:.0f}")
        start = (f"{row.cold_start_s:.2f}", f"{row.rss_mb:.0f}")
        table.add_row(row.where, row.artifact, str(row.threads), str(row.batch), *speed, *start, ratio)
    console = Console()
    console.print(table)
    console.print("ratio: time over onnxruntime's in the same rounds; fps: crops; start: to first output")
    for failure in report.failures:
        console.print(f"{FAIL} {escape(failure)}", highlight=False)


def print_tuning(title: str, choices: Sequence[Choice]) -> None:
    """What was measured for `--engine auto`, fastest first: it takes the first."""
    table = Table(title=title, **STYLE)
    for name in ("engine", "artifact"):
        table.add_column(name, no_wrap=True)
    for name in ("threads", "ms"):
        table.add_column(name, justify="right")
    for choice in choices:
        table.add_row(
            engine_label(choice.engine, choice.precision),
            choice.artifact,
            str(choice.threads),
            short_ms(choice.median_ms),
        )
    Console().print(table)


def short_ms(value: float) -> str:
    """Milliseconds in four or five characters."""
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def print_doctor(report: DoctorReport) -> None:
    """What works, and under everything that does not, how to get it."""
    console = Console(highlight=False)
    for check in report.checks:
        mark = "[green]ok[/]  " if check.ok else "[bold red]no[/]  " if check.required else "[yellow]no[/]  "
        console.print(f"{mark}[bold]{check.name}[/]: {escape(check.detail)}", soft_wrap=True)
        if not check.ok:
            console.print(f"      to get it: {escape(check.fix)}", soft_wrap=True)


def print_inspection(found: Inspection) -> None:
    """The bundle's promises, then a block per model file."""
    if found.bundle is not None:
        _print_facts(found.bundle.folder, _bundle_facts(found.bundle))
    for model in found.models:
        _print_facts(model.file, _model_facts(model))


def _print_facts(title: str, facts: Iterable[tuple[str, str]]) -> None:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(f"  {name}", escape(value))
    console = Console(highlight=False)
    console.print(f"[bold]{escape(title)}[/]", soft_wrap=True)
    console.print(table)


def _bundle_facts(bundle: BundleInfo) -> Iterator[tuple[str, str]]:
    proved = {None: "no parity report", True: "every artifact was proved against the Cell", False: "FAILED"}
    yield "network", f"{bundle.arch}, {bundle.convention} conventions, head {bundle.head}"
    yield "from", f"{bundle.source}, sha256 {bundle.source_sha256[:12]}"
    yield from _tensor_facts(bundle.inputs, bundle.outputs)
    yield "made with", ", ".join(f"{name} {version}" for name, version in bundle.toolchain.items())
    yield "verified", ", ".join(bundle.verified)
    yield "parity", proved[bundle.proved]


def _model_facts(model: ModelInfo) -> Iterator[tuple[str, str]]:
    versions = [f"{name} {version}" for name, version in model.versions.items()]
    yield "what", ", ".join([*versions, *([model.precision] if model.precision else []), _size(model.bytes)])
    yield "sha256", model.sha256
    yield from _tensor_facts(model.inputs, model.outputs)
    if model.unread:
        yield "operators", model.unread
    else:
        yield "operators", ", ".join(f"{name}:{count}" for name, count in model.operators.items())
        yield "weights", f"{model.values:,} values in {model.weights} tensors"
    if model.lowering is not None:
        yield "lowering", f"to MindIR 1 fails: {model.lowering}" if model.lowering else "to MindIR 1 works"
    for engine in model.engines:
        yield engine.name, f"{'yes' if engine.runs else 'no'}: {engine.detail}"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count:,} bytes"


def _tensor_facts(inputs: Iterable[TensorInfo], outputs: Iterable[TensorInfo]) -> Iterator[tuple[str, str]]:
    for side, tensors in (("input", inputs), ("output", outputs)):
        for tensor in tensors:
            dims = None if tensor.shape is None else ", ".join("N" if dim < 0 else str(dim) for dim in tensor.shape)
            yield side, f"{tensor.name} {tensor.dtype} {'(shape found at run time)' if dims is None else f'({dims})'}"
