"""`synergy golden`: a bundle's golden values in forms that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synergy.runtime.commands.options import BundleArgument
from synergy.runtime.terminal.paths import PathUse
from synergy.runtime.terminal.streams import print_line


def golden(
    bundle: BundleArgument,
    lite_benchmark: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write inputs and expected outputs for MindSpore Lite's `benchmark` tool."),
        PathUse.WRITE_FOLDER,
    ] = None,
    plain: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write one plain binary file, which examples/cpp reads with --verify."),
        PathUse.WRITE_FILE,
    ] = None,
) -> None:
    """Write the golden values of a bundle for other programs.

    With them a device verifies the model without Python.
    """
    from synergy.runtime.bundle import Bundle

    if lite_benchmark is None and plain is None:
        raise typer.BadParameter("name what to write: --lite-benchmark DIR or --plain FILE")
    opened = Bundle.open(bundle)
    if lite_benchmark is not None:
        from synergy.runtime.verification.lite_benchmark import write_lite_benchmark

        commands = write_lite_benchmark(opened, lite_benchmark)
        print_line(f"{lite_benchmark}: copy the .ms file and the benchmark tool there, and type in that folder:")
        for command in commands:
            print_line(command)
    if plain is not None:
        from synergy.runtime.files import write_file
        from synergy.runtime.verification.golden_file import encode_golden_file

        write_file(plain, encode_golden_file(opened))
        print_line(f"{plain}: verify on the device with `face_landmarks --verify {plain.name} BUNDLE` (examples/cpp)")
