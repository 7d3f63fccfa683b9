"""`synergy golden`: a bundle's golden values in forms that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synergy.runtime.commands.options import BundleArgument


def golden(
    bundle: BundleArgument,
    lite_benchmark: Annotated[
        Path | None,
        typer.Option(help="Write inputs and expected outputs for MindSpore Lite's `benchmark` tool.", metavar="DIR"),
    ] = None,
) -> None:
    """Write a bundle's golden values for other programs, which then check the model without Python."""
    from synergy.runtime.bundle import Bundle

    if lite_benchmark is None:
        raise typer.BadParameter("name what to write: --lite-benchmark DIR")
    opened = Bundle.open(bundle)
    if lite_benchmark is not None:
        from synergy.runtime.verification.lite_benchmark import write_lite_benchmark

        commands = write_lite_benchmark(opened, lite_benchmark)
        print(f"{lite_benchmark}: copy the .ms file and the benchmark tool there, and type in that folder:")
        for command in commands:
            print(command)
