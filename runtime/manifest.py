"""The manifest of a bundle: schema and strict parsing.

It holds all numbers that running a model needs: shapes, preprocessing, crop rule and pose convention.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from synergy.runtime.crop import CROP_SIZE, PIXEL_MEAN, PIXEL_SCALE, CropRule
from synergy.runtime.decode import LandmarkFrame, PoseRule
from synergy.runtime.errors import BundleError
from synergy.runtime.formats.file_kinds import HEAD_BYTES, TEXT_FILE, file_kind, mismatch
from synergy.runtime.formats.strict_json import decode
from synergy.runtime.specs import DYNAMIC, TensorSpec

SCHEMA = 3
# Schema 1 lacks `Artifact.compute_precisions`, and its int8 files can be read by onnxruntime only. Schemas 1 and 2 lack
# `Manifest.golden` and `Artifact.outputs`.
OLDEST_SCHEMA = 1
PACKAGE = "synergy-mindir"
MANIFEST_NAME = "manifest.json"
MANIFEST_LIMIT = 1 << 20  # bytes; typical: 3 kB
FILE_LIMIT = 1 << 31  # bytes; the limit of protobuf, in which the models are stored

MAX_FIXED_BATCH = 4096
POINTS_LIMIT = 1 << 20  # vertices of a mesh; the official mesh has 53215
# Outputs of each head, in the order of the graph, and their shapes without the batch. A mesh has as many vertices as
# the dense basis.
HEADS = {
    "params": ("params",),
    "landmarks": ("params", "landmarks"),
    "refined": ("params", "landmarks", "refined_landmarks"),
    "mesh": ("params", "landmarks", "vertices"),
}
OUTPUT_SHAPES = {"params": (62,), "landmarks": (3, 68), "refined_landmarks": (3, 68)}

Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
FileName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")]  # no folders and no ".."
FileSize = Annotated[int, msgspec.Meta(ge=1, le=FILE_LIMIT)]
Format = Literal["mindir", "mindir_v1", "onnx", "ms"]
Precision = Literal["fp32", "fp16", "int8"]


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the bundle: name without folder, SHA-256 and size in bytes."""

    file: FileName
    sha256: Sha256
    bytes: FileSize


