"""Where the output of a command goes: `--json -`, `--quiet` and `--debug`, the same in every command."""

from __future__ import annotations

import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from synergy.runtime.terminal.interrupt import INTERRUPTED
from synergy.runtime.terminal.parameters import QuickCommand
from synergy.runtime.terminal.paths import STDOUT, only_writer, prepare_paths
from synergy.runtime.terminal.streams import print_line, require_stdout
from synergy.runtime.text import is_url

LOGGER = logging.getLogger("synergy")  # of all modules

_report_stream: ContextVar[TextIO | None] = ContextVar("report_stream", default=None)
_is_quiet: ContextVar[bool] = ContextVar("is_quiet", default=False)


@dataclass
class CommandState:
    """The `obj` of the commands' contexts: what the program needs to know after a command failed."""

    debug: bool = False


def set_debug(context: typer.Context, value: bool) -> None:
    """Callback of `--debug`."""
    if value:
        context.ensure_object(CommandState).debug = True


DebugOption = Annotated[
    bool,
    typer.Option("--debug", callback=set_debug, is_eager=True, help="Show the traceback of an error."),
]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only: no results, no progress.")]


def add_common_options(app: typer.Typer) -> None:
    """Give every command of `app` and of its groups `--quiet` and `--debug`, and `--json` the value `-`."""
    for command in app.registered_commands:
        if command.callback is not None:
            command.callback = _with_common_options(command.callback)
            command.cls = QuickCommand
    for group in app.registered_groups:
        if group.typer_instance is not None:
            add_common_options(group.typer_instance)


def _with_common_options(command: Callable[..., None]) -> Callable[..., None]:
    """The same command with two more options. The report's file is its parameter `json_file`, if it has one."""
    signature = inspect.signature(command, eval_str=True)

    @wraps(command)
    def run(quiet: bool = False, debug: bool = False, **arguments: Any) -> None:
        _refuse_urls(arguments)
        prepared = prepare_paths(signature, arguments)
        try:
            json_file = prepared.get("json_file")
            with only_writer(json_file), command_output(json_file, quiet):
                command(**prepared)
        except KeyboardInterrupt:
            print_line("stopped", error=True)
            raise typer.Exit(INTERRUPTED) from None

    parameters = list(signature.parameters.values())
    for name, option in (("quiet", QuietOption), ("debug", DebugOption)):
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=option))
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _refuse_urls(arguments: Mapping[str, Any]) -> None:
    """Raise ValueError for a path that is an address; only that of a Ray cluster can be one."""
    values = [value for name, value in arguments.items() if name != "ray"]
    for value in chain.from_iterable(value if isinstance(value, (list, tuple)) else [value] for value in values):
        if isinstance(value, (str, Path)) and is_url(str(value)):
            raise ValueError(f"{value} is a URL: download the file first, and give its path")


@contextmanager
def command_output(json_file: Path | None, quiet: bool = False) -> Iterator[None]:
    """Normal output goes to stderr while the report goes to stdout; if `quiet`, it goes nowhere, nor do warnings."""
    if json_file != STDOUT and not quiet:
        yield
        return
    if json_file == STDOUT:
        require_stdout()
    with open(os.devnull, "w") as nowhere, _redirected_stdout(nowhere if quiet else sys.stderr) as stdout:  # noqa: PTH123
        tokens = (_report_stream.set(stdout), _is_quiet.set(quiet))
        level = LOGGER.level
        if quiet:
            LOGGER.setLevel(logging.ERROR)
        try:
            yield
        finally:
            LOGGER.setLevel(level)
            _report_stream.reset(tokens[0])
            _is_quiet.reset(tokens[1])


def write_report(text: str) -> None:
    """Write a part of the report to stdout, wherever normal output goes."""
    from synergy.runtime.files import write_errors  # NumPy

    stream = _report_stream.get() or sys.stdout
    with write_errors(Path("stdout")):
        stream.write(text)
        stream.flush()


def shows_progress() -> bool:
    """Whether progress bars are drawn: on a terminal, unless the command is quiet."""
    return sys.stderr.isatty() and not _is_quiet.get()


@contextmanager
def _redirected_stdout(target: TextIO) -> Iterator[TextIO]:
    """What Python and native libraries write to stdout goes to `target`. Yields a stream to the real stdout."""
    stdout = sys.stdout
    stdout.flush()
    if not _is_descriptor_1(stdout):  # replaced, e.g. by a notebook
        with redirect_stdout(target):
            yield stdout
        return
    kept = os.dup(1)
    try:
        os.dup2(target.fileno(), 1)
        with redirect_stdout(target), os.fdopen(kept, "w", encoding="utf-8", closefd=False) as stream:
            yield stream
    finally:
        target.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _is_descriptor_1(stream: TextIO) -> bool:
    try:
        return stream.fileno() == 1
    except (AttributeError, OSError, ValueError):
        return False
