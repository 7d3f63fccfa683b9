"""The command line: composes the commands and reports errors in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer

import synergy
from synergy.benchmarks.commands.bench import bench_app
from synergy.benchmarks.commands.evaluate import evaluate, prepare
from synergy.benchmarks.commands.export import export, parity
from synergy.benchmarks.commands.report import demo, report
from synergy.benchmarks.commands.verify import verify
from synergy.export.commands import inspect
from synergy.runtime.commands.golden import golden
from synergy.runtime.commands.infer import infer
from synergy.runtime.commands.interrupt import ended_by_signals
from synergy.runtime.commands.machine import detector_install, doctor, lite_install
from synergy.runtime.commands.output import CommandState, SafeGroup, add_common_options, set_debug
from synergy.runtime.commands.streams import print_line, safe_streams
from synergy.runtime.errors import FileWriteError
from synergy.synergy_model.commands import convert, train

MAX_MESSAGE = 2000  # characters of an error; names in damaged files can have any length
# packages that a base install lacks, and the extra that installs them
EXTRAS = {"mindspore": "export", "onnx": "export", "onnxruntime": "onnx", "openvino": "openvino"}

# heading in the help: its commands
PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "Run": (demo, infer),
    "Make a bundle": (train, convert, export, inspect),
    "Measure and verify": (parity, verify, golden, evaluate, report),
    "This machine": (doctor,),
}

app = typer.Typer(
    cls=SafeGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
lite_app = typer.Typer(help="Install MindSpore Lite on this machine.", no_args_is_help=True)
detector_app = typer.Typer(help="Install the YuNet face detector on this machine.", no_args_is_help=True)
aflw2000_app = typer.Typer(help="Prepare the AFLW2000-3D data set.", no_args_is_help=True)


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


aflw2000_app.command()(prepare)
lite_app.command("install")(lite_install)
detector_app.command("install")(detector_install)

for panel, commands in PANELS.items():
    for command in commands:
        app.command("eval" if command is evaluate else None, rich_help_panel=panel)(command)
app.add_typer(bench_app, name="bench", rich_help_panel="Measure and verify")
app.add_typer(aflw2000_app, name="aflw2000", rich_help_panel="Measure and verify")
app.add_typer(lite_app, name="lite", rich_help_panel="This machine")
app.add_typer(detector_app, name="detector", rich_help_panel="This machine")
add_common_options(app)


def main() -> None:
    """Run a command. An error is one line on stderr and exit status 1; with --debug, a traceback."""
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
