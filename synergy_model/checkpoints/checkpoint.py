"""Strict saving and loading of SynergyNet checkpoints, which name their architecture and convention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor

from synergy.runtime.files import TemporaryFolder, whole_file, write_errors
from synergy.runtime.formats.file_kinds import CHECKPOINT, HEAD_BYTES, file_kind, mismatch
from synergy.synergy_model.checkpoints.ckpt_file import CkptFileError, parse_ckpt
from synergy.synergy_model.synergynet import SynergyNet

SUFFIX = ".ckpt"
DENSE_PREFIX = "dense."  # the dense mesh is stored beside the network's parameters: it is not part of the Cell
DENSE_KEYS = ("u", "w_shp", "w_exp", "triangles")
MAX_BYTES = 2 << 30  # MindSpore writes no larger ones
LISTED = 8  # problems shown per kind before "... and N more"


class CheckpointError(ValueError):
    """A checkpoint cannot be read, or does not fit the network it names."""


@dataclass(frozen=True)
class DenseMorphable:
    """Dense 3DMM, x, y, z interleaved: u (3V,1), w_shp (3V,40), w_exp (3V,10), triangles (T,3) int32, 0-based.

    `triangles` has no rows where the source gave none.
    """

    u: np.ndarray
    w_shp: np.ndarray
    w_exp: np.ndarray
    triangles: np.ndarray


@dataclass(frozen=True)
class Checkpoint:
    """A network with weights, and the dense basis if the file has one."""

    network: SynergyNet
    dense: DenseMorphable | None


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a `.ckpt` whole or not at all. Raises CheckpointError for another suffix: MindSpore reads no other."""
    if path.suffix != SUFFIX:
        raise CheckpointError(f"{path} does not end in {SUFFIX}: MindSpore could not read it again")
    network = checkpoint.network
    entries = [{"name": name, "data": param} for name, param in network.parameters_and_names()]
    if checkpoint.dense is not None:
        for key in DENSE_KEYS:
            array = np.ascontiguousarray(getattr(checkpoint.dense, key))
            if array.size:  # MindSpore stores no empty tensors
                entries.append({"name": DENSE_PREFIX + key, "data": Tensor(array)})
    about = {
        "arch": network.arch,
        "convention": network.morphable.convention,
        "refiner": network.refiner is not None,
        "regressor": network.regressor is not None,
    }
    write_parameters(path, entries, about)


def write_parameters(path: Path, entries: list[dict[str, Any]], about: dict[str, Any]) -> None:
    """Write MindSpore's checkpoint file, whole or not at all. Raises FileWriteError."""
    with write_errors(path), whole_file(path) as temporary:
        with TemporaryFolder(".ckpt-", temporary.parent) as folder:  # MindSpore leaves its own temporary file there
            saved = Path(folder) / f"new{SUFFIX}"
            ms.save_checkpoint(entries, str(saved), append_dict=about)
            saved.replace(temporary)
        temporary.chmod(0o644)


def load_checkpoint(path: Path) -> Checkpoint:
    """Build the network that a `.ckpt` names and set all its parameters.

    Raises FileNotFoundError, or CheckpointError listing every missing, unexpected and misshaped key.
    """
    stored = read_parameters(path)
    about = {key: stored.pop(key, None) for key in ("arch", "convention", "refiner", "regressor")}
    if any(value is None for value in about.values()):
        raise CheckpointError(
            f"{path} does not say which architecture it holds: make it with `synergy convert` or `synergy train`"
        )
    dense = _pop_dense(stored)
    try:
        arch, convention = str(about["arch"]), str(about["convention"])
        network = SynergyNet(arch, convention, bool(about["refiner"]), bool(about["regressor"]))
    except ValueError as error:
        raise CheckpointError(f"{path} is for another version of this program: {error}") from None
    fill(network, {name: value for name, value in stored.items() if isinstance(value, np.ndarray)}, source=str(path))
    return Checkpoint(network, dense)


def fill(network: SynergyNet, weights: Mapping[str, np.ndarray], source: str) -> None:
    """Set every parameter of `network` from `weights`, or raise CheckpointError and change nothing."""
    expected = dict(network.parameters_and_names())
    problems = compare(
        {name: tuple(param.shape) for name, param in expected.items()},
        {name: tuple(array.shape) for name, array in weights.items()},
    )
    with np.errstate(over="ignore"):
        values = {name: np.array(array, np.float32, order="C") for name, array in weights.items()}
    broken = [name for name, value in values.items() if not np.isfinite(value).all()]
    if broken:
        problems.append(_listed("not finite", broken))
    if problems:
        raise CheckpointError(f"{source} does not fit {network.arch}: " + "; ".join(problems))
    for name, param in expected.items():
        param.set_data(Parameter(Tensor(values[name]), name=name, requires_grad=param.requires_grad))


def check_whitening(std: np.ndarray, source: str) -> None:
    """Raise CheckpointError unless all deviations are above 0: with 0 a parameter is the same for all faces."""
    if not (std > 0).all():
        raise CheckpointError(
            f"the whitening for {source} has a standard deviation that is not above 0: "
            "convert it with another --whitening"
        )


def compare(expected: Mapping[str, tuple[int, ...]], given: Mapping[str, tuple[int, ...]]) -> list[str]:
    """All differences between two sets of named shapes, one entry per kind, empty when they agree."""
    missing = [name for name in expected if name not in given]
    unexpected = [name for name in given if name not in expected]
    misshaped = [
        f"{name} {given[name]} instead of {shape}"
        for name, shape in expected.items()
        if name in given and given[name] != shape
    ]
    kinds = (("missing", missing), ("unexpected", unexpected), ("misshaped", misshaped))
    return [_listed(kind, names) for kind, names in kinds if names]


def _listed(kind: str, names: list[str]) -> str:
    more = f" ... and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{len(names)} {kind}: {', '.join(names[:LISTED])}{more}"


def read_parameters(path: Path) -> dict[str, np.ndarray | str]:
    """The entries of a `.ckpt` file. Raises FileNotFoundError, or CheckpointError if it is no checkpoint or damaged."""
    if not path.is_file():
        if path.exists() and not path.is_dir():
            raise CheckpointError(f"{path} is not a regular file: give a checkpoint")
        raise FileNotFoundError(f"no checkpoint at {path}" + (": that is a folder" if path.is_dir() else ""))
    if path.stat().st_size > MAX_BYTES:
        raise CheckpointError(f"{path} has more than {MAX_BYTES >> 30} GB: it is not a checkpoint of this program")
    data = path.read_bytes()
    if file_kind(data[:HEAD_BYTES]) not in (None, CHECKPOINT):
        raise CheckpointError(f"{path} {mismatch(data[:HEAD_BYTES], CHECKPOINT.name)}")
    try:
        return parse_ckpt(data)
    except CkptFileError as error:
        raise CheckpointError(f"{path} {error}: copy it again, or make it again") from None


def _pop_dense(stored: dict[str, np.ndarray | str]) -> DenseMorphable | None:
    parts = {key: stored.pop(DENSE_PREFIX + key, None) for key in DENSE_KEYS}
    if all(part is None for part in parts.values()):
        return None
    absent = [key for key, part in parts.items() if part is None and key != "triangles"]
    if absent:
        raise CheckpointError(f"the dense basis lacks {', '.join(absent)}: convert the checkpoint again")
    arrays = {key: part for key, part in parts.items() if isinstance(part, np.ndarray)}
    return DenseMorphable(**{"triangles": np.zeros((0, 3), np.int32), **arrays})
