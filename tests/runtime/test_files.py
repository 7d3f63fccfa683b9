"""Files and directories appear complete or not at all, and only bundles are replaced."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from synergy.runtime import directories, files
from synergy.runtime.directories import refuse_existing, staged_directory
from synergy.runtime.errors import BundleError, EngineError, FileWriteError, MediaError
from synergy.runtime.files import TemporaryFolder, delete_temporaries, whole_file, write_file
from synergy.runtime.manifest import MANIFEST_NAME

ROOT = Path(__file__).resolve().parents[2]


class StoppedError(Exception):
    """What a failing export raises here."""


def make_bundle(folder: Path, content: str = "old") -> Path:
    folder.mkdir(parents=True)
    (folder / MANIFEST_NAME).write_text(content)
    return folder


def write(stage: Path, content: str = "new") -> None:
    (stage / MANIFEST_NAME).write_text(content)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestFiles:
    def test_the_folder_is_made(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "sub" / "a.bin"
        write_file(path, b"content")
        assert path.read_bytes() == b"content" and names(path.parent) == ["a.bin"]

    def test_mode_follows_the_umask(self, tmp_path: Path) -> None:
        before = os.umask(0o027)
        try:
            write_file(tmp_path / "a.bin", b"")
        finally:
            os.umask(before)
        assert (tmp_path / "a.bin").stat().st_mode & 0o777 == 0o640

    @pytest.mark.parametrize("exists", [True, False])
    def test_links_modes_and_the_file_behind_are_kept(self, tmp_path: Path, exists: bool) -> None:
        target, link = tmp_path / "folder" / "target", tmp_path / "link"
        if exists:
            write_file(target, b"old")
            target.chmod(0o604)
        link.symlink_to("folder/target")
        write_file(link, b"new")
        assert link.is_symlink() and target.read_bytes() == b"new" and names(target.parent) == ["target"]
        assert not exists or target.stat().st_mode & 0o777 == 0o604

    def test_a_pipe_is_written_through(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        try:
            write_file(tmp_path / "pipe", b"new")
            assert os.read(reader, 9) == b"new" and (tmp_path / "pipe").is_fifo() and names(tmp_path) == ["pipe"]
        finally:
            os.close(reader)

    def test_a_descriptor_is_written_through(self, tmp_path: Path) -> None:
        """A shell opened the file, so replacing it would lose what is written to the descriptor later."""
        with (tmp_path / "log").open("wb") as stream:
            stream.write(b"before ")
            stream.flush()
            write_file(Path(f"/proc/self/fd/{stream.fileno()}"), b"report")
        assert (tmp_path / "log").read_bytes() == b"before report"

    def test_a_socket_is_refused(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(tmp_path / "s"))
            with pytest.raises(MediaError, match="it is a disk or a socket"):
                write_file(tmp_path / "s", b"")

    def test_data_are_on_the_disk_before_the_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        synced: list[tuple[str, bool]] = []
        monkeypatch.setattr(files, "sync", lambda path: synced.append((path.name, (tmp_path / "a").exists())))
        write_file(tmp_path / "a", b"new")
        assert [known for _, known in synced] == [False, True] and synced[1][0] == tmp_path.name
        write_file(tmp_path / "a", b"new", durable=False)
        assert len(synced) == 2

    def test_what_a_killed_process_would_leave_can_be_deleted(self, tmp_path: Path) -> None:
        with whole_file(tmp_path / "a", stoppable=True) as temporary, staged_directory(tmp_path / "b", False) as stage:
            temporary.write_bytes(b"half")
            folder = TemporaryFolder(folder=tmp_path)
            delete_temporaries()
            assert names(tmp_path) == [] and not Path(folder.name).exists()
            stage.mkdir(parents=True)

    def test_a_failure_leaves_the_old_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "a.bin"
        write_file(path, b"old")

        def full(self: Path, target: Path) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "replace", full)
        with pytest.raises(MediaError, match=r"^cannot write .*a\.bin: No space left"):
            write_file(path, b"new")
        assert path.read_bytes() == b"old" and names(tmp_path) == ["a.bin"]

    def test_the_error_is_an_os_error_too(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(OSError, match="cannot write") as raised:
            write_file(tmp_path / "file" / "a.bin", b"")
        assert isinstance(raised.value, FileWriteError) and isinstance(
            pickle.loads(pickle.dumps(raised.value)), OSError
        )

    @pytest.mark.parametrize("stop", [None, KeyboardInterrupt, GeneratorExit])
    @pytest.mark.parametrize("stoppable", [True, False])
    def test_stopping(self, tmp_path: Path, stop: type[BaseException] | None, stoppable: bool) -> None:
        target = tmp_path / "new" / "a.txt"
        try:
            with whole_file(target, stoppable=stoppable) as temporary:
                temporary.write_text("whole")
                assert temporary.parent == target.parent and temporary.suffix == ".txt" and not target.exists()
                if stop:
                    raise stop
        except (KeyboardInterrupt, GeneratorExit):
            pass
        assert names(target.parent) == (["a.txt"] if stoppable or stop is None else [])
        assert not target.exists() or target.read_text() == "whole"

    @pytest.mark.parametrize("stoppable", [True, False])
    def test_an_error_leaves_no_file(self, tmp_path: Path, stoppable: bool) -> None:
        with pytest.raises(EngineError), whole_file(tmp_path / "a.txt", stoppable=stoppable) as temporary:
            temporary.write_text("half")
            raise EngineError("stopped")
        assert names(tmp_path) == []

    def test_nothing_written(self, tmp_path: Path) -> None:
        with whole_file(tmp_path / "a.txt", stoppable=True):
            pass
        with pytest.raises(FileWriteError, match="cannot write"), whole_file(tmp_path / "a.txt"):
            pass
        assert names(tmp_path) == []

    def test_a_folder_in_the_way_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "taken").mkdir()
        with pytest.raises(MediaError, match=r"cannot write .*taken"), whole_file(tmp_path / "taken") as temporary:
            temporary.write_text("x")
        (tmp_path / "file").touch()
        with pytest.raises(MediaError, match="cannot write"), whole_file(tmp_path / "file" / "a.txt"):
            pass
        assert names(tmp_path) == ["file", "taken"]


def test_success(tmp_path: Path) -> None:
    with staged_directory(tmp_path / "b", replace=False) as stage:
        write(stage)
        assert names(tmp_path) != ["b"] and not (tmp_path / "b").exists()
    assert names(tmp_path) == ["b"] and names(tmp_path / "b") == [MANIFEST_NAME]
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o755  # others may read it


def test_parents_are_made(tmp_path: Path) -> None:
    with staged_directory(tmp_path / "new" / "deep" / "b", replace=False) as stage:
        write(stage)
    assert names(tmp_path / "new" / "deep") == ["b"]


@pytest.mark.parametrize("failure", [StoppedError, KeyboardInterrupt, SystemExit])
def test_failure_leaves_nothing(tmp_path: Path, failure: type[BaseException]) -> None:
    with pytest.raises(failure), staged_directory(tmp_path / "b", replace=False) as stage:
        write(stage)
        (stage / "folder").mkdir()
        raise failure
    assert names(tmp_path) == []


@pytest.mark.parametrize("replace", [True, False])
def test_failure_leaves_the_old_bundle(tmp_path: Path, replace: bool) -> None:
    make_bundle(tmp_path / "b")
    with pytest.raises(StoppedError), staged_directory(tmp_path / "b", replace) as stage:
        write(stage)
        raise StoppedError
    assert names(tmp_path) == ["b"] and (tmp_path / "b" / MANIFEST_NAME).read_text() == "old"


def test_replacing(tmp_path: Path) -> None:
    make_bundle(tmp_path / "b")
    (tmp_path / "b" / "stale.ms").touch()
    with staged_directory(tmp_path / "b", replace=True) as stage:
        write(stage)
        assert (tmp_path / "b" / MANIFEST_NAME).read_text() == "old"  # until the end
    assert names(tmp_path) == ["b"] and names(tmp_path / "b") == [MANIFEST_NAME]
    assert (tmp_path / "b" / MANIFEST_NAME).read_text() == "new"


@pytest.mark.parametrize("failure", [OSError, KeyboardInterrupt])
def test_the_old_bundle_survives_a_failed_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: type[BaseException]
) -> None:
    """On file systems that cannot exchange two directories."""
    make_bundle(tmp_path / "b")
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise failure("stopped")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    monkeypatch.setattr(directories, "exchange", lambda one, other: False)
    with pytest.raises((BundleError, failure)), staged_directory(tmp_path / "b", replace=True) as stage:
        write(stage)
    assert names(tmp_path) == ["b"] and (tmp_path / "b" / MANIFEST_NAME).read_text() == "old"


KILLED = """
import os, sys
from pathlib import Path
from synergy.runtime import directories
rename = Path.rename
directories.exchange = lambda one, other: False
Path.rename = lambda self, target: os._exit(9) if self.name == "new" else rename(self, target)
with directories.staged_directory(Path(sys.argv[1]), replace=True) as stage:
    (stage / "manifest.json").write_text("new")
