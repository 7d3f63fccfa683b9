"""Workers on a Ray cluster, for `FacePool` and for Ray Data.

Every node needs this package, and the bundle under the same path; so with the pictures, unless a dataset contains their
bytes.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from synergy.runtime.errors import ChildDiedError, EngineError, EngineUnavailableError
from synergy.runtime.inference.face_pool import FacePool
from synergy.runtime.inference.local_worker import LocalWorker
from synergy.runtime.inference.pictures import PictureJob
from synergy.runtime.inference.worker import WorkerSetup, open_in_worker, work
from synergy.runtime.processes.child import answer, result
from synergy.runtime.specs import Device
from synergy.runtime.text import first_line

if TYPE_CHECKING:
    from synergy.runtime.aligner import FaceAligner

RESOURCES = {"cpu": "CPU", "gpu": "GPU", "ascend": "NPU"}  # names of Ray resources by device
PLACE_S = 120.0  # until an actor must be scheduled; a cluster may have to grow
CONNECT_S = 10.0  # to connect to a cluster's head node
ANY_CLUSTER = "auto"  # a running cluster or the one in RAY_ADDRESS, else a new one on this machine


class FaceActor:
    """For Ray Data: `dataset.map_batches(FaceActor, fn_constructor_kwargs={"bundle": FOLDER}, concurrency=N)`.

    Input rows have "path", and may have "bytes", as `ray.data.read_binary_files(..., include_paths=True)` gives them;
    without bytes the path is read. Output rows have "path" and "record": the JSON of one picture as in the report of
    `synergy infer`. A bad picture gives a record with an error, also if the process dies on it.
    """

    def __init__(
        self,
        bundle: str,
        engine: str = "auto",
        device: str = "cpu",
        threads: int = 1,
        detector: str = "auto",
        detector_model: str | None = None,
        angles: str = "common",
        min_score: float | None = None,
        max_faces: int | None = None,
    ) -> None:
        """The arguments are those of `WorkerSetup`, the errors those of `FaceAligner.load`."""
        model = Path(detector_model) if detector_model else None
        setup = WorkerSetup(
            Path(bundle),
            engine,
            device,
            threads,
            detector=detector,
            detector_model=model,
            angles=angles,
            min_score=min_score,
            max_faces=max_faces,
        )
        self.pool = FacePool(setup, LocalWorker, 1)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Process a batch of rows; all its faces go through the engine together."""
        paths = [str(path) for path in batch["path"]]
        data = batch.get("bytes", [None] * len(paths))
        jobs = [PictureJob(path, data=each) for path, each in zip(paths, data, strict=True)]
        records = [msgspec.json.encode(record).decode() for record in self.pool.infer([jobs])]
        return {"path": np.array(paths, object), "record": np.array(records, object)}


@contextmanager
def ray_pool(setup: WorkerSetup, address: str, workers: int | None) -> Iterator[FacePool]:
    """Yield a pool of actors on a cluster.

    address: `ANY_CLUSTER`, "local" for a new one, HOST:PORT or ray://...; ignored if this process is connected already.
    workers: None for as many as fit.
    Raises EngineUnavailableError if Ray is not installed or the cluster cannot be reached; else as `FacePool`.
    """
    try:
        import ray
    except ImportError:
        raise EngineUnavailableError("Ray is not installed: pip install 'synergy-mindir[ray]'") from None
    _check_reachable(address)
    joins = not ray.is_initialized()
    try:
        if joins:
            ray.init(None if address == ANY_CLUSTER else address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise EngineUnavailableError(f"no Ray cluster at {address}: {first_line(error)}") from None
    try:
        here = replace(setup, bundle=setup.bundle.absolute())
        start = _starter(Device.parse(setup.device), setup.threads or 1)
        with FacePool(here, start, _capacity(setup) if workers is None else workers) as pool:
            yield pool
    finally:
        if joins:
            ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise EngineUnavailableError if nothing listens at the address. Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EngineUnavailableError(
            f"no Ray cluster at {address}: {reason}. --ray local starts a cluster on this machine"
        ) from None


class RayWorker:
    """A worker like `LocalWorker` that runs as an actor in the cluster."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor

    def ask(self, request: Any) -> Any:
        """The result of the request. Raises the actor's error, or ChildDiedError if it or its node died."""
        import ray

        try:
            return result(*ray.get(self.actor.ask.remote(request)))
        except ray.exceptions.RayTaskError:
            raise
        except ray.exceptions.RayError as error:  # of the actor, its node, its memory
            raise ChildDiedError(f"a Ray worker died ({type(error).__name__})") from None

    def wait(self) -> None:
        """Wait until the actor runs. Raises EngineUnavailableError if the cluster has no room for it."""
        import ray

        try:
            ray.get(self.actor.ready.remote(), timeout=PLACE_S)
        except ray.exceptions.GetTimeoutError:
            self.kill()
            raise EngineUnavailableError(
                f"the cluster had no room for another worker within {PLACE_S:.0f} s: give fewer --workers"
            ) from None

    def close(self) -> None:
        """Stop the actor, which would occupy resources of the cluster."""
        self.kill()

    def kill(self) -> None:
        """Stop the actor at once."""
        import ray

        ray.kill(self.actor)


class _Actor:
    """Runs in the cluster. folder: the working directory of the driver."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.aligner: FaceAligner | None = None

    def ready(self) -> None:
        """Returns once the actor is scheduled."""

    def ask(self, request: Any) -> tuple[str | None, Any]:
        """The result of `runtime.processes.child.answer`, since Ray would wrap exceptions in its own type."""
        return answer(self._handle, request)

    def _handle(self, request: Any) -> Any:
        """The first request is the setup, every later one is work."""
        if self.aligner is not None:
            return work(self.aligner, request)
        try:
            os.chdir(self.folder)  # relative paths refer to it
        except OSError:
            raise EngineError(
                f"{self.folder} is not on every node: put pictures and bundle on a file system that all nodes share"
            ) from None
        self.aligner = open_in_worker(request)
        return None


def _starter(device: Device, threads: int) -> Callable[[WorkerSetup], RayWorker]:
    import ray

    cards = {} if device.kind == "cpu" else {RESOURCES[device.kind]: 1}
    options = {"num_cpus": threads, "num_gpus": cards.pop("GPU", 0), "resources": cards}
    remote = ray.remote(_Actor).options(**options)

    def start(setup: WorkerSetup) -> RayWorker:
        worker = RayWorker(remote.remote(str(Path.cwd())))
        worker.wait()
        try:
            worker.ask(setup)
        except BaseException:
            worker.kill()
            raise
        return worker

    return start


def _capacity(setup: WorkerSetup) -> int:
    """The number of workers that fit into the free resources of the cluster, at least 1."""
    import ray

    kind = RESOURCES[Device.parse(setup.device).kind]
    have = ray.available_resources().get(kind, 0)
    return max(1, int(have) // ((setup.threads or 1) if kind == "CPU" else 1))
