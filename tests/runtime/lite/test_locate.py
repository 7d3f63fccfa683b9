"""Finding MindSpore Lite: layouts, versions, what is missing; without loading anything."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from synergy.runtime.errors import EngineUnavailableError
from synergy.runtime.lite import locate as home
from synergy.runtime.lite.locate import diagnose, find_installation, is_complete, locate, version_numbers

RUNTIME, CONVERTER = "libmindspore-extendrt_python.so", "libmindspore_converter.so"


def fake_release(base: Path, library: str = RUNTIME) -> None:
    """Headers and a runtime library, empty, below `base`."""
    for name in ("model.h", "types.h", "context.h"):
        header = base / "include" / "api" / name
        header.parent.mkdir(parents=True, exist_ok=True)
        header.write_text(f"// {name}\n")
    (base / "lib").mkdir()
    (base / "lib" / library).touch()


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("SYNERGY_LITE_HOME", raising=False)
    monkeypatch.setenv("SYNERGY_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data"


def test_not_installed(data: Path) -> None:
    assert find_installation() is None
    assert not diagnose().ok and diagnose().fix == "run `synergy lite install`"
    with pytest.raises(EngineUnavailableError, match="MindSpore Lite is not installed: run `synergy lite install`"):
        locate()
    assert not data.exists()  # looking leaves no trace


def test_default_data_folder(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert home.data_folder() == data
    monkeypatch.delenv("SYNERGY_DATA_HOME")
    assert home.data_folder().name == "synergy"


@pytest.mark.parametrize("content", [None, "a file", "an empty folder"])
def test_wrong_lite_home(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None) -> None:
    named = tmp_path / "vendor"
    if content == "a file":
        named.touch()
    elif content:
        named.mkdir()
    monkeypatch.setenv("SYNERGY_LITE_HOME", str(named))
    with pytest.raises(
        EngineUnavailableError, match=r"SYNERGY_LITE_HOME=.*vendor contains no MindSpore Lite: .*model\.h"
    ):
        locate()
    assert not diagnose().ok and "SYNERGY_LITE_HOME" in diagnose().detail


@pytest.mark.parametrize(
    ("base", "tools", "library"),
    [
        ("", "", RUNTIME),
        ("mindspore_lite", "mindspore_lite", RUNTIME),
        ("runtime", "tools/converter", "libmindspore-lite.so"),
        ("runtime", None, "libmindspore-lite.so"),
    ],
    ids=["inside the wheel's folder", "wheel", "vendor's tar", "vendor's tar without converter"],
)
def test_layouts(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str, tools: str | None, library: str
) -> None:
    root = tmp_path / "mindspore-lite-2.3.1-linux-x64"
    fake_release(root / base, library)
    if tools is not None:
        (root / tools / "lib").mkdir(parents=True, exist_ok=True)
        (root / tools / "lib" / CONVERTER).touch()
    monkeypatch.setenv("SYNERGY_LITE_HOME", str(root))
    found = find_installation()
    assert found is not None
    assert found.version == "2.3.1"
    assert found.includes[0] == root / base
    assert found.libraries[0] == root / base / "lib" / library
    assert found.has_converter == (tools is not None)
    assert found.shim.parent == data / "lite"  # never in the vendor's folder
    with pytest.raises(EngineUnavailableError, match=r"binding .* is not built: run `synergy lite install`"):
        locate()
    found.shim.parent.mkdir(parents=True)
    found.shim.touch()
    assert locate() == found
    assert diagnose().ok and "2.3.1" in diagnose().detail


def test_a_relative_home_is_made_absolute(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_release(tmp_path / "vendor")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNERGY_LITE_HOME", "vendor")
    found = find_installation()
    assert found is not None and found.libraries[0].is_absolute()


def test_the_binding_belongs_to_source_headers_and_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = set()
    for folder in ("a", "b"):
        fake_release(tmp_path / folder)
        names.add(home.describe_installation(tmp_path / folder).shim)
    (tmp_path / "a/include/api/model.h").write_text("// a newer release")
    names.add(home.describe_installation(tmp_path / "a").shim)
    changed = tmp_path / "shim.cpp"
    changed.write_text("// a newer binding")
    monkeypatch.setattr(home, "SHIM_SOURCE", changed)
    names.add(home.describe_installation(tmp_path / "a").shim)
    assert len(names) == 4
    assert home.describe_installation(tmp_path / "a").shim in names


def test_is_complete(tmp_path: Path) -> None:
    assert not is_complete(tmp_path)
    (tmp_path / "lib.so").write_bytes(b"12345")
    record = tmp_path / home.RECORD
    for size in (5, [5, "0" * 64]):  # of an earlier version, and of this one
        record.write_text(json.dumps({"lib.so": size}))
        assert is_complete(tmp_path)
    (tmp_path / "lib.so").write_bytes(b"123")
    assert not is_complete(tmp_path)
    (tmp_path / "lib.so").unlink()
    assert not is_complete(tmp_path)
    for broken in ("", "[1]", "{"):
        record.write_text(broken)
        assert not is_complete(tmp_path)


@pytest.mark.parametrize(
    ("text", "numbers"), [("", ()), ("unknown", ()), ("2.0.0", (2, 0, 0)), ("2.3.0rc1", (2, 3, 0)), ("2.10", (2, 10))]
)
def test_version_numbers(text: str, numbers: tuple[int, ...]) -> None:
    assert version_numbers(text) == numbers


def test_looking_loads_no_library() -> None:
    """MindSpore must still be loadable after Lite was only looked for."""
    code = (
        "import synergy.runtime.engines.lite, sys; from synergy.runtime.lite import binding as b, locate as h; "
        "h.diagnose(); "
        "maps = open('/proc/self/maps').read(); "
        "print('mindspore' in maps, b.is_loaded(), 'mindspore' in sys.modules, 'mindspore_lite' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"] * 4
