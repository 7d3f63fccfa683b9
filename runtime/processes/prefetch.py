"""Compute items in a background thread, ahead of their use; OpenCV and the engines release Python's lock (GIL)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from queue import Full, Queue
from threading import Event, Thread
from typing import TypeVar

Item = TypeVar("Item")
POLL_S = 0.05  # how often a thread that waits for space in the queue checks whether it should stop


def prefetch(items: Iterable[Item], depth: int) -> Generator[Item, None, None]:
    """Yield `items` in order, computed in a thread up to `depth` items ahead.

    An exception of `items` is raised here, after the items before it. When the generator ends or is closed, its thread
    has ended.
    """
    queue: Queue[tuple[bool, Item | BaseException | None]] = Queue(depth)
    stopped = Event()
    thread = Thread(target=_fill, args=(items, queue, stopped), daemon=True)
    thread.start()
    try:
        while True:
            is_item, value = queue.get()
            if is_item:
                yield value  # type: ignore[misc]
            elif value is None:
                return
            else:
                raise value  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()


def start_in_thread(function: Callable[[], Item]) -> Callable[[], Item]:
    """Start `function` in a thread. The returned function, to be called once, gives its result or raises its error."""
    queue: Queue[tuple[bool, Item | BaseException | None]] = Queue(2)  # the result and the end marker
    Thread(target=_fill, args=((call() for call in (function,)), queue, Event()), daemon=True).start()

    def result() -> Item:
        is_item, value = queue.get()
        if not is_item:
            raise value  # type: ignore[misc]
        return value  # type: ignore[return-value]

    return result


def _fill(items: Iterable[Item], queue: Queue[tuple[bool, Item | BaseException | None]], stopped: Event) -> None:
    end: BaseException | None = None
    try:
        for item in items:
            if not _put(queue, (True, item), stopped):
                return
    except BaseException as error:  # every exception is raised in the other thread
        end = error
    _put(queue, (False, end), stopped)


def _put(
    queue: Queue[tuple[bool, Item | BaseException | None]],
    entry: tuple[bool, Item | BaseException | None],
    stopped: Event,
) -> bool:
    """Put an entry, waiting for space in the queue; False if `stopped` was set."""
    while not stopped.is_set():
        try:
            queue.put(entry, timeout=POLL_S)
            return True
        except Full:
            continue
    return False
