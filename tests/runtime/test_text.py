"""Helpers for messages."""

from __future__ import annotations

import pytest

from synergy.runtime.text import counted, first_line, last_line


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("", ""),
        (" \n", ""),
        ("\n one \ntwo", "one "),
        (ValueError(), "ValueError"),
        (ValueError("one\ntwo"), "one"),
    ],
)
def test_first_line(message: BaseException | str, line: str) -> None:
    assert first_line(message) == line


@pytest.mark.parametrize(("text", "line"), [("", "none"), ("\n", "none"), ("one\n two \n\n", "two")])
def test_last_line(text: str, line: str) -> None:
    assert last_line(text, default="none") == line


@pytest.mark.parametrize(("count", "text"), [(0, "0 cores"), (1, "1 core"), (2, "2 cores")])
def test_counted(count: int, text: str) -> None:
    assert counted(count, "core") == text
