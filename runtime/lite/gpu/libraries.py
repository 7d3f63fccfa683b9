"""`synergy lite install --gpu`: fetch the CUDA, cuDNN and TensorRT libraries that MindSpore Lite opens on a GPU.

They come from the wheels of the package index, as data. Open MPI and NCCL are replaced by a small library, because one
card needs neither of them.
"""

from __future__ import annotations

import platform
import shutil
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from synergy.runtime.directories import staged_directory
from synergy.runtime.errors import EngineUnavailableError
from synergy.runtime.lite.build import find_compiler
from synergy.runtime.lite.install import Wheel, download, install_lock, require_intact
from synergy.runtime.lite.locate import TEMPORARY_PREFIX, gpu_library_folder, is_complete, write_record
from synergy.runtime.processes import programs
from synergy.runtime.text import last_line

SINGLE_CARD_SOURCE = Path(__file__).with_name("single_card.cpp")
SINGLE_CARD_LIBRARIES = ("libmpi.so.40", "libnccl.so.2")
# Every library of MindSpore Lite 2.0 for a GPU needs CUDA 11, cuDNN 8 and TensorRT 8. These releases belong together.
_PYTHON = "3.10"  # the newest for which this TensorRT has a wheel; only its libraries are used
GPU_WHEELS = tuple(
    Wheel("none", system, sha256, package, version, _PYTHON, megabytes)
    for package, version, system, megabytes, sha256 in (
        (
            "nvidia-cuda-runtime-cu11", "11.8.89", "manylinux1_x86_64", 1,
            "f587bd726eb2f7612cf77ce38a2c1e65cf23251ff49437f6161ce0d647f64f7c",
        ),
        (
            "nvidia-curand-cu11", "10.3.0.86", "manylinux1_x86_64", 58,
            "ac439548c88580269a1eb6aeb602a5aed32f0dbb20809a31d9ed7d01d77f6bf5",
        ),
        (
            "nvidia-cublas-cu11", "11.11.3.6", "manylinux1_x86_64", 418,
            "39fb40e8f486dd8a2ddb8fdeefe1d5b28f5b99df01c87ab3676f057a74a5a6f3",
        ),
        (
            "tensorrt", "8.5.3.1", "manylinux_2_17_x86_64", 549,
            "00375391073e51c1d662cc116f5472a921f27d75bb617c0195b3479633c625f3",
        ),
        (
            "nvidia-cudnn-cu11", "8.6.0.163", "manylinux1_x86_64", 716,
            "add207b5fb149cfa02919b8f413364ff4ed348a202f6ae3d7922ae5303fa38a3",
        ),
    )
)  # fmt: skip


def install_gpu_libraries(log: Callable[[str], None], wheels: Sequence[Wheel] = GPU_WHEELS) -> Path:
    """Install the libraries if necessary; an incomplete or damaged earlier installation is replaced.

    Args:
        log: Called with a line of text at each step.
        wheels: What to fetch.

    Returns:
        The folder of the libraries. `LiteEngine` finds them there.

    Raises:
        EngineUnavailableError: The machine or its compiler does not fit, or a wheel cannot be fetched.
    """
    target = gpu_library_folder()
    require_intact(log, target)
    if not is_complete(target):
        if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
            raise EngineUnavailableError(
                "the package index has the GPU libraries of MindSpore Lite for Linux on x86_64 only, this is "
                f"{sys.platform} on {platform.machine()}: use another engine"
            )
        compiler = find_compiler()  # reports a missing compiler before the long download
        try:
            with install_lock(log):
                if not is_complete(target):
                    _install(log, target, wheels, compiler)
        except OSError as error:
            hint = "free 6 GB there, or set SYNERGY_DATA_HOME to another folder"
            raise EngineUnavailableError(f"cannot write to {target}: {error}; {hint}") from error
    log(f"the GPU libraries of MindSpore Lite are ready: {target}")
    return target


def _install(log: Callable[[str], None], target: Path, wheels: Sequence[Wheel], compiler: list[str]) -> None:
    with staged_directory(target, replace=True, replaceable=Path.exists, prefix=TEMPORARY_PREFIX) as stage:
        build_single_card(compiler, stage)
        for wheel in wheels:  # one after another, so that one archive at a time takes space
            archive = download(log, wheel, stage.parent)
            _unpack_libraries(archive, stage)
            archive.unlink()
        write_record(stage)


def build_single_card(compiler: list[str], folder: Path) -> None:
    """Build `SINGLE_CARD_LIBRARIES` in `folder`. Raises EngineUnavailableError with the compiler's last line."""
    first, *others = (folder / name for name in SINGLE_CARD_LIBRARIES)
    command = [*compiler, "-O1", "-shared", "-fPIC", str(SINGLE_CARD_SOURCE), "-o", str(first)]
    done = programs.run(command)
    if done.returncode != 0:
        reason = last_line(done.stderr, default=f"exit code {done.returncode}")
        raise EngineUnavailableError(f"{compiler[0]} cannot build {SINGLE_CARD_SOURCE.name}: {reason}")
    for other in others:
        shutil.copyfile(first, other)


def _unpack_libraries(archive: Path, folder: Path) -> None:
    """Unpack the shared libraries, all into one folder: some of them open others by name."""
    try:
        with zipfile.ZipFile(archive) as bundle:
            for member in bundle.infolist():
                name = PurePosixPath(member.filename).name
                if name.startswith("lib") and ".so" in name:
                    with bundle.open(member) as source, (folder / name).open("wb") as target:
                        shutil.copyfileobj(source, target)
    except zipfile.BadZipFile as error:
        raise EngineUnavailableError(
            f"{archive.name} is damaged ({error}): run `synergy lite install --gpu` again"
        ) from error