"""


def test_a_bundle_whose_replacement_was_killed_comes_back(tmp_path: Path) -> None:
    make_bundle(tmp_path / "b")
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "b")], cwd=ROOT, check=False)
    assert done.returncode == 9 and not (tmp_path / "b").exists()
    with pytest.raises(StoppedError), staged_directory(tmp_path / "b", replace=True) as stage:
        assert (tmp_path / "b" / MANIFEST_NAME).read_text() == "old"
        with pytest.raises(StoppedError), staged_directory(tmp_path / "b", replace=True):
            assert stage.is_dir()  # that of a process that lives is kept
            raise StoppedError
        raise StoppedError
    assert names(tmp_path) == ["b"]


def test_one_of_two_bundles_is_always_there(tmp_path: Path) -> None:
    """Another process sees a whole bundle at any time."""
    target, stop, missing = make_bundle(tmp_path / "b"), threading.Event(), []
    if not directories.exchange(target, make_bundle(tmp_path / "c", "new")):
        pytest.skip("this file system cannot exchange directories")

    def watch() -> None:
        while not stop.is_set():
            missing.extend([1] if not (target / MANIFEST_NAME).is_file() else [])

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(15):
        with staged_directory(target, replace=True) as stage:
            write(stage)
    stop.set()
    watcher.join()
    assert not missing


def test_second_of_two_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError), staged_directory(tmp_path / "b", replace=False) as slow:
        write(slow, "slow")
        with staged_directory(tmp_path / "b", replace=False) as fast:
            write(fast, "fast")
    assert names(tmp_path) == ["b"] and (tmp_path / "b" / MANIFEST_NAME).read_text() == "fast"


def test_many_at_once(tmp_path: Path) -> None:
    """Exactly one wins, and its content is whole."""
    start, outcomes = threading.Barrier(8), []

    def export(number: int) -> None:
        try:
            with staged_directory(tmp_path / "b", replace=False) as stage:
                for name in ("one", "two", MANIFEST_NAME):
                    (stage / name).write_text(str(number))
                start.wait()
        except BundleError:
            outcomes.append(None)
        else:
            outcomes.append(str(number))

    threads = [threading.Thread(target=export, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [outcome for outcome in outcomes if outcome is not None]
    assert names(tmp_path) == ["b"]
    assert {path.read_text() for path in (tmp_path / "b").iterdir()} == {winner}


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_appears_meanwhile_is_kept(tmp_path: Path, replace: bool, kind: str) -> None:
    """--force replaces bundles; a user's folder that was not there at the start is none."""
    target, elsewhere = tmp_path / "b", make_bundle(tmp_path / "elsewhere")
    with pytest.raises(BundleError), staged_directory(target, replace) as stage:
        write(stage)
        if kind == "folder":
            target.mkdir()
            (target / "precious.txt").write_text("mine")
        elif kind == "file":
            target.write_text("mine")
        else:
            target.symlink_to(tmp_path / "nowhere")
    assert elsewhere.is_dir() and names(tmp_path) == ["b", "elsewhere"]
    if kind == "folder":
        assert (target / "precious.txt").read_text() == "mine"
    elif kind == "file":
        assert target.read_text() == "mine"
    else:
        assert target.is_symlink()


