"""Style of the tables that commands print."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD

STYLE: dict = {
    "title_justify": "left",
    "box": SIMPLE_HEAD,
    "pad_edge": False,
    "padding": (0, 1, 0, 0),
}  # fits 80 columns
DENSE = {**STYLE, "padding": 0}  # for tables of many columns
PASS, FAIL, ACCEPTED = "[green]pass[/]", "[bold red]FAIL[/]", "[yellow]accepted[/]"


def short_ms(value: float) -> str:
    """Milliseconds in four or five characters."""
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"
