"""Convert simple option values without Pydantic.

Newer versions of Typer import Pydantic to convert any value, also defaults, and that takes longer than everything else
that they import. Values that need no validation are converted here. All others are left to Typer, and so are errors.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_origin

from typer.core import TyperCommand

LEFT_TO_TYPER = object()
MAX_DIGITS = 9


class QuickCommand(TyperCommand):
    """A command with `convert_quickly` for its parameters."""

    def get_params(self, ctx: Any) -> Any:
        """All parameters, with the help option."""
        return convert_quickly(super().get_params(ctx))


def convert_quickly(parameters: Iterable[Any]) -> list[Any]:
    """The same parameters; the simple values of each are converted without Pydantic."""
    parameters = list(parameters)
    for parameter in parameters:
        if hasattr(parameter, "type_descriptor"):  # versions of Typer without it do not use Pydantic
            parameter.process_value = partial(_process_value, parameter)
    return parameters


def _process_value(parameter: Any, ctx: Any, value: Any) -> Any:
    """What `parameter.process_value(ctx, value)` returns."""
    if ctx.resilient_parsing and not value and parameter.required:
        return None  # as Click itself does for shell completion
    converted = _converted(parameter, value)
    if converted is LEFT_TO_TYPER:
        return type(parameter).process_value(parameter, ctx, value)
    return converted if parameter.callback is None else parameter.callback(ctx, parameter, converted)


def _converted(parameter: Any, value: Any) -> Any:
    annotation, info = parameter.type_descriptor.annotation, parameter.type_descriptor.parameter_info
    is_many = parameter.multiple or parameter.nargs == -1
    if info.parser is not None or (parameter.required and not value):
        return LEFT_TO_TYPER
    if value is None:
        return () if is_many else None
    if not is_many:
        return _converted_item(annotation, info, value)
    if get_origin(annotation) is not list or isinstance(value, str):
        return LEFT_TO_TYPER
    items = [_converted_item(get_args(annotation)[0], info, item) for item in value]
    return LEFT_TO_TYPER if LEFT_TO_TYPER in items else items


def _converted_item(annotation: Any, info: Any, value: Any) -> Any:
    if type(value) is annotation:
        return value
    if annotation is Path:
        return Path(value) if _is_simple_path(info, value) else LEFT_TO_TYPER
    if not isinstance(value, str) or not isinstance(annotation, type):
        return LEFT_TO_TYPER
    if issubclass(annotation, Enum):
        return next((member for member in annotation if member.value == value), LEFT_TO_TYPER)
    if annotation is int and value.isascii() and value.isdigit() and len(value) <= MAX_DIGITS:
        number = int(value)
        is_too_small = info.min is not None and number < info.min
        is_too_large = info.max is not None and number > info.max
        return LEFT_TO_TYPER if is_too_small or is_too_large else number
    return LEFT_TO_TYPER


def _is_simple_path(info: Any, value: Any) -> bool:
    """Whether the option sets none of Typer's path checks but the default one: what exists must be readable."""
    special = info.exists or info.writable or info.resolve_path or info.path_type is not None
    is_default = info.readable and info.file_okay and info.dir_okay and not special
    return is_default and (os.access(value, os.R_OK) or not os.access(value, os.F_OK))