def test_nothing_in_the_way(tmp_path: Path) -> None:
    refuse_existing(tmp_path / "b", replace=False)
    refuse_existing(tmp_path / "b", replace=True)


@pytest.mark.parametrize("kind", ["bundle", "folder", "file", "dangling link"])
def test_existing_target_is_refused(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "b"
    if kind == "bundle":
        make_bundle(target)
    elif kind == "file":
        target.touch()
    elif kind == "dangling link":
        target.symlink_to(tmp_path / "nowhere")
    else:
        target.mkdir()
        (target / "x").touch()
    with pytest.raises(BundleError, match="--force" if kind != "dangling link" else "exists"):
        refuse_existing(target, replace=False)


@pytest.mark.parametrize("replace", [True, False])
def test_an_empty_folder_is_taken(tmp_path: Path, replace: bool) -> None:
    (tmp_path / "b").mkdir()
    refuse_existing(tmp_path / "b", replace)
    with staged_directory(tmp_path / "b", replace) as stage:
        write(stage)
    assert names(tmp_path / "b") == [MANIFEST_NAME]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_only_bundles_are_replaced(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "b"
    target.touch() if kind == "file" else (target / "sub").mkdir(parents=True)
    with pytest.raises(BundleError, match="is not a bundle: it will not be replaced"):
        refuse_existing(target, replace=True)
    refuse_existing(make_bundle(tmp_path / "real"), replace=True)


def test_parent_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises((BundleError, OSError)), staged_directory(tmp_path / "file" / "b", replace=False):
        raise AssertionError("never reached")


def test_other_directories_can_be_replaceable(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "old").touch()
    with staged_directory(tmp_path / "d", replace=True, replaceable=Path.exists, prefix="tmp-") as stage:
        (stage / "new").touch()
        assert stage.parent.name.startswith("tmp-")
    assert names(tmp_path) == ["d"] and names(tmp_path / "d") == ["new"]
