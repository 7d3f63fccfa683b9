"""Worker pools, with stub workers: order, bounded memory, one retry, no deadlock when closing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from synergy.runtime.errors import BundleError, ChildDiedError, EngineError
from synergy.runtime.processes.worker_pool import JOBS_PER_WORKER, WorkerPool


class Toy:
    """Answers n with n * n; a job in `deadly` kills it, as often as the number there says."""

    def __init__(self, deadly: dict[int, int] | None = None, slow: set[int] | None = None) -> None:
        self.deadly = {} if deadly is None else deadly
        self.slow = slow or set()
        self.ended = threading.Event()

    def ask(self, request: list[int]) -> list[int]:
        for number in request:
            if self.deadly.get(number, 0) > 0:
                self.deadly[number] -= 1
                raise ChildDiedError(f"the process of a toy died on {number}")
            if number < 0:
                raise ValueError(f"{number} is below 0")
            if number in self.slow and self.ended.wait(30):
                raise ChildDiedError("killed")
        return [number * number for number in request]

    def close(self) -> None:
        self.ended.set()

    def kill(self) -> None:
        self.ended.set()


def pool_of(count: int, toys: list[Toy], **options: Any) -> WorkerPool[list[int], list[int]]:
    def start() -> Toy:
        toys.append(Toy(**options))
        return toys[-1]

    return WorkerPool(start, count, lambda job: [[each] for each in job], lambda job, death: [-1 for _ in job])


def flat(results: Iterator[list[list[int]]]) -> list[int]:
    return [number for parts in results for part in parts for number in part]


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("jobs", [0, 1, 3, 40])
def test_results_come_in_order(count: int, jobs: int) -> None:
    with pool_of(count, []) as pool:
        assert flat(pool.map([[n] for n in range(jobs)])) == [n * n for n in range(jobs)]


def test_a_pool_serves_again() -> None:
    with pool_of(2, []) as pool:
        assert flat(pool.map([[1], [2]])) + flat(pool.map([[3]])) == [1, 4, 9]


def test_jobs_are_taken_as_they_are_needed() -> None:
    taken = 0

    def jobs() -> Iterator[list[int]]:
        nonlocal taken
        for taken in range(1, 1001):
            yield [taken]

    with pool_of(2, []) as pool:
        for number, _ in enumerate(pool.map(jobs()), start=1):
            assert taken <= number + JOBS_PER_WORKER * 2


def test_a_death_costs_one_retry_of_each_part() -> None:
    toys: list[Toy] = []
    with pool_of(2, toys, deadly={4: 1}) as pool:
        assert flat(pool.map([[1, 2], [3, 4, 5], [6]])) == [1, 4, 9, 16, 25, 36]
    assert len(toys) == 3 and all(toy.ended.is_set() for toy in toys)


def test_what_kills_twice_is_given_up_alone() -> None:
    toys: list[Toy] = []
    with pool_of(2, toys, deadly={4: 9}) as pool:
        assert flat(pool.map([[1, 2], [3, 4, 5], [6], [7]])) == [1, 4, 9, -1, 25, 36, 49]
    assert len(toys) == 4  # one successor for each death


def test_errors_are_raised_and_the_pool_goes_on() -> None:
    with pool_of(2, []) as pool:
        results = pool.map([[1], [-2], [3]])
        assert next(results) == [[1]]
        with pytest.raises(ValueError, match="-2 is below 0"):
            next(results)
        assert flat(pool.map([[3]])) == [9]


def test_a_worker_that_does_not_start_ends_those_that_did() -> None:
    toys: list[Toy] = []

    def start() -> Toy:
        if toys:
            raise EngineError("no room for a second one")
        toys.append(Toy())
        return toys[0]

    with pytest.raises(EngineError, match="no room"):
        WorkerPool(start, 2, lambda job: [job], lambda job, death: job)
    assert toys[0].ended.is_set()


@pytest.mark.parametrize("consumed", [0, 1])
def test_leaving_in_the_middle_kills_who_is_busy(consumed: int) -> None:
    toys: list[Toy] = []
    start = time.perf_counter()
    with pool_of(2, toys, slow={2, 3, 4, 5}) as pool:
        results = pool.map([[n] for n in range(1, 6)])
        for _ in range(consumed):
            next(results)
        results.close()
    assert time.perf_counter() - start < 5
    assert len(toys) == 2 and all(toy.ended.is_set() for toy in toys)  # and nobody was hired for the dead
    with pytest.raises(EngineError, match="closed"):
        pool.send_request([1])


def test_closing_twice() -> None:
    pool = pool_of(2, [])
    pool.close()
    pool.close()


def test_a_worker_that_cannot_be_replaced_ends_the_pool_with_the_reason() -> None:
    toys: list[Toy] = []

    def start() -> Toy:
        if toys:
            raise BundleError("another bundle is there")
        toys.append(Toy({3: 1}))
        return toys[0]

    with WorkerPool(start, 1, lambda job: [job], lambda job, death: [-1]) as pool:
        results = pool.map([[1], [3], [4]])
        assert next(results) == [[1]]
        with pytest.raises(BundleError, match="another bundle"):
            list(results)
        with pytest.raises(EngineError, match="another bundle"):
            pool.map([[1]])
