"""`synergy lite install`: fetch MindSpore Lite's wheel as data, unpack it, build the binding."""

from __future__ import annotations

import importlib.util
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

from synergy.runtime.directories import staged_directory
from synergy.runtime.errors import EngineUnavailableError
from synergy.runtime.lite.build import build_shim, find_compiler, is_built
from synergy.runtime.lite.locate import (
    INSTALL_HINT,
    RECORD,
    TEMPORARY_PREFIX,
    VERSION,
    LiteInstallation,
    damaged_files,
    describe_installation,
    find_installation,
    is_complete,
    lite_folder,
    wheel_root,
    write_record,
)
from synergy.runtime.processes import programs
from synergy.runtime.text import counted

# Not needed, and the first cannot be loaded without CPython 3.7.
_UNUSED_LIBRARIES = ("_c_lite_wrapper", "libdvpp_utils")


@dataclass(frozen=True)
class Wheel:
    """A wheel on the package index: its tags, its hash, and what it is; by default MindSpore Lite."""

    abi: str
    platform: str
    sha256: str
    package: str = "mindspore-lite"
    version: str = VERSION
    python: str = "3.7"
    megabytes: int = 170

    def __str__(self) -> str:
        return f"{self.package} {self.version}"


WHEELS = {
    "x86_64": Wheel("cp37m", "manylinux1_x86_64", "199cd0605cc985b88eddb273db9dfe9000a585ba10ca2292b6b36ebfff07b3ec"),
    "aarch64": Wheel("none", "any", "9006b56a0285833802b4880f34cbce5f94111ef5ca4071d5df5c61e8c2a3a6f7"),
}


def install(log: Callable[[str], None], wheel: Wheel | None = None) -> LiteInstallation:
    """Install MindSpore Lite if necessary: fetch the wheel, unpack it and build the binding.

    With SYNERGY_LITE_HOME only the binding is built. Simultaneous installations wait for each other; an interrupted or
    damaged one is repaired.

    Args:
        log: Called with a line of text at each step.
        wheel: Use this wheel instead of this machine's.

    Returns:
        The installation.

    Raises:
        EngineUnavailableError: Something is missing; the message says what to install or set.
    """
    require_intact(log, wheel_root())
    ready = _ready()
    if ready is None:
        if find_installation() is None and wheel is None:
            wheel = _this_machines_wheel()
        find_compiler()  # reports a missing compiler before the long download
        try:
            with install_lock(log):
                ready = _ready() or _install(log, wheel)
        except OSError as error:
            hint = "free 1 GB there, or set SYNERGY_DATA_HOME to another folder"
            raise EngineUnavailableError(f"cannot write to {lite_folder()}: {error}; {hint}") from error
    log(f"MindSpore Lite {ready.version} is ready: {ready.root}")
    return ready


def _ready() -> LiteInstallation | None:
    installation = find_installation()
    return installation if installation is not None and is_built(installation.shim) else None


def require_intact(log: Callable[[str], None], root: Path) -> None:
    """Mark the installation in `root` as incomplete if the content of a file has changed."""
    damaged = damaged_files(root) if is_complete(root) else []
    if damaged:
        log(f"{counted(len(damaged), 'file')} in {root} changed since the installation: {damaged[0]}; installing again")
        (root / RECORD).unlink(missing_ok=True)


def _install(log: Callable[[str], None], wheel: Wheel | None) -> LiteInstallation:
    for left_over in lite_folder().glob(f"{TEMPORARY_PREFIX}*"):
        shutil.rmtree(left_over) if left_over.is_dir() else left_over.unlink()
    installation = find_installation()
    if installation is None:
        installation = _unpacked(log, wheel or _this_machines_wheel())
    log("building the binding with the C++ compiler")
    build_shim(installation)
    return installation


def _this_machines_wheel() -> Wheel:
    wheel = WHEELS.get(platform.machine()) if sys.platform.startswith("linux") else None
    if wheel is None:
        raise EngineUnavailableError(
            f"the package index has MindSpore Lite for Linux on {' and '.join(WHEELS)} only, this is {sys.platform} on "
            f"{platform.machine()}: set SYNERGY_LITE_HOME to an unpacked vendor release, or use another engine"
        )
    return wheel


