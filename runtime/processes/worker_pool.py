"""Work spread over worker processes: results in order, memory that does not grow, and a death that costs one retry."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from threading import Lock
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from synergy.runtime.errors import ChildDiedError, EngineError

AHEAD = 2  # jobs per worker that are handed out or done before the oldest result is taken

Job = TypeVar("Job")
Result = TypeVar("Result")


class Worker(Protocol):
    """A process, here or elsewhere, that answers one request at a time."""

    def ask(self, request: Any) -> Any:
        """The answer. Raises ChildDiedError if the process died, else what it reports."""
        ...

    def close(self) -> None:
        """End it after its request; calling it twice is harmless."""
        ...

    def kill(self) -> None:
        """End it at once, which a request in hand hears as its death."""
        ...


class WorkerPool(Generic[Job, Result]):
    """Several workers, all started alike. Use as a context manager, or call `close`.

    start: a new worker, ready for jobs; also called for the successor of one that died. parts: a job as smaller ones
    for the second try, so that what kills a worker takes nothing else with it. dead: the result of a job that killed
    two workers, given what was said of the second death; it may raise.
    """

    def __init__(
        self,
        start: Callable[[], Worker],
        count: int,
        parts: Callable[[Job], Iterable[Job]],
        dead: Callable[[Job, str], Result],
    ) -> None:
        """Starts all at once. Raises what `start` raises, after those that were started are closed."""
        self._start = start
        self._parts = parts
        self._dead = dead
        self._closed = False
        self._gate = Lock()  # between who takes a worker and who closes
        self._workers: list[Worker] = []
        self._idle: SimpleQueue[Worker] = SimpleQueue()
        self._threads = ThreadPoolExecutor(count, "worker")
        try:
            for hired in [self._threads.submit(self._hire) for _ in range(count)]:
                self._idle.put(hired.result())
        except BaseException:
            self.close()
            raise

    def map(self, jobs: Iterable[Job]) -> Iterator[list[Result]]:
        """For each job, in order, the results of its parts: one, unless a worker died.

        Jobs are taken as they are needed. Raises what a job raises, but for the death of a worker.
        """
        waiting: deque[Future[list[Result]]] = deque()
        try:
            for job in jobs:
                waiting.append(self._threads.submit(self._do, job))
                while waiting and (len(waiting) >= AHEAD * len(self._workers) or waiting[0].done()):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for each in waiting:
                each.cancel()

    def close(self) -> None:
        """End the workers, in the middle of their jobs; calling it twice is harmless."""
        with self._gate:
            self._closed = True
            idle = {id(self._idle.get_nowait()) for _ in range(self._idle.qsize())}
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in list(self._workers):
            worker.close() if id(worker) in idle else worker.kill()
        self._threads.shutdown()  # a job in hand hears of the death, and its thread ends
        for worker in self._workers:
            worker.close()

    def __enter__(self) -> WorkerPool[Job, Result]:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _hire(self) -> Worker:
        worker = self._start()
        self._workers.append(worker)
        return worker

    def _do(self, job: Job) -> list[Result]:
        try:
            return [self._ask(job)]
        except ChildDiedError:
            return [self._try_again(part) for part in self._parts(job)]

    def _try_again(self, part: Job) -> Result:
        try:
            return self._ask(part)
        except ChildDiedError as death:
            return self._dead(part, str(death))

    def _ask(self, job: Job) -> Result:
        with self._gate:
            if self._closed:
                raise EngineError("this pool is closed")
            worker = self._idle.get_nowait()  # there is one: as many threads as workers
        try:
            return worker.ask(job)
        except ChildDiedError:
            self._workers.remove(worker)
            worker.close()
            if not self._closed:
                worker = self._hire()
            raise
        finally:
            self._idle.put(worker)
