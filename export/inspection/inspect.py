"""Describe a model file or a bundle from its content, and list the engines on this machine that can run it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from math import prod
from pathlib import Path

import msgspec

from synergy.export.inspection.readers import READERS, Content, ModelFileError, Tensor
from synergy.runtime.bundle import Bundle
from synergy.runtime.engines import ENGINES, available, engine_class
from synergy.runtime.errors import BundleError
from synergy.runtime.formats.file_kinds import HEAD_BYTES, MODEL_KINDS, file_kind, mismatch
from synergy.runtime.manifest import FILE_LIMIT, Artifact, Manifest
from synergy.runtime.specs import Device
from synergy.runtime.verification.parity_record import ParityStatus, parity_verdict, read_parity

# names of a bundle's formats for messages; MindSpore 2.10 writes MindIR 3
FORMAT_NAMES = {"ms": ".ms", "onnx": "ONNX", "mindir_v1": "MindIR 1", "mindir": "MindIR 2 and newer"}
PRECISIONS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "int8": "int8", "uint8": "int8"}


class InspectionError(ValueError):
    """The path is not a model file or bundle, or it cannot be read."""


class TensorInfo(msgspec.Struct, frozen=True):
    """An input or output. -1 in `shape` is a dynamic size; null: the file gives no shape."""

    name: str
    dtype: str
    shape: tuple[int, ...] | None


class EngineInfo(msgspec.Struct, frozen=True):
    """Whether an engine can run the file on this machine; `detail`: the version, or the reason and the fix."""

    name: str
    runs: bool
    detail: str


class ModelInfo(msgspec.Struct, frozen=True):
    """One model file.

    precision: of most weight values, null without weights. weights: number of weight tensors. values: number of
    values in them. lowering: null if the format needs none, "" if it succeeds, else the reason why it fails.
    unread: the package that is missing to read operators and weights, else empty.
    """

    file: str
    format: str
    bytes: int
    sha256: str
    versions: dict[str, str]
    precision: str | None
    weights: int
    values: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    operators: dict[str, int]
    engines: tuple[EngineInfo, ...]
    lowering: str | None = None
    unread: str = ""


class BundleInfo(msgspec.Struct, frozen=True):
    """Summary of the manifest.

    verified: files whose size and hash match it. proved: the parity check at export passed, and its report is about
    these files; null without a report, if the report does not name its files, or if no engine here can run the bundle.
    parity: the status of that report, without regard to engines. Nothing is compared again by inspecting.
    """

    folder: str
    schema: int
    arch: str
    convention: str
    head: str
    source: str
    source_sha256: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    toolchain: dict[str, str]
    verified: tuple[str, ...]
    proved: bool | None
    parity: str = ""
    parity_reasons: tuple[str, ...] = ()


class Inspection(msgspec.Struct, frozen=True):
    """One model file, or a bundle and all of its artifacts."""

    models: tuple[ModelInfo, ...]
    bundle: BundleInfo | None = None


def inspect_path(path: Path) -> Inspection:
    """Describe a `.mindir`, `.onnx` or `.ms` file, or a bundle.

    Raises InspectionError or BundleError for a missing, damaged or other file, OSError if it cannot be read,
    ModuleNotFoundError if the package that reads a single file is missing.
    """
    if path.is_dir():
        return _inspect_bundle(Bundle.open(path))
    if path.suffix.lower() not in READERS:
        raise InspectionError(f"{path} is not a model: give a {', '.join(READERS)} file or a bundle")
    if not path.is_file():
        raise InspectionError(f"{path} is not a file")
    if path.stat().st_size > FILE_LIMIT:
        raise InspectionError(f"{path} has over {FILE_LIMIT} bytes, more than any supported model")
    data = path.read_bytes()
    if not data:
        raise InspectionError(f"{path} is empty")
    return Inspection((_model(path.name, data, _read(path, data)),))


def _inspect_bundle(bundle: Bundle) -> Inspection:
    manifest = bundle.manifest
    models = tuple(_artifact(bundle, artifact) for artifact in manifest.artifacts)
    for entry in manifest.files:
        bundle.read(entry)
    verdict = parity_verdict(manifest, read_parity(bundle))
    runs_here = any(engine.runs for model in models for engine in model.engines)
    unknown = verdict.status in (ParityStatus.ABSENT, ParityStatus.UNCHECKED) or (verdict.verified and not runs_here)
    about = BundleInfo(
        folder=str(bundle.folder),
        schema=manifest.schema,
        arch=manifest.arch,
        convention=manifest.convention,
        head=manifest.head,
        source=manifest.source.file,
        source_sha256=manifest.source.sha256,
        inputs=_manifest_tensors(manifest)[0],
        outputs=_manifest_tensors(manifest)[1],
        toolchain=manifest.toolchain,
        verified=tuple(entry.file for entry in manifest.files),
        proved=None if unknown else verdict.verified,
        parity=verdict.status.value,
        parity_reasons=verdict.reasons,
    )
    return Inspection(models, about)


def _artifact(bundle: Bundle, artifact: Artifact) -> ModelInfo:
    """Describe an artifact; if the package that reads its format is missing, only from the manifest."""
    data = bundle.read(artifact)
    try:
        content = _read(bundle.folder / artifact.file, data)
    except ModuleNotFoundError as error:
        return _unread(artifact, bundle.manifest, data, f"{error.name} is not installed: operators were not read")
    if content.format != artifact.format:
        raise BundleError(f"{artifact.file} is {content.format}, not {artifact.format} as the manifest says")
    return _model(artifact.file, data, content)


def _unread(artifact: Artifact, manifest: Manifest, data: bytes, reason: str) -> ModelInfo:
    model = _model(artifact.file, data, Content(artifact.format, {}, (), (), (), ()))
    inputs, outputs = _manifest_tensors(manifest)
    return msgspec.structs.replace(model, precision=artifact.precision, inputs=inputs, outputs=outputs, unread=reason)


def _read(path: Path, data: bytes) -> Content:
    expected = MODEL_KINDS[path.suffix.lower()]
    if file_kind(data[:HEAD_BYTES]) not in (None, expected):
        raise InspectionError(f"{path} {mismatch(data[:HEAD_BYTES], expected.name)}")
    try:
        return READERS[path.suffix.lower()](data)
    except ModelFileError as error:
        raise InspectionError(f"{path} {error}") from None


def _model(name: str, data: bytes, content: Content) -> ModelInfo:
    return ModelInfo(
        file=name,
        format=content.format,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        versions=content.versions,
        precision=_precision(content.weights),
        weights=len(content.weights),
        values=sum(_count(weight) for weight in content.weights),
        inputs=_infos(content.inputs),
        outputs=_infos(content.outputs),
        operators=dict(Counter(content.operators).most_common()),
        engines=tuple(engine_support(name, content) for name in ENGINES),
        lowering=content.lowering,
    )


def engine_support(name: str, content: Content) -> EngineInfo:
    kind = engine_class(name)
    formats = kind.formats_on(Device())
    if content.format not in formats:
        this = f"MindIR {content.versions['MindIR']}" if "MindIR" in content.versions else FORMAT_NAMES[content.format]
        return EngineInfo(name, False, f"reads {', '.join(FORMAT_NAMES[each] for each in formats)}, not {this}")
    status = available(name)
    return EngineInfo(name, status.ok, status.detail if status.ok else f"{status.detail}: {status.fix}")


def _precision(weights: Sequence[Tensor]) -> str | None:
    """Precision of most values: quantised models keep some weights in float, and all models have some integers."""
    counts: Counter[str] = Counter()
    for weight in weights:
        counts[weight.dtype] += _count(weight)
    dtype = counts.most_common(1)[0][0] if counts else None
    return PRECISIONS.get(dtype, dtype) if dtype else None


def _count(tensor: Tensor) -> int:
    return prod(tensor.shape or ())


def _infos(tensors: Sequence[Tensor]) -> tuple[TensorInfo, ...]:
    return tuple(TensorInfo(tensor.name, tensor.dtype, tensor.shape) for tensor in tensors)


def _manifest_tensors(manifest: Manifest) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    inputs, outputs = (
        tuple(TensorInfo(tensor.name, tensor.dtype, tensor.shape) for tensor in side)
        for side in (manifest.inputs, manifest.outputs)
    )
    return inputs, outputs
