"""The log of a training run: one JSON object per step, in step order, also after a resume."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synergy.runtime.files import write_file
from synergy.synergy_model.training.options import Progress


@dataclass(frozen=True)
class LogEntry:
    """`nme` (percent) and `mae` (degrees) are None at steps without validation."""

    step: int
    loss: float
    rate: float
    nme: float | None
    mae: float | None


def append(path: Path, progress: Progress) -> None:
    """Append one step."""
    with path.open("a") as stream:
        stream.write(json.dumps(_record(progress)) + "\n")


def read(path: Path, last_step: int) -> list[LogEntry]:
    """The steps up to `last_step`; later ones were not saved and are repeated. Empty without a file."""
    return [
        LogEntry(record["step"], record["loss"], record["rate"], record.get("nme"), record.get("mae"))
        for record in _records(path)
        if record["step"] <= last_step
    ]


def truncate(path: Path, last_step: int) -> None:
    """Remove the steps after `last_step`, and a line left incomplete when the process was killed."""
    kept = [json.dumps(record) + "\n" for record in _records(path) if record["step"] <= last_step]
    write_file(path, "".join(kept).encode())


def _record(progress: Progress) -> dict[str, Any]:
    record: dict[str, Any] = {
        "step": progress.step,
        "loss": round(progress.loss, 6),
        "terms": [round(term, 5) for term in progress.terms],
        "gradient_norm": round(progress.gradient_norm, 5),
        "rate": progress.rate,
        "seconds": round(progress.seconds, 3),
        "skipped": progress.skipped,
    }
    if progress.validation is not None:
        accuracy = progress.validation
        bins: Sequence[float] = [round(entry.mean, 4) for entry in accuracy.bins]
        record |= {"nme": round(accuracy.nme, 4), "nme_bins": bins, "mae": round(accuracy.mae, 4)}
        record["mae_yaw_pitch_roll"] = [round(angle, 4) for angle in accuracy.mae_deg]
    return record


def _records(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break  # an incomplete line, left by a killed process, is the last one
    return records
