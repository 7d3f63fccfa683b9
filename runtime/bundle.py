"""Read a bundle: the hash of every file is verified before its content is used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from synergy.runtime.engines import engine_class, readable
from synergy.runtime.errors import BundleError
from synergy.runtime.formats.external_data import BY_FORMAT, ModelDamageError, ModelScanError, check_self_contained
from synergy.runtime.formats.file_kinds import DOWNLOAD_PAGE, HEAD_BYTES, LFS_POINTER, file_kind
from synergy.runtime.manifest import MANIFEST_NAME, Artifact, FileEntry, Manifest, read_manifest
from synergy.runtime.processes.prefetch import start_in_thread
from synergy.runtime.specs import Device, ModelFile
from synergy.runtime.text import is_url


class DenseBasis(msgspec.Struct, frozen=True, eq=False):
    """3DMM basis of the mesh with V vertices; x, y, z interleaved.

    Attributes:
        u: Mean shape (3V,1) float32.
        w_shp: Shape basis (3V,40) float32.
        w_exp: Expression basis (3V,10) float32.
        triangles: Vertex indices (T,3) int32 from 0; T is 0 if the checkpoint had no triangles.
    """

    u: np.ndarray
    w_shp: np.ndarray
    w_exp: np.ndarray
    triangles: np.ndarray


class Morphable(msgspec.Struct, frozen=True, eq=False):
    """Whitening and 3DMM bases, all float32; x, y, z interleaved.

    Attributes:
        param_mean: Whitening mean (62,).
        param_std: Whitening standard deviation (62,).
        u_base: Mean shape of the 68 landmarks (204,1).
        w_shp_base: Shape basis of the landmarks (204,40).
        w_exp_base: Expression basis of the landmarks (204,10).
        dense: The basis of the mesh, if one was exported.
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
    """An exported bundle directory, opened for reading.

    Attributes:
        folder: The directory.
        manifest: The content of its manifest.json.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @classmethod
    def open(cls, folder: str | Path) -> Bundle:
        """Read the manifest of a bundle.

        Args:
            folder: The bundle directory.

        Raises:
            BundleError: `folder` is not a directory, or its manifest is missing or invalid.
        """
        folder = Path(folder)
        if is_url(str(folder)):
            raise BundleError(f"{folder} is a URL: download the folder of the bundle first")
        if folder.is_file() and (folder.parent / MANIFEST_NAME).is_file():
            raise BundleError(f"{folder} is a file of a bundle: give the bundle, which is the folder {folder.parent}")
        if not folder.is_dir():
            raise BundleError(f"no bundle at {folder}: make one with `synergy export CKPT {folder}`")
        return cls(folder, read_manifest(folder))

    def read(self, entry: FileEntry) -> bytes:
        """The bytes of a file of the bundle.

        Raises:
            BundleError: The file is missing, or its size or SHA-256 differs from the manifest.
        """
        data = self._bytes(entry)
        self._check_hash(entry, _sha256(data))
        self._check_single_file(entry, data)
        return data

    def _bytes(self, entry: FileEntry) -> bytes:
        path = self.folder / entry.file
        if not path.is_file() or path.is_symlink():
            raise BundleError(f"{path} is missing: copy the bundle again, it is one directory")
        if path.stat().st_size != entry.bytes:
            with path.open("rb") as stream:
                kind = file_kind(stream.read(HEAD_BYTES))
            if kind in (LFS_POINTER, DOWNLOAD_PAGE):
                raise BundleError(f"{path} is {kind.name}: {kind.cure}")
            raise BundleError(f"{path} has {path.stat().st_size} bytes instead of {entry.bytes}: copy the bundle again")
        return path.read_bytes()

    def _check_hash(self, entry: FileEntry, sha256: str) -> None:
        if sha256 != entry.sha256:
            path = self.folder / entry.file
            raise BundleError(f"{path} was altered: its sha256 is not the manifest's. Copy or export the bundle again")

    def _check_single_file(self, entry: FileEntry, data: bytes) -> None:
        """Refuse a model that names other files: engines would read them, and nothing verifies those."""
        if isinstance(entry, Artifact) and entry.format in BY_FORMAT:
            try:
                check_self_contained(data, BY_FORMAT[entry.format])
            except ModelDamageError:
                pass  # the engine says what is wrong
            except ModelScanError as error:
                raise BundleError(f"{self.folder / entry.file} {error}; then export the bundle again") from None

    def artifact(self, format_or_file: str) -> Artifact:
        """Find an artifact by format ("onnx") or file name ("model.onnx").

        Raises:
            BundleError: There is none; the message lists the existing ones.
        """
        for artifact in self.manifest.artifacts:
            if format_or_file in (artifact.format, artifact.file):
                return artifact
        present = ", ".join(artifact.file for artifact in self.manifest.artifacts)
        raise BundleError(f"{self.folder} has no {format_or_file} artifact: it has {present}")

    def artifact_for(self, engine: str, device: Device) -> Artifact:
        """The artifact that `engine` prefers on `device`.

        Args:
            engine: Name of the engine: lite, onnx, openvino or mindspore.
            device: Where it runs.

        Raises:
            BundleError: The engine can read none of the artifacts.
            EngineUnavailableError: The engine does not support this kind of device.
            ValueError: There is no engine of that name.
        """
        kind = engine_class(engine)
        kind.check_device(device)
        found = readable(engine, self.manifest.artifacts, device)
        if found:
            return found[0]
        present = ", ".join(f"{artifact.file} ({artifact.precision})" for artifact in self.manifest.artifacts)
        raise BundleError(
            f"engine {engine} {kind.support_text(device)}; {self.folder} has {present}: "
            "use another engine, or export the bundle again"
        )

    def model_file(self, artifact: Artifact) -> ModelFile:
        """The model for an engine: verified bytes with the tensor specifications of the manifest.

        Raises:
            BundleError: The file is missing, or its size or SHA-256 differs from the manifest.
        """
        return self.start_reading(artifact)()

    def start_reading(self, artifact: Artifact) -> Callable[[], ModelFile]:
        """Like `model_file`, but the hash is computed in a background thread until the returned function is called."""
        data = self._bytes(artifact)
        digest = start_in_thread(lambda: _sha256(data))

        def verified() -> ModelFile:
            self._check_hash(artifact, digest())
            self._check_single_file(artifact, data)
            inputs = tuple(tensor.spec for tensor in self.manifest.inputs)
            outputs = tuple(tensor.spec for tensor in self.manifest.outputs)
            return ModelFile(data, artifact.format, inputs, outputs)

        return verified

    def morphable(self) -> Morphable:
        """Read the whitening and the 3DMM bases.

        Raises:
            BundleError: The file is missing, altered, or an array is missing or has a wrong shape or dtype.
        """
        from synergy.runtime.formats.npz import read_npz  # zipfile takes 5 ms to import

        name, data = self.manifest.morphable.file, self.read(self.manifest.morphable)
        try:
            arrays = read_npz(data)
        except ValueError as error:
            raise BundleError(f"{name} {error}. Export the bundle again") from None
        wrong = [key for key, shape in SPARSE_SHAPES.items() if not _is_sound(arrays.get(key), shape)]
        has_dense = any(key in arrays for key in DENSE_KEYS)
        wrong += _unsound_dense_keys(arrays) if has_dense else []
        if wrong:
            raise BundleError(f"{name}: {', '.join(wrong)} missing or invalid. Export the bundle again")
        dense = DenseBasis(**{key: arrays[key] for key in DENSE_KEYS}) if has_dense else None
        return Morphable(**{key: arrays[key] for key in SPARSE_SHAPES}, dense=dense)


def _sha256(data: bytes) -> str:
    import hashlib  # OpenSSL takes 4 ms to load

    return hashlib.sha256(data).hexdigest()


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
