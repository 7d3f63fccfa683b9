"""Open a bundle: nothing is handed out before its hash was checked."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runtime.engines.base import ModelFile
from runtime.errors import BundleError
from runtime.manifest import Artifact, FileEntry, Manifest, read_manifest


@dataclass(frozen=True)
class Morphable:
    """Whitening, sparse and, where exported, dense bases; x, y, z interleaved, float32.

    param_mean, param_std (62,); u_base (204,1), w_shp_base (204,40), w_exp_base (204,10); u (3V,1),
    w_shp (3V,40), w_exp (3V,10), triangles (T,3) int32 or None without a dense basis.
    """

    param_mean: np.ndarray
    param_std: np.ndarray
    u_base: np.ndarray
    w_shp_base: np.ndarray
    w_exp_base: np.ndarray
    u: np.ndarray | None = None
    w_shp: np.ndarray | None = None
    w_exp: np.ndarray | None = None
    triangles: np.ndarray | None = None

    @property
    def has_dense(self) -> bool:
        """Whether meshes can be made."""
        return self.u is not None


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
        path = self.folder / entry.file
        if not path.is_file() or path.is_symlink():
            raise BundleError(f"{path} is missing: copy the bundle again, it is one directory")
        if path.stat().st_size != entry.bytes:
            raise BundleError(f"{path} has {path.stat().st_size} bytes instead of {entry.bytes}: copy the bundle again")
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise BundleError(f"{path} was altered: its sha256 is not the manifest's. Copy or export the bundle again")
        return data

    def artifact(self, format_or_file: str) -> Artifact:
        """The artifact of that format or file name. Raises BundleError naming those there are."""
        for artifact in self.manifest.artifacts:
            if format_or_file in (artifact.format, artifact.file):
                return artifact
        present = ", ".join(artifact.file for artifact in self.manifest.artifacts)
        raise BundleError(f"{self.folder} has no {format_or_file} artifact: it has {present}")

    def best_artifact(self, formats: tuple[str, ...]) -> Artifact:
        """The first artifact in the order of `formats`. Raises BundleError if there is none."""
        for wanted in formats:
            for artifact in self.manifest.artifacts:
                if artifact.format == wanted:
                    return artifact
        present = ", ".join(artifact.file for artifact in self.manifest.artifacts)
        raise BundleError(f"{self.folder} has no {' or '.join(formats)} artifact: it has {present}. Export it again")

    def model_file(self, artifact: Artifact) -> ModelFile:
        """What an engine loads: the verified bytes with the shapes they promise."""
        inputs = tuple(tensor.spec for tensor in self.manifest.inputs)
        outputs = tuple(tensor.spec for tensor in self.manifest.outputs)
        return ModelFile(self.read(artifact), artifact.format, inputs, outputs)

    def morphable(self) -> Morphable:
        """Bases and whitening. Raises BundleError if the file does not hold what it should."""
        data = self.read(self.manifest.morphable)
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                return Morphable(**{key: arrays[key] for key in arrays.files})
        except (TypeError, ValueError, OSError) as error:
            raise BundleError(f"{self.manifest.morphable.file} does not hold the morphable model: {error}") from None
