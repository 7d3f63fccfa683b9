"""Training data: synthetic faces rendered on demand, and 3DDFA's image list with its parameter file.

This module must not import MindSpore, because every rendering process imports it.
"""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Protocol

import cv2
import numpy as np

from synergy.runtime.decode import SYNERGYNET_FRAME, SYNERGYNET_POSE, dewhiten, euler_deg, vertices
from synergy.runtime.files import read_file, whole_file, write_errors
from synergy.runtime.formats.npz import read_npy
from synergy.synergy_model.checkpoints.array_files import read_arrays
from synergy.synergy_model.checkpoints.morphable_files import read_morphable
from synergy.synergy_model.checkpoints.torch_pickle import read_numpy_pickle
from synergy.synergy_model.synthetic.faces import HEADS_AT_ONCE, SIDE, SyntheticFaces, whitening
from synergy.synergy_model.synthetic.morphable_bases import procedural_morphable

PARAMS_USED = 62  # official parameter files may carry 40 texture columns behind these
IMAGE_SHAPE = (SIDE, SIDE, 3)
RENDER_CHUNK = HEADS_AT_ONCE  # faces per task of a rendering process: a batch is spread over the workers


class DatasetError(ValueError):
    """Training data that cannot be used; the message names the file and the line."""


@dataclass(frozen=True)
class MorphableArrays:
    """Whitening (62,) and (62,), bases (204, 1), (204, 40) and (204, 10), float32, named as in `MorphableModel`."""

    param_mean: np.ndarray
    param_std: np.ndarray
    u_base: np.ndarray
    w_shp_base: np.ndarray
    w_exp_base: np.ndarray


@dataclass(frozen=True)
class Validation:
    """Held-out faces: images (N,120,120,3) uint8 BGR, landmarks (N,2 or 3,68) crop px, euler_deg (N,3) yaw, pitch,
    roll.
    """

    images: np.ndarray
    landmarks: np.ndarray
    euler_deg: np.ndarray


class FaceSource(Protocol):
    """Numbered training faces. `batch` gives images (N,120,120,3) uint8 BGR and whitened parameters (N,62) float32."""

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...


