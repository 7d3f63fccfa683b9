"""One stage of a pipeline ahead of the next, in a thread: OpenCV and the engines leave Python's lock to others."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from queue import Full, Queue
from threading import Event, Thread
from typing import TypeVar

Item = TypeVar("Item")
POLL_S = 0.05  # how soon a thread that waits for room sees that nobody wants more


def prefetch(items: Iterable[Item], depth: int) -> Generator[Item, None, None]:
    """The same items in the same order, computed in a thread up to `depth` ahead of whoever takes them.

    What `items` raises is raised here, in its place. When this ends or is closed, no thread is left behind.
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
    """Call `function` in a thread, now; what is returned gives its result, or raises what it raised, once."""
    queue: Queue[tuple[bool, Item | BaseException | None]] = Queue(2)  # the result, and that there is no other
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
    except BaseException as error:  # whatever it is, the other thread must hear of it
        end = error
    _put(queue, (False, end), stopped)


def _put(
    queue: Queue[tuple[bool, Item | BaseException | None]],
    entry: tuple[bool, Item | BaseException | None],
    stopped: Event,
) -> bool:
    """Wait for room; False if nobody wants more."""
    while not stopped.is_set():
        try:
            queue.put(entry, timeout=POLL_S)
            return True
        except Full:
            continue
    return False
