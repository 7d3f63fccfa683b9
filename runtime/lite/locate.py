"""Find the installed MindSpore Lite and the path of its binding. Only checks files; loads no library."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from synergy.runtime.errors import EngineUnavailableError
from synergy.runtime.specs import Availability

VERSION = "2.0.0"  # the newest release on the package index
INSTALL_HINT = "run `synergy lite install`"
GPU_LIBRARIES = "tensorrt-8.5.3.1"  # names the set of GPU libraries; change it when the set changes
RECORD = "files.json"  # size and SHA-256 of every unpacked file; written last, marks a complete installation
TEMPORARY_PREFIX = "tmp-"  # prefix of temporary files and folders; an interrupted installation leaves them
SHIM_SOURCE = Path(__file__).with_name("shim.cpp")
# Lite's libraries find each other through DT_RPATH (--disable-new-dtags). Undefined symbols are allowed, because Lite's
# libraries refer to GPU and NPU libraries that a CPU-only machine lacks.
COMPILE_FLAGS = ("-O2", "-shared", "-fPIC", "-std=c++17")
LINK_FLAGS = ("-Wl,--disable-new-dtags", "-Wl,--allow-shlib-undefined")

_RUNTIME_FOLDERS = ("", "mindspore_lite", "runtime")  # the wheel's own folder, the wheel, the vendor's tar
_CONVERTER_FOLDERS = ("", "tools/converter")
_RUNTIME_LIBRARIES = ("libmindspore-extendrt_python.so", "libmindspore-extendrt.so", "libmindspore-lite.so")
_CONVERTER_LIBRARY = "libmindspore_converter.so"


@dataclass(frozen=True)
class LiteInstallation:
    """An unpacked MindSpore Lite and the path of its binding, which may not be built yet."""

    root: Path
    version: str  # "unknown" if a vendor release does not state it
    includes: tuple[Path, ...]
    libraries: tuple[Path, ...]  # the runtime's, then the converter's if the release has one
    shim: Path

    @property
    def has_converter(self) -> bool:
        """Whether this release can convert models."""
        return self.libraries[-1].name == _CONVERTER_LIBRARY


def data_folder() -> Path:
    """`$SYNERGY_DATA_HOME`, or the user's data folder for this program."""
    return Path(os.environ.get("SYNERGY_DATA_HOME") or platformdirs.user_data_dir("synergy"))


def lite_folder() -> Path:
    """The folder for everything that `synergy lite install` creates."""
    return data_folder() / "lite"


def wheel_root() -> Path:
    """Where the package index's wheel is unpacked for this machine."""
    return lite_folder() / f"mindspore-lite-{VERSION}-{platform.machine()}"


def gpu_library_folder() -> Path:
    """Where `synergy lite install --gpu` puts the libraries that MindSpore Lite opens on a GPU."""
    return lite_folder() / f"gpu-libraries-{GPU_LIBRARIES}"


def gpu_library_environment() -> dict[str, str]:
    """The environment in which a process finds the libraries in `gpu_library_folder`; empty if they do not exist."""
    folder = gpu_library_folder()
    if not is_complete(folder):
        return {}
    others = os.environ.get("LD_LIBRARY_PATH")
    return {"LD_LIBRARY_PATH": f"{folder}:{others}" if others else str(folder)}


def find_installation() -> LiteInstallation | None:
    """The release at `$SYNERGY_LITE_HOME` if that is set, else the installed wheel if it is complete, else None.

    Raises EngineUnavailableError if SYNERGY_LITE_HOME contains no MindSpore Lite.
    """
    named = os.environ.get("SYNERGY_LITE_HOME")
    if named:
        return vendor_installation(Path(named))
    root = wheel_root()
    return describe_installation(root) if is_complete(root) else None


def locate() -> LiteInstallation:
    """The MindSpore Lite to use on this machine, with its binding built.

    Raises EngineUnavailableError if Lite or its binding is missing; the message says what to run.
    """
    installation = find_installation()
    if installation is None or not installation.shim.is_file():
        status = diagnose()
        raise EngineUnavailableError(f"{status.detail}: {status.fix}")
    return installation


def diagnose() -> Availability:
    """Whether `locate` succeeds, and what it finds or what is missing."""
    try:
        installation = find_installation()
    except EngineUnavailableError as error:
        return Availability(False, str(error), "correct it or unset it")
    if installation is None:
        return Availability(False, "MindSpore Lite is not installed", INSTALL_HINT)
    if not installation.shim.is_file():
        return Availability(False, f"the binding of MindSpore Lite at {installation.root} is not built", INSTALL_HINT)
    return Availability(True, f"MindSpore Lite {installation.version} at {installation.root}")