class Drift(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Difference in task accuracy between an artifact and the Cell; the worst of the engines that ran it.

    `nme` in percentage points; `mae` in degrees, null if the data has no poses; `data`: the data set. `accepted`: the
    drift exceeds the limit and was accepted with --accept-drift.
    """

    nme: float
    mae: float | None
    data: str
    accepted: bool = False


class ComputePrecision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A compute precision below float32 of one engine, with the drift measured in it; None if not measured yet."""

    engine: Annotated[str, msgspec.Meta(pattern=r"^[a-z]{1,32}\Z")]
    precision: Literal["bf16"]
    drift: Drift | None = None


class Artifact(FileEntry, frozen=True, forbid_unknown_fields=True):
    """One exported model. `compute_precisions`: those below float32 that the export verified.

    `outputs`: the names of the graph's outputs in the file, in order. Some formats lose the manifest's names; the order
    is that of the manifest's outputs in every format.
    """

    format: Format
    precision: Precision
    mind_ir_version: int | None = None
    drift: Drift | None = None
    compute_precisions: tuple[ComputePrecision, ...] = msgspec.field(default=(), name="computing")
    outputs: tuple[str, ...] = ()

    def precisions(self, engine: str) -> tuple[str, ...]:
        """Compute precisions verified on `engine` with a drift within the limits; first "fp32", the file's own."""
        here = (each for each in self.compute_precisions if each.engine == engine)
        return ("fp32", *(each.precision for each in here if each.drift is not None and not each.drift.accepted))


class Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An input or output. -1 in `shape` is a dynamic batch; `meaning` is a description for readers."""

    name: str
    shape: tuple[int, ...]
    dtype: Literal["uint8", "float32"]
    layout: str
    meaning: str

    @property
    def spec(self) -> TensorSpec:
        """Name, shape and dtype, which engines check."""
        return TensorSpec(self.name, self.shape, self.dtype)


class Preprocessing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Preprocessing of a crop, (pixel - mean) / scale, for readers: `in_graph` says that the model does it itself.

    Other values than those of the graph are refused, so that the description is true.
    """

    size: Annotated[int, msgspec.Meta(ge=1, le=4096)]
    colour: Literal["BGR"]
    mean: float
    scale: float
    in_graph: bool


class GoldenEntry(FileEntry, frozen=True, forbid_unknown_fields=True):
    """The file of golden values. `data` says what its faces are and `real_faces` whether they are photographs of
    people; `nme` (percent) and `mae` (degrees, null without poses) are the Cell's accuracy on them."""

    data: str
    real_faces: bool
    nme: float
    mae: float | None


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The exported checkpoint."""

    file: str
    sha256: Sha256


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of `manifest.json`."""

    schema: int
    arch: str
    convention: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    preprocessing: Preprocessing
    crop: CropRule
    pose: PoseRule
    landmark_frame: LandmarkFrame
    toolchain: dict[str, str]
    source: Source
    artifacts: tuple[Artifact, ...]
    morphable: FileEntry
    parity: FileEntry | None = None
    golden: GoldenEntry | None = None

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """Every file of the bundle beside the manifest."""
        others = (self.morphable, self.parity, self.golden)
        return (*self.artifacts, *(entry for entry in others if entry is not None))

    @property
    def head(self) -> str:
        """The name in `HEADS` of the graph's outputs."""
        names = tuple(tensor.name for tensor in self.outputs)
        return next(head for head, outputs in HEADS.items() if outputs == names)


def encode_manifest(manifest: Manifest) -> bytes:
    """The manifest as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def manifest_hash(manifest: Manifest) -> str:
    """The SHA-256 of everything that the manifest says, the hashes of the bundle's files included."""
    import hashlib  # OpenSSL takes 4 ms to load

    return hashlib.sha256(encode_manifest(manifest)).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Read and validate `folder/manifest.json`. Raises BundleError, which names the problem."""
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise BundleError(f"{folder} is not a bundle: it has no {MANIFEST_NAME} (make one with `synergy export`)")
    with path.open("rb") as stream:
        text = stream.read(MANIFEST_LIMIT + 1)
    if len(text) > MANIFEST_LIMIT:
        raise BundleError(f"{path} is over {MANIFEST_LIMIT} bytes: not a manifest")
    if file_kind(text[:HEAD_BYTES]) not in (None, TEXT_FILE):
        raise BundleError(f"{path} {mismatch(text[:HEAD_BYTES], 'a manifest')}")
    try:
        _check_schema(decode(text, _Versioned), path)
        manifest = decode(text, Manifest)
    except BundleError:
        raise
    except ValueError as error:
        raise BundleError(f"{path} is not a valid manifest: {error}. Export the bundle again") from None
    problem = _unusable(manifest)
    if problem:
        raise BundleError(f"{path} is not a valid manifest: {problem}. Export the bundle again")
    return manifest


class _Versioned(msgspec.Struct):
    schema: int
    toolchain: Any = None  # any type: other schemas may differ


def _check_schema(found: _Versioned, path: Path) -> None:
    if OLDEST_SCHEMA <= found.schema <= SCHEMA:
        return
    writer = found.toolchain.get(PACKAGE) if isinstance(found.toolchain, dict) else None
    named = isinstance(writer, str) and re.fullmatch(r"[0-9][0-9A-Za-z.+]{0,30}", writer)
    cure = "export the bundle again"
    if found.schema > SCHEMA:
        cure = f"{PACKAGE} {writer} wrote it: upgrade to that or newer" if named else f"upgrade {PACKAGE}"
    raise BundleError(f"{path} has schema {found.schema}, this version reads {OLDEST_SCHEMA} to {SCHEMA}: {cure}")


def _unusable(manifest: Manifest) -> str:
    """Why the runtime cannot use a manifest whose types are valid; empty if it can."""
    size = manifest.preprocessing.size
    if not manifest.artifacts:
        return "it has no artifacts"
    names = [entry.file.casefold() for entry in manifest.files]
    if len(set(names)) < len(names) or MANIFEST_NAME in names:
        return "two of its entries name the same file"
    if manifest.schema == 1 and any(artifact.precision == "int8" for artifact in manifest.artifacts):
        return "int8 was written in another form when its schema was 1"
    if len(manifest.inputs) != 1 or manifest.inputs[0].dtype != "uint8":
        return "it needs one uint8 input"
    batch = manifest.inputs[0].shape[0] if manifest.inputs[0].shape else 0
    if not (batch == DYNAMIC or 1 <= batch <= MAX_FIXED_BATCH):
        return f"the batch is -1 for any, or 1 to {MAX_FIXED_BATCH}, not {batch}"
    is_nhwc = manifest.inputs[0].shape == (batch, size, size, 3) and manifest.inputs[0].layout in ("NHWC", "")
    if not is_nhwc or size != CROP_SIZE:
        return f"the graph takes {CROP_SIZE} x {CROP_SIZE} crops, NHWC"
    if manifest.preprocessing != Preprocessing(CROP_SIZE, "BGR", PIXEL_MEAN, PIXEL_SCALE, in_graph=True):
        return f"its preprocessing is not that of the graph, (pixel - {PIXEL_MEAN}) / {PIXEL_SCALE} in the graph"
    if tuple(tensor.name for tensor in manifest.outputs) not in HEADS.values():
        return f"its outputs are not one of {'; '.join(', '.join(names) for names in HEADS.values())}"
    wrong = [tensor.name for tensor in manifest.outputs if not _is_output(tensor, batch)]
    return f"output {', '.join(wrong)} has a wrong shape or dtype" if wrong else ""


def _is_output(tensor: Tensor, batch: int) -> bool:
    points = tensor.shape[2] if len(tensor.shape) == 3 else 0
    shape = OUTPUT_SHAPES.get(tensor.name, (3, points) if 1 <= points <= POINTS_LIMIT else None)
    return shape is not None and tensor.dtype == "float32" and tensor.shape == (batch, *shape)
