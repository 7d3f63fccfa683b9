"""Lowered MindIR -> `.ms`, the file format of MindSpore Lite."""

from __future__ import annotations

from pathlib import Path

from synergy.runtime.lite.convert import convert
from synergy.runtime.manifest import Precision


def write_ms(lowered: Path, path: Path, precision: Precision = "fp32") -> None:
    """Convert a version 1 MindIR with Lite's Converter (in a child process: it cannot share one with MindSpore).

    `precision` fp16 stores the weights in float16, which halves the file; the CPU still computes in fp32.

    Raises EngineUnavailableError if MindSpore Lite is not installed, EngineError with the cause that Lite reports.
    """
    convert(lowered, "mindir", path, input_format="NCHW", weight_fp16=precision == "fp16")
