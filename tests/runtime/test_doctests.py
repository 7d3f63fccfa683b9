"""The examples in docstrings that need no files."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["crop", "decode", "faces", "specs", "text"])
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"synergy.runtime.{name}"))
    assert result.attempted > 0 and result.failed == 0
