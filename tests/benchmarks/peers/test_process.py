"""One session in its process: what is timed, in which order, and how it fails and ends."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

import numpy as np
import pytest

from synergy.benchmarks.peers.pipeline import Picture
from synergy.benchmarks.peers.process import (
    ISOLATED,
    LEAST_RUNS,
    NETWORK,
    OVERHEAD,
    PATH,
    SessionInputs,
    SessionProcess,
    SessionSpec,
    Workload,
    clock,
    processor_time,
)
from synergy.benchmarks.sample_crops import PORTRAIT, PORTRAIT_BOX_XYXY
from synergy.benchmarks.speed.interleave import SAMPLE_S
from synergy.runtime.bundle import Bundle
from synergy.runtime.errors import EngineError

LOAD = SessionInputs(np.zeros((4, 120, 120, 3), np.uint8), Picture(PORTRAIT.read_bytes(), PORTRAIT_BOX_XYXY))


def spec(folder: Path, name: str, is_ours: bool) -> SessionSpec:
    model = Bundle.open(folder).model_file(Bundle.open(folder).manifest.artifacts[0])
    return SessionSpec(name, is_ours, folder, "model.onnx", model, 1, (1, 4))


def has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_who_takes_turns_within_a_turn_alternates() -> None:
    order: list[str] = []
    times = clock([lambda: order.append("a"), lambda: order.append("b")])
    assert "".join(order[:6]) == "ababab"  # the first of each is not counted
    assert len(times[0]) == len(times[1]) == len(order) // 2 - 1


def test_long_runs_are_timed_twice_at_least() -> None:
    (times,) = clock([lambda: time.sleep(2 * SAMPLE_S)])
    assert len(times) == LEAST_RUNS and min(times) >= 2 * SAMPLE_S


def test_a_turn_ends_at_rest_by_the_given_clock() -> None:
    asked = []

    def used() -> float:
        asked.append(time.perf_counter())
        return time.process_time() + (0.0 if len(asked) > 20 else len(asked))  # as if another process were busy

    clock([lambda: None], used)
    assert len(asked) > 20


def test_processor_time_of_another_process() -> None:
    assert processor_time(os.getpid()) == pytest.approx(time.process_time(), abs=0.5) or not hasattr(os, "fork")
    assert processor_time(1 << 22) == 0.0  # no such process


def test_ours_takes_every_kind_of_turn(tiny_bundle: Path) -> None:
    pytest.importorskip("onnxruntime")
    process = SessionProcess(spec(tiny_bundle, "onnx", is_ours=True), LOAD)
    try:
        assert 0.05 < process.cold_start_s < 60 and 20 < process.rss_mb < 2000
        found = {what: process.turn(Workload(what, 4)) for what in (OVERHEAD, ISOLATED, PATH)}
        assert {what: len(times) for what, times in found.items()} == {OVERHEAD: 2, ISOLATED: 2, PATH: 1}
        assert all(len(runs) >= LEAST_RUNS and 0 < min(runs) < 1 for times in found.values() for runs in times)
    finally:
        process.close()
    assert has_ended(process.child.process.pid)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_peer_takes_its_turns(tiny_bundle: Path, name: str) -> None:
    pytest.importorskip(name)
    process = SessionProcess(spec(tiny_bundle, name, is_ours=False), LOAD)
    try:
        assert [len(process.turn(Workload(NETWORK, batch))) for batch in (1, 4)] == [1, 1]
        assert len(process.turn(Workload(PATH))) == 1
    finally:
        process.close()


def test_a_model_that_does_not_load_ends_the_process_with_the_cause(tiny_bundle: Path) -> None:
    pytest.importorskip("onnxruntime")
    good = spec(tiny_bundle, "onnxruntime", is_ours=False)
    broken = dataclasses.replace(good, model=dataclasses.replace(good.model, data=b"no model"))
    with pytest.raises(EngineError, match=r"(?i)protobuf"):
        SessionProcess(broken, LOAD)


def test_a_closed_process_says_so(tiny_bundle: Path) -> None:
    pytest.importorskip("onnxruntime")
    process = SessionProcess(spec(tiny_bundle, "onnxruntime", is_ours=False), LOAD)
    process.close()
    process.close()
    with pytest.raises(EngineError, match="onnxruntime's benchmark is closed"):
        process.turn(Workload(NETWORK))
