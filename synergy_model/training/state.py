"""The saved state of a training run, to resume it exactly: weights, optimiser, step and best NME."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Parameter, Tensor

from synergy.runtime.text import first_line
from synergy.synergy_model.checkpoints.checkpoint import CheckpointError, compare, read_parameters, write_parameters


@dataclass(frozen=True)
class TrainingState:
    """`step`: steps done; `skipped`: how many of them had no finite gradient; `best_nme`: percent, the lowest so
    far; `identity`: the options that determine the finished steps, as JSON.
    """

    step: int
    skipped: int
    best_nme: float
    identity: str


def save_state(path: Path, state: TrainingState, parameters: Sequence[Parameter]) -> None:
    """Write a state to resume from; an earlier one is replaced only by a complete file."""
    entries = [{"name": parameter.name, "data": parameter} for parameter in parameters]
    write_parameters(path, entries, _storable(state))


def load_state(path: Path, identity: str, parameters: Sequence[Parameter]) -> TrainingState:
    """Fill `parameters` from `path`. Raises CheckpointError when it is damaged or another run's state."""
    try:
        stored = read_parameters(path)
        step, skipped, best_nme = int(stored.pop("step")), int(stored.pop("skipped")), float(stored.pop("best_nme"))
        state = TrainingState(step, skipped, best_nme, str(stored.pop("identity")))
        saved = _flat(json.loads(state.identity))
    except (FileNotFoundError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be resumed ({first_line(error)}): remove it to start again") from None
    if state.identity != identity:
        raise CheckpointError(
            f"{path} is of a run with other options (saved -> given: "
            f"{_differences(saved, _flat(json.loads(identity)))}): give the saved options, or another folder"
        )
    _fill(parameters, stored, path)
    return state


def _flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Options by dotted name, their values as JSON."""
    flat: dict[str, str] = {}
    for name, value in options.items():
        inner = _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: json.dumps(value)}
        flat.update(inner)
    return flat


def _differences(saved: Mapping[str, str], given: Mapping[str, str]) -> str:
    names = [name for name in sorted({*saved, *given}) if saved.get(name) != given.get(name)]
    return ", ".join(f"{name}: {saved.get(name, 'not set')} -> {given.get(name, 'not set')}" for name in names)


def _fill(parameters: Sequence[Parameter], stored: Mapping[str, np.ndarray | str], path: Path) -> None:
    problems = compare(
        {parameter.name: tuple(parameter.shape) for parameter in parameters},
        {name: np.shape(value) for name, value in stored.items()},
    )
    if problems:
        raise CheckpointError(f"{path} does not fit this run: " + "; ".join(problems))
    for parameter in parameters:
        # a copy, because the optimiser writes in place
        parameter.set_data(Tensor(np.array(stored[parameter.name]), parameter.dtype))


def _storable(state: TrainingState) -> dict[str, Any]:
    return asdict(state) | {"best_nme": repr(state.best_nme)}  # as text: a checkpoint rounds numbers to float32
