"""Options shared by the commands that export or measure accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synergy.runtime.terminal.streams import print_line

if TYPE_CHECKING:
    from synergy.benchmarks.accuracy.data import EvaluationData

RootOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Measure on AFLW2000-3D in the official layout (`synergy aflw2000 prepare`)."),
]
RawOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Measure on the AFLW2000-3D download: a folder of .jpg and .mat files."),
]


def accuracy_data(root: Path | None, raw: Path | None) -> EvaluationData | None:
    """The data set that the options name; None for the default, a small set of held-out synthetic faces."""
    from synergy.benchmarks.accuracy.evaluate import EvalOptions, load_data

    options = EvalOptions(root=root, raw=raw)
    return load_data(options) if root or raw else None


def formats_here(text: str | None) -> tuple[str, ...]:
    """Formats from a comma-separated text, or all formats that this machine can make if it is None."""
    from synergy.export.artifacts import FORMATS
    from synergy.runtime.engines import available

    if text is not None:
        return tuple(name.strip() for name in text.split(","))
    lite = available("lite")
    if lite.ok:
        return FORMATS
    print_line(f"note: no MindSpore Lite file (.ms) will be made. {lite.detail}: {lite.fix}", error=True)
    return tuple(name for name in FORMATS if name != "lite")
