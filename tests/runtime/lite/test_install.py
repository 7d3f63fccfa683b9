"""`synergy lite install` with a wheel of a few bytes, served from a folder by the real pip."""

from __future__ import annotations

import base64
import hashlib
import json
import platform
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from synergy.runtime.errors import EngineUnavailableError
from synergy.runtime.lite import install as module
from synergy.runtime.lite import locate as home
from synergy.runtime.lite.convert import convert
from synergy.runtime.lite.install import WHEELS, Wheel, install, unpack
from synergy.runtime.lite.locate import LiteInstallation, find_installation, locate

NAME = f"mindspore_lite-{home.VERSION}-cp37-cp37m-manylinux1_x86_64.whl"
MEMBERS = {
    "mindspore_lite/include/api/model.h": "// model",
    "mindspore_lite/include/api/types.h": "// types",
    "mindspore_lite/include/api/context.h": "// context",
    "mindspore_lite/lib/libmindspore-extendrt_python.so": "runtime",
    "mindspore_lite/lib/libmindspore_converter.so": "converter",
    "mindspore_lite/lib/libdnnl.so.2": "dnnl",
    "mindspore_lite/lib/_c_lite_wrapper.cpython-37m-x86_64-linux-gnu.so": "for CPython 3.7",
    "mindspore_lite/lib/libdvpp_utils.so": "for CPython 3.7",
    "mindspore_lite/model.py": "for CPython 3.7",
    "mindspore_lite/version.py": f"__version__ = '{home.VERSION}'",
    f"mindspore_lite-{home.VERSION}.dist-info/METADATA": f"Name: mindspore-lite\nVersion: {home.VERSION}\n",
    f"mindspore_lite-{home.VERSION}.dist-info/WHEEL": "Wheel-Version: 1.0\n",
    f"mindspore_lite-{home.VERSION}.dist-info/RECORD": "",
}
# Used instead of the compiler: copies a library that was built once.
COMPILER = """#!/bin/sh
while [ "$1" != -o ]; do shift; done
exec cp '{library}' "$2"
"""

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler: apt-get install g++")


def write_wheel(path: Path, members: dict[str, str]) -> Wheel:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return Wheel("cp37m", "manylinux1_x86_64", hashlib.sha256(path.read_bytes()).hexdigest())


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


class Site:
    """An index of one wheel, a compiler, and an empty data folder."""

    def __init__(self, folder: Path) -> None:
        self.index, self.data = folder / "index", folder / "data"
        self.index.mkdir()
        self.wheel = write_wheel(self.index / NAME, MEMBERS)
        self.said: list[str] = []

    def install(self) -> LiteInstallation:
        self.said = []
        return install(self.said.append, self.wheel)

    def says(self, words: str) -> bool:
        return any(words in line for line in self.said)


@pytest.fixture(scope="session")
def compiler(make_once: Callable[[str, Callable[[Path], object]], Path]) -> str:
    """A script that takes the options of a compiler and makes a library without content."""
    command = ["c++", "-shared", "-fPIC", "-x", "c++", "/dev/null", "-o"]
    library = make_once("empty.so", lambda path: subprocess.run([*command, path], check=True))
    return COMPILER.format(library=library)


