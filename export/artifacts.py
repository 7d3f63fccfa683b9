"""Checkpoint -> model files: one per format, in the wanted precision where the format has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from export.graph import check_head, deploy_graph
from export.lite import write_ms
from export.lowering import lower_mindir
from export.mindir import write_mindir
from export.onnx import write_onnx
from export.quantization import calibration_crops, quantize_onnx
from runtime.manifest import HEADS, Format, Precision
from runtime.native.home import locate
from synergy_model.checkpoint import Checkpoint, load_checkpoint

FORMATS = ("mindir", "onnx", "lite")
# file names of the artifacts by their format in the manifest
FILES: dict[Format, str] = {
    "mindir": "model.mindir",
    "mindir_v1": "model.v1.mindir",
    "onnx": "model.onnx",
    "ms": "model.ms",
}
# What a reduced precision is stored in, by `FORMATS`; other artifacts of the bundle stay fp32.
REDUCED: dict[Precision, dict[str, Format]] = {
    "fp32": {},
    "fp16": {"lite": "ms"},
    "int8": {"onnx": "onnx"},  # Lite 2.0 runs no int8 convolutions (docs/precision.md)
}

Say = Callable[[str], None]


@dataclass(frozen=True)
class ExportOptions:
    """What to write.

    formats: a subset of `FORMATS`; batch: crops per run, None for any number; replace: an existing bundle may go;
    head: one of `runtime.manifest.HEADS`; precision: fp32, fp16 or int8; calibration: crops (N,120,120,3) uint8 BGR
    from which int8 learns its ranges, None for synthetic faces.
    """

    formats: tuple[str, ...] = FORMATS
    batch: int | None = None
    replace: bool = False
    head: str = "landmarks"
    precision: Precision = "fp32"
    calibration: np.ndarray | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown or not self.formats:
            raise ValueError(f"unknown format {', '.join(unknown) or '(none)'}: use {', '.join(FORMATS)}")
        if self.batch is not None and self.batch < 1:
            raise ValueError(f"batch must be 1 or more, or dynamic, not {self.batch}")
        if self.head not in HEADS:
            raise ValueError(f"unknown head {self.head!r}: use {', '.join(HEADS)}")
        if self.precision not in REDUCED:
            raise ValueError(f"unknown precision {self.precision!r}: use {', '.join(REDUCED)}")
        fitting = REDUCED[self.precision]
        if fitting and not set(fitting) & set(self.formats):
            raise ValueError(f"{self.precision} is stored in {' or '.join(fitting)}: add it to the formats")

    def precision_of(self, kind: Format) -> Precision:
        """The precision of the artifact of that format."""
        return self.precision if kind in REDUCED[self.precision].values() else "fp32"


def check_tools(checkpoint: Checkpoint, options: ExportOptions) -> None:
    """What can be known before minutes of work: raises HeadError, EngineUnavailableError without MindSpore Lite."""
    check_head(checkpoint, options.head)
    if "lite" in options.formats:
        locate()


def write_artifacts(ckpt: Path, checkpoint: Checkpoint, folder: Path, options: ExportOptions, say: Say) -> None:
    """Write the artifacts of `checkpoint`, read from `ckpt`, under their names in `FILES` into `folder`."""
    if {"mindir", "lite"} & set(options.formats):
        say("freezing into MindIR")
        write_mindir(deploy_graph(checkpoint, options.head), folder / FILES["mindir"], options.batch)
    if "lite" in options.formats:
        say("lowering to MindIR 1 and converting to .ms")
        lower_mindir(folder / FILES["mindir"], folder / FILES["mindir_v1"])
        write_ms(folder / FILES["mindir_v1"], folder / FILES["ms"], options.precision_of("ms"))
    if "mindir" not in options.formats:
        (folder / FILES["mindir"]).unlink(missing_ok=True)
    if "onnx" in options.formats:
        say("freezing into ONNX")
        fresh = load_checkpoint(ckpt)  # see export.onnx: a Cell exports to ONNX once
        path = folder / FILES["onnx"]
        write_onnx(deploy_graph(fresh, options.head), path, options.batch, HEADS[options.head])
        if options.precision_of("onnx") == "int8":
            say("quantising ONNX to int8")
            quantize_onnx(path, calibration_crops() if options.calibration is None else options.calibration)


def kept_fp32(options: ExportOptions) -> tuple[str, ...]:
    """Files that stay fp32 though another precision was asked for: their formats have no other."""
    if options.precision == "fp32":
        return ()
    written: dict[str, tuple[Format, ...]] = {"mindir": ("mindir",), "onnx": ("onnx",), "lite": ("mindir_v1", "ms")}
    kinds = [kind for name in options.formats for kind in written[name]]
    return tuple(FILES[kind] for kind in kinds if options.precision_of(kind) == "fp32")
