"""Distribute jobs over worker processes: ordered results, bounded memory, one retry after the death of a worker."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from queue import SimpleQueue
from threading import Lock
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from synergy.runtime.errors import ChildDiedError, EngineError
from synergy.runtime.processes.sharing import call_after_fork, forked_message

CLOSED = "this pool is closed: open another one"
JOBS_PER_WORKER = 2  # submitted or finished jobs per worker before the oldest result is taken

Job = TypeVar("Job")
Result = TypeVar("Result")


class Worker(Protocol):
    """A process, on this machine or another, that answers one request at a time."""

    def ask(self, request: Any) -> Any:
        """Return the answer. Raises ChildDiedError if the process died, or the error that it reports."""
        ...

    def close(self) -> None:
        """End the process after its current request. Safe to call twice."""
        ...

    def kill(self) -> None:
        """Kill the process; a current request raises ChildDiedError."""
        ...


class WorkerPool(Generic[Job, Result]):
    """A fixed number of equal workers. Use as a context manager, or call `close`.

    Safe to share between threads; each call of `map` has its own jobs and results.
    """

    def __init__(
        self,
        start: Callable[[], Worker],
        count: int,
        parts: Callable[[Job], Iterable[Job]],
        dead: Callable[[Job, str], Result],
    ) -> None:
        """Start all workers in parallel. Errors of `start` are raised after the started workers have been closed.

        Args:
            start: Starts a worker; also called to replace a worker that died.
            count: Number of workers.
            parts: Splits a job for the retry, so that the part that kills a worker does not take the others with it.
            dead: The result of a part that killed two workers, from the message of the second death; it may raise.
        """
        self._start = start
        self._parts = parts
        self._dead = dead
        self._refusal = ""  # why jobs are refused; "" while the pool is open
        self._lock = Lock()  # protects `_refusal` and taking an idle worker
        self.workers: list[Worker] = []
        self._idle: SimpleQueue[Worker] = SimpleQueue()
        self._threads = ThreadPoolExecutor(count, "worker")
        try:
            for started in [self._threads.submit(self._start_worker) for _ in range(count)]:
                self._idle.put(started.result())
        except BaseException:
            self.close()
            raise
        call_after_fork(self)

    def map(self, jobs: Iterable[Job]) -> Iterator[list[Result]]:
        """Yield for each job, in order, a list with its result, or with the results of its parts if a worker died.

        `jobs` is consumed as needed. Errors of jobs are raised, except ChildDiedError. Raises EngineError if the pool
        is closed, also meanwhile.
        """
        self._check_open()
        return self._results(jobs)

    def _results(self, jobs: Iterable[Job]) -> Iterator[list[Result]]:
        waiting: deque[Future[list[Result]]] = deque()
        try:
            for job in jobs:
                waiting.append(self._submit(job))
                while waiting and (len(waiting) >= JOBS_PER_WORKER * len(self.workers) or waiting[0].done()):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except CancelledError:
            raise EngineError(CLOSED) from None
        finally:
            for each in waiting:
                each.cancel()

    def close(self) -> None:
        """End the workers, killing those with a current job. Safe to call twice."""
        with self._lock:
            self._refusal = self._refusal or CLOSED
            idle = {id(self._idle.get_nowait()) for _ in range(self._idle.qsize())}
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in list(self.workers):
            worker.close() if id(worker) in idle else worker.kill()
        self._threads.shutdown()  # threads with a job end, because their worker was killed
        for worker in self.workers:
            worker.close()

    def __enter__(self) -> WorkerPool[Job, Result]:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def after_fork(self) -> None:
        """In a forked child: the workers stay the parent's."""
        self._lock, self._refusal = Lock(), self._refusal or forked_message("this pool")
        self.workers, self._idle = [], SimpleQueue()

    def _check_open(self) -> None:
        if self._refusal:
            raise EngineError(self._refusal)

    def _submit(self, job: Job) -> Future[list[Result]]:
        with self._lock:
            self._check_open()
            return self._threads.submit(self._run_job, job)

    def _start_worker(self) -> Worker:
        worker = self._start()
        self.workers.append(worker)
        return worker

    def _replace_worker(self) -> Worker:
        """A new worker. If it does not start, the pool refuses all later jobs with the reason."""
        try:
            return self._start_worker()
        except Exception as error:
            self._refusal = str(error)
            raise

    def _run_job(self, job: Job) -> list[Result]:
        try:
            return [self.send_request(job)]
        except ChildDiedError:
            return [self._retry(part) for part in self._parts(job)]

    def _retry(self, part: Job) -> Result:
        try:
            return self.send_request(part)
        except ChildDiedError as death:
            return self._dead(part, str(death))

    def send_request(self, job: Job) -> Result:
        with self._lock:
            self._check_open()
            worker = self._idle.get_nowait()  # never empty: there are as many threads as workers
        try:
            return worker.ask(job)
        except ChildDiedError:
            self.workers.remove(worker)
            worker.close()
            if not self._refusal:
                worker = self._replace_worker()
            raise
        finally:
            self._idle.put(worker)
