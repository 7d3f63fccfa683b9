"""Measure what opening and closing an aligner leaves behind: descriptors, threads, child processes, memory.

    python -m tests.runtime.open_close_cycles BUNDLE [CYCLES]

runs every engine, in this process and isolated, each in a process of its own.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synergy.runtime.aligner import FaceAligner
from synergy.runtime.engines import ENGINES, available

WARM_UP = 5  # cycles: libraries are loaded and pools filled once


@dataclass(frozen=True)
class Usage:
    """What this process holds."""

    descriptors: int
    threads: int  # of Python and of native libraries
    children: int
    memory_mb: float

    @classmethod
    def now(cls) -> Usage:
        gc.collect()
        threads = list(Path("/proc/self/task").iterdir())
        children = sum(len((thread / "children").read_text().split()) for thread in threads)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        memory_mb = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
        return cls(
            len(list(Path("/proc/self/fd").iterdir())), max(len(threads), threading.active_count()), children, memory_mb
        )

    def growth_since(self, before: Usage) -> Usage:
        return Usage(*(now - then for now, then in zip(vars(self).values(), vars(before).values(), strict=True)))


def growth(bundle: Path | None, engine: str, isolated: bool, cycles: int, warm_up: int = WARM_UP) -> Usage:
    """What `cycles` times opening, one run and closing add, after a few for warming up."""
    crop = np.zeros((1, 120, 120, 3), np.uint8)

    def cycle() -> None:
        with FaceAligner.load(bundle, engine=engine, threads=1, isolated=isolated) as aligner:
            aligner.predict(crop)

    for _ in range(warm_up):
        cycle()
    before = Usage.now()
    for _ in range(cycles):
        cycle()
    return Usage.now().growth_since(before)


def main() -> None:
    bundle, cycles = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "200"
    if len(sys.argv) > 3:
        engine, place = sys.argv[3:]
        print(engine, place, growth(bundle, engine, place == "isolated", int(cycles)), flush=True)
        return
    for engine in (name for name in ENGINES if available(name).ok):
        for place in ("inside", "isolated"):
            subprocess.run([sys.executable, "-m", __spec__.name, str(bundle), cycles, engine, place], check=True)


if __name__ == "__main__":
    main()
