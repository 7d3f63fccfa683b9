"""Bars where a terminal is, and silence where none is."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from synergy.runtime.terminal.progress import progress, tracked


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    assert list(tracked([1, 2, 3], "pictures", 3)) == [1, 2, 3]
    assert "pictures" in sys.stderr.getvalue()
    with progress() as say:
        say(0.5, "halfway there")
    assert "halfway there" in sys.stderr.getvalue()


def test_a_file_sees_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(tracked(iter("ab"), "pictures", None)) == ["a", "b"]
    with progress() as say:
        say(0.5, "halfway there")
    assert capsys.readouterr() == ("", "")


def test_without_a_terminal_rich_is_not_loaded() -> None:
    code = (
        "from synergy.runtime.terminal.progress import tracked; import sys; "
        "list(tracked([1], '', 1)); print('rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
