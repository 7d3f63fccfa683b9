"""The guard of objects that threads share."""

from __future__ import annotations

import copy
import os
import pickle
import threading
import time
from collections.abc import Callable

import pytest

from synergy.runtime.errors import EngineError
from synergy.runtime.processes.sharing import CallGuard, ProcessBound


def in_threads(count: int, work: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("parallel", [False, True])
def test_calls_are_serial_or_parallel(parallel: bool) -> None:
    guard, running, most = CallGuard("it", parallel), [], []
    together = threading.Barrier(3, timeout=5)

    def call() -> None:
        with guard:
            running.append(1)
            most.append(len(running))
            if parallel:
                together.wait()
            running.pop()

    in_threads(3, call)
    assert max(most) == (3 if parallel else 1) and len(most) == 3


@pytest.mark.parametrize("parallel", [False, True])
def test_close_waits_for_calls_and_refuses_later_ones(parallel: bool) -> None:
    guard, events = CallGuard("the engine", parallel), []
    inside, leave = threading.Event(), threading.Event()

    def call() -> None:
        with guard:
            inside.set()
            leave.wait(5)
            events.append("call ended")

    caller = threading.Thread(target=call)
    caller.start()
    inside.wait(5)
    closers = [threading.Thread(target=guard.close, args=(lambda: events.append("freed"),)) for _ in range(2)]
    for closer in closers:
        closer.start()
    while guard.is_open:
        time.sleep(0.001)
    assert not events
    if parallel:  # else a later call waits for the one in progress
        with pytest.raises(EngineError, match="the engine is closed"), guard:
            pass
    leave.set()
    for thread in (caller, *closers):
        thread.join(5)
    assert events == ["call ended", "freed"]
    with pytest.raises(EngineError, match="the engine is closed: open another one"), guard:
        pass


def test_what_would_wait_for_itself_is_refused() -> None:
    guard, freed = CallGuard("the engine"), []
    with guard:
        with pytest.raises(EngineError, match="already"), guard:
            pass
        with pytest.raises(EngineError, match="during its own call"):
            guard.close(lambda: freed.append(1))
    guard.close(lambda: freed.append(1))
    guard.close(lambda: freed.append(2))
    assert freed == [1]


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="needs fork")
@pytest.mark.parametrize("survives", [False, True])
@pytest.mark.parametrize("busy", [False, True])
def test_a_forked_child_may_use_what_survives_and_was_idle(survives: bool, busy: bool) -> None:
    guard, freed = CallGuard("the engine", survives_fork=survives), []
    inside, leave = threading.Event(), threading.Event()

    def call() -> None:
        with guard:
            inside.set()
            leave.wait(5)

    caller = threading.Thread(target=call)
    if busy:
        caller.start()
        inside.wait(5)
    child = os.fork()
    if not child:
        message = ""
        try:
            with guard:
                pass
        except EngineError as error:
            message = str(error)
        guard.close(lambda: freed.append(1))
        is_right = (not message) if survives and not busy else ("open one in the child" in message and not freed)
        os._exit(0 if is_right else 1)
    status = os.waitpid(child, 0)[1]
    leave.set()
    if busy:
        caller.join()
    assert status == 0 and guard.is_open


class Session(ProcessBound):
    pass


@pytest.mark.parametrize("transport", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_session_is_not_pickled(transport: Callable[[Session], object]) -> None:
    with pytest.raises(TypeError, match=r"a Session cannot be pickled or copied: open one in each process"):
        transport(Session())
