"""Computing items in a thread does not change them or their order."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from synergy.runtime.processes.prefetch import prefetch, start_in_thread


def stages() -> int:
    return threading.active_count()


@pytest.mark.parametrize("depth", [1, 4])
@pytest.mark.parametrize("count", [0, 1, 50])
def test_same_items_in_order(depth: int, count: int) -> None:
    before = stages()
    assert list(prefetch(iter(range(count)), depth)) == list(range(count))
    assert stages() == before


def test_an_item_may_be_none() -> None:
    assert list(prefetch([None, 0, None], 1)) == [None, 0, None]


def test_it_runs_ahead_by_depth_and_no_more() -> None:
    made = 0

    def items() -> Iterator[int]:
        nonlocal made
        while True:
            made += 1
            yield made

    stream = prefetch(items(), 3)
    assert next(stream) == 1
    end = time.perf_counter() + 5
    while made < 5 and time.perf_counter() < end:
        time.sleep(0.01)
    time.sleep(0.05)
    assert made == 5  # one taken, three that wait, one at the door
    stream.close()


def test_stages_overlap() -> None:
    """The second item is being made while the first is in use: each waits for the other."""
    in_use, made = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 1
        assert in_use.wait(10)
        made.set()
        yield 2

    stream = prefetch(items(), 1)
    assert next(stream) == 1
    in_use.set()
    assert made.wait(10)
    assert list(stream) == [2]


def test_an_error_comes_in_its_place_and_leaves_no_thread() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("lost")

    before = stages()
    stream = prefetch(items(), 4)
    assert next(stream) == 1
    with pytest.raises(KeyError, match="lost"):
        next(stream)
    assert stages() == before


def test_closing_early_leaves_no_thread() -> None:
    before = stages()
    stream = prefetch(itertools.count(), 2)
    next(stream)
    stream.close()
    assert stages() == before


def test_begun_is_under_way_before_it_is_asked_for() -> None:
    started = threading.Event()

    def work() -> int:
        started.set()
        return 7

    result = start_in_thread(work)
    assert started.wait(5)
    assert result() == 7


def test_what_was_begun_raises_where_it_is_asked_for() -> None:
    def fail() -> int:
        raise ValueError("no such thing")

    before = stages()
    result = start_in_thread(fail)
    with pytest.raises(ValueError, match="no such thing"):
        result()
    end = time.monotonic() + 5
    while stages() > before and time.monotonic() < end:
        time.sleep(0.01)
    assert stages() == before
