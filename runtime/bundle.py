"""Open a bundle: nothing is handed out before its hash was checked."""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from synergy.runtime.engines import Device, engine_class, readable
from synergy.runtime.engines.base import ModelFile
from synergy.runtime.errors import BundleError
from synergy.runtime.manifest import Artifact, FileEntry, Manifest, read_manifest
from synergy.runtime.processes.prefetch import start_in_thread


class DenseBasis(msgspec.Struct, frozen=True, eq=False):
    """The mesh of V vertices, x, y, z interleaved: u (3V,1), w_shp (3V,40), w_exp (3V,10) float32.

    triangles (T,3) int32, 0-based; T is 0 where the source gave no triangles.
    """

    u: np.ndarray
    w_shp: np.ndarray
    w_exp: np.ndarray
    triangles: np.ndarray


class Morphable(msgspec.Struct, frozen=True, eq=False):
    """Whitening, sparse bases of the 68 landmarks, and the dense basis where one was exported; float32.

    param_mean, param_std (62,); u_base (204,1), w_shp_base (204,40), w_exp_base (204,10), x, y, z interleaved.
    """

    param_mean: np.ndarray
    param_std: np.ndarray
    u_base: np.ndarray
    w_shp_base: np.ndarray
    w_exp_base: np.ndarray
    dense: DenseBasis | None = None


# The bundle that the package brings: a network trained on synthetic faces only (docs/model-card.md), as ONNX.
BUILTIN = Path(__file__).parent / "assets" / "builtin"
SPARSE_SHAPES = {
    "param_mean": (62,),
    "param_std": (62,),
    "u_base": (204, 1),
    "w_shp_base": (204, 40),
    "w_exp_base": (204, 10),
}
DENSE_KEYS = ("u", "w_shp", "w_exp", "triangles")


class Bundle:
    """A bundle on disk, read as verified bytes."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @classmethod
    def open(cls, folder: str | Path) -> Bundle:
        """Read the manifest. Raises BundleError if there is none or it is not valid."""
        folder = Path(folder)
        if not folder.is_dir():
            raise BundleError(f"no bundle at {folder}: make one with `synergy export CKPT {folder}`")
        return cls(folder, read_manifest(folder))

    def read(self, entry: FileEntry) -> bytes:
        """A file's bytes, after size and sha256 were compared with the manifest's."""
        data = self._bytes(entry)
        self._check_hash(entry, hashlib.sha256(data).hexdigest())
        return data

    def _bytes(self, entry: FileEntry) -> bytes:
        path = self.folder / entry.file
        if not path.is_file() or path.is_symlink():
            raise BundleError(f"{path} is missing: copy the bundle again, it is one directory")
        if path.stat().st_size != entry.bytes:
            raise BundleError(f"{path} has {path.stat().st_size} bytes instead of {entry.bytes}: copy the bundle again")
        return path.read_bytes()

    def _check_hash(self, entry: FileEntry, sha256: str) -> None:
        if sha256 != entry.sha256:
            path = self.folder / entry.file
            raise BundleError(f"{path} was altered: its sha256 is not the manifest's. Copy or export the bundle again")

    def artifact(self, format_or_file: str) -> Artifact:
        """The artifact of that format or file name. Raises BundleError naming those there are."""
        for artifact in self.manifest.artifacts:
            if format_or_file in (artifact.format, artifact.file):
                return artifact
        present = ", ".join(artifact.file for artifact in self.manifest.artifacts)
        raise BundleError(f"{self.folder} has no {format_or_file} artifact: it has {present}")

    def artifact_for(self, engine: str, device: Device) -> Artifact:
        """The one that the engine prefers on this device.

        Raises BundleError if it reads none of them, EngineUnavailableError for a device that it never runs on.
        """
        kind = engine_class(engine)
        kind.check_device(device)
        found = readable(engine, self.manifest.artifacts, device)
        if found:
            return found[0]
        present = ", ".join(f"{artifact.file} ({artifact.precision})" for artifact in self.manifest.artifacts)
        raise BundleError(
            f"engine {engine} {kind.reading(device)}; {self.folder} has {present}: "
            "use another engine, or export the bundle again"
        )

    def model_file(self, artifact: Artifact) -> ModelFile:
        """What an engine loads: the verified bytes with the shapes they promise."""
        return self.reading(artifact)()

    def reading(self, artifact: Artifact) -> Callable[[], ModelFile]:
        """As `model_file`, once what is returned is called: until then a thread hashes it, which leaves Python's lock
        to the caller."""
        data = self._bytes(artifact)
        digest = start_in_thread(lambda: hashlib.sha256(data).hexdigest())

        def verified() -> ModelFile:
            self._check_hash(artifact, digest())
            inputs = tuple(tensor.spec for tensor in self.manifest.inputs)
            outputs = tuple(tensor.spec for tensor in self.manifest.outputs)
            return ModelFile(data, artifact.format, inputs, outputs)

        return verified

    def morphable(self) -> Morphable:
        """Bases and whitening. Raises BundleError if the file does not hold what it should."""
        name, data = self.manifest.morphable.file, self.read(self.manifest.morphable)
        try:
            content = np.load(io.BytesIO(data), allow_pickle=False)
            arrays = {key: content[key] for key in content.files}
        except (ValueError, OSError, EOFError, AttributeError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise BundleError(f"{name} is no .npz of plain arrays: {error}. Export the bundle again") from None
        wrong = [key for key, shape in SPARSE_SHAPES.items() if not _is_sound(arrays.get(key), shape)]
        has_dense = any(key in arrays for key in DENSE_KEYS)
        wrong += _unsound_dense_keys(arrays) if has_dense else []
        if wrong:
            raise BundleError(f"{name}: {', '.join(wrong)} missing or not as they should be. Export the bundle again")
        dense = DenseBasis(**{key: arrays[key] for key in DENSE_KEYS}) if has_dense else None
        return Morphable(**{key: arrays[key] for key in SPARSE_SHAPES}, dense=dense)


def _is_sound(array: np.ndarray | None, shape: tuple[int, ...]) -> bool:
    return array is not None and array.shape == shape and array.dtype.kind in "fiu" and bool(np.isfinite(array).all())


def _unsound_dense_keys(arrays: dict[str, np.ndarray]) -> list[str]:
    rows = arrays["u"].size if "u" in arrays else 0
    widths = {"u": 1, "w_shp": 40, "w_exp": 10}
    wrong = [key for key, width in widths.items() if rows % 3 or not _is_sound(arrays.get(key), (rows, width))]
    triangles = arrays.get("triangles")
    if triangles is None or triangles.dtype.kind not in "iu" or triangles.ndim != 2 or triangles.shape[1] != 3:
        return [*wrong, "triangles"]
    inside = triangles.size == 0 or (triangles.min() >= 0 and triangles.max() < rows // 3)
    return wrong if inside else [*wrong, "triangles"]
