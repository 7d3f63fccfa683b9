"""Pictures of one `synergy infer`: by this process, by workers here, or by workers on a Ray cluster."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import msgspec

from synergy.runtime.commands.interrupt import INTERRUPTED, interruptible
from synergy.runtime.commands.progress import print_record, tracked
from synergy.runtime.detection.install import find_yunet
from synergy.runtime.inference.journal import Journal
from synergy.runtime.inference.pictures import InferOptions, PictureJob, infer_pictures, parts_of, picture_jobs
from synergy.runtime.inference.records import ImageRecord
from synergy.runtime.inference.worker import POOL_BATCH, WorkerSetup, default_workers
from synergy.runtime.manifest import MANIFEST_NAME, PACKAGE

POOL_FROM = 8  # pictures; workers take a third of a second to start


@dataclass(frozen=True)
class PictureRun:
    """workers: None for as many as cores where that pays. ray: a cluster's address, None for this machine alone.
    json_file: the report, None for none."""

    setup: WorkerSetup
    options: InferOptions
    workers: int | None = None
    ray: str | None = None
    json_file: Path | None = None


def run_pictures(run: PictureRun, paths: Sequence[Path]) -> int:
    """The exit status: 0, 1 if a picture failed, 130 if it was interrupted."""
    jobs = picture_jobs(paths, run.options)
    workers, setup = plan_workers(run, len(jobs))
    with _journal(run, setup.options.compute_precision, jobs) as journal, interruptible() as interrupted:
        parts = [part for part in parts_of(jobs) if journal is None or not _is_done(part, journal)]
        left, failed = sum(len(part) for part in parts), 0
        if left < len(jobs):
            print(f"{len(jobs) - left} of {len(jobs)} pictures were done before")
        with _records(setup, workers, run.ray, parts) as records:
            for record in tracked(records, "pictures", left):
                if journal is not None:
                    journal.add(record)
                print_record(record)
                left, failed = left - 1, failed + bool(record.error)
                if interrupted.is_set() and left:
                    return _stopped(left, len(jobs), journal)
        if journal is not None:
            journal.finish()
    who = ", on Ray" if run.ray else f", {workers} workers" if workers != 1 else ""
    unverified = ", NOT verified" if setup.verify is False and setup.device != "cpu" else ""
    print(f"{setup.artifact} on {setup.label}, {setup.device}{who}{unverified}")
    return 1 if failed else 0


def plan_workers(run: PictureRun, pictures: int) -> tuple[int | None, WorkerSetup]:
    """How many workers, 1 for this process itself, None for as many as a cluster has; and what each opens."""
    threads, workers = run.setup.threads, run.workers
    if run.setup.options.affinity and (run.ray is not None or (workers or 1) > 1):
        raise ValueError("--affinity binds the threads of one engine, not of several workers: say --workers 1")
    if run.ray is not None:  # its nodes may not compute in what this machine does
        options = replace(run.setup.options, precision=run.setup.options.compute_precision)
        return workers, replace(run.setup, threads=threads or 1, options=options).resolved(POOL_BATCH)
    if workers is None:
        is_free = run.setup.device == "cpu" and not run.setup.options.affinity  # whoever binds threads wants one engine
        pays = is_free and pictures >= POOL_FROM
        workers = min(default_workers(threads or 1), pictures) if pays else 1
    if workers > 1 and threads is None:
        threads = max(1, default_workers() // workers)
    return workers, replace(run.setup, threads=threads).resolved(1 if workers == 1 else POOL_BATCH)


@contextmanager
def _records(
    setup: WorkerSetup, workers: int | None, ray: str | None, parts: Sequence[Sequence[PictureJob]]
) -> Iterator[Iterator[ImageRecord]]:
    if not parts:
        yield iter(())
    elif ray is not None:
        from synergy.runtime.inference.ray_pool import ray_pool

        with ray_pool(setup, ray, workers) as pool:
            yield pool.infer(parts)
    elif workers == 1:
        with setup.open() as aligner:
            yield (record for part in parts for record in infer_pictures(aligner, part))
    else:
        from synergy.runtime.inference.face_pool import FacePool
        from synergy.runtime.inference.local_worker import LocalWorker

        with FacePool(setup, LocalWorker, workers or default_workers()) as pool:
            yield pool.infer(parts)


def _journal(
    run: PictureRun, compute_precision: str, jobs: Sequence[PictureJob]
) -> AbstractContextManager[Journal | None]:
    names = [str(job.path) for job in jobs]
    return nullcontext() if run.json_file is None else Journal(run.json_file, _key(run, compute_precision), names)


def _key(run: PictureRun, compute_precision: str) -> str:
    """What records depend on besides their picture: what was asked for, and not who computes it; but in what."""
    setup, boxes, out = run.setup, run.options.boxes, run.options.out
    model = find_yunet() if setup.detector == "auto" and setup.detector_model is None else setup.detector_model
    files = (model, setup.options.lite_config)
    parts = [
        version(PACKAGE).encode(),
        (setup.bundle / MANIFEST_NAME).read_bytes(),
        repr(replace(setup, bundle=Path(), threads=None)).encode(),
        repr((out and out.absolute(), run.options.mesh, compute_precision)).encode(),
        *(file.read_bytes() if file else b"" for file in files),
        b"" if boxes is None else msgspec.json.encode(boxes.entries),
    ]
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _is_done(part: Sequence[PictureJob], journal: Journal) -> bool:
    """Pictures that go through the engine together are done again together: so nothing depends on who was done."""
    return all(str(job.path) in journal.done for job in part)


def _stopped(left: int, total: int, journal: Journal | None) -> int:
    goes_on = "" if journal is None else "; the same command goes on from there"
    print(f"stopped: {total - left} of {total} pictures are done{goes_on}", file=sys.stderr)
    return INTERRUPTED
