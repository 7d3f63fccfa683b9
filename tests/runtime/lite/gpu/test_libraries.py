"""`synergy lite install --gpu` with wheels of a few bytes, and the library in place of Open MPI and NCCL."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from synergy.runtime.errors import EngineUnavailableError
from synergy.runtime.lite.gpu import libraries as module
from synergy.runtime.lite.gpu.libraries import GPU_WHEELS, SINGLE_CARD_LIBRARIES, install_gpu_libraries
from synergy.runtime.lite.install import Wheel
from synergy.runtime.lite.locate import RECORD, gpu_library_environment, gpu_library_folder

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler: apt-get install g++")


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the packages that were fetched."""
    names: list[str] = []

    def download(log: object, wheel: Wheel, folder: Path) -> Path:
        names.append(wheel.package)
        with zipfile.ZipFile(folder / "package.whl", "w") as archive:
            archive.writestr(f"nvidia/lib/lib{wheel.package}.so.8", "library")
            archive.writestr("nvidia/binding.so", "for Python")
            archive.writestr("nvidia/include/lib.h", "header")
        return folder / "package.whl"

    monkeypatch.setenv("SYNERGY_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(module, "download", download)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    return names


def test_installs_once_and_repairs(fetched: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/other")
    assert gpu_library_environment() == {}
    said: list[str] = []
    folder = install_gpu_libraries(said.append)
    assert folder == gpu_library_folder() and str(folder) in said[-1]
    libraries = {f"lib{wheel.package}.so.8" for wheel in GPU_WHEELS}
    assert {path.name for path in folder.iterdir()} == {*libraries, *SINGLE_CARD_LIBRARIES, RECORD}
    assert gpu_library_environment() == {"LD_LIBRARY_PATH": f"{folder}:/other"}
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, "lock"}
    install_gpu_libraries(said.append)
    assert len(fetched) == len(GPU_WHEELS)
    (folder / "libtensorrt.so.8").unlink()
    assert gpu_library_environment() == {}
    install_gpu_libraries(said.append)
    assert gpu_library_environment() and len(fetched) == 2 * len(GPU_WHEELS)


def test_other_machines(fetched: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(EngineUnavailableError, match="x86_64 only, this is linux on aarch64: use another engine"):
        install_gpu_libraries(print)
    assert not fetched


def test_the_pinned_wheels() -> None:
    assert all(re.fullmatch("[0-9a-f]{64}", wheel.sha256) for wheel in GPU_WHEELS)
    assert len({wheel.sha256 for wheel in GPU_WHEELS}) == len(GPU_WHEELS) == 5


def test_one_process_and_nothing_to_exchange(tmp_path: Path) -> None:
    module.build_single_card(["c++"], tmp_path)
    mpi, nccl = (ctypes.CDLL(str(tmp_path / name)) for name in SINGLE_CARD_LIBRARIES)
    values = [ctypes.c_int(7) for _ in range(4)]
    for function, value in zip(("Comm_size", "Comm_rank", "Initialized", "Finalized"), values, strict=True):
        arguments = [None, ctypes.byref(value)] if function.startswith("Comm") else [ctypes.byref(value)]
        assert getattr(mpi, f"MPI_{function}")(*arguments) == 0
    assert [value.value for value in values] == [1, 0, 1, 0]
    assert nccl.ncclGetUniqueId(None) == 0


def test_everything_that_the_plugin_needs_is_defined(lite_home: Path, tmp_path: Path) -> None:
    nm = shutil.which("nm") or pytest.skip("no nm to list symbols with")
    module.build_single_card(["c++"], tmp_path)
    (plugin,) = (lite_home / "mindspore_lite/lib").glob("libtensorrt_plugin*.so")
    listing = subprocess.run([nm, "-D", "--undefined-only", str(plugin)], capture_output=True, text=True, check=True)
    wanted = set(re.findall(r" ((?:MPI_|ompi_|nccl)\w+)", listing.stdout))
    library = ctypes.CDLL(str(tmp_path / SINGLE_CARD_LIBRARIES[0]))
    assert len(wanted) > 20 and not [name for name in wanted if not hasattr(library, name)]
