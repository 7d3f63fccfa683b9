"""Directories that appear complete or not at all, and replace another one in one step."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from synergy.runtime.errors import BundleError
from synergy.runtime.files import TemporaryFolder, lock, make_parent, sync
from synergy.runtime.manifest import MANIFEST_NAME

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # <fcntl.h>, <linux/fs.h>


def is_bundle(folder: Path) -> bool:
    """Whether `folder` is a directory with a manifest, and not a symbolic link to one."""
    return not folder.is_symlink() and (folder / MANIFEST_NAME).is_file()


@contextmanager
def staged_directory(
    target: Path, replace: bool, *, replaceable: Callable[[Path], bool] = is_bundle, prefix: str = ""
) -> Iterator[Path]:
    """A private directory that is renamed to `target` when the block succeeds, and deleted after an exception.

    Its parent directory is private too and can hold intermediate files. Its content is on the disk before it appears.
    Replacing is atomic where the file system can exchange two directories. Elsewhere a process that is killed between
    two renames leaves the old directory in the private one; the next call for this target puts it back.

    Args:
        target: The final path. Missing parent directories are created. An empty directory there is replaced.
        replace: Replace an existing directory if `replaceable` accepts it.
        replaceable: Which directories may be replaced.
        prefix: How the temporary directory's name begins; by default a dot and the target's name.

    Raises:
        BundleError: Something else exists at `target` at the end, for instance the result of another process that
            finished first. It is unchanged.
        OSError: The file system refuses.
    """
    make_parent(target)
    if not prefix:
        _recover(target)
    with TemporaryFolder(prefix or f".{target.name}-", target.parent) as private, _locked(Path(private)):
        stage = Path(private) / "new"
        stage.mkdir(mode=0o755)
        yield stage
        for path in (*stage.rglob("*"), stage):
            sync(path)
        try:
            if not (replace and replaceable(target) and _replace(stage, target, replaceable)):
                stage.rename(target)
        except OSError:
            if os.path.lexists(target):
                raise BundleError(f"{target} was created by another process meanwhile: it was not changed") from None
            raise
        sync(target.parent)


def refuse_existing(target: Path, replace: bool) -> None:
    """Raise BundleError if `target` exists, unless it is an empty folder, or it is a bundle and `replace` is set."""
    if not os.path.lexists(target) or (not target.is_symlink() and target.is_dir() and not any(target.iterdir())):
        return
    if not replace:
        raise BundleError(f"{target} exists: choose another name, or --force to replace it")
    if not is_bundle(target):
        raise BundleError(f"{target} exists and is not a bundle: it will not be replaced, choose another name")


def _replace(stage: Path, target: Path, replaceable: Callable[[Path], bool]) -> bool:
    """Put `stage` at the place of `target`. False if `target` no longer exists, or must not be replaced any more."""
    if not exchange(stage, target):
        return _replace_by_renaming(stage, target)
    if replaceable(stage):
        return True
    exchange(stage, target)
    return False


def exchange(one: Path, other: Path) -> bool:
    """Exchange two directories in one step; False if the system or the file system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    names = os.fsencode(one), os.fsencode(other)
    return rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0


def _replace_by_renaming(stage: Path, target: Path) -> bool:
    old = stage.with_name("old")
    try:
        target.rename(old)
        stage.rename(target)
    except BaseException as error:  # e.g. Ctrl-C between the two
        if old.exists() and not os.path.lexists(target):
            old.rename(target)
        if isinstance(error, FileNotFoundError) and not os.path.lexists(target):
            return False
        raise
    return True


def _recover(target: Path) -> None:
    """Put back a directory whose replacement was killed between two renames; delete what killed processes left."""
    name = re.compile(re.escape(f".{target.name}-") + r"[a-z0-9_]{8}")
    for private in target.parent.iterdir():
        if not name.fullmatch(private.name) or private.is_symlink() or not private.is_dir():
            continue
        old = private / "old"
        with _locked(private) as locked:
            if not locked or not ((private / "new").is_dir() or old.is_dir()):
                continue
            if old.is_dir() and not os.path.lexists(target):
                old.rename(target)
            shutil.rmtree(private, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold the lock of a directory, which shows that its process lives. Yields whether it was free."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield lock(descriptor) is True
    finally:
        os.close(descriptor)
