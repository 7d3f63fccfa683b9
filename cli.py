"""The command line: which commands there are, and how a failure is said."""

from __future__ import annotations

import sys

import typer

from synergy.benchmarks.commands.bench import bench_app
from synergy.benchmarks.commands.evaluate import evaluate, prepare
from synergy.benchmarks.commands.export import export, parity
from synergy.benchmarks.commands.report import demo, report
from synergy.benchmarks.commands.verify import verify
from synergy.export.commands import inspect
from synergy.runtime.commands.infer import infer, with_address
from synergy.runtime.commands.machine import detector_install, doctor, lite_install
from synergy.synergy_model.commands import convert, train

# packages that a base install lacks, and the extra that brings them
EXTRAS = {"mindspore": "export", "onnx": "export", "onnxruntime": "onnx", "openvino": "openvino"}

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
lite_app = typer.Typer(help="MindSpore Lite on this machine.", no_args_is_help=True)
detector_app = typer.Typer(help="The face detector on this machine.", no_args_is_help=True)
aflw2000_app = typer.Typer(help="The AFLW2000-3D benchmark's data.", no_args_is_help=True)


@app.callback(epilog="--debug, anywhere, shows the traceback of an error.")
def options() -> None:
    """Freeze SynergyNet into MindIR, ONNX and MindSpore Lite, prove every artifact, and run it."""


for command in (convert, export, inspect, infer, parity, verify, report, doctor, demo, train):
    app.command()(command)
app.command("eval")(evaluate)
aflw2000_app.command()(prepare)
lite_app.command("install")(lite_install)
app.add_typer(bench_app, name="bench")
app.add_typer(lite_app, name="lite")
detector_app.command("install")(detector_install)
app.add_typer(detector_app, name="detector")
app.add_typer(aflw2000_app, name="aflw2000")


def main() -> None:
    """Run a command; a failure is one line and exit 1, without a traceback unless --debug."""
    debug = "--debug" in sys.argv  # wherever it stands
    sys.argv = with_address([argument for argument in sys.argv if argument != "--debug"])
    try:
        app()
    except Exception as error:
        if debug:
            raise
        expected = isinstance(error, (ValueError, OSError, RuntimeError, ImportError))
        print(f"error: {_one_line(error) if expected else _unexpected(error)}", file=sys.stderr)
        sys.exit(1)


def _one_line(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
        return f"{error.name} is not installed: pip install 'synergy-mindir[{EXTRAS[error.name]}]'"
    return " ".join(str(error).split()) or type(error).__name__


def _unexpected(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return f"unexpected {type(error).__name__}: {first} (run again with --debug for the traceback)"


if __name__ == "__main__":
    main()
