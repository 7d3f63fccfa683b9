"""Directories that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from synergy.runtime.errors import BundleError
from synergy.runtime.manifest import MANIFEST_NAME


@contextmanager
def staged_directory(target: Path, replace: bool) -> Iterator[Path]:
    """A private directory that becomes `target` if the block succeeds, and vanishes if it does not.

    Two exports to one place: the second to finish is refused, because rename replaces no full directory.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as private:
        stage, old = Path(private) / "new", Path(private) / "old"
        stage.mkdir(mode=0o755)
        yield stage
        if replace and is_bundle(target):
            target.rename(old)
        try:
            stage.rename(target)
        except OSError:
            if old.exists() and not target.exists():
                old.rename(target)
            raise BundleError(f"{target} appeared while the export ran: it was left as it is") from None


def refuse_existing(target: Path, replace: bool) -> None:
    """Raise BundleError if `target` is in the way; only another bundle may be replaced."""
    if not os.path.lexists(target):
        return
    if not replace:
        raise BundleError(f"{target} exists: choose another name, or --force to replace it")
    if not is_bundle(target):
        raise BundleError(f"{target} exists and is not a bundle: it will not be replaced, choose another name")


def is_bundle(folder: Path) -> bool:
    """Whether this is a directory with a manifest, and no link to one."""
    return not folder.is_symlink() and (folder / MANIFEST_NAME).is_file()
