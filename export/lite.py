"""Lowered MindIR -> `.ms`, the file format of MindSpore Lite."""

from __future__ import annotations

from pathlib import Path

from runtime.native.convert import convert


def write_ms(lowered: Path, path: Path) -> None:
    """Convert a version 1 MindIR with Lite's Converter (in a child process: MindSpore is loaded here).

    Raises EngineUnavailableError where MindSpore Lite is not installed, EngineError with Lite's cause.
    """
    convert(lowered, "mindir", path, input_format="NCHW")
