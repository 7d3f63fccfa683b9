"""A Ray cluster of one machine gives the records of a local run, also if actors die."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from synergy.runtime.aligner import FaceAligner
from synergy.runtime.errors import ChildDiedError, EngineUnavailableError
from synergy.runtime.inference.face_pool import FacePool
from synergy.runtime.inference.local_worker import LocalWorker
from synergy.runtime.inference.pictures import PictureJob, infer_pictures
from synergy.runtime.inference.ray_pool import FaceActor, RayWorker, _Actor, ray_pool
from synergy.runtime.inference.worker import WorkerSetup

ray = pytest.importorskip("ray", reason="pip install 'synergy-mindir[ray]'")
pytestmark = pytest.mark.e2e
BOX = np.array([[180.0, 72.0, 270.0, 184.0]])


@pytest.fixture
def jobs(portrait_bgr: np.ndarray, tmp_path: Path) -> list[PictureJob]:
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    for number, path in enumerate(paths):
        cv2.imwrite(str(path), cv2.convertScaleAbs(portrait_bgr, alpha=1 - 0.05 * number))
    paths[2].write_bytes(b"no picture")
    return [PictureJob(path, BOX) for path in paths]


@pytest.fixture
def expected(bundles: dict[str, Path], jobs: list[PictureJob]) -> list:
    with FaceAligner.load(bundles["mb05"], engine="onnx", threads=1) as aligner:
        return list(infer_pictures(aligner, jobs))


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """With room for the pool and for Ray Data's own tasks, however few the cores."""
    ray.init("local", num_cpus=4, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def pool(bundles: dict[str, Path]) -> Iterator[FacePool]:
    with ray_pool(WorkerSetup(bundles["mb05"], "onnx"), "local", 2) as pool:
        yield pool


def test_records_are_those_of_a_local_run(pool: FacePool, jobs: list[PictureJob], expected: list) -> None:
    found = list(pool.infer([jobs[:1], jobs[1:4], jobs[4:]]))
    assert found == expected and sum(record.error is not None for record in found) == 1


def test_a_dead_actor_is_replaced(pool: FacePool, jobs: list[PictureJob], expected: list) -> None:
    first = pool.process_pool.workers[0]
    assert isinstance(first, RayWorker)
    ray.kill(first.actor)
    assert list(pool.infer([[job] for job in jobs])) == expected
    assert first not in pool.process_pool.workers and len(pool.process_pool.workers) == 2
    with pytest.raises(ChildDiedError, match="a Ray worker died"):
        first.ask(jobs[:1])


def test_errors_keep_their_type_and_message(pool: FacePool) -> None:
    with pytest.raises(ValueError, match=r"^crops must be uint8"):
        list(pool.predict([np.zeros((1, 120, 120, 3), np.float32)]))


def test_a_dataset_of_bytes(pool: FacePool, bundles: dict[str, Path], jobs: list[PictureJob]) -> None:
    """Through Ray Data itself. The damaged picture is a row like the others."""
    files = ray.data.read_binary_files(str(jobs[0].path.parent), include_paths=True)
    arguments = {"bundle": str(bundles["mb05"]), "engine": "onnx"}
    rows = files.map_batches(FaceActor, fn_constructor_kwargs=arguments, batch_size=3, concurrency=1)
    records = {row["path"]: json.loads(row["record"]) for row in rows.take_all()}
    assert sorted(records) == sorted(str(job.path) for job in jobs)
    assert all(records[path]["path"] == path for path in records)
    bad = records[str(jobs[2].path)]
    assert "is not an image" in bad["error"] and not bad["faces"]
    assert all(record["width"] == 512 and not record["error"] for record in records.values() if record is not bad)


def test_the_actor_alone(bundles: dict[str, Path], jobs: list[PictureJob]) -> None:
    """By path and by bytes; and a process that dies takes nothing with it."""
    actor = FaceActor(str(bundles["mb05"]), engine="onnx")
    paths = np.array([str(job.path) for job in jobs[:3]], object)
    by_path = actor({"path": paths})
    child = actor.pool.process_pool.workers[0]
    assert isinstance(child, LocalWorker)
    os.kill(child.child.process.pid, signal.SIGKILL)
    data = np.array([job.path.read_bytes() for job in jobs[:3]], object)
    by_bytes = actor({"path": paths, "bytes": data})
    assert by_path["path"].tolist() == by_bytes["path"].tolist() == paths.tolist()
    assert by_path["record"].tolist() == by_bytes["record"].tolist()
    actor.pool.close()


def test_a_path_in_an_object_store_is_not_changed(bundles: dict[str, Path], jobs: list[PictureJob]) -> None:
    actor = FaceActor(str(bundles["mb05"]), engine="onnx")
    name = "s3://bucket/a//b.png"
    rows = actor({"path": np.array([name], object), "bytes": np.array([b"no picture"], object)})
    actor.pool.close()
    assert json.loads(rows["record"][0])["path"] == name


def test_a_node_without_the_folder_is_an_error(tmp_path: Path) -> None:
    kind, text = _Actor(str(tmp_path / "none")).ask(WorkerSetup(tmp_path))
    assert kind == "EngineError" and "all nodes share" in text


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "ray://127.0.0.1:1", "no.such.host.invalid:6379", "127.0.0.1:99999"]
)
def test_an_unreachable_cluster_is_reported_at_once(tmp_path: Path, address: str) -> None:
    message = f"no Ray cluster at {address}: .*--ray local"
    with pytest.raises(EngineUnavailableError, match=message), ray_pool(WorkerSetup(tmp_path, "onnx"), address, 1):
        pass


def test_ray_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    message = r"synergy-mindir\[ray\]"
    with pytest.raises(EngineUnavailableError, match=message), ray_pool(WorkerSetup(tmp_path, "onnx"), "local", 1):
        pass