@pytest.fixture
def site(site_with_pip: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The same without pip, which takes seconds: the wheel is copied."""
    wheel = site_with_pip.index / NAME
    monkeypatch.setattr(module, "download", lambda echo, _, folder: Path(shutil.copy(wheel, folder)))
    return site_with_pip


@pytest.fixture
def site_with_pip(compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    site = Site(tmp_path)
    monkeypatch.delenv("SYNERGY_LITE_HOME", raising=False)
    monkeypatch.setenv("SYNERGY_DATA_HOME", str(site.data))
    monkeypatch.setenv("CXX", str(script(tmp_path / "compiler", compiler)))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(site.index))
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    return site


def test_installs_headers_libraries_and_binding(site_with_pip: Site) -> None:
    site = site_with_pip
    installed = site.install()
    assert installed == locate()
    assert installed.version == home.VERSION and installed.has_converter
    kept = {path.relative_to(installed.root).as_posix() for path in installed.root.rglob("*") if path.is_file()}
    assert {name for name, text in MEMBERS.items() if "3.7" not in text} | {home.RECORD} == kept
    assert site.says("fetching") and site.says("unpacking") and site.says("building") and site.says("is ready")


def test_leaves_neither_wheel_nor_scratch(site: Site) -> None:
    installed = site.install()
    names = {path.name for path in (site.data / "lite").iterdir()}
    assert names == {"lock", installed.root.name, installed.shim.name, f"{installed.shim.stem}.sha256"}


def test_again_does_nothing(site: Site) -> None:
    first = site.install()
    before = first.shim.stat().st_mtime_ns
    shutil.rmtree(site.index)
    assert site.install() == first
    assert first.shim.stat().st_mtime_ns == before
    assert site.said == [f"MindSpore Lite {home.VERSION} is ready: {first.root}"]


@pytest.mark.parametrize("damage", ["truncated", "removed", "record removed"])
def test_repairs_a_damaged_home(site: Site, damage: str) -> None:
    library = site.install().libraries[0]
    if damage == "truncated":
        library.write_text("run")
    elif damage == "removed":
        library.unlink()
    else:
        (home.wheel_root() / home.RECORD).unlink()
    with pytest.raises(EngineUnavailableError, match="not installed"):
        locate()
    assert site.install() == locate()
    assert library.read_text() == "runtime"


@pytest.mark.parametrize("record", ["ours", "of an earlier version"])
def test_repairs_other_bytes_of_the_same_size(site: Site, record: str) -> None:
    installed = site.install()
    library = installed.libraries[0]
    if record != "ours":  # sizes only; the wheel has hashes too
        sizes = {name: value[0] for name, value in json.loads((installed.root / home.RECORD).read_text()).items()}
        name, digest = library.relative_to(installed.root).as_posix(), hashlib.sha256(b"runtime").digest()
        listed = f"{name},sha256={base64.urlsafe_b64encode(digest).decode().rstrip('=')},7\n"
        wheel_record = next(installed.root.glob("*.dist-info/RECORD"))
        wheel_record.write_text(listed)
        sizes[wheel_record.relative_to(installed.root).as_posix()] = len(listed)
        (installed.root / home.RECORD).write_text(json.dumps(sizes))
        site.install()
        assert not site.says("changed since")
    library.write_text("RUNTIME")
    assert site.install() == locate() and site.says("1 file in") and site.says("unpacking")
    assert library.read_text() == "runtime"


def test_rebuilds_a_binding_with_other_bytes(site: Site) -> None:
    shim = site.install().shim
    content = shim.read_bytes()
    shim.write_bytes(content + b"x")  # it can still be loaded
    site.install()
    assert shim.read_bytes() == content and not site.says("unpacking") and site.says("building")


@pytest.mark.parametrize("damage", ["removed", "garbage"])
def test_rebuilds_the_binding_without_fetching(site: Site, damage: str) -> None:
    shim = site.install().shim
    shutil.rmtree(site.index)
    shim.unlink()
    if damage == "garbage":
        shim.write_text("no library")
    site.install()
    assert shim.stat().st_size > 1000 and not site.says("fetching") and site.says("building")


def test_clears_what_a_killed_installation_left(site: Site) -> None:
    left = site.data / "lite" / "tmp-dead"
    left.mkdir(parents=True)
    (left / "half").touch()
    site.install()
    assert not left.exists()


def test_two_at_once(site_with_pip: Site, compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One installs, the other waits and finds the installation complete."""
    site = site_with_pip
    slow = script(tmp_path / "slow compiler", compiler.replace("exec", "sleep 1; exec"))
    monkeypatch.setenv("CXX", f"'{slow}'")
    code = (
        "import sys; from synergy.runtime.lite.install import Wheel, install; "
        f"install(lambda line: print(line, flush=True), {site.wheel!r})"
    )
    command = [sys.executable, "-c", code]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = ["".join(process.communicate(timeout=60)) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum("fetching" in text for text in said) == 1
    assert all("is ready" in text for text in said)
    assert locate().shim.is_file()


def test_without_network(site_with_pip: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site = site_with_pip
    monkeypatch.delenv("PIP_FIND_LINKS")
    with pytest.raises(EngineUnavailableError, match=r"could not fetch mindspore-lite .*; check the network and pip"):
        site.install()
    assert find_installation() is None
    assert [path.name for path in (site.data / "lite").iterdir()] == ["lock"]


def test_a_dead_network_is_reported_at_once(site_with_pip: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site = site_with_pip
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # the discard port: nobody listens
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(EngineUnavailableError, match="check the network"):
        site.install()
    assert site.said[-1] == "the network does not answer, pip is retrying"


def test_another_wheel_than_the_pinned_one(site_with_pip: Site) -> None:
    site = site_with_pip
    write_wheel(site.index / NAME, {**MEMBERS, "mindspore_lite/lib/libdnnl.so.2": "evil"})
    with pytest.raises(EngineUnavailableError, match=r"(?i)hash"):
        site.install()
    assert find_installation() is None


def test_without_pip(site_with_pip: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site = site_with_pip
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EngineUnavailableError, match="ensurepip"):
        site.install()


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"CXX": "no-such-compiler"},
            r"CXX=no-such-compiler is not an executable program: unset CXX, or .*apt-get install g\+\+",
        ),
        ({"CXX": "", "PATH": ""}, r"needs a C\+\+ compiler, and none was found: .*apt-get install g\+\+"),
    ],
)
def test_without_compiler_nothing_is_fetched(
    site: Site, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(EngineUnavailableError, match=message):
        site.install()
    assert not site.says("fetching")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#!/bin/sh\necho 'note' >&2; echo 'x.h:1: fatal error: no vector' >&2; exit 1", "fatal error: no vector"),
        ("#!/bin/sh\nexit 3", "exit code 3"),
        (
            '#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done; echo text > "$2"',
            "does not load here: .*(header|ELF|too short)",
        ),
    ],
    ids=["complains", "silent", "makes no library"],
)
def test_a_compiler_that_fails(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.setenv("CXX", str(script(tmp_path / "bad compiler", text)).replace(" ", "\\ "))
    with pytest.raises(EngineUnavailableError, match=message):
        site.install()
    with pytest.raises(EngineUnavailableError, match="not built"):
        locate()


def test_compiler_with_options(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "sh " + str(site.data.parent / "compiler"))
    assert site.install().shim.is_file()


def test_the_named_home_only_gets_a_binding(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = tmp_path / "vendor"
    with zipfile.ZipFile(site.index / NAME) as archive:
        archive.extractall(vendor)
    before = sorted(vendor.rglob("*"))
    monkeypatch.setenv("SYNERGY_LITE_HOME", str(vendor))
    installed = site.install()
    assert installed.root == vendor and installed == locate() and not site.says("fetching")
    assert sorted(vendor.rglob("*")) == before


def test_a_vendors_release_is_built_for_and_converts(
    site: Site, lite_home: Path, tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real Lite, laid out as the vendor's tar, with the real compiler."""
    release, real = tmp_path / "mindspore-lite-2.0.0-linux-x64", lite_home / "mindspore_lite"
    for part in ("runtime", "tools/converter"):
        (release / part).mkdir(parents=True)
        for folder in ("include", "lib"):
            (release / part / folder).symlink_to(real / folder)
    monkeypatch.setenv("SYNERGY_LITE_HOME", str(release))
    monkeypatch.delenv("CXX")
    assert site.install().version == "2.0.0"
    convert(tiny_onnx, "onnx", tmp_path / "tiny.ms")
    assert (tmp_path / "tiny.ms").stat().st_size > 1000


def test_a_wrong_named_home(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNERGY_LITE_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(EngineUnavailableError, match="SYNERGY_LITE_HOME="):
        site.install()
    assert not site.data.exists()


def test_a_data_folder_that_cannot_be_written(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SYNERGY_DATA_HOME", str(tmp_path / "file" / "below"))
    with pytest.raises(EngineUnavailableError, match=r"cannot write to .*SYNERGY_DATA_HOME"):
        site.install()


def test_a_machine_without_wheel(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(EngineUnavailableError, match=r"x86_64 and aarch64 only, .* riscv64: set SYNERGY_LITE_HOME"):
        install(site.said.append)


def test_the_pinned_wheels() -> None:
    assert sorted(WHEELS) == ["aarch64", "x86_64"]
    assert all(re.fullmatch("[0-9a-f]{64}", wheel.sha256) for wheel in WHEELS.values())


@pytest.mark.parametrize("name", ["../evil.so", "/evil.so", "mindspore_lite/lib/../../../evil.so", "a\\..\\evil.so"])
def test_refuses_members_that_leave_the_folder(tmp_path: Path, name: str) -> None:
    write_wheel(tmp_path / NAME, {**MEMBERS, name: "evil"})
    target = tmp_path / "deep" / "target"
    with pytest.raises(EngineUnavailableError, match="has a path outside the folder: nothing was unpacked"):
        unpack(tmp_path / NAME, target)
    assert not target.exists() and not list(tmp_path.rglob("evil*"))


def test_refuses_links(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / NAME, "w") as archive:
        link = zipfile.ZipInfo("mindspore_lite/lib/libdnnl.so.2")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(EngineUnavailableError, match="has a path outside the folder"):
        unpack(tmp_path / NAME, tmp_path / "target")


def test_refuses_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("not found")
    with pytest.raises(EngineUnavailableError, match="is damaged"):
        unpack(tmp_path / NAME, tmp_path / "target")
