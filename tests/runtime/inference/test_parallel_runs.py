"""Large batches run in several sessions at the same time; results are the same, and everything is closed."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from synergy.runtime.bundle import BUILTIN, Bundle
from synergy.runtime.engines.base import Engine
from synergy.runtime.errors import EngineError
from synergy.runtime.inference.predictor import PARALLEL_AFTER, PARALLEL_BATCH, PARALLEL_FROM, CropPredictor
from synergy.runtime.specs import DEFAULT_OPTIONS, Availability, Device, EngineOptions, ModelFile

THREADS = 3
PARTS = THREADS * (1 + PARALLEL_AFTER // (THREADS * PARALLEL_BATCH))  # a batch that runs in parallel at once


class MeetingEngine(Engine):
    """Returns the first pixel of each crop as its parameters. Runs of one thread wait until two are in progress."""

    name, formats, several_sessions, supports_affinity = "meeting", ("onnx",), True, True
    opened: list[MeetingEngine]

    def __init__(self, model: ModelFile, device: Device, threads: int, options: EngineOptions) -> None:
        super().__init__(model, device, threads, options)
        self.batches: list[int] = []
        self.opened.append(self)

    @classmethod
    def available(cls) -> Availability:
        return Availability(True, "")

    def _run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        self.batches.append(len(arrays[0]))
        if self.threads == 1:
            self.meeting.wait(10.0)
        pixels = arrays[0][:, 0, 0, :1].astype(np.float32)
        return [np.repeat(pixels, 62, axis=1), np.zeros((len(pixels), 3, 68), np.float32)]

    meeting: threading.Barrier


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[MeetingEngine]:
    """The engines that were opened, in order."""
    monkeypatch.setattr(MeetingEngine, "opened", [], raising=False)
    monkeypatch.setattr(MeetingEngine, "meeting", threading.Barrier(THREADS), raising=False)
    return MeetingEngine.opened


def open_predictor(threads: int = THREADS, options: EngineOptions = DEFAULT_OPTIONS) -> CropPredictor:
    bundle = Bundle.open(BUILTIN)
    specs = (tuple(tensor.spec for tensor in side) for side in (bundle.manifest.inputs, bundle.manifest.outputs))
    return CropPredictor(bundle, MeetingEngine(ModelFile(b"", "onnx", *specs), Device(), threads, options))


def numbered(count: int) -> np.ndarray:
    crops = np.zeros((count, 120, 120, 3), np.uint8)
    crops[:, 0, 0, 0] = np.arange(count) % 256
    return crops


def test_parts_run_side_by_side_and_keep_their_order(engines: list[MeetingEngine]) -> None:
    predictor = open_predictor()
    crops = numbered(PARTS * PARALLEL_BATCH)
    assert predictor.predict(crops).params[:, 0].tolist() == crops[:, 0, 0, 0].tolist()
    engine, *sessions = engines
    assert not engine.batches and [session.threads for session in sessions] == [1] * THREADS
    assert sorted(size for session in sessions for size in session.batches) == [PARALLEL_BATCH] * PARTS
    predictor.predict(crops)
    assert len(engines) == 1 + THREADS  # opened once
    engine.close()
    predictor.close()
    assert not any(session.is_open for session in sessions)
    with pytest.raises(EngineError, match="closed"):
        predictor.predict(crops)
    assert len(engines) == 1 + THREADS
    predictor.close()


@pytest.mark.parametrize(
    ("count", "calls", "threads", "options"),
    [
        (PARALLEL_FROM - 1, PARALLEL_AFTER, THREADS, EngineOptions()),  # never many at once
        (PARALLEL_FROM, PARALLEL_AFTER // PARALLEL_FROM - 1, THREADS, EngineOptions()),  # not often enough to pay
        (PARALLEL_AFTER, 2, 1, EngineOptions()),  # one thread
        (PARALLEL_AFTER, 2, THREADS, EngineOptions(affinity=tuple(sorted(os.sched_getaffinity(0)))[:1])),
    ],
)
def test_one_session_is_enough(
    engines: list[MeetingEngine], count: int, calls: int, threads: int, options: EngineOptions
) -> None:
    MeetingEngine.meeting = threading.Barrier(1)
    predictor = open_predictor(threads, options)
    crops = numbered(count)
    for _ in range(calls if count >= PARALLEL_FROM else 2):
        predictor.predict(crops)
    assert len(engines) == 1


def test_a_forked_process_does_not_use_the_sessions_of_its_parent(engines: list[MeetingEngine]) -> None:
    predictor = open_predictor()
    crops = numbered(PARTS * PARALLEL_BATCH)
    predictor.predict(crops)
    assert len(engines) == 1 + THREADS
    predictor.after_fork()
    predictor.predict(crops)
    assert sum(engines[0].batches) == len(crops) and len(engines) == 1 + THREADS


def test_an_error_of_one_part_is_the_error_of_the_call(
    engines: list[MeetingEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: MeetingEngine, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        raise EngineError(f"no result for {len(arrays[0])} crops")

    monkeypatch.setattr(MeetingEngine, "_run", fail)
    predictor = open_predictor()
    with pytest.raises(EngineError, match="no result for 16 crops"):
        predictor.predict(numbered(PARALLEL_AFTER))
