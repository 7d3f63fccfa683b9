"""The group of all commands: each command's module is imported when it is called or its help is listed."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup
from typer.main import get_group

from synergy.runtime.terminal.output import add_common_options
from synergy.runtime.terminal.parameters import convert_quickly
from synergy.runtime.text import printable


@dataclass(frozen=True)
class CommandSource:
    """Where a command is: a function, or a `typer.Typer` for a group of commands. panel: its heading in the help."""

    panel: str
    module: str
    attribute: str


class CommandTable(Mapping[str, Any]):
    """The commands by name, imported when they are looked up."""

    def __init__(self, sources: Mapping[str, CommandSource]) -> None:
        self._sources = sources

    def __getitem__(self, name: str) -> Any:
        return _load(name, self._sources[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)


class LazyGroup(TyperGroup):
    """The program with the commands of `sources`. Control characters in its usage errors are escaped."""

    sources: ClassVar[Mapping[str, CommandSource]] = {}

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands: Any = CommandTable(self.sources)

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, in the order of the table."""
        return list(self.commands)

    def get_params(self, ctx: Any) -> Any:
        """All parameters, with the help option."""
        return convert_quickly(super().get_params(ctx))

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Parse the options before the command."""
        with _safe_usage_errors():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        """Parse the rest and run the command."""
        with _safe_usage_errors():
            return super().invoke(ctx)


@functools.cache
def _load(name: str, source: CommandSource) -> Any:
    """The command or group, with the options that all commands have."""
    found = getattr(importlib.import_module(source.module), source.attribute)
    holder = typer.Typer()
    if isinstance(found, typer.Typer):
        holder.add_typer(found, name=name, rich_help_panel=source.panel)
    else:
        holder.command(name, rich_help_panel=source.panel)(found)
    add_common_options(holder)
    return get_group(holder).commands[name]


@contextmanager
def _safe_usage_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if hasattr(error, "format_message") and isinstance(getattr(error, "message", None), str):
            error.message = printable(error.message)  # type: ignore[attr-defined]
        raise
