"""Read whole regular files, and write files and directories that appear complete or not at all: written under a
temporary name, then renamed."""

from __future__ import annotations

import os
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from synergy.runtime.errors import BundleError, FileWriteError
from synergy.runtime.manifest import FILE_LIMIT, MANIFEST_NAME


def read_file(path: Path, limit: int = FILE_LIMIT) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    Raises ValueError, with a text that continues after the path, for devices, pipes, folders and larger files; OSError
    if it is missing or cannot be read.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("is not a regular file: give a file")
    if status.st_size > limit:
        raise ValueError(f"has {status.st_size:,} bytes, over the limit of {limit:,}: check that it is the right file")
    return path.read_bytes()


def write_file(path: Path, data: bytes) -> None:
    """Write `data` to `path`, replacing a file of that name; missing folders are created.

    Raises FileWriteError if the file system refuses; an existing file is then unchanged.
    """
    with write_errors(path), whole_file(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def whole_file(path: Path, *, stoppable: bool = False, prefix: str = ".") -> Iterator[Path]:
    """A temporary path beside `path` to write to; it is renamed to `path` when the block succeeds.

    After an exception the temporary file is deleted and an existing file is unchanged. Missing folders are created.

    Args:
        path: The final path. The temporary path is in the same folder and has the same suffix.
        stoppable: For recordings without a fixed end. What was written so far is also published when the block is
            ended by Ctrl-C or by closing a generator, and writing nothing is no error.
        prefix: How the temporary name begins.

    Raises:
        FileWriteError: The folder cannot be created or `path` cannot be replaced. Errors of the block pass through.
    """
    temporary = path.with_name(f"{prefix}{uuid.uuid4().hex}{path.suffix}")
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        try:
            yield temporary
        except (GeneratorExit, KeyboardInterrupt):
            if stoppable:
                _publish(temporary, path, may_be_missing=True)
            raise
        _publish(temporary, path, may_be_missing=stoppable)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Raises FileWriteError, which names `path` and the cause, for every OSError in the block."""
    try:
        yield
    except FileWriteError:
        raise
    except OSError as error:
        raise FileWriteError(f"cannot write {path}: {error.strerror or error}") from None


def is_bundle(folder: Path) -> bool:
    """Whether `folder` is a directory with a manifest, and not a symbolic link to one."""
    return not folder.is_symlink() and (folder / MANIFEST_NAME).is_file()


@contextmanager
def staged_directory(
    target: Path, replace: bool, *, replaceable: Callable[[Path], bool] = is_bundle, prefix: str = ""
) -> Iterator[Path]:
    """A private directory that is renamed to `target` when the block succeeds, and deleted after an exception.

    Its parent directory is private too and can hold intermediate files.

    Args:
        target: The final path. Missing parent directories are created.
        replace: Replace an existing directory if `replaceable` accepts it.
        replaceable: Which directories may be replaced.
        prefix: How the temporary directory's name begins; by default a dot and the target's name.

    Raises:
        BundleError: Something else exists at `target` at the end, for instance the result of another process that
            finished first. It is unchanged.
        OSError: The file system refuses.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=prefix or f".{target.name}-") as private:
        stage, old = Path(private) / "new", Path(private) / "old"
        stage.mkdir(mode=0o755)
        yield stage
        if replace and replaceable(target):
            target.rename(old)
        try:
            stage.rename(target)
        except OSError:
            if os.path.lexists(target):
                raise BundleError(f"{target} was created by another process meanwhile: it was not changed") from None
            if old.exists():
                old.rename(target)
            raise


def refuse_existing(target: Path, replace: bool) -> None:
    """Raise BundleError if `target` exists, unless it is a bundle and `replace` is set."""
    if not os.path.lexists(target):
        return
    if not replace:
        raise BundleError(f"{target} exists: choose another name, or --force to replace it")
    if not is_bundle(target):
        raise BundleError(f"{target} exists and is not a bundle: it will not be replaced, choose another name")


def _publish(temporary: Path, path: Path, *, may_be_missing: bool) -> None:
    if may_be_missing and not temporary.exists():
        return
    with write_errors(path):
        temporary.replace(path)
