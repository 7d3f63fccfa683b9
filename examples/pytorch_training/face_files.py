"""The memory-mapped files through which `draw_faces.py` passes faces to `train.py`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

SIDE, PARAMS = 120, 62
DESCRIPTION = "faces.json"


@dataclass(frozen=True)
class FaceFiles:
    """`images` (count,120,120,3) uint8 BGR, `params` (count,62) float32 unwhitened, `ready` (count,) uint8."""

    images: np.ndarray
    params: np.ndarray
    ready: np.ndarray


def create_files(folder: Path, count: int, seed: int, wide: float) -> FaceFiles:
    """New files full of zeros, or those of an earlier call. Raises ValueError if they hold other faces."""
    wanted = {"count": count, "seed": seed, "wide": wide}
    description = folder / DESCRIPTION
    folder.mkdir(parents=True, exist_ok=True)
    if not description.exists():
        for name, size in _sizes(count).items():
            with (folder / name).open("wb") as stream:
                stream.truncate(size)
        description.write_text(json.dumps(wanted))
    found = json.loads(description.read_text())
    if found != wanted:
        raise ValueError(f"{folder} holds {found}, not {wanted}: give the same numbers, or another folder")
    return open_files(folder, "r")


def open_files(folder: Path, mode: Literal["r", "r+"]) -> FaceFiles:
    """Map the files of `folder`. Raises FileNotFoundError if `draw_faces.py` has not created them."""
    if not (folder / DESCRIPTION).exists():
        raise FileNotFoundError(f"no faces in {folder}: run draw_faces.py first")
    count = json.loads((folder / DESCRIPTION).read_text())["count"]
    return FaceFiles(
        np.memmap(folder / "images.u8", np.uint8, mode, shape=(count, SIDE, SIDE, 3)),
        np.memmap(folder / "params.f32", np.float32, mode, shape=(count, PARAMS)),
        np.memmap(folder / "ready.u8", np.uint8, mode, shape=(count,)),
    )


def _sizes(count: int) -> dict[str, int]:
    return {"images.u8": count * SIDE * SIDE * 3, "params.f32": count * PARAMS * 4, "ready.u8": count}
