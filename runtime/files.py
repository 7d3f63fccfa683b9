"""Read whole regular files, and write files that appear complete or not at all: written under a temporary name, then
renamed."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from synergy.runtime.errors import FileWriteError
from synergy.runtime.manifest import FILE_LIMIT

# Descriptors of this process under a name: they are written to, and never replaced.
DESCRIPTORS = ("/dev/fd/", "/dev/std", "/proc/")
_temporaries: set[Path] = set()  # files and folders to delete when the process is ended by force


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


class TemporaryFolder(tempfile.TemporaryDirectory):
    """A temporary directory that `delete_temporaries` deletes, too."""

    def __init__(self, prefix: str | None = None, folder: Path | None = None) -> None:
        super().__init__(prefix=prefix, dir=folder)
        _temporaries.add(Path(self.name))

    def cleanup(self) -> None:
        """Delete the directory."""
        super().cleanup()
        _temporaries.discard(Path(self.name))


def delete_temporaries() -> None:
    """Delete all temporary files and directories, before the process is ended without unwinding its stack."""
    for path in list(_temporaries):
        if (path / "old").is_dir():  # the only copy of a directory that is being replaced
            continue
        shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            path.unlink()


def write_file(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write `data` to `path`, replacing a file of that name; missing folders are created.

    `durable` as in `whole_file`. Raises FileWriteError if the file system refuses; an existing file is then unchanged.
    """
    with write_errors(path), whole_file(path, durable=durable) as temporary:
        temporary.write_bytes(data)


@contextmanager
def whole_file(path: Path, *, stoppable: bool = False, prefix: str = ".", durable: bool = True) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it is renamed to `path` when the block succeeds.

    After an exception the temporary file is deleted and an existing file is unchanged. Missing folders are created. A
    symbolic link is kept, and the file that it names is replaced; an existing file's mode and owner are kept. A
    character device, a pipe or a descriptor such as /dev/stdout is written to at the end.

    Args:
        path: The final path. The temporary path has the same suffix.
        stoppable: For recordings without a fixed end. What was written so far is also published when the block is
            ended by Ctrl-C or by closing a generator, and writing nothing is no error.
        prefix: How the temporary name begins.
        durable: The content is on the disk before the file appears under its name, also after a power failure.

    Raises:
        FileWriteError: The folder cannot be created or `path` cannot be replaced. Errors of the block pass through.
    """
    with write_errors(path):
        status = _status(path)
        is_stream = status is not None and _is_stream(path, status)
        final = Path(os.path.realpath(path)) if path.is_symlink() and not is_stream else path
        make_parent(final)
        folder = Path(tempfile.gettempdir()) if is_stream else final.parent
    temporary = folder / f"{prefix}{uuid.uuid4().hex}{path.suffix}"
    _temporaries.add(temporary)

    def publish(may_be_missing: bool) -> None:
        if may_be_missing and not temporary.exists():
            return
        with write_errors(path):
            if is_stream:
                _append(path, temporary)
                return
            if status is not None:
                _copy_owner(status, temporary)
            if durable:
                sync(temporary)
            temporary.replace(final)
            if durable:
                sync(final.parent)

    try:
        try:
            yield temporary
        except (GeneratorExit, KeyboardInterrupt):
            if stoppable:
                publish(may_be_missing=True)
            raise
        publish(may_be_missing=stoppable)
    finally:
        temporary.unlink(missing_ok=True)
        _temporaries.discard(temporary)


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Raises FileWriteError, which names `path` and the cause, for every OSError in the block."""
    try:
        yield
    except FileWriteError:
        raise
    except OSError as error:
        raise FileWriteError(f"cannot write {path}: {error.strerror or error}") from None


def make_parent(path: Path) -> None:
    """Create the folder of `path` and its parents if they do not exist. Raises FileWriteError, which names a file in
    the way."""
    for parent in path.parents:
        if parent.is_dir():
            break
        if os.path.lexists(parent):
            raise FileWriteError(f"cannot write {path}: {parent} is a file, not a folder")
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)


def lock(descriptor: int) -> bool | None:
    """Lock an open file or directory until it is closed or the process ends.

    False if another process holds the lock, None if the system or the file system has no locks.
    """
    try:
        import fcntl  # not available on all systems

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True


def _status(path: Path) -> os.stat_result | None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISDIR(status.st_mode):
        raise FileWriteError(f"cannot write {path}: it is a folder, name a file")
    if stat.S_ISBLK(status.st_mode) or stat.S_ISSOCK(status.st_mode):
        raise FileWriteError(f"cannot write {path}: it is a disk or a socket, name a file")
    return status


def _is_stream(path: Path, status: os.stat_result) -> bool:
    return not stat.S_ISREG(status.st_mode) or os.path.abspath(path).startswith(DESCRIPTORS)  # noqa: PTH100 - links


def _append(path: Path, content: Path) -> None:
    with content.open("rb") as source, os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND), "wb") as stream:
        shutil.copyfileobj(source, stream)


def _copy_owner(status: os.stat_result, path: Path) -> None:
    """Give `path` the mode and, where that is allowed, the owner of another file."""
    with contextlib.suppress(OSError, AttributeError):
        if (path.stat().st_uid, path.stat().st_gid) != (status.st_uid, status.st_gid):
            os.chown(path, status.st_uid, status.st_gid)
    path.chmod(stat.S_IMODE(status.st_mode))


def sync(path: Path) -> None:
    """Write a file or directory to the disk. Some file systems do not support that for directories."""
    is_folder = path.is_dir()
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        if not is_folder:
            raise
