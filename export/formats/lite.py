"""Lowered MindIR -> `.ms`, the file format of MindSpore Lite."""

from __future__ import annotations

from pathlib import Path

from synergy.runtime.lite.convert import convert
from synergy.runtime.manifest import Precision


def write_ms(lowered: Path, path: Path, precision: Precision = "fp32") -> None:
    """Convert a version 1 MindIR with Lite's Converter (in a child process: MindSpore is loaded here).

    `precision` fp16 stores the weights in half: the file has half the size, and the CPU computes in fp32.

    Raises EngineUnavailableError where MindSpore Lite is not installed, EngineError with Lite's cause.
    """
    convert(lowered, "mindir", path, input_format="NCHW", weight_fp16=precision == "fp16")
