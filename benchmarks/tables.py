"""Reports as tables for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from benchmarks.parity import ParityReport

PASS, FAIL = "[green]pass[/]", "[bold red]FAIL[/]"


def print_parity(report: ParityReport) -> None:
    """Every check, failed ones too; what could not be run at all follows."""
    table = Table(title="largest difference from the Cell", title_justify="left")
    for name in ("artifact", "engine", "output"):
        table.add_column(name)
    for name in ("max abs", "tolerance", "moves by"):
        table.add_column(name, justify="right")
    table.add_column("")
    for check in report.checks:
        numbers = (f"{check.max_abs:.1e}", f"{check.tolerance:.0e}", f"{check.spread:.2g}")
        table.add_row(check.artifact, check.engine, check.output, *numbers, PASS if check.passed else FAIL)
    console = Console()
    console.print(table)
    for failure in report.failures:
        console.print(f"{FAIL} {failure}", highlight=False)
