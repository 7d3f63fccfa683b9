"""Objects with native sessions, threads or processes: shared by threads, closed during a call, forked, pickled."""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Condition, Lock, get_ident
from types import TracebackType
from typing import NoReturn, Protocol
from weakref import WeakSet

from synergy.runtime.errors import EngineError


class ProcessBound:
    """Base class of objects that exist in one process only: they cannot be pickled or copied."""

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} cannot be pickled or copied: open one in each process that needs it, or give the "
            "work to a FacePool"
        )


class Forkable(Protocol):
    """An object that has to change in a forked child process."""

    def after_fork(self) -> None:
        """Called in the child, before any other code runs there."""
        ...


class CallGuard:
    """Allows several threads to call an object: `with guard:` around each call.

    Calls run one at a time, or at the same time if `parallel` is set. `close` waits for the calls in progress. In a
    forked child process every call raises, unless `survives_fork` is set and the parent had no call in progress.
    """

    def __init__(self, title: str, parallel: bool = False, survives_fork: bool = False) -> None:
        """title: what the object is, for error messages."""
        self.title = title
        self.survives_fork = survives_fork
        self._parallel = parallel
        self._refusal = ""  # why calls are refused; "" while the object is open
        self._free: Callable[[], None] | None = None  # set by `close` until it was called
        self._callers: list[int] = []  # threads with a call in progress
        self._turn = Lock()  # held during a call, unless calls are parallel
        self._changed = Condition(Lock())  # protects `_callers`, `_refusal` and `_free`
        call_after_fork(self)

    @property
    def is_open(self) -> bool:
        return not self._refusal

    def __enter__(self) -> None:
        if not self._parallel:
            if get_ident() in self._callers:  # of a signal handler, for example
                raise EngineError(f"{self.title} is in a call of this thread already: wait for its result")
            self._turn.acquire()
        with self._changed:
            if not self._refusal:
                self._callers.append(get_ident())
                return
        if not self._parallel:
            self._turn.release()
        raise EngineError(self._refusal)

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._changed:
            self._callers.remove(get_ident())
            if self._refusal:
                self._changed.notify_all()
        if not self._parallel:
            self._turn.release()

    def close(self, free: Callable[[], None]) -> None:
        """Refuse later calls, wait for those in progress, and call `free`, once. Safe to call twice.

        Raises EngineError during a call of the same thread, which would never end.
        """
        with self._changed:
            if get_ident() in self._callers:
                raise EngineError(f"{self.title} cannot be closed during its own call: close it afterwards")
            if not self._refusal:
                self._refusal, self._free = f"{self.title} is closed: open another one", free
            self._changed.wait_for(lambda: not self._callers)
            pending, self._free = self._free, None
        if pending is not None:
            pending()

    def after_fork(self) -> None:
        """In the child: locks that another thread of the parent held would be held for ever."""
        is_usable = self.survives_fork and not self._callers and self._free is None
        self._turn, self._changed, self._callers, self._free = Lock(), Condition(Lock()), [], None
        if not is_usable and not self._refusal:
            self._refusal = forked_message(self.title)


def forked_message(title: str) -> str:
    """The error for an object that a forked child process cannot use."""
    return f"{title} was opened in the parent of this forked process: open one in the child"


def call_after_fork(target: Forkable) -> None:
    """Call `target.after_fork` in every child process that is forked while `target` exists."""
    _forkables.add(target)


def _after_fork() -> None:
    for target in list(_forkables):
        target.after_fork()


_forkables: WeakSet[Forkable] = WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
