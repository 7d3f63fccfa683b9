"""What people see while a command works: a line per picture on stdout, bars on stderr if that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from synergy.runtime.text import counted

if TYPE_CHECKING:  # rich takes as long to import as everything else that a single picture needs
    from rich.progress import Progress

    from synergy.runtime.inference.records import ImageRecord

Item = TypeVar("Item")


def print_record(record: ImageRecord) -> None:
    """A picture's faces with their pose in degrees, or on stderr why there are none."""
    if record.error:
        named = record.error if record.path in record.error else f"{record.path}: {record.error}"
        print(f"error: {named}", file=sys.stderr)
        return
    print(f"{record.path}: {counted(len(record.faces), 'face')}")
    for face in record.faces:
        print(f"  yaw {face.pose.yaw:+6.1f}  pitch {face.pose.pitch:+6.1f}  roll {face.pose.roll:+6.1f}")


def tracked(items: Iterable[Item], title: str, total: int | None) -> Iterator[Item]:
    """The same items, with a bar; it runs without an end where `total` is not known."""
    if not sys.stderr.isatty():
        yield from items
        return
    with _bar() as bar:
        yield from bar.track(items, total, description=title)


@contextmanager
def progress() -> Iterator[Callable[[float, str], None]]:
    """A bar that is told the part done, 0 to 1, and what is being done."""
    if not sys.stderr.isatty():
        yield lambda part, doing: None
        return
    with _bar() as bar:
        task = bar.add_task("", total=1.0)
        yield lambda part, doing: bar.update(task, completed=part, description=doing)


def _bar() -> Progress:
    """Lines that are printed meanwhile stand above it if they go to the terminal too; left to itself it would take
    those to a file or a pipe there as well."""
    from rich.console import Console
    from rich.progress import Progress

    return Progress(console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty())
