"""Build the C++ binding with the system's compiler."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from synergy.runtime.errors import EngineUnavailableError
from synergy.runtime.files import whole_file, write_file
from synergy.runtime.lite.locate import (
    COMPILE_FLAGS,
    LINK_FLAGS,
    SHIM_SOURCE,
    TEMPORARY_PREFIX,
    LiteInstallation,
    file_sha256,
)
from synergy.runtime.processes import programs

HASH_SUFFIX = ".sha256"  # of the file with the binding's hash
COMPILER_HINT = "install one, e.g. `apt-get install g++` or `dnf install gcc-c++`"
_OLD_COMPILER_HINT = "use GCC 7 or Clang 5 or newer, or set CXX to another compiler"
# Loaded in a child process, because MindSpore may be loaded in this one and cannot coexist with Lite's libraries.
_LOAD_CODE = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"


def build_shim(installation: LiteInstallation) -> None:
    """Compile `installation.shim` and check that it can be loaded; on failure there is no file.

    Raises EngineUnavailableError without a compiler, or with the first error of the compiler or the loader.
    """
    compiler = find_compiler()
    with whole_file(installation.shim, prefix=TEMPORARY_PREFIX) as built:
        problem = _run([*compiler, *_arguments(installation, built)])
        if problem:
            raise EngineUnavailableError(f"{compiler[0]} cannot build the binding: {problem}; {_OLD_COMPILER_HINT}")
        problem = _run(_load_command(built))
        if problem:
            hint = f"its libraries are incomplete or for another machine: remove {installation.root} and install again"
            raise EngineUnavailableError(f"MindSpore Lite at {installation.root} does not load here: {problem}; {hint}")
        digest = file_sha256(built)
    write_file(installation.shim.with_suffix(HASH_SUFFIX), digest.encode())


def is_built(shim: Path) -> bool:
    """Whether a binding was built, has not changed since then, and can be loaded with the libraries behind it."""
    if not shim.is_file():
        return False
    known = shim.with_suffix(HASH_SUFFIX)  # earlier versions did not write it
    unchanged = not known.is_file() or known.read_text() == file_sha256(shim)
    return unchanged and not _run(_load_command(shim))


def find_compiler() -> list[str]:
    """`$CXX` (which may carry options) or the system's C++ compiler, as the start of a command."""
    named = os.environ.get("CXX", "")
    command = shlex.split(named)
    if command:
        if shutil.which(command[0]) is None:
            raise EngineUnavailableError(f"CXX={named} is not an executable program: unset CXX, or {COMPILER_HINT}")
        return command
    for name in ("c++", "g++", "clang++"):
        if shutil.which(name):
            return [name]
    raise EngineUnavailableError(f"MindSpore Lite's binding needs a C++ compiler, and none was found: {COMPILER_HINT}")


def _arguments(installation: LiteInstallation, target: Path) -> list[str]:
    includes = [word for folder in installation.includes for word in ("-isystem", str(folder))]
    defines = ["-DSYNERGY_LITE_CONVERTER"] if installation.has_converter else []
    folders = dict.fromkeys(library.parent for library in installation.libraries)
    paths = [f"-Wl,-rpath,{folder}" for folder in folders] + [f"-Wl,-rpath-link,{folder}" for folder in folders]
    libraries = [str(library) for library in installation.libraries]
    # Libraries must follow the source that needs them.
    return [*COMPILE_FLAGS, *defines, *includes, str(SHIM_SOURCE), "-o", str(target), *libraries, *paths, *LINK_FLAGS]


def _load_command(shim: Path) -> list[str]:
    return [sys.executable, "-I", "-c", _LOAD_CODE, str(shim)]


def _run(command: list[str]) -> str:
    """Run a command without output; returns the first error line if it fails, else ""."""
    done = programs.run(command)
    if done.returncode == 0:
        return ""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or [f"exit code {done.returncode}"])[0]
