"""Write the model files of a checkpoint: one per format, in the requested precision where the format supports it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from synergy.export.formats.int8 import calibration_crops, quantize_onnx
from synergy.export.formats.lite import write_ms
from synergy.export.formats.mindir import write_mindir
from synergy.export.formats.onnx import write_onnx
from synergy.export.graph import check_head, deploy_graph
from synergy.export.lowering.lower import lower_mindir
from synergy.runtime.engines import engine_class
from synergy.runtime.errors import EngineUnavailableError
from synergy.runtime.lite.locate import locate
from synergy.runtime.manifest import HEADS, ComputePrecision, Format, Precision
from synergy.runtime.specs import Device
from synergy.synergy_model.checkpoints.checkpoint import Checkpoint, load_checkpoint

FORMATS = ("mindir", "onnx", "lite")
# file names of the artifacts by their format in the manifest
FILES: dict[Format, str] = {
    "mindir": "model.mindir",
    "mindir_v1": "model.v1.mindir",
    "onnx": "model.onnx",
    "ms": "model.ms",
}
# Formats that can store a reduced precision, by their names in `FORMATS`; other artifacts of the bundle stay fp32.
REDUCED: dict[Precision, dict[str, Format]] = {
    "fp32": {},
    "fp16": {"lite": "ms"},
    "int8": {"onnx": "onnx"},  # Lite 2.0 runs no int8 convolutions (docs/precision.md)
}
# Precisions in which an engine computes an artifact that is stored in fp32: the format (of `FORMATS`) and the engine
COMPUTE_PRECISIONS: dict[str, tuple[str, str]] = {"bf16": ("onnx", "openvino")}
PRECISIONS = (*REDUCED, *COMPUTE_PRECISIONS)

Log = Callable[[str], None]


@dataclass(frozen=True)
class ExportOptions:
    """What to export.

    formats: a subset of `FORMATS`; batch: crops per run, None for a dynamic batch; replace: replace an existing bundle;
    head: one of `runtime.manifest.HEADS`; precision: one of `PRECISIONS`; calibration: crops (N,120,120,3) uint8 BGR
    that set the ranges of int8 activations, None for synthetic faces.
    """

    formats: tuple[str, ...] = FORMATS
    batch: int | None = None
    replace: bool = False
    head: str = "landmarks"
    precision: str = "fp32"
    calibration: np.ndarray | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown or not self.formats:
            raise ValueError(f"unknown format {', '.join(unknown) or '(none)'}: use {', '.join(FORMATS)}")
        if self.batch is not None and self.batch < 1:
            raise ValueError(f"batch must be 1 or more, or dynamic, not {self.batch}")
        if self.head not in HEADS:
            raise ValueError(f"unknown head {self.head!r}: use {', '.join(HEADS)}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"unknown precision {self.precision!r}: use {', '.join(PRECISIONS)}")
        fitting = (
            COMPUTE_PRECISIONS[self.precision][:1] if self.precision in COMPUTE_PRECISIONS else tuple(self._stored)
        )
        if fitting and not set(fitting) & set(self.formats):
            how = "computed from" if self.precision in COMPUTE_PRECISIONS else "stored in"
            raise ValueError(f"{self.precision} is {how} {' or '.join(fitting)}: add it to the formats")

    def precision_of(self, kind: Format) -> Precision:
        """The precision of the artifact of that format."""
        return self.precision if kind in self._stored.values() else "fp32"  # type: ignore[return-value] # a key of it

    def compute_precisions_of(self, kind: Format) -> tuple[ComputePrecision, ...]:
        """Compute precisions, besides float32, in which the artifact of that format is compared with the Cell."""
        if self.precision not in COMPUTE_PRECISIONS or COMPUTE_PRECISIONS[self.precision][0] != kind:
            return ()
        return (ComputePrecision(COMPUTE_PRECISIONS[self.precision][1], self.precision),)  # type: ignore[arg-type] # a key of COMPUTE_PRECISIONS

    @property
    def _stored(self) -> dict[str, Format]:
        return REDUCED.get(self.precision, {})  # type: ignore[call-overload] # COMPUTE_PRECISIONS are not in it


def check_tools(checkpoint: Checkpoint, options: ExportOptions) -> None:
    """Check requirements before the export, which takes minutes.

    Raises HeadError, EngineUnavailableError without MindSpore Lite, or if no engine on this machine can compute in the
    requested precision.
    """
    check_head(checkpoint, options.head)
    if "lite" in options.formats:
        locate()
    if options.precision in COMPUTE_PRECISIONS:
        status = engine_class(COMPUTE_PRECISIONS[options.precision][1]).computes(options.precision, Device())
        if not status.ok:
            raise EngineUnavailableError(
                f"{options.precision} cannot be verified on this machine: {status.detail}: {status.fix}"
            )


def write_artifacts(ckpt: Path, checkpoint: Checkpoint, folder: Path, options: ExportOptions, log: Log) -> None:
    """Write the artifacts of `checkpoint`, read from `ckpt`, under their names in `FILES` into `folder`."""
    if {"mindir", "lite"} & set(options.formats):
        log("exporting to MindIR")
        write_mindir(deploy_graph(checkpoint, options.head), folder / FILES["mindir"], options.batch)
    if "lite" in options.formats:
        log("lowering to MindIR 1 and converting to .ms")
        lower_mindir(folder / FILES["mindir"], folder / FILES["mindir_v1"])
        write_ms(folder / FILES["mindir_v1"], folder / FILES["ms"], options.precision_of("ms"))
    if "mindir" not in options.formats:
        (folder / FILES["mindir"]).unlink(missing_ok=True)
    if "onnx" in options.formats:
        log("exporting to ONNX")
        fresh = load_checkpoint(ckpt)  # a Cell can be exported to ONNX only once, see synergy.export.formats.onnx
        path = folder / FILES["onnx"]
        write_onnx(deploy_graph(fresh, options.head), path, options.batch, HEADS[options.head])
        if options.precision_of("onnx") == "int8":
            log("quantising ONNX to int8")
            quantize_onnx(path, calibration_crops() if options.calibration is None else options.calibration)


def kept_fp32(options: ExportOptions) -> tuple[str, ...]:
    """Files that stay fp32 because their formats cannot store the requested precision."""
    if options.precision == "fp32" or options.precision in COMPUTE_PRECISIONS:
        return ()
    written: dict[str, tuple[Format, ...]] = {"mindir": ("mindir",), "onnx": ("onnx",), "lite": ("mindir_v1", "ms")}
    kinds = [kind for name in options.formats for kind in written[name]]
    return tuple(FILES[kind] for kind in kinds if options.precision_of(kind) == "fp32")
