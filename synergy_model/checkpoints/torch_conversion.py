"""Convert official PyTorch checkpoints: every key is renamed, supplied by an option, or reported."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synergy.synergy_model.checkpoints.array_files import ArrayFileError, read_arrays
from synergy.synergy_model.checkpoints.checkpoint import (
    Checkpoint,
    CheckpointError,
    DenseMorphable,
    check_whitening,
    fill,
)
from synergy.synergy_model.checkpoints.morphable_files import (
    DENSE_KEYS,
    DENSE_WIDTHS,
    SPARSE_KEYS,
    TRIANGLES,
    faces,
    float32,
    read_morphable,
)
from synergy.synergy_model.checkpoints.torch_pickle import read_state_dict
from synergy.synergy_model.landmark_networks import REFINER_POOLED_DIM
from synergy.synergy_model.synergynet import SynergyNet

Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class Source:
    """One family of official files.

    marks: keys that no other family has. head: key of a linear layer's weight whose width must be `pooled_dim`, where
    families differ in their width only.
    """

    arch: str
    convention: str
    marks: tuple[str, ...]
    pooled_dim: int
    backbone_prefix: str
    landmark_networks: bool = False  # whether its training code has MLP_for and MLP_rev
    head: str = ""

    def fits(self, state: Mapping[str, np.ndarray]) -> bool:
        """Whether the keys are those of this family."""
        known = all(mark in state for mark in self.marks)
        return known and (not self.head or (self.head in state and state[self.head].shape[1:2] == (self.pooled_dim,)))


MOBILENET_V1_MARK = "dw2_1.conv_dw.weight"


def _mobilenet_v1(arch: str, convention: str, pooled_dim: int, head: str) -> Source:
    return Source(arch, convention, (MOBILENET_V1_MARK,), pooled_dim, "", head=head)


def _synergynet(arch: str, pooled_dim: int, *marks: str) -> Source:
    prefix = "I2P.backbone."
    return Source(arch, "synergynet", tuple(prefix + mark for mark in marks), pooled_dim, prefix, True)


# ResNets differ in the number of blocks alone: the last block of stage 3, and its third convolution, tell them apart
SOURCES = (
    _synergynet("mobilenet_v2", 1280, "features.18.0.weight"),
    _synergynet("mobilenet_1", 1024, MOBILENET_V1_MARK),
    _synergynet("ghostnet", 1280, "conv_stem.weight", "conv_head.weight"),
    _synergynet("resnest50", 2048, "layer1.0.conv2.bn0.weight"),
    _synergynet("resnet152", 2048, "layer3.35.conv3.weight"),
    _synergynet("resnet101", 2048, "layer3.22.conv3.weight"),
    _synergynet("resnet50", 2048, "layer3.5.conv3.weight"),
    _synergynet("resnet34", 512, "layer3.5.conv2.weight"),
    _synergynet("resnet18", 512, "layer3.1.conv2.weight"),
    _mobilenet_v1("mb05", "3ddfa_v2", 512, "fc_param.weight"),
    _mobilenet_v1("mb05", "3ddfa_v2", 512, "fc.weight"),  # as upstream's code names the layer when it saves again
    _mobilenet_v1("mb1", "3ddfa_v2", 1024, "fc_param.weight"),
    _mobilenet_v1("mb1", "3ddfa", 1024, "fc.weight"),  # the first version: phase1_wpdc_vdc.pth.tar
    Source("resnet22", "3ddfa_v2", ("layer3.2.conv2.weight", "conv_param.weight"), 512, ""),
)

# Written by PyTorch or by the official training code, not needed here.
IGNORED = re.compile(r"\.num_batches_tracked$|^(?:fc|conv)_lm\.")

RENAMES = (
    (re.compile(r"^forwardDirection\.(conv|bn)([1-5])\."), r"refiner.trunk.layer\2.\1."),
    (re.compile(r"^forwardDirection\.(conv|bn)([6-9])\."), r"refiner.layer\2.\1."),
    (re.compile(r"^reverseDirection\.(conv|bn)([1-5])\."), r"regressor.trunk.layer\2.\1."),
    (re.compile(r"^reverseDirection\.(conv|bn)6_1\."), r"regressor.camera.\1."),
    (re.compile(r"^reverseDirection\.(conv|bn)6_2\."), r"regressor.shape.\1."),
    (re.compile(r"^reverseDirection\.(conv|bn)6_3\."), r"regressor.expression.\1."),
    (re.compile(r"^(param_mean|param_std|u_base|w_shp_base|w_exp_base)$"), r"morphable.\1"),
    (re.compile(r"^backbone\.(dw\d_\d|dw6)\."), r"backbone.blocks.\1."),
    (re.compile(r"^backbone\.(?:fc|conv_param)\."), r"backbone.heads.layers.fc_param."),
    (re.compile(r"^backbone\.(fc_\w+)\."), r"backbone.heads.layers.\1."),
    (re.compile(r"^backbone\.(classifier_\w+)\.(weight|bias)$"), r"backbone.heads.layers.\1.\2"),
)
BATCH_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}

WHITENING_KEYS = (("param_mean", "param_std"), ("mean", "std"))


@dataclass(frozen=True)
class Conversion:
    """The converted checkpoint and one line for everything that was left out or added."""

    checkpoint: Checkpoint
    notes: tuple[str, ...]


def convert_checkpoint(
    source: Path,
    arch: str | None = None,
    whitening: Path | None = None,
    morphable: Path | Sequence[Path] | None = None,
) -> Conversion:
    """Read an official `.pth`/`.pth.tar` and fill a network with it. `morphable`: files as `read_morphable` takes.

    Raises TorchFileError for a file that is damaged or not plain tensors, CheckpointError listing all
    missing, unexpected and misshaped keys, or naming the option that supplies what the file lacks.
    """
    state = {key: value for key, value in read_state_dict(source).items() if not IGNORED.search(key)}
    family = _identify(state, arch, source)
    notes: list[str] = []
    _supply(state, _read_whitening(whitening), "--whitening", source)
    extra = _read_morphable([morphable] if isinstance(morphable, Path) else morphable or ())
    _supply(state, {key: extra[key] for key in (*SPARSE_KEYS, *DENSE_KEYS) if key in extra}, "--morphable", source)
    _require(state, source)
    dense = _take_dense(state, extra.get(TRIANGLES), notes)
    refiner = regressor = False
    if family.landmark_networks:
        refiner_fits = family.pooled_dim == REFINER_POOLED_DIM
        refiner = _take_part(state, "forwardDirection.", "landmark refiner", refiner_fits, notes)
        regressor = _take_part(state, "reverseDirection.", "landmark regressor", True, notes)
    network = SynergyNet(family.arch, family.convention, refiner, regressor)
    fill(network, _rename(state, family), source=str(source))
    return Conversion(Checkpoint(network, dense), tuple(notes))


def _identify(state: Mapping[str, np.ndarray], arch: str | None, source: Path) -> Source:
    names = ", ".join(family.arch for family in SOURCES)
    if arch is not None and arch not in {family.arch for family in SOURCES}:
        raise CheckpointError(f"unknown architecture {arch!r}: use one of {names}")
    candidates = [family for family in SOURCES if arch in (None, family.arch)]
    fitting = [family for family in candidates if family.fits(state)]
    if fitting or arch is not None:
        return (fitting or candidates)[0]
    raise CheckpointError(
        f"the keys of {source} fit none of the known architectures ({names}); "
        f"they begin {', '.join(list(state)[:3])}. Give --arch to see what differs"
    )


def _rename(state: Mapping[str, np.ndarray], family: Source) -> Weights:
    norms = {key.removesuffix(".running_mean") for key in state if key.endswith(".running_mean")}
    renamed = {}
    for key, value in state.items():
        module, _, leaf = key.rpartition(".")
        name = f"{module}.{BATCH_NORM[leaf]}" if module in norms else key
        name = _module_name(name, family)
        if value.ndim == 3:  # a 1-D convolution over points, a 2-D one here
            value = value[..., None]
        elif key == "conv_param.weight":  # a 1x1 convolution, a linear layer here
            value = value.reshape(value.shape[:2]) if value.shape[2:] == (1, 1) else value
        renamed[name] = value
    return renamed


def _module_name(key: str, family: Source) -> str:
    outside = ("forwardDirection.", "reverseDirection.")
    if "." in key and not key.startswith(outside) and key.startswith(family.backbone_prefix):
        key = "backbone." + key.removeprefix(family.backbone_prefix)
    for pattern, replacement in RENAMES:
        key = pattern.sub(replacement, key)
    return key


def _supply(state: Weights, extra: Weights, option: str, source: Path) -> None:
    """Add what the checkpoint lacks, or has with values that overflowed in half precision.

    Raises CheckpointError where it has another value.
    """
    for key, value in extra.items():
        own = state.get(key)
        if own is not None and np.isfinite(own).all() and not np.array_equal(own, value):
            raise CheckpointError(f"{source} carries its own {key}, and {option} gives another: leave {option} out")
        state[key] = value


def _require(state: Weights, source: Path) -> None:
    if "param_mean" not in state or "param_std" not in state:
        raise CheckpointError(f"{source} carries no whitening: give --whitening FILE (param_mean and param_std)")
    absent = [key for key in SPARSE_KEYS if key not in state]
    if absent:
        raise CheckpointError(f"{source} carries no {', '.join(absent)}: give --morphable FILE.npz with them")
    check_whitening(state["param_std"], str(source))


def _take_part(state: Weights, prefix: str, title: str, fits: bool, notes: list[str]) -> bool:
    """Whether a training-only part is there; one that cannot be used is removed and reported."""
    keys = [key for key in state if key.startswith(prefix)]
    if not keys:
        notes.append(f"{title}: not in the file, so the checkpoint has none")
    elif not fits:
        notes.append(f"{title}: left out, its {REFINER_POOLED_DIM}-d image features do not fit this backbone")
        for key in keys:
            del state[key]
    return bool(keys) and fits


def _take_dense(state: Weights, triangles: np.ndarray | None, notes: list[str]) -> DenseMorphable | None:
    parts = {key: state.pop(key) for key in DENSE_KEYS if key in state}
    if len(parts) < len(DENSE_KEYS):
        absent = ", ".join(key for key in DENSE_KEYS if key not in parts)
        notes.append(f"dense mesh: left out, {absent} not in the file (give --morphable FILE.npz for meshes)")
        return None
    rows = parts["u"].size
    wrong = [f"{key} {parts[key].shape}" for key, width in DENSE_WIDTHS.items() if parts[key].shape != (rows, width)]
    if wrong or rows % 3:
        raise CheckpointError(f"the dense basis is inconsistent ({', '.join(wrong) or f'{rows} rows'}): need (3V, n)")
    dense = {key: part.astype(np.float32) for key, part in parts.items()}
    broken = [key for key, part in dense.items() if not np.isfinite(part).all()]
    if broken:
        raise CheckpointError(f"the dense basis is not finite: {', '.join(broken)}")
    if triangles is None:
        notes.append("dense mesh: no triangles given, meshes will be point clouds")
        triangles = np.zeros((0, 3), np.int32)
    try:
        return DenseMorphable(**dense, triangles=faces(triangles, rows // 3))
    except ValueError as error:
        raise CheckpointError(str(error)) from None


def _read_whitening(path: Path | None) -> Weights:
    if path is None:
        return {}
    try:
        content = read_arrays(path)
        for keys in WHITENING_KEYS:
            if all(key in content for key in keys):
                mean, std = (float32(content[key], key, path).reshape(-1) for key in keys)
                return {"param_mean": mean, "param_std": std}
    except ArrayFileError as error:
        raise CheckpointError(str(error)) from None
    raise CheckpointError(f"{path} holds {', '.join(content)[:200]}: need param_mean and param_std, or mean and std")


def _read_morphable(paths: Sequence[Path]) -> Weights:
    try:
        return read_morphable(paths)
    except ArrayFileError as error:
        raise CheckpointError(str(error)) from None
