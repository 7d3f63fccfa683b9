"""The command line: composes the commands and reports errors in one line."""

from __future__ import annotations

import atexit
import gc
import sys
from typing import Annotated, ClassVar

import typer

import synergy
from synergy.runtime.errors import FileWriteError
from synergy.runtime.terminal.groups import CommandSource, LazyGroup
from synergy.runtime.terminal.interrupt import ended_by_signals
from synergy.runtime.terminal.output import CommandState, set_debug
from synergy.runtime.terminal.streams import print_line, safe_streams

MAX_MESSAGE = 2000  # characters of an error; names in damaged files can have any length
# packages that a base install lacks, and the extra that installs them
EXTRAS = {"mindspore": "export", "onnx": "export", "onnxruntime": "onnx", "openvino": "openvino"}

RUN, MAKE, MEASURE, MACHINE = "Run", "Make a bundle", "Measure and verify", "This machine"  # headings in the help


class Program(LazyGroup):
    """All commands, in the order of the help."""

    sources: ClassVar = {
        "demo": CommandSource(RUN, "synergy.benchmarks.commands.report", "demo"),
        "infer": CommandSource(RUN, "synergy.runtime.commands.infer", "infer"),
        "train": CommandSource(MAKE, "synergy.synergy_model.commands", "train"),
        "convert": CommandSource(MAKE, "synergy.synergy_model.commands", "convert"),
        "export": CommandSource(MAKE, "synergy.benchmarks.commands.export", "export"),
        "inspect": CommandSource(MAKE, "synergy.export.commands", "inspect"),
        "parity": CommandSource(MEASURE, "synergy.benchmarks.commands.export", "parity"),
        "verify": CommandSource(MEASURE, "synergy.benchmarks.commands.verify", "verify"),
        "golden": CommandSource(MEASURE, "synergy.runtime.commands.golden", "golden"),
        "eval": CommandSource(MEASURE, "synergy.benchmarks.commands.evaluate", "evaluate"),
        "report": CommandSource(MEASURE, "synergy.benchmarks.commands.report", "report"),
        "doctor": CommandSource(MACHINE, "synergy.runtime.commands.machine", "doctor"),
        "bench": CommandSource(MEASURE, "synergy.benchmarks.commands.bench", "bench_app"),
        "aflw2000": CommandSource(MEASURE, "synergy.benchmarks.commands.evaluate", "aflw2000_app"),
        "lite": CommandSource(MACHINE, "synergy.runtime.commands.machine", "lite_app"),
        "detector": CommandSource(MACHINE, "synergy.runtime.commands.machine", "detector_app"),
    }


app = typer.Typer(
    cls=Program,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(value: bool) -> None:
    if value:
        print_line(f"synergy {synergy.__version__}")
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", envvar="SYNERGY_DEBUG", callback=set_debug, help="Show the traceback of an error."),
    ] = False,
) -> None:
    """Export SynergyNet face networks to MindIR, ONNX and MindSpore Lite, verify every artifact, and run them."""


def main() -> None:
    """Run a command. An error is one line on stderr and exit status 1; with --debug, a traceback."""
    atexit.register(gc.freeze)  # the collections at the end of the process would take 50 ms and free nothing
    state = CommandState()
    with safe_streams():
        try:
            with ended_by_signals():
                app(obj=state)
        except Exception as error:
            if state.debug:
                raise
            expected = isinstance(error, (ValueError, OSError, RuntimeError, ImportError))
            print_line(f"error: {error_message(error) if expected else _unexpected(error)}", error=True)
            sys.exit(1)


def error_message(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
        from synergy.runtime.engines.mindspore import install_hint

        hint = f"pip install 'synergy-mindir[{EXTRAS[error.name]}]'"
        return f"{error.name} is not installed: {install_hint() if error.name == 'mindspore' else hint}"
    if type(error) is not FileWriteError and isinstance(error, OSError) and error.strerror:
        path = error.filename2 or error.filename
        return f"{error.strerror}: {path}" if path else error.strerror
    text = str(error)[:MAX_MESSAGE]
    return (" ".join(text.split()) or type(error).__name__) + (" ..." if len(str(error)) > MAX_MESSAGE else "")


def _unexpected(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return f"unexpected {type(error).__name__}: {first} (run again with --debug for the traceback)"


if __name__ == "__main__":
    main()
