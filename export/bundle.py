"""Checkpoint -> bundle: write every artifact, prove all of them, and only then let the directory appear."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np

from export.conventions import CONVENTIONS
from export.graph import INPUT_NAME, OUTPUT_NAMES, DeployGraph
from export.lite import write_ms
from export.lowering import lower_mindir
from export.mindir import mind_ir_version, write_mindir
from export.onnx import write_onnx
from export.staging import refuse_existing, staged_directory
from runtime.decode import LandmarkFrame
from runtime.engines.base import DYNAMIC
from runtime.manifest import (
    MANIFEST_NAME,
    SCHEMA,
    Artifact,
    FileEntry,
    Format,
    Manifest,
    Preprocessing,
    Source,
    Tensor,
    encode_manifest,
)
from runtime.native.home import locate
from synergy_model.checkpoint import DENSE_KEYS, Checkpoint, load_checkpoint
from synergy_model.morphable import FRAMES, MorphableModel
from synergy_model.synergynet import IMAGE_SIZE, PIXEL_MEAN, PIXEL_SCALE, SynergyNet

FORMATS = ("mindir", "onnx", "lite")
MORPHABLE_NAME = "morphable.npz"
PARITY_NAME = "parity.json"

# file names of the artifacts by their format in the manifest
FILES: dict[Format, str] = {
    "mindir": "model.mindir",
    "mindir_v1": "model.v1.mindir",
    "onnx": "model.onnx",
    "ms": "model.ms",
}

Prove = Callable[[Path, SynergyNet], bytes]
Say = Callable[[str], None]


@dataclass(frozen=True)
class ExportOptions:
    """What to write: a subset of `FORMATS`; a fixed batch, or None for a dynamic one; whether to replace."""

    formats: tuple[str, ...] = FORMATS
    batch: int | None = None
    replace: bool = False

    def __post_init__(self) -> None:
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown or not self.formats:
            raise ValueError(f"unknown format {', '.join(unknown) or '(none)'}: use {', '.join(FORMATS)}")
        if self.batch is not None and self.batch < 1:
            raise ValueError(f"batch must be 1 or more, or dynamic, not {self.batch}")


def export_bundle(ckpt: Path, target: Path, options: ExportOptions, prove: Prove, say: Say) -> Manifest:
    """Freeze the checkpoint `ckpt` into the new directory `target`.

    `prove` gets the unpublished bundle and the network, returns the content of parity.json, and raises to
    prevent the bundle. `say` hears each step. Raises BundleError if `target` is in the way, CheckpointError,
    LoweringError, EngineUnavailableError without MindSpore Lite, EngineError: nothing is left behind.
    """
    refuse_existing(target, options.replace)
    if "lite" in options.formats:
        locate()  # a missing Lite is said before minutes of work, not after
    checkpoint = load_checkpoint(ckpt)
    with staged_directory(target, options.replace) as stage:
        _write_artifacts(ckpt, checkpoint, stage, options, say)
        write_morphable(checkpoint, stage / MORPHABLE_NAME)
        manifest = _manifest(ckpt, checkpoint.network, stage, options)
        (stage / MANIFEST_NAME).write_bytes(encode_manifest(manifest))
        say("proving every artifact against the Cell")
        (stage / PARITY_NAME).write_bytes(prove(stage, checkpoint.network))
        manifest = msgspec.structs.replace(manifest, parity=FileEntry(**_entry(stage / PARITY_NAME)))
        (stage / MANIFEST_NAME).write_bytes(encode_manifest(manifest))
    return manifest


def write_morphable(checkpoint: Checkpoint, path: Path) -> None:
    """Whitening and bases as plain arrays, dense ones where the checkpoint has them."""
    arrays = {name: getattr(checkpoint.network.morphable, name).asnumpy() for name in MorphableModel.ARRAYS}
    if checkpoint.dense is not None:
        arrays.update({key: getattr(checkpoint.dense, key) for key in DENSE_KEYS})
    np.savez(path, **arrays)


def _write_artifacts(ckpt: Path, checkpoint: Checkpoint, stage: Path, options: ExportOptions, say: Say) -> None:
    if {"mindir", "lite"} & set(options.formats):
        say("freezing into MindIR")
        write_mindir(DeployGraph(checkpoint.network), stage / FILES["mindir"], options.batch)
    if "lite" in options.formats:
        say("lowering to MindIR 1 and converting to .ms")
        lower_mindir(stage / FILES["mindir"], stage / FILES["mindir_v1"])
        write_ms(stage / FILES["mindir_v1"], stage / FILES["ms"])
    if "mindir" not in options.formats:
        (stage / FILES["mindir"]).unlink(missing_ok=True)
    if "onnx" in options.formats:
        say("freezing into ONNX")
        fresh = load_checkpoint(ckpt).network  # see export.onnx: a Cell exports to ONNX once
        write_onnx(DeployGraph(fresh), stage / FILES["onnx"], options.batch)


def _manifest(ckpt: Path, network: SynergyNet, stage: Path, options: ExportOptions) -> Manifest:
    convention = network.morphable.convention
    batch = DYNAMIC if options.batch is None else options.batch
    return Manifest(
        schema=SCHEMA,
        arch=network.arch,
        convention=convention,
        inputs=(_images(batch),),
        outputs=_outputs(batch),
        preprocessing=Preprocessing(IMAGE_SIZE, "BGR", PIXEL_MEAN, PIXEL_SCALE, in_graph=True),
        crop=CONVENTIONS[convention].crop,
        pose=CONVENTIONS[convention].pose,
        landmark_frame=LandmarkFrame(**asdict(FRAMES[convention])),
        toolchain=_toolchain("lite" in options.formats),
        source=Source(ckpt.name, _sha256(ckpt)),
        artifacts=tuple(_artifact(stage / name, kind) for kind, name in FILES.items() if (stage / name).is_file()),
        morphable=FileEntry(**_entry(stage / MORPHABLE_NAME)),
    )


def _images(batch: int) -> Tensor:
    shape = (batch, IMAGE_SIZE, IMAGE_SIZE, 3)
    return Tensor(INPUT_NAME, shape, "uint8", "NHWC", "face crops, BGR, 0 to 255")


def _outputs(batch: int) -> tuple[Tensor, ...]:
    params = Tensor(OUTPUT_NAMES[0], (batch, 62), "float32", "NC", "whitened: 12 camera, 40 shape, 10 expression")
    landmarks = Tensor(OUTPUT_NAMES[1], (batch, 3, 68), "float32", "NCP", "x, y, z in crop pixels, y down")
    return params, landmarks


def _artifact(path: Path, kind: Format) -> Artifact:
    ir = mind_ir_version(path) if kind.startswith("mindir") else None
    return Artifact(**_entry(path), format=kind, precision="fp32", mind_ir_version=ir)


def _entry(path: Path) -> dict:
    return {"file": path.name, "sha256": _sha256(path), "bytes": path.stat().st_size}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _toolchain(lite: bool) -> dict[str, str]:
    packages = ("synergy-mindir", "mindspore", "onnx", "numpy")
    tools = {"python": platform.python_version(), **{name: version(name) for name in packages}}
    return {**tools, "mindspore-lite": locate().version} if lite else tools
