"""Use one object from several threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any


def run_in_threads(works: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def wrong_results(
    run: Callable[[Any], Any], inputs: Sequence[Any], same: Callable[[Any, Any], bool], rounds: int = 6
) -> list[str]:
    """Call `run` with each input in a thread of its own, `rounds` times; what differs from the result alone."""
    alone = [run(each) for each in inputs]
    found: list[str] = []

    def work(which: int) -> None:
        for _ in range(rounds):
            try:
                if not same(run(inputs[which]), alone[which]):
                    found.append(f"another result for input {which}")
            except Exception as error:
                found.append(repr(error))

    run_in_threads([lambda which=which: work(which) for which in range(len(inputs))])
    return found


def errors_of_calls_while_closing(run: Callable[[], object], close: Callable[[], None]) -> list[Exception]:
    """Two threads call `run` until it raises, the object is closed meanwhile; both errors."""
    errors: list[Exception] = []

    def work() -> None:
        try:
            while True:
                run()
        except Exception as error:
            errors.append(error)

    def close_later() -> None:
        time.sleep(0.05)
        close()

    run_in_threads([work, work, close_later])
    return errors
