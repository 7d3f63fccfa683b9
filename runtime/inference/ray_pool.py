"""Workers on a Ray cluster: for `FacePool`, and for the datasets of Ray Data.

This package is to be installed on every node, and the bundle to be where all see it under the same path; so are the
pictures, unless a dataset brings their bytes.
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

from synergy.runtime.engines import Device
from synergy.runtime.errors import ChildDiedError, EngineError, EngineUnavailableError
from synergy.runtime.inference.face_pool import FacePool
from synergy.runtime.inference.local_worker import LocalWorker
from synergy.runtime.inference.pictures import PictureJob
from synergy.runtime.inference.worker import WorkerSetup, open_in_worker, work
from synergy.runtime.processes.child import answer, result

if TYPE_CHECKING:
    from synergy.runtime.aligner import FaceAligner

RESOURCES = {"cpu": "CPU", "gpu": "GPU", "ascend": "NPU"}  # as Ray calls what a worker needs one of
PLACE_S = 120.0  # for an actor to get its place, also while a cluster grows
REACH_S = 10.0  # to connect to a cluster's head
ANY_CLUSTER = "auto"  # the one that runs here or that RAY_ADDRESS names, else a new one on this machine


class FaceActor:
    """For Ray Data: `dataset.map_batches(FaceActor, fn_constructor_kwargs={"bundle": FOLDER}, concurrency=N)`.

    Rows have "path", and may have "bytes", as `ray.data.read_binary_files(..., include_paths=True)` gives them; a row
    without is read from its path. Rows come back with "path" and "record": the JSON of one picture as in the report of
    `synergy infer`. A bad picture is a record with an error, also if it kills the process that looks at it.
    """

    def __init__(
        self,
        bundle: str,
        engine: str = "auto",
        device: str = "cpu",
        threads: int = 1,
        detector: str = "auto",
        detector_model: str | None = None,
    ) -> None:
        """As `WorkerSetup`. Raises as `FaceAligner.load`."""
        model = Path(detector_model) if detector_model else None
        setup = WorkerSetup(Path(bundle), engine, device, threads, detector=detector, detector_model=model)
        self.pool = FacePool(setup, LocalWorker, 1)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A batch of rows; all its faces go through the engine together."""
        paths = [str(path) for path in batch["path"]]
        data = batch.get("bytes", [None] * len(paths))
        jobs = [PictureJob(path, data=each) for path, each in zip(paths, data, strict=True)]
        records = [msgspec.json.encode(record).decode() for record in self.pool.infer([jobs])]
        return {"path": np.array(paths, object), "record": np.array(records, object)}


@contextmanager
def ray_pool(setup: WorkerSetup, address: str, workers: int | None) -> Iterator[FacePool]:
    """A pool of actors on the cluster at `address`, one of `ANY_CLUSTER`, "local" for a new one, HOST:PORT or ray://...

    In a process that is connected to a cluster, that one is taken. workers: None for as many as fit. Raises
    EngineUnavailableError if Ray is not installed or the cluster cannot be reached, or else as `FacePool`.
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
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EngineUnavailableError(f"no Ray cluster at {address}: {reason}") from None
    try:
        here = replace(setup, bundle=setup.bundle.absolute())
        start = _starter(Device.parse(setup.device), setup.threads or 1)
        with FacePool(here, start, _capacity(setup) if workers is None else workers) as pool:
            yield pool
    finally:
        if joins:
            ray.shutdown()


def _check_reachable(address: str) -> None:
    """Ray itself would try for minutes, with a page of warnings. Raises EngineUnavailableError."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), REACH_S).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EngineUnavailableError(
            f"no Ray cluster at {address}: {reason}. Leave the address out for a cluster on this machine"
        ) from None


class RayWorker:
    """As a worker of this machine, but an actor somewhere in the cluster."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor

    def ask(self, request: Any) -> Any:
        """The answer. Raises what the actor raised, ChildDiedError if it or its node died."""
        import ray

        try:
            return result(*ray.get(self.actor.ask.remote(request)))
        except ray.exceptions.RayTaskError:
            raise
        except ray.exceptions.RayError as error:  # of the actor, its node, its memory
            raise ChildDiedError(f"a Ray worker died ({type(error).__name__})") from None

    def wait(self) -> None:
        """Until it runs. Raises EngineUnavailableError if the cluster has no room for it."""
        import ray

        try:
            ray.get(self.actor.ready.remote(), timeout=PLACE_S)
        except ray.exceptions.GetTimeoutError:
            self.kill()
            raise EngineUnavailableError(
                f"the cluster had no room for another worker within {PLACE_S:.0f} s: give fewer --workers"
            ) from None

    def close(self) -> None:
        """As `kill`: a cluster has no use for an idle actor."""
        self.kill()

    def kill(self) -> None:
        """End the actor at once."""
        import ray

        ray.kill(self.actor)


class _Actor:
    """In the cluster: what a worker's process does, and where the driver is."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.aligner: FaceAligner | None = None

    def ready(self) -> None:
        """Answers as soon as the actor has its place."""

    def ask(self, request: Any) -> tuple[str | None, Any]:
        """As `runtime.processes.child.answer`: Ray would wrap an error in its own words."""
        return answer(self._handle, request)

    def _handle(self, request: Any) -> Any:
        """The first request says what to open, every later one is work."""
        if self.aligner is not None:
            return work(self.aligner, request)
        try:
            os.chdir(self.folder)  # for paths that were given from there
        except OSError:
            raise EngineError(
                f"{self.folder} is not on every node: put pictures and bundle where all nodes see them"
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
        worker.ask(setup)
        return worker

    return start


def _capacity(setup: WorkerSetup) -> int:
    """How many workers the cluster has room for now."""
    import ray

    kind = RESOURCES[Device.parse(setup.device).kind]
    have = ray.available_resources().get(kind, 0)
    return max(1, int(have) // ((setup.threads or 1) if kind == "CPU" else 1))
