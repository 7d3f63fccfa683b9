"""Options have the values and errors that Typer alone gives them."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.core import TyperCommand
from typer.testing import CliRunner

from synergy.runtime.terminal.parameters import QuickCommand


class Colour(str, Enum):
    red = "red"
    dark_blue = "dark-blue"


def run(cls: type[TyperCommand], words: list[str]) -> tuple[int, str, Any]:
    """Exit status, output, and the values that the command got."""
    app = typer.Typer(context_settings={"terminal_width": 100})
    values: list[Any] = []

    @app.command(cls=cls)
    def command(
        names: list[str],
        colours: Annotated[list[Colour] | None, typer.Option("--colour")] = None,
        best: Colour = Colour.red,
        out: Path | None = None,
        old: Annotated[Path | None, typer.Option(exists=True)] = None,
        count: Annotated[int, typer.Option(min=1, max=9)] = 3,
        share: float = 0.5,
        flag: bool = True,
        pair: tuple[int, int] = (1, 2),
    ) -> None:
        values.append((names, colours, best, out, old, count, share, flag, pair))

    done = CliRunner().invoke(app, words)
    return done.exit_code, done.output, values


@pytest.mark.parametrize(
    "words",
    [
        "a b",
        "",
        "a --colour red --colour dark-blue --best dark-blue",
        "a --best green",
        "a --colour Red",
        "a --out -",
        "a --out some/file",
        "a --out /",
        "a --old missing",
        "a --old /",
        *(f"a --count {number}" for number in ("1", "9", "0", "10", "007", "1_0", "x", "-1", "²", "9" * 5000)),
        "a --share 0.25 --no-flag --pair 3 4",
        "a --share x",
        "a --pair 3 x",
        "a --bogus",
    ],
)
def test_same_as_typer(words: str) -> None:
    assert run(QuickCommand, words.split()) == run(TyperCommand, words.split())
