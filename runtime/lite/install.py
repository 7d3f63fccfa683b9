"""`synergy lite install`: fetch MindSpore Lite's wheel as data, unpack it, build the binding."""

from __future__ import annotations

import importlib.util
import json
import platform
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from synergy.runtime.errors import EngineUnavailableError
from synergy.runtime.files import staged_directory
from synergy.runtime.lite.build import build_shim, find_compiler, opens
from synergy.runtime.lite.locate import (
    INSTALL_HINT,
    RECORD,
    SCRATCH,
    VERSION,
    LiteInstallation,
    describe_installation,
    find_installation,
    lite_folder,
    wheel_root,
)

# Neither can be loaded without CPython 3.7.
_USELESS_LIBRARIES = ("_c_lite_wrapper", "libdvpp_utils")


@dataclass(frozen=True)
class Wheel:
    """Which of the package index's files to take, and what it must hash to."""

    abi: str
    platform: str
    sha256: str


WHEELS = {
    "x86_64": Wheel("cp37m", "manylinux1_x86_64", "199cd0605cc985b88eddb273db9dfe9000a585ba10ca2292b6b36ebfff07b3ec"),
    "aarch64": Wheel("none", "any", "9006b56a0285833802b4880f34cbce5f94111ef5ca4071d5df5c61e8c2a3a6f7"),
}


def install(echo: Callable[[str], None], wheel: Wheel | None = None) -> LiteInstallation:
    """Make MindSpore Lite ready and return where it is; what is ready already is left alone.

    `echo` is told each step. `wheel` replaces this machine's wheel. With SYNERGY_LITE_HOME only the binding is
    built. Two installations at once wait for each other; one that was cut off is repaired.

    Raises EngineUnavailableError naming what to install or set.
    """
    ready = _ready()
    if ready is None:
        if find_installation() is None and wheel is None:
            wheel = _this_machines_wheel()
        find_compiler()  # said before a long download, not after
        try:
            with _only_one(echo):
                ready = _ready() or _install(echo, wheel)
        except OSError as error:
            hint = "free 1 GB there, or set SYNERGY_DATA_HOME to another folder"
            raise EngineUnavailableError(f"cannot write to {lite_folder()}: {error}; {hint}") from error
    echo(f"MindSpore Lite {ready.version} is ready: {ready.root}")
    return ready


def _ready() -> LiteInstallation | None:
    home = find_installation()
    return home if home is not None and home.shim.is_file() and opens(home.shim) else None


def _install(echo: Callable[[str], None], wheel: Wheel | None) -> LiteInstallation:
    for left_over in lite_folder().glob(f"{SCRATCH}*"):
        shutil.rmtree(left_over) if left_over.is_dir() else left_over.unlink()
    home = find_installation()
    if home is None:
        home = _unpacked(echo, wheel or _this_machines_wheel())
    echo("building the binding with the C++ compiler")
    build_shim(home)
    return home


def _this_machines_wheel() -> Wheel:
    wheel = WHEELS.get(platform.machine()) if sys.platform.startswith("linux") else None
    if wheel is None:
        raise EngineUnavailableError(
            f"the package index has MindSpore Lite for Linux on {' and '.join(WHEELS)} only, this is {sys.platform} on "
            f"{platform.machine()}: set SYNERGY_LITE_HOME to an unpacked vendor release, or use another engine"
        )
    return wheel


def _unpacked(echo: Callable[[str], None], wheel: Wheel) -> LiteInstallation:
    """Fetch and unpack the wheel; an incomplete earlier installation is replaced."""
    target = wheel_root()
    with staged_directory(target, replace=True, replaceable=Path.exists, prefix=SCRATCH) as stage:
        echo(f"fetching mindspore-lite {VERSION} (about 170 MB)")
        archive = download(echo, wheel, stage.parent)
        echo("unpacking it (about 500 MB)")
        unpack(archive, stage)
    home = describe_installation(target)
    if home is None:
        raise EngineUnavailableError(f"the wheel unpacked to {target} holds no MindSpore Lite: report this as a bug")
    return home


def download(echo: Callable[[str], None], wheel: Wheel, folder: Path) -> Path:
    """Fetch the wheel with pip, as pip is configured, into `folder`; pip checks the hash and shows its progress.

    Raises EngineUnavailableError with pip's complaint.
    """
    if importlib.util.find_spec("pip") is None:
        hint = "run `python -m ensurepip`, or `apt-get install python3-pip`"
        raise EngineUnavailableError(f"MindSpore Lite is fetched with pip, and {sys.executable} has none: {hint}")
    pins = folder / "requirements.txt"
    pins.write_text(f"mindspore-lite=={VERSION} --hash=sha256:{wheel.sha256}\n")
    target = ["--python-version", "3.7", "--implementation", "cp", "--abi", wheel.abi, "--platform", wheel.platform]
    exact = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement", str(pins), "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input", *target, *exact]
    succeeded, complaints = _run_pip(echo, command)
    archives = list(folder.glob("*.whl"))
    if not succeeded or not archives:
        raise EngineUnavailableError(
            f"could not fetch mindspore-lite {VERSION}: {_last_error(complaints)}; "
            f"check the network and pip's settings (`pip config list`), then {INSTALL_HINT} again"
        )
    return archives[0]


def _run_pip(echo: Callable[[str], None], command: list[str]) -> tuple[bool, list[str]]:
    """Whether pip succeeded, and the lines of its stderr; a dead network is told at once, not when pip gives up."""
    complaints: list[str] = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as pip:
        assert pip.stderr is not None
        for line in pip.stderr:
            if "Retrying" in line and not any("Retrying" in earlier for earlier in complaints):
                echo("the network does not answer; pip tries again")
            complaints.append(line.strip())
    return pip.returncode == 0, complaints


def _last_error(complaints: list[str]) -> str:
    lines = [line for line in complaints if line]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["pip gave no reason"])[-1]


def unpack(archive: Path, target: Path) -> None:
    """Unpack headers and libraries, refusing members that would leave `target`, and record what was written."""
    try:
        with zipfile.ZipFile(archive) as bundle:
            members = [member for member in bundle.infolist() if _is_needed(_checked_path(member))]
            for member in members:
                bundle.extract(member, target)
    except zipfile.BadZipFile as error:
        raise EngineUnavailableError(f"{archive.name} is damaged ({error}): {INSTALL_HINT} again") from error
    record = {member.filename: member.file_size for member in members}
    (target / RECORD).write_text(json.dumps(record))


def _checked_path(member: zipfile.ZipInfo) -> PurePosixPath:
    path = PurePosixPath(member.filename)
    is_link = stat.S_ISLNK(member.external_attr >> 16)
    if path.is_absolute() or ".." in path.parts or "\\" in member.filename or is_link:
        raise EngineUnavailableError(
            f"the archive's member {member.filename!r} would leave its folder: nothing unpacked"
        )
    return path


def _is_needed(path: PurePosixPath) -> bool:
    if path.parts[:2] == ("mindspore_lite", "lib"):
        return ".so" in path.name and not path.name.startswith(_USELESS_LIBRARIES)
    is_header = path.parts[:2] == ("mindspore_lite", "include") and path.suffix == ".h"
    return is_header or str(path) == "mindspore_lite/version.py" or "dist-info" in path.parts[0]


@contextmanager
def _only_one(echo: Callable[[str], None]) -> Iterator[None]:
    """Hold the installation lock; the system drops it if this process dies."""
    import fcntl  # not on every system; there the platform check speaks first

    lite_folder().mkdir(parents=True, exist_ok=True)
    with (lite_folder() / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            echo("another installation is running: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
