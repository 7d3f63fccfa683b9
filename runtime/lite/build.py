"""Build the C++ binding with the system's compiler."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from synergy.runtime.errors import EngineUnavailableError
from synergy.runtime.files import whole_file
from synergy.runtime.lite.locate import COMPILE_FLAGS, LINK_FLAGS, SCRATCH, SHIM_SOURCE, LiteInstallation

COMPILER_HINT = "install one, e.g. `apt-get install g++` or `dnf install gcc-c++`"
_OLD_COMPILER_HINT = "use GCC 7 or Clang 5 or newer, or set CXX to another compiler"
# Opened in a child: Lite's libraries must not enter this process, where MindSpore may be loaded.
_OPEN = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"


def build_shim(home: LiteInstallation) -> None:
    """Compile `home.shim` and prove that it opens; the file appears whole or not at all.

    Raises EngineUnavailableError without a compiler, or with the compiler's or loader's first complaint.
    """
    compiler = find_compiler()
    with whole_file(home.shim, prefix=SCRATCH) as built:
        problem = _run([*compiler, *_arguments(home, built)])
        if problem:
            raise EngineUnavailableError(f"{compiler[0]} cannot build the binding: {problem}; {_OLD_COMPILER_HINT}")
        problem = _run(_open_command(built))
        if problem:
            hint = f"are the libraries whole and made for this machine? Else remove {home.root} and install again"
            raise EngineUnavailableError(f"MindSpore Lite at {home.root} does not load here: {problem}; {hint}")


def opens(shim: Path) -> bool:
    """Whether a built binding and the libraries behind it can be loaded."""
    return not _run(_open_command(shim))


def find_compiler() -> list[str]:
    """`$CXX` (which may carry options) or the system's C++ compiler, as the start of a command."""
    named = os.environ.get("CXX", "")
    command = shlex.split(named)
    if command:
        if shutil.which(command[0]) is None:
            raise EngineUnavailableError(f"CXX={named} is no program here: unset CXX, or {COMPILER_HINT}")
        return command
    for name in ("c++", "g++", "clang++"):
        if shutil.which(name):
            return [name]
    raise EngineUnavailableError(f"MindSpore Lite's binding needs a C++ compiler and there is none: {COMPILER_HINT}")


def _arguments(home: LiteInstallation, target: Path) -> list[str]:
    includes = [word for folder in home.includes for word in ("-isystem", str(folder))]
    defines = ["-DSYNERGY_LITE_CONVERTER"] if home.has_converter else []
    folders = dict.fromkeys(library.parent for library in home.libraries)
    paths = [f"-Wl,-rpath,{folder}" for folder in folders] + [f"-Wl,-rpath-link,{folder}" for folder in folders]
    libraries = [str(library) for library in home.libraries]
    # Libraries come after the source that needs them, and are kept though the linker sees no need.
    return [*COMPILE_FLAGS, *defines, *includes, str(SHIM_SOURCE), "-o", str(target), *libraries, *paths, *LINK_FLAGS]


def _open_command(shim: Path) -> list[str]:
    return [sys.executable, "-I", "-c", _OPEN, str(shim)]


def _run(command: list[str]) -> str:
    """Run quietly; the most telling line of its complaint, "" if there is none."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode == 0:
        return ""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or [f"exit code {done.returncode}"])[0]
