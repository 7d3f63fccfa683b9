"""Options of the commands that measure accuracy or export."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from synergy.benchmarks.accuracy.data import EvaluationData

RootOption = Annotated[Path | None, typer.Option(help="AFLW2000-3D in the official layout.")]
RawOption = Annotated[Path | None, typer.Option(help="Folder of raw AFLW2000-3D samples.")]


def accuracy_data(root: Path | None, raw: Path | None) -> EvaluationData | None:
    """None stands for held-out synthetic faces, few enough to keep the proof quick."""
    from synergy.benchmarks.accuracy.evaluate import EvalOptions, load_data

    options = EvalOptions(root=root, raw=raw)
    return load_data(options) if root or raw else None


def formats_here(text: str | None) -> tuple[str, ...]:
    from synergy.export.artifacts import FORMATS
    from synergy.runtime.engines import available

    if text is not None:
        return tuple(name.strip() for name in text.split(","))
    lite = available("lite")
    if lite.ok:
        return FORMATS
    print(f"note: no .ms will be made. {lite.detail}: {lite.fix}", file=sys.stderr)
    return tuple(name for name in FORMATS if name != "lite")
