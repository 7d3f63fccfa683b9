"""The console on which commands print tables, and the style of these."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from synergy.runtime.text import printable

STYLE: dict = {
    "title_justify": "left",
    "box": SIMPLE_HEAD,
    "pad_edge": False,
    "padding": (0, 1, 0, 0),
}  # fits 80 columns
DENSE = {**STYLE, "padding": 0}  # for tables of many columns
PASS, FAIL, ACCEPTED = "[green]pass[/]", "[bold red]FAIL[/]", "[yellow]accepted[/]"


def make_console(highlight: bool = False) -> Console:
    """A console on stdout. Control characters in what it prints are escaped, except line ends."""
    return _SafeConsole(highlight=highlight)


def plain(text: str) -> str:
    """A text in one line that the console prints as it is: without markup, with control characters escaped."""
    return escape(printable(text))


class _SafeConsole(Console):
    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text, keep="\n"), **options)


def short_ms(value: float) -> str:
    """Milliseconds in four or five characters."""
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"