def vendor_installation(root: Path) -> LiteInstallation:
    """The release at `root`, the value of SYNERGY_LITE_HOME. Raises EngineUnavailableError if there is none."""
    installation = describe_installation(root.expanduser().absolute())
    if installation is None:
        raise EngineUnavailableError(
            f"SYNERGY_LITE_HOME={root} contains no MindSpore Lite: it must be an unpacked release, "
            "with include/api/model.h and lib/ inside it or below its runtime/ or mindspore_lite/"
        )
    return installation


def describe_installation(root: Path) -> LiteInstallation | None:
    """Find headers and libraries below `root`, None if they do not exist. The binding is in `lite_folder()`."""
    base = _first(root / name for name in _RUNTIME_FOLDERS if (root / name / "include/api/model.h").is_file())
    runtime = base and _first(base / "lib" / name for name in _RUNTIME_LIBRARIES if (base / "lib" / name).is_file())
    if base is None or runtime is None:
        return None
    folders = [base, *(root / name for name in _CONVERTER_FOLDERS)]
    tools = _first(folder for folder in folders if (folder / "lib" / _CONVERTER_LIBRARY).is_file())
    bases = dict.fromkeys([base] if tools is None else [base, tools])
    includes = tuple(path for each in bases for path in (each, each / "include"))
    libraries = (runtime,) if tools is None else (runtime, tools / "lib" / _CONVERTER_LIBRARY)
    version = read_version(root, base)
    return LiteInstallation(root, version, includes, libraries, lite_folder() / _shim_name(includes, libraries))


def is_complete(root: Path) -> bool:
    """Whether every file that was unpacked to `root` still exists with its size."""
    try:
        record = json.loads((root / RECORD).read_text())
        return all((root / name).stat().st_size == _size(value) for name, value in record.items())
    except (OSError, ValueError, AttributeError):
        return False


def write_record(root: Path) -> None:
    """Mark the installation in `root` as complete."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    record = {path.relative_to(root).as_posix(): [path.stat().st_size, file_sha256(path)] for path in files}
    (root / RECORD).write_text(json.dumps(record))


def damaged_files(root: Path) -> list[str]:
    """The files of a complete installation whose content has changed; all are read. Records that earlier versions wrote
    have no hashes; those of the wheel are used instead."""
    record = json.loads((root / RECORD).read_text())
    hashes = _wheel_hashes(root) | {name: value[1] for name, value in record.items() if isinstance(value, list)}
    return [name for name in record if name in hashes and file_sha256(root / name) != hashes[name]]


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while part := stream.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _size(value: object) -> object:
    """Of an entry of the record: a size and a hash, or in earlier versions only the size."""
    return value[0] if isinstance(value, list) and len(value) == 2 else value


def _wheel_hashes(root: Path) -> dict[str, str]:
    """The SHA-256 of each file that the wheel's own record lists."""
    hashes = {}
    for record in root.glob("*.dist-info/RECORD"):
        for line in record.read_text(errors="replace").splitlines():
            name, _, rest = line.partition(",sha256=")
            with contextlib.suppress(ValueError):
                hashes[name] = base64.urlsafe_b64decode(rest.partition(",")[0] + "=").hex()
    return {name: value for name, value in hashes.items() if len(value) == 64}


def version_numbers(version: str) -> tuple[int, ...]:
    """ "2.3.0rc1" -> (2, 3, 0); an unknown version gives ()."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def _first(paths: Iterable[Path]) -> Path | None:
    return next(iter(paths), None)


def read_version(root: Path, base: Path) -> str:
    """From the wheel's version.py in `base`, else from the folder's name `root` as the vendor packs it."""
    stated = base / "version.py"
    text = stated.read_text() if stated.is_file() else root.resolve().as_posix()
    match = re.search(r"__version__ = '([^']+)'|mindspore[-_]lite-(\d[\w.]*)", text)
    return (match.group(1) or match.group(2)) if match else "unknown"


def _shim_name(includes: tuple[Path, ...], libraries: tuple[Path, ...]) -> str:
    """The binding's file name; it changes with the source, the flags, the headers and Lite's location."""
    digest = hashlib.sha256(SHIM_SOURCE.read_bytes())
    digest.update("\n".join([*COMPILE_FLAGS, *LINK_FLAGS, *map(str, libraries)]).encode())
    for header in ("model.h", "types.h", "context.h"):
        digest.update((includes[0] / "include/api" / header).read_bytes())
    return f"shim-{digest.hexdigest()[:16]}.so"
