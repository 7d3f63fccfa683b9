"""`synergy infer` on images: in this process, in local worker processes, or on a Ray cluster."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from synergy import __version__
from synergy.runtime.detection.install import find_yunet
from synergy.runtime.files import TemporaryFolder, write_file
from synergy.runtime.inference.journal import Journal
from synergy.runtime.inference.pictures import InferOptions, PictureJob, infer_pictures, parts_of, picture_jobs
from synergy.runtime.inference.records import ImageRecord
from synergy.runtime.inference.worker import POOL_BATCH, WorkerSetup, default_workers
from synergy.runtime.manifest import MANIFEST_NAME
from synergy.runtime.specs import check_core_count
from synergy.runtime.terminal.interrupt import INTERRUPTED, interruptible
from synergy.runtime.terminal.output import write_report
from synergy.runtime.terminal.paths import STDOUT, is_device, refuse_inputs
from synergy.runtime.terminal.progress import print_record, tracked
from synergy.runtime.terminal.streams import print_line

POOL_FROM = 8  # images; for fewer, starting workers (0.3 s) costs more than it saves


@dataclass(frozen=True)
class PictureRun:
    """One run of the command.

    workers: None for one per core if there are enough images. ray: address of a cluster, None for this machine only.
    json_file: file of the report, `-` for stdout, None for no report.
    """

    setup: WorkerSetup
    options: InferOptions
    workers: int | None = None
    ray: str | None = None
    json_file: Path | None = None


def run_pictures(run: PictureRun, paths: Sequence[Path]) -> int:
    """The exit status: 0, 1 if a picture failed, 130 if it was interrupted."""
    if run.json_file is None or (run.json_file != STDOUT and not is_device(run.json_file)):
        return _run(run, paths, resumable=run.json_file is not None)
    with TemporaryFolder("synergy-") as folder:
        report = Path(folder) / "faces.json"
        code = _run(replace(run, json_file=report), paths, resumable=False)
        if report.is_file() and run.json_file == STDOUT:
            write_report(report.read_text() + "\n")
        elif report.is_file():
            write_file(run.json_file, report.read_bytes())
    return code


def _run(run: PictureRun, paths: Sequence[Path], resumable: bool) -> int:
    jobs = picture_jobs(paths, run.options)
    refuse_inputs([run.json_file], [job.overlay for job in jobs if job.overlay is not None])
    workers, setup = plan_workers(run, len(jobs))
    with _journal(run, setup.options.compute_precision, jobs, resumable) as journal, interruptible() as interrupted:
        parts = [part for part in parts_of(jobs) if journal is None or not _is_done(part, journal)]
        left, failed = sum(len(part) for part in parts), 0
        if left < len(jobs):
            print_line(f"{len(jobs) - left} of {len(jobs)} images were done before")
        with _records(setup, workers, run.ray, parts) as records:
            for record in tracked(records, "images", left):
                if journal is not None:
                    journal.add(record)
                print_record(record)
                left, failed = left - 1, failed + bool(record.error)
                if interrupted.is_set() and left:
                    return _stopped(left, len(jobs), resumable)
        if journal is not None:
            journal.finish()
    if failed and len(jobs) > 1:
        print_line(f"{failed} of {len(jobs)} images have no result, see the errors")
    where = ", on Ray" if run.ray else f", {workers} workers" if workers != 1 else ""
    unverified = ", NOT verified" if setup.verify is False and setup.device != "cpu" else ""
    print_line(f"{setup.artifact} on {setup.label}, {setup.device}{where}{unverified}")
    return 1 if failed else 0


def plan_workers(run: PictureRun, pictures: int) -> tuple[int | None, WorkerSetup]:
    """(number of workers, setup of each): 1 worker is this process itself, None is as many as the cluster can run."""
    threads, workers = run.setup.threads, run.workers
    if run.setup.options.affinity and (run.ray is not None or (workers or 1) > 1):
        raise ValueError("--affinity applies to one engine, not to several workers: add --workers 1")
    if run.ray is not None:  # other nodes may not support the precision that is fastest here
        options = replace(run.setup.options, precision=run.setup.options.compute_precision)
        return workers, replace(run.setup, threads=threads or 1, options=options).resolved(POOL_BATCH)
    if workers is None:
        # thread affinity applies to one engine only
        use_pool = run.setup.device == "cpu" and not run.setup.options.affinity and pictures >= POOL_FROM
        workers = min(default_workers(threads or 1), pictures) if use_pool else 1
    else:
        check_core_count(workers, "workers")
        workers = max(1, min(workers, pictures))
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
    run: PictureRun, compute_precision: str, jobs: Sequence[PictureJob], durable: bool
) -> AbstractContextManager[Journal | None]:
    if run.json_file is None:
        return nullcontext()
    return Journal(run.json_file, run_key(run, compute_precision), [str(job.path) for job in jobs], durable)


def run_key(run: PictureRun, compute_precision: str) -> str:
    """Hash of everything that the results depend on besides the image: the bundle, the options and the compute
    precision, but not the number of workers or threads."""
    setup, boxes, out = run.setup, run.options.boxes, run.options.out
    model = find_yunet() if setup.detector == "auto" and setup.detector_model is None else setup.detector_model
    files = (model, setup.options.lite_config)
    parts = [
        __version__.encode(),
        (setup.bundle / MANIFEST_NAME).read_bytes(),
        repr(replace(setup, bundle=Path(), threads=None)).encode(),
        repr((out and out.absolute(), replace(run.options, boxes=None, out=None), compute_precision)).encode(),
        *(file.read_bytes() if file else b"" for file in files),
        b"" if boxes is None else msgspec.json.encode(boxes.entries),
    ]
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _is_done(part: Sequence[PictureJob], journal: Journal) -> bool:
    """Images of one engine batch are repeated together, so that results do not depend on where a run stopped."""
    return all(str(job.path) in journal.done for job in part)


def _stopped(left: int, total: int, resumable: bool) -> int:
    cure = "; run the same command again to continue" if resumable else ""
    print_line(f"stopped: {total - left} of {total} images are done{cure}", error=True)
    return INTERRUPTED
