"""Lite's log: the cause is found in it, and other output is not lost. The samples are from Lite 2.0."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from synergy.runtime.lite.stderr import capture_stderr, extract_cause, non_lite_lines

LEVEL = "GLOG_v"
PREFIX = "ME(4860,7fe5fc891b80,python):2026-11-22-10:52:30.777.354 [mindspore/lite/src/extendrt/a.cc:46]"
TRUNCATED = f"""[ERROR] {PREFIX} ConstructModel] The model buffer is invalid and fail to create graph.
[ERROR] {PREFIX} ImportFromBuffer] construct model failed.
[ERROR] {PREFIX} BuildByBufferImpl] compile graph failed.
"""
GPU = f"""[WARNING] {PREFIX} DLSoOpen] dlopen /x/libtensorrt_plugin_python.so failed, error: libcudnn.so.8: \
cannot open shared object file: No such file or directory
[ERROR] {PREFIX} Register] DLSoOpen failed, so path: /x/libtensorrt_plugin_python.so
[ERROR] {PREFIX} BuildByBufferImpl] Create session failed.
"""
CARD = f"""[ERROR] {PREFIX} DLSoPath] Get real path of libmsplugin-ge-litert.so failed.
[ERROR] {PREFIX} Build] build engine failed, out of memory
"""
DRIVER = f"""[WARNING] {PREFIX} IsHardwareSupport] No nvidia GPU driver.
[ERROR] {PREFIX} BuildByBufferImpl] Create session failed.
"""
SYMBOL = GPU.replace(
    "libcudnn.so.8: cannot open shared object file: No such file or directory", "/x/l.so: undefined symbol: f"
)
TOO_NEW = f"""[ERROR] {PREFIX} operator^] Runtime error for null exception handler.
[ERROR] {PREFIX} Build] Catch exception: This software can only support the maximum mind ir version: 1, please \
install the latest version to support the mind ir version: 3

----------------------------------------------------
- C++ Call Stack: (For framework developers)
----------------------------------------------------
mindspore/core/load_mindir/load_model.cc:2014 MSANFParseModelConfigureInfo

"""
EXCEPTION = f"""[ERROR] {PREFIX} operator^] Runtime error for null exception handler.
[ERROR] {PREFIX} Build] Catch exception: no such operator
"""


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("", "Common error code"),
        ("something else\n", "Common error code"),
        (f"[WARNING] {PREFIX} Open] Open libnuma.so failed!\n", "Common error code"),
        (TRUNCATED, "The model buffer is invalid and fail to create graph"),
        (GPU, "libcudnn.so.8: cannot open shared object file"),
        (CARD, "build engine failed, out of memory"),
        (DRIVER, "No nvidia GPU driver"),
        (SYMBOL, "undefined symbol: f"),
        (TOO_NEW, "maximum mind ir version: 1, the model has 3"),
        (EXCEPTION, "no such operator"),
    ],
    ids=["empty", "foreign", "warning", "truncated", "gpu", "card", "driver", "symbol", "too new", "exception"],
)
def test_cause(log: str, expected: str) -> None:
    assert extract_cause(log, "Common error code.") == expected


def test_foreign_lines_are_all_but_lites() -> None:
    warning = GPU.splitlines(keepends=True)[0]
    assert non_lite_lines("") == ""
    assert non_lite_lines(f"mine\n{warning}also mine\n") == "mine\nalso mine\n"
    assert non_lite_lines(f"mine\n{TOO_NEW}") == "mine\n"


def test_lines_of_mindspore_in_python_are_not_foreign() -> None:
    place = "ME(14:1397,MainProcess):2026-11-22-14:22:52.380.00 [mindspore/run_check/_check_version.py:229]"
    assert non_lite_lines(f"[WARNING] {place} Cannot find opp path (need by mindspore-ascend).\nmine\n") == "mine\n"
    assert extract_cause(f"[ERROR] {place} libcuda.so (need by mindspore-gpu) is not found.", "") == (
        "libcuda.so (need by mindspore-gpu) is not found"
    )


def test_captures_what_c_code_writes_and_passes_the_rest_on(capfd: pytest.CaptureFixture[str]) -> None:
    with capture_stderr() as log:
        os.write(2, TRUNCATED.encode())
        assert log.text == ""
    with capture_stderr() as other:
        os.write(2, b"another thread's words\n")
    assert log.text == TRUNCATED
    assert other.text == "another thread's words\n"
    assert capfd.readouterr().err == "another thread's words\n"


def test_stderr_works_again_after_an_exception(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), capture_stderr():
        raise KeyError
    os.write(2, b"still here\n")
    assert capfd.readouterr().err == "still here\n"


@pytest.mark.parametrize("level", [None, "3", "4"])
def test_lets_lite_speak_and_restores_the_environment(level: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LEVEL, raising=False)
    if level is not None:
        monkeypatch.setenv(LEVEL, level)
    with capture_stderr():
        assert os.environ[LEVEL] == "2"
    assert os.environ.get(LEVEL) == level


def test_glog_v_shows_the_log(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(LEVEL, "0")
    with capture_stderr():
        assert os.environ[LEVEL] == "0"
        os.write(2, TRUNCATED.encode())
    assert capfd.readouterr().err == TRUNCATED


def test_last_words_stay_where_the_parent_reads_them(tmp_path: Path) -> None:
    code = """
import os, sys
from synergy.runtime.lite.stderr import capture_in_place, capture_stderr
capture_in_place()
os.write(2, b"before ")
with capture_stderr() as log:
    os.write(2, b"during ")
print(log.text)
with capture_stderr():
    os.write(2, b"last words")
    os._exit(3)
"""
    with (tmp_path / "stderr").open("w+b") as stderr:
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=stderr, check=False)
    assert (done.returncode, done.stdout.strip()) == (3, b"during")
    assert (tmp_path / "stderr").read_bytes() == b"before during last words"


def test_works_without_a_stderr() -> None:
    code = "from synergy.runtime.lite.stderr import capture_stderr\nwith capture_stderr(): pass\nprint('fine')"
    command = f'exec {sys.executable} -c "{code}" 2>&-'
    done = subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, text=True, check=False)
    assert done.stdout == "fine\n"
