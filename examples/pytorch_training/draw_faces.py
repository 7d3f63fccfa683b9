"""Draw synthetic faces with all processor cores into files that `train.py` reads meanwhile.

    python draw_faces.py faces --count 600000 --seed 1 --wide 0.5

Writes FOLDER/images.u8 (count,120,120,3) uint8 BGR, FOLDER/params.f32 (count,62) float32 unwhitened and FOLDER/ready.u8
(count,) uint8, 1 where a face is complete. A stopped call goes on where it ended. PyTorch is not needed.
"""

from __future__ import annotations

import argparse
import math
import os

# One thread per process, set before NumPy is imported: there is one process per core.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import time
from multiprocessing import get_context
from pathlib import Path

import cv2
from face_files import create_files, open_files

from synergy.synergy_model.synthetic.distribution import STANDARD, WIDE, Distribution
from synergy.synergy_model.synthetic.faces import HEADS_AT_ONCE, SyntheticFaces


def draw_share(folder: Path, seed: int, wide: float, worker: int, workers: int) -> None:
    """Every `workers`-th group of faces, from group `worker` on; groups that are complete already are skipped."""
    cv2.setNumThreads(1)
    files = open_files(folder, "r+")
    for start in range(worker * HEADS_AT_ONCE, len(files.ready), workers * HEADS_AT_ONCE):
        group = slice(start, min(start + HEADS_AT_ONCE, len(files.ready)))
        if files.ready[group].all():
            continue
        faces = SyntheticFaces(seed, distribution_of(start, wide))
        drawn = faces.batch(range(group.start, group.stop))
        files.images[group], files.params[group] = drawn.images, drawn.params
        files.ready[group] = 1  # last: the training process may read at any time


def distribution_of(index: int, wide: float) -> Distribution:
    """The distribution of face `index` where a share `wide` of the groups is of the wide one."""
    group = index // HEADS_AT_ONCE
    return WIDE if math.ceil((group + 1) * wide) > math.ceil(group * wide) else STANDARD


def main() -> None:
    """Start the processes and print the number of complete faces every ten seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder for the files; 43 kB per face")
    parser.add_argument("--count", type=int, default=600_000, help="number of faces (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the faces (default: %(default)s)")
    parser.add_argument("--wide", type=float, default=0.0, help="share of more difficult faces (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: %(default)s)")
    chosen = parser.parse_args()
    try:
        files = create_files(chosen.folder, chosen.count, chosen.seed, chosen.wide)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
    context = get_context("spawn")
    processes = [
        context.Process(target=draw_share, args=(chosen.folder, chosen.seed, chosen.wide, worker, chosen.workers))
        for worker in range(chosen.workers)
    ]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        time.sleep(min(10.0, chosen.count / 100))
        print(f"{int(files.ready.sum())} of {chosen.count} faces", flush=True)
    if any(process.exitcode for process in processes):
        raise SystemExit("a drawing process failed: see its message above, then start the same command again")


if __name__ == "__main__":
    main()
