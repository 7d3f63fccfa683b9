"""Progress of a command: one line per image on stdout, progress bars on stderr if that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from synergy.runtime.terminal.output import shows_progress
from synergy.runtime.terminal.streams import print_line
from synergy.runtime.text import counted

if TYPE_CHECKING:  # rich takes as long to import as everything else that a single picture needs
    from rich.progress import Progress

    from synergy.runtime.inference.records import ImageRecord

Item = TypeVar("Item")
UNSURE = 0.5  # faces with a lower confidence are marked


def print_record(record: ImageRecord) -> None:
    """Print the faces of an image with their pose in degrees, or the error on stderr."""
    if record.error:
        named = record.error if record.path in record.error else f"{record.path}: {record.error}"
        print_line(f"error: {named}", error=True)
        return
    if record.warning:
        print_line(f"warning: {record.path} {record.warning}", error=True)
    print_line(f"{record.path}: {counted(len(record.faces), 'face')}")
    for face in record.faces:
        unsure = face.confidence is not None and face.confidence < UNSURE
        doubt = f"  probably no face: confidence {face.confidence:.2f}" if unsure else ""
        print_line(f"  yaw {face.pose.yaw:+6.1f}  pitch {face.pose.pitch:+6.1f}  roll {face.pose.roll:+6.1f}{doubt}")
        if face.warning:
            print_line(f"warning: {record.path}: box {face.box_xyxy}: {face.warning}", error=True)


def tracked(items: Iterable[Item], title: str, total: int | None) -> Iterator[Item]:
    """Yield the items and draw a progress bar; without a percentage if `total` is None."""
    if not shows_progress():
        yield from items
        return
    with _bar() as bar:
        yield from bar.track(items, total, description=title)


@contextmanager
def progress() -> Iterator[Callable[[float, str], None]]:
    """Yield a function that updates a progress bar: (completed fraction 0 to 1, description)."""
    if not shows_progress():
        yield lambda fraction, description: None
        return
    with _bar() as bar:
        task = bar.add_task("", total=1.0)
        yield lambda fraction, description: bar.update(task, completed=fraction, description=description)


def _bar() -> Progress:
    """A progress bar on stderr. Printed lines are moved above it only if stdout is a terminal: rich would otherwise
    redirect the output to a file or a pipe to the terminal as well."""
    from rich.console import Console
    from rich.progress import Progress

    return Progress(console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty())
