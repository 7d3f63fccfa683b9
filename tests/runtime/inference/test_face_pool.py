"""Worker processes give bit-identical results to one process, also if workers are killed."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from synergy.runtime import autotune as tuning
from synergy.runtime.aligner import FaceAligner
from synergy.runtime.autotune import MeasuredVariant
from synergy.runtime.bundle import BUILTIN
from synergy.runtime.errors import BundleError, ChildDiedError, EngineError, EngineUnavailableError
from synergy.runtime.inference import local_worker
from synergy.runtime.inference.face_pool import FacePool
from synergy.runtime.inference.local_worker import LocalWorker
from synergy.runtime.inference.pictures import InferOptions, PictureJob, infer_pictures, parts_of, picture_jobs
from synergy.runtime.inference.worker import WorkerSetup, default_workers
from synergy.runtime.processes.child import SPIN_WAIT_S, Child
from synergy.runtime.specs import available_cores

BOX = np.array([[180.0, 72.0, 270.0, 184.0]])


@pytest.fixture(scope="module")
def pool(bundles: dict[str, Path]) -> Iterator[FacePool]:
    with FacePool.load(bundles["mb05"], engine="onnx", workers=2) as pool:
        yield pool


@pytest.fixture(scope="module")
def aligner(bundles: dict[str, Path]) -> Iterator[FaceAligner]:
    with FaceAligner.load(bundles["mb05"], engine="onnx", threads=1) as aligner:
        yield aligner


@pytest.fixture
def jobs(portrait_bgr: np.ndarray, tmp_path: Path) -> list[PictureJob]:
    """Twenty pictures with a known face, each a little darker, and a file that is no picture after the fifth."""
    made = []
    for number in range(20):
        path = tmp_path / f"{number:02}.png"
        darker = cv2.convertScaleAbs(portrait_bgr, alpha=1 - 0.02 * number)
        cv2.imwrite(str(path), darker, [cv2.IMWRITE_PNG_COMPRESSION, 0])  # decoded several times faster
        made.append(PictureJob(path, BOX))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    return [*made[:5], PictureJob(tmp_path / "bad.png", BOX), *made[5:]]


def crops(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 120, 120, 3), np.uint8)


def processes(pool: FacePool) -> list[int]:
    return [worker.child.process.pid for worker in pool.process_pool.workers if isinstance(worker, LocalWorker)]


# --- crops ---


def test_predictions_are_those_of_one_aligner_in_order(pool: FacePool, aligner: FaceAligner) -> None:
    batches = [crops(count, seed) for seed, count in enumerate((1, 16, 0, 3, 16, 5, 1, 70))]
    for batch, found in zip(batches, pool.predict(iter(batches)), strict=True):
        alone = aligner.predict(batch)
        assert np.array_equal(found.params, alone.params) and np.array_equal(found.landmarks, alone.landmarks)
        assert np.array_equal(found.euler_deg, alone.euler_deg)


def test_no_batches(pool: FacePool) -> None:
    assert list(pool.predict([])) == []


def test_wrong_crops_are_refused_and_the_pool_stays_usable(pool: FacePool) -> None:
    with pytest.raises(ValueError, match="crops must be uint8"):
        list(pool.predict([crops(1), crops(1).astype(np.float32)]))
    with pytest.raises(ValueError, match="crops must be uint8"):
        list(pool.predict([np.array([[None]])]))
    odd = crops(4)[::2, :, ::-1]  # a view that skips
    assert np.array_equal(next(pool.predict([odd])).params, next(pool.predict([odd.copy()])).params)
    assert len(list(pool.predict([crops(1)]))) == 1


# --- pictures ---


def test_records_are_those_of_one_process(pool: FacePool, aligner: FaceAligner, jobs: list[PictureJob]) -> None:
    found = list(pool.infer(parts_of(jobs)))
    assert found == list(infer_pictures(aligner, jobs))
    assert [record.path for record in found] == [str(job.path) for job in jobs]
    assert [len(record.faces) for record in found] == [1] * 5 + [0] + [1] * 15
    assert "is not an image" in (found[5].error or "")


def test_parts_may_be_tuples(pool: FacePool, jobs: list[PictureJob]) -> None:
    assert list(pool.infer([tuple(jobs[:3])])) == list(pool.infer([jobs[:3]]))


@pytest.mark.parametrize("together", [1, 4, 21])
def test_records_do_not_depend_on_the_part_size(aligner: FaceAligner, jobs: list[PictureJob], together: int) -> None:
    parts = [jobs[start : start + together] for start in range(0, len(jobs), together)]
    alone = [record for job in jobs for record in infer_pictures(aligner, [job])]
    assert [record for part in parts for record in infer_pictures(aligner, part)] == alone


def test_many_pictures_give_many_parts() -> None:
    jobs = [PictureJob(Path(str(number))) for number in range(10_000)]
    for count, size in ((0, 0), (1, 1), (63, 1), (127, 1), (128, 2), (512, 8), (10_000, 8)):
        parts = parts_of(jobs[:count])
        assert [job for part in parts for job in part] == jobs[:count]
        assert max([len(part) for part in parts], default=0) == size


def test_workers_write_overlays_and_meshes(pool: FacePool, jobs: list[PictureJob], tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = picture_jobs([job.path for job in jobs], InferOptions(out=out))
    drawn = [PictureJob(job.path, BOX, job.overlay) for job in made]
    errors = [record.error for record in pool.infer(parts_of(drawn))]
    assert [bool(error) for error in errors] == [job.path.stem == "bad" for job in drawn]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        job.overlay.name for job in drawn if job.overlay and job.path.stem != "bad"
    )
    with pytest.raises(ValueError, match="--morphable"):  # this bundle has no dense basis
        list(pool.infer([[PictureJob(jobs[0].path, BOX, out / "x.png", mesh=True)]]))


# --- deaths ---


def test_requests_of_a_killed_worker_are_repeated(bundles: dict[str, Path], jobs: list[PictureJob]) -> None:
    many = jobs * 12
    with FacePool.load(bundles["mb05"], engine="onnx", workers=2) as pool:
        expected = list(pool.infer(parts_of(many)))
        victims = processes(pool)
        records = pool.infer(parts_of(many))
        found = [next(records)]
        os.kill(victims[0], signal.SIGKILL)
        found += records
        assert found == expected
        assert len(set(processes(pool)) - set(victims)) == 1 and victims[0] not in processes(pool)


def test_a_picture_that_kills_every_worker_is_reported_alone(bundles: dict[str, Path], jobs: list[PictureJob]) -> None:
    deadly = jobs[0].path.with_name("deadly.png")
    setup = WorkerSetup(bundles["mb05"], "onnx", threads=1)
    with FacePool(setup, start_fragile, 2) as pool:
        found = list(pool.infer([jobs[:3], [jobs[3], PictureJob(deadly, BOX), jobs[4]], jobs[6:8]]))
    errors = {Path(record.path).name: record.error for record in found if record.error}
    assert list(errors) == [deadly.name] and len(found) == 8
    assert "died (signal SIGKILL), and its replacement died on this picture too: remove it" in errors[deadly.name]


def test_crops_that_kill_every_worker_are_an_error(bundles: dict[str, Path]) -> None:
    with FacePool(WorkerSetup(bundles["mb05"], "onnx", threads=1), start_fragile, 1) as pool:
        with pytest.raises(ChildDiedError, match="and its replacement died on the same crops too"):
            list(pool.predict([np.zeros((13, 120, 120, 3), np.uint8)]))
        assert len(list(pool.predict([crops(2)]))) == 1


def start_fragile(setup: WorkerSetup) -> Child:
    child = Child("a worker", "tests.runtime.inference.fragile_worker", "make_handler")
    child.ask(setup)
    return child


@pytest.mark.parametrize("change", ["manifest", "none"])
def test_a_worker_that_is_restarted_finds_the_same_bundle(tiny_bundle_copy: Path, change: str) -> None:
    """Else the results of two networks would mix."""
    with FacePool.load(tiny_bundle_copy, engine="onnx", workers=1) as pool:
        assert len(list(pool.predict([crops(1)]))) == 1
        if change == "manifest":
            manifest = tiny_bundle_copy / "manifest.json"
            manifest.write_text(manifest.read_text().replace('"arch": "tiny"', '"arch": "other"'))
        os.kill(processes(pool)[0], signal.SIGKILL)
        if change == "none":
            assert len(list(pool.predict([crops(1)]))) == 1
        else:
            with pytest.raises(BundleError, match=r"was replaced by another bundle .*: open a new pool"):
                list(pool.predict([crops(1)]))
            with pytest.raises(EngineError, match="was replaced by another bundle"):
                pool.predict([crops(1)])


# --- start and end ---


def test_more_workers_or_threads_than_cores_are_refused() -> None:
    cores = len(available_cores())
    with pytest.raises(ValueError, match=f"this process has {cores} cores?: use at most as many workers, not 500"):
        FacePool.load(BUILTIN, engine="onnx", workers=500)
    with pytest.raises(ValueError, match=f"this process has {cores} cores?: use at most as many threads, not 9999"):
        FacePool.load(BUILTIN, engine="onnx", workers=1, threads=9999)
    with pytest.raises(ValueError, match="at most as many threads"):
        FaceAligner.load(engine="onnx", threads=9999)


@pytest.mark.parametrize("when", ["idle", "busy"])
def test_no_process_is_left(bundles: dict[str, Path], jobs: list[PictureJob], when: str) -> None:
    before = threading.active_count()
    with FacePool.load(bundles["mb05"], engine="onnx", workers=2) as pool:
        started = processes(pool)
        if when == "busy":
            records = pool.infer(parts_of(jobs * 20))
            next(records)
        begin = time.perf_counter()
    assert time.perf_counter() - begin < 4
    assert len(started) == 2 and not any(Path(f"/proc/{pid}").exists() for pid in started)
    assert threading.active_count() == before


def test_errors_on_opening_are_raised_at_once(bundles: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="synergy export"):
        FacePool.load(tmp_path / "none", workers=2)
    with pytest.raises(EngineUnavailableError, match="--device cpu"):
        FacePool.load(bundles["mb05"], engine="onnx", device="gpu", workers=1)
    with pytest.raises(ValueError, match="1 or more workers"):
        FacePool.load(bundles["mb05"], engine="onnx", workers=0)


def test_auto_is_measured_once_for_all_workers(bundles: dict[str, Path], tmp_path: Path) -> None:
    bundle = shutil.copytree(bundles["mb05"], tmp_path / "mb05")
    setup = WorkerSetup(bundle, threads=1).resolved()
    assert setup.engine != "auto" and setup.artifact and setup.threads == 1
    assert setup.resolved() == setup
    assert WorkerSetup(bundle, "onnx").resolved().artifact == "model.onnx"


def test_a_reduced_precision_is_passed_to_the_workers(
    bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They must not each choose: the same picture would have other numbers."""
    choice = MeasuredVariant("openvino", "model.onnx", 1, 1.0, "bf16")
    monkeypatch.setattr(tuning, "tune", lambda *_: (choice,))
    setup = WorkerSetup(bundles["mb05"], threads=1).resolved()
    assert setup.options.compute_precision == "bf16" and setup.label == "openvino bf16"
    named = WorkerSetup(bundles["mb05"], "openvino").resolved()
    assert named.options.compute_precision == "fp32" and named.label == "openvino"


def test_default_workers_use_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synergy.runtime.inference.worker.default_threads", lambda: 8)
    assert [default_workers(threads) for threads in (1, 3, 8, 16)] == [8, 2, 1, 1]


def test_workers_spin_between_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next batch is there within the time that waking takes."""
    waits: list[float] = []

    class Noted(Child):
        def __init__(self, *arguments: object) -> None:
            waits.append(float(str(arguments[-1])))
            raise EngineUnavailableError("enough")

    monkeypatch.setattr(local_worker, "Child", Noted)
    with pytest.raises(EngineUnavailableError, match="enough"):
        LocalWorker(WorkerSetup(tmp_path))
    assert waits == [SPIN_WAIT_S] and SPIN_WAIT_S > 0