class SyntheticSource:
    """`size` faces of `SyntheticFaces(seed)`, each rendered at first use and then kept.

    With `cache` (a folder) the images are stored in a file there and shared with later runs and other processes. The
    file's name contains a digest of the first face, so that a changed renderer uses a new file. `workers` is the
    number of rendering processes; 0 renders in this one.
    """

    def __init__(self, seed: int, size: int, cache: Path | None = None, workers: int = 0) -> None:
        if size < 1:
            raise ValueError(f"size is {size}: give 1 or more")
        self.faces = SyntheticFaces(seed)
        self.size, self.workers, self._cache = size, workers, cache
        mean, std = whitening()
        params = np.stack([self.faces.labels(index).params for index in range(size)])
        self.params = ((params - mean) / std).astype(np.float32)
        self._images, self._ready = self._store()

    def __len__(self) -> int:
        return self.size

    def batch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Images (N,120,120,3) uint8 BGR and whitened parameters (N,62) of faces `indices`."""
        self._draw([int(index) for index in np.unique(indices) if not self._ready[index]])
        return np.asarray(self._images[indices]), self.params[indices]

    def _draw(self, missing: list[int]) -> None:
        chunks = [missing[start : start + RENDER_CHUNK] for start in range(0, len(missing), RENDER_CHUNK)]
        run = self._pool.map if self.workers else map
        with _without_ctrl_c():
            drawn = run(_render, [self.faces.seed] * len(chunks), chunks)
        for chunk, images in zip(chunks, drawn, strict=True):
            self._images[chunk] = images
            self._ready[chunk] = 1  # after the images: another process may read the same file

    def close(self) -> None:
        """Stop the rendering processes, if any were started."""
        if "_pool" in self.__dict__:
            self._pool.shutdown(cancel_futures=True)

    @cached_property
    def _pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self.workers, get_context("spawn"), initializer=_end_with_parent)

    def _store(self) -> tuple[np.ndarray, np.ndarray]:
        if self._cache is None:
            return np.zeros((self.size, *IMAGE_SHAPE), np.uint8), np.zeros(self.size, np.uint8)
        self._cache.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(self.faces.image(0).tobytes()).hexdigest()[:12]
        stem = f"faces-{self.faces.seed}-{self.size}-{digest}"
        return (
            _mapped(self._cache / f"{stem}.u8", (self.size, *IMAGE_SHAPE)),
            _mapped(self._cache / f"{stem}.ready", (self.size,)),
        )


class ListedSource:
    """3DDFA's training data: an image list (`train_aug_120x120.list.train`), the folder its lines are relative to,
    and the parameter file (`param_all_norm_v201.pkl`, whitened already) with one row per line.

    Everything but the pixels is checked here. Raises FileNotFoundError, or DatasetError naming file and line.
    """

    def __init__(self, image_list: Path, root: Path, param_file: Path) -> None:
        self.image_list, self.root = image_list, root
        self.names = _read_list(image_list)
        self.params = _read_params(param_file)
        _check_labels(self.params, param_file, image_list, len(self.names))
        _check_images(self.names, root, image_list)

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Images (N,120,120,3) uint8 BGR and whitened parameters (N,62) of lines `indices`, counted from 0."""
        return np.stack([self._image(int(index)) for index in indices]), self.params[indices]

    def _image(self, index: int) -> np.ndarray:
        path = self.root / self.names[index]
        image = cv2.imdecode(np.frombuffer(path.read_bytes() or b"?", np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise DatasetError(
                f"{self.image_list} line {index + 1}: {path} is not an image: remove this line and its row"
            )
        if image.shape != IMAGE_SHAPE:
            height, width = image.shape[:2]
            raise DatasetError(f"{self.image_list} line {index + 1}: {path} is {width}x{height}: crops are 120x120")
        return image


def listed_validation(source: ListedSource, arrays: MorphableArrays, count: int) -> Validation:
    """The first `count` faces of a held-out list, with landmarks and pose decoded from their parameters."""
    images, whitened = source.batch(np.arange(min(count, len(source))))
    params = dewhiten(whitened, arrays.param_mean, arrays.param_std).astype(np.float64)
    landmarks = vertices(params, arrays.u_base, arrays.w_shp_base, arrays.w_exp_base, SYNERGYNET_FRAME)
    return Validation(images, landmarks, euler_deg(params, SYNERGYNET_POSE))


def load_arrays(morphable: Path, whitening_file: Path) -> MorphableArrays:
    """Bases from a file that `read_morphable` takes, whitening from an .npz or .pkl (`param_mean` and
    `param_std`, or `mean` and `std`). Raises as `read_arrays`, or DatasetError naming what is missing.
    """
    whitening_values = read_arrays(whitening_file)
    bases = read_morphable([morphable])
    mean = _pick(whitening_values, ("param_mean", "mean"), whitening_file)
    std = _pick(whitening_values, ("param_std", "std"), whitening_file)
    names = ("u_base", "w_shp_base", "w_exp_base")
    u_base, w_shp_base, w_exp_base = (_pick(bases, (name,), morphable) for name in names)
    return MorphableArrays(mean[:PARAMS_USED], std[:PARAMS_USED], u_base, w_shp_base, w_exp_base)


def synthetic_arrays() -> MorphableArrays:
    """The procedural 3DMM's landmarks and the whitening of its sampler."""
    mean, std = whitening()
    bases = procedural_morphable().sparse()
    return MorphableArrays(mean, std, bases.u_base, bases.w_shp_base, bases.w_exp_base)


def synthetic_validation(seed: int, count: int, workers: int = 0) -> Validation:
    """`count` faces of `SyntheticFaces(seed)`. Use another seed than for training."""
    faces = SyntheticFaces(seed)
    labels = [faces.labels(index) for index in range(count)]
    source = SyntheticSource(seed, count, workers=workers)
    images, _ = source.batch(np.arange(count))
    source.close()
    landmarks = np.stack([label.landmarks for label in labels])
    return Validation(images, landmarks, np.stack([label.euler_deg for label in labels]))


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Processes that are started in the block do not receive Ctrl-C: they end with this one, without tracebacks."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _end_with_parent() -> None:
    """End this rendering process when its parent is killed; otherwise it would wait for work forever."""

    def wait() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    Thread(target=wait, daemon=True).start()


def _render(seed: int, indices: list[int]) -> np.ndarray:
    return SyntheticFaces(seed).batch(indices).images


def _read_list(path: Path) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f"no image list at {path}")
    names = [line.strip() for line in path.read_text().splitlines()]
    while names and not names[-1]:
        names.pop()
    if "" in names:
        raise DatasetError(f"{path} line {names.index('') + 1} is empty: remove it")
    if not names:
        raise DatasetError(f"{path} lists no image")
    return names


def _read_params(path: Path) -> np.ndarray:
    if not path.is_file():
        raise FileNotFoundError(f"no parameter file at {path}")
    value = _read_npy(path) if path.suffix == ".npy" else read_numpy_pickle(path)
    if not isinstance(value, np.ndarray) or value.ndim != 2 or value.shape[1] < PARAMS_USED:
        found = value.shape if isinstance(value, np.ndarray) else type(value).__name__
        raise DatasetError(f"{path} holds {found}: it must be an array of one row of 62 or more numbers per image")
    return np.ascontiguousarray(value[:, :PARAMS_USED], np.float32)


def _read_npy(path: Path) -> np.ndarray:
    try:
        return read_npy(read_file(path))
    except (ValueError, OSError) as error:
        raise DatasetError(f"{path} {error}") from None


def _check_labels(params: np.ndarray, param_file: Path, image_list: Path, lines: int) -> None:
    if len(params) != lines:
        raise DatasetError(
            f"{param_file} has {len(params)} rows but {image_list} {lines} lines: give files of equal length"
        )
    broken = np.flatnonzero(~np.isfinite(params).all(axis=1))
    if broken.size:
        row = int(broken[0]) + 1
        raise DatasetError(
            f"{param_file} row {row} ({image_list} line {row}) is not finite, "
            f"{broken.size} such rows in all: remove them from both files"
        )


def _check_images(names: list[str], root: Path, image_list: Path) -> None:
    missing = [line for line, name in enumerate(names, start=1) if not (root / name).is_file()]
    if missing:
        path = root / names[missing[0] - 1]
        raise DatasetError(
            f"{image_list} line {missing[0]}: no image {path}, {len(missing)} missing in all: "
            "give the folder that the list's names are relative to"
        )


def _pick(values: Mapping[str, np.ndarray], names: tuple[str, ...], path: Path) -> np.ndarray:
    for name in names:
        if name in values:
            return np.asarray(values[name], np.float32)
    raise DatasetError(f"{path} lacks {' or '.join(names)}: give the file that holds it")


def _mapped(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    if not path.exists() or path.stat().st_size != int(np.prod(shape)):
        with whole_file(path, durable=False) as temporary, write_errors(path), temporary.open("wb") as stream:
            stream.truncate(int(np.prod(shape)))
            if hasattr(os, "posix_fallocate"):  # otherwise a full disk kills the process later
                os.posix_fallocate(stream.fileno(), 0, int(np.prod(shape)))
    return np.memmap(path, np.uint8, "r+", shape=shape)