def _unpacked(log: Callable[[str], None], wheel: Wheel) -> LiteInstallation:
    """Fetch and unpack the wheel; an incomplete earlier installation is replaced."""
    target = wheel_root()
    with staged_directory(target, replace=True, replaceable=Path.exists, prefix=TEMPORARY_PREFIX) as stage:
        archive = download(log, wheel, stage.parent)
        log("unpacking it (about 500 MB)")
        unpack(archive, stage)
    installation = describe_installation(target)
    if installation is None:
        raise EngineUnavailableError(f"the wheel unpacked to {target} contains no MindSpore Lite: report this as a bug")
    return installation


def download(log: Callable[[str], None], wheel: Wheel, folder: Path) -> Path:
    """Fetch the wheel into `folder` with pip, which checks the hash and shows its progress.

    Raises EngineUnavailableError with pip's error.
    """
    log(f"fetching {wheel} ({wheel.megabytes} MB)")
    if importlib.util.find_spec("pip") is None:
        hint = "run `python -m ensurepip`, or `apt-get install python3-pip`"
        raise EngineUnavailableError(f"{wheel.package} is fetched with pip, and {sys.executable} has none: {hint}")
    pins = folder / "requirements.txt"
    pins.write_text(f"{wheel.package}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
    target = [
        "--python-version",
        wheel.python,
        "--implementation",
        "cp",
        "--abi",
        wheel.abi,
        "--platform",
        wheel.platform,
    ]
    exact = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement", str(pins), "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input", *target, *exact]
    succeeded, errors = _run_pip(log, command)
    archives = list(folder.glob("*.whl"))
    if not succeeded or not archives:
        raise EngineUnavailableError(
            f"could not fetch {wheel}: {_last_pip_error(errors)}; "
            f"check the network and pip's settings (`pip config list`), then {INSTALL_HINT} again"
        )
    return archives[0]


def _run_pip(log: Callable[[str], None], command: list[str]) -> tuple[bool, list[str]]:
    """Whether pip succeeded, and the lines of its stderr; its first retry is reported at once."""
    errors: list[str] = []
    with programs.start(command, stderr=subprocess.PIPE, text=True, errors="replace") as pip:
        assert pip.stderr is not None
        try:
            for line in pip.stderr:
                if "Retrying" in line and not any("Retrying" in earlier for earlier in errors):
                    log("the network does not answer, pip is retrying")
                errors.append(line.strip())
        except BaseException:
            programs.kill(pip)
            raise
    programs.has_ended(pip)
    return pip.returncode == 0, errors


def _last_pip_error(errors: list[str]) -> str:
    lines = [line for line in errors if line]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["pip gave no reason"])[-1]


def unpack(archive: Path, target: Path) -> None:
    """Unpack headers and libraries and record what was written. Members with paths outside `target` are an error."""
    try:
        with zipfile.ZipFile(archive) as bundle:
            members = [member for member in bundle.infolist() if _is_needed(_checked_path(member))]
            for member in members:
                bundle.extract(member, target)
    except zipfile.BadZipFile as error:
        raise EngineUnavailableError(f"{archive.name} is damaged ({error}): {INSTALL_HINT} again") from error
    write_record(target)


def _checked_path(member: zipfile.ZipInfo) -> PurePosixPath:
    path = PurePosixPath(member.filename)
    is_link = stat.S_ISLNK(member.external_attr >> 16)
    if path.is_absolute() or ".." in path.parts or "\\" in member.filename or is_link:
        raise EngineUnavailableError(
            f"the archive's member {member.filename!r} has a path outside the folder: nothing was unpacked"
        )
    return path


def _is_needed(path: PurePosixPath) -> bool:
    if path.parts[:2] == ("mindspore_lite", "lib"):
        return ".so" in path.name and not path.name.startswith(_UNUSED_LIBRARIES)
    is_header = path.parts[:2] == ("mindspore_lite", "include") and path.suffix == ".h"
    return is_header or str(path) == "mindspore_lite/version.py" or "dist-info" in path.parts[0]


@contextmanager
def install_lock(log: Callable[[str], None]) -> Iterator[None]:
    """Hold the installation lock; the system releases it if this process ends."""
    import fcntl  # not available on all systems; the platform check comes first

    lite_folder().mkdir(parents=True, exist_ok=True)
    with (lite_folder() / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log("another installation is running: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
