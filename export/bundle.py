"""Write a bundle from a checkpoint: every artifact is exported and compared before the directory is created."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np

from synergy.export.artifacts import FILES, ExportOptions, Log, check_tools, write_artifacts
from synergy.export.formats.mindir import mind_ir_version
from synergy.export.graph import INPUT_NAME
from synergy.export.inspection.readers import READERS
from synergy.runtime.crop import CROP_RULES, PIXEL_MEAN, PIXEL_SCALE
from synergy.runtime.decode import LANDMARK_FRAMES, POSE_RULES
from synergy.runtime.directories import refuse_existing, staged_directory
from synergy.runtime.lite.locate import locate
from synergy.runtime.manifest import (
    HEADS,
    MANIFEST_NAME,
    OUTPUT_SHAPES,
    PACKAGE,
    SCHEMA,
    Artifact,
    ComputePrecision,
    Drift,
    FileEntry,
    Format,
    GoldenEntry,
    Manifest,
    Preprocessing,
    Source,
    Tensor,
    encode_manifest,
)
from synergy.runtime.specs import DYNAMIC
from synergy.runtime.verification.golden import GOLDEN_NAME
from synergy.synergy_model.checkpoints.checkpoint import DENSE_KEYS, Checkpoint, check_whitening, load_checkpoint
from synergy.synergy_model.morphable import MorphableModel
from synergy.synergy_model.synergynet import IMAGE_SIZE

MORPHABLE_NAME = "morphable.npz"
PARITY_NAME = "parity.json"
# Layout of the axes and description of each output
MEANINGS = {
    "params": ("NC", "whitened: 12 camera, 40 shape, 10 expression"),
    "landmarks": ("NCP", "x, y, z in crop pixels, y down"),
    "refined_landmarks": ("NCP", "x, y, z in crop pixels, y down, after the landmark refiner"),
    "vertices": ("NCP", "x, y, z of the dense mesh in crop pixels, y down"),
}


@dataclass(frozen=True)
class GoldenFile:
    """The content of golden.npz, and its entry in the manifest (see `GoldenEntry`)."""

    content: bytes
    data: str
    real_faces: bool
    nme: float
    mae: float | None


@dataclass(frozen=True)
class ParityResult:
    """Result of the parity check of a new bundle.

    report: the content of parity.json. drift: of each artifact, by file name. compute_precisions: by file name, those
    below float32 that were checked, with their drift. golden: the golden values, None for a bundle without.
    """

    report: bytes
    drift: Mapping[str, Drift] = field(default_factory=dict)
    compute_precisions: Mapping[str, tuple[ComputePrecision, ...]] = field(default_factory=dict)
    golden: GoldenFile | None = None


ParityGate = Callable[[Path, Checkpoint], ParityResult]


def export_bundle(ckpt: Path, target: Path, options: ExportOptions, check_parity: ParityGate, log: Log) -> Manifest:
    """Export the checkpoint `ckpt` into the new directory `target`.

    `check_parity` is called with the temporary directory of the bundle and the checkpoint; if it raises, no bundle is
    created. `log` is called with a description of each step.
    Raises BundleError if `target` exists and may not be replaced, CheckpointError, HeadError, LoweringError,
    EngineUnavailableError without MindSpore Lite, EngineError. After an error no files remain.
    """
    refuse_existing(target, options.replace)
    checkpoint = load_checkpoint(ckpt)
    check_whitening(checkpoint.network.morphable.param_std.asnumpy(), str(ckpt))
    check_tools(checkpoint, options)
    with staged_directory(target, options.replace) as stage:
        write_artifacts(ckpt, checkpoint, stage, options, log)
        write_morphable(checkpoint, stage / MORPHABLE_NAME)
        manifest = _manifest(ckpt, checkpoint, stage, options)
        (stage / MANIFEST_NAME).write_bytes(encode_manifest(manifest))
        log("comparing every artifact with the Cell")
        manifest = _with_parity(manifest, check_parity(stage, checkpoint), stage)
        (stage / MANIFEST_NAME).write_bytes(encode_manifest(manifest))
    return manifest


def write_morphable(checkpoint: Checkpoint, path: Path) -> None:
    """Write whitening and bases as an .npz file, with the dense bases if the checkpoint has them."""
    arrays = {name: getattr(checkpoint.network.morphable, name).asnumpy() for name in MorphableModel.ARRAYS}
    if checkpoint.dense is not None:
        arrays.update({key: getattr(checkpoint.dense, key) for key in DENSE_KEYS})
    np.savez(path, **arrays)


def _manifest(ckpt: Path, checkpoint: Checkpoint, stage: Path, options: ExportOptions) -> Manifest:
    network = checkpoint.network
    convention = network.morphable.convention
    batch = DYNAMIC if options.batch is None else options.batch
    files = [(kind, stage / name) for kind, name in FILES.items() if (stage / name).is_file()]
    return Manifest(
        schema=SCHEMA,
        arch=network.arch,
        convention=convention,
        inputs=(_images(batch),),
        outputs=tuple(_output(name, batch, checkpoint) for name in HEADS[options.head]),
        preprocessing=Preprocessing(IMAGE_SIZE, "BGR", PIXEL_MEAN, PIXEL_SCALE, in_graph=True),
        crop=CROP_RULES[convention],
        pose=POSE_RULES[convention],
        landmark_frame=LANDMARK_FRAMES[convention],
        toolchain=_toolchain(options),
        source=Source(ckpt.name, _sha256(ckpt)),
        artifacts=tuple(_artifact(path, kind, options) for kind, path in files),
        morphable=FileEntry(**_entry(stage / MORPHABLE_NAME)),
    )


def _with_parity(manifest: Manifest, result: ParityResult, stage: Path) -> Manifest:
    (stage / PARITY_NAME).write_bytes(result.report)
    artifacts = tuple(
        msgspec.structs.replace(
            artifact,
            drift=result.drift.get(artifact.file),
            compute_precisions=result.compute_precisions.get(artifact.file, ()),
        )
        for artifact in manifest.artifacts
    )
    parity = FileEntry(**_entry(stage / PARITY_NAME))
    golden = None
    if result.golden is not None:
        (stage / GOLDEN_NAME).write_bytes(result.golden.content)
        known = {name: getattr(result.golden, name) for name in ("data", "real_faces", "nme", "mae")}
        golden = GoldenEntry(**_entry(stage / GOLDEN_NAME), **known)
    return msgspec.structs.replace(manifest, artifacts=artifacts, parity=parity, golden=golden)


def _images(batch: int) -> Tensor:
    shape = (batch, IMAGE_SIZE, IMAGE_SIZE, 3)
    return Tensor(INPUT_NAME, shape, "uint8", "NHWC", "face crops, BGR, 0 to 255")


def _output(name: str, batch: int, checkpoint: Checkpoint) -> Tensor:
    layout, meaning = MEANINGS[name]
    if name == "vertices":
        shape: tuple[int, ...] = (3, len(checkpoint.dense.u) // 3) if checkpoint.dense else ()
    else:
        shape = OUTPUT_SHAPES[name]
    return Tensor(name, (batch, *shape), "float32", layout, meaning)


def _artifact(path: Path, kind: Format, options: ExportOptions) -> Artifact:
    return Artifact(
        **_entry(path),
        format=kind,
        precision=options.precision_of(kind),
        mind_ir_version=mind_ir_version(path) if kind.startswith("mindir") else None,
        compute_precisions=options.compute_precisions_of(kind),
        outputs=tuple(tensor.name for tensor in READERS[path.suffix](path.read_bytes()).outputs),
    )


def _entry(path: Path) -> dict:
    return {"file": path.name, "sha256": _sha256(path), "bytes": path.stat().st_size}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _toolchain(options: ExportOptions) -> dict[str, str]:
    packages = [PACKAGE, "mindspore", "onnx", "numpy"]
    if options.precision_of("onnx") == "int8" and "onnx" in options.formats:
        packages.append("onnxruntime")  # it quantises
    tools = {"python": platform.python_version(), **{name: version(name) for name in packages}}
    return {**tools, "mindspore-lite": locate().version} if "lite" in options.formats else tools
