"""The cost of tracking is measured on a face that moves and is not lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synergy import FaceAligner
from synergy.benchmarks.speed.tracking_cost import SIZE_WH, SWAY_FRAMES, SWAY_PX, measure_tracking_cost, moving_portrait
from synergy.runtime.engines import Engine


def test_face_moves_with_its_box() -> None:
    frames = list(moving_portrait(SWAY_FRAMES))
    assert all(frame.shape == (SIZE_WH[1], SIZE_WH[0], 3) and frame.dtype == np.uint8 for frame, _ in frames)
    left = np.array([box[0] for _, box in frames])
    assert np.ptp(left) == pytest.approx(2 * SWAY_PX, abs=0.5)
    assert np.abs(np.diff(left)).max() < 3  # no faster than people move
    (still, box), (moved, other) = frames[0], frames[SWAY_FRAMES // 4]
    x1, y1, x2, y2 = np.rint(box).astype(int)
    shift = round(other[0] - box[0])
    face, again = still[y1:y2, x1:x2].astype(int), moved[y1:y2, x1 + shift : x2 + shift].astype(int)
    assert np.abs(face - again).mean() < 6 < np.abs(face - moved[y1:y2, x1:x2]).mean()


def test_a_real_bundle(bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The network runs twice per frame: in the tracker, and for the comparison."""
    runs = 0
    original = Engine.run

    def counted(engine: Engine, inputs: dict) -> dict:
        nonlocal runs
        runs += 1
        return original(engine, inputs)

    monkeypatch.setattr(Engine, "run", counted)
    with FaceAligner.load(bundles["mb05"], "onnx", threads=1) as aligner:
        found = measure_tracking_cost(aligner, frames=40)
    assert found.lost == 0 and found.frames == 40
    assert runs >= 2 * (40 + 20)
    assert found.frame_ms > found.network_ms > 0
    assert found.ratio == pytest.approx(found.frame_ms / found.network_ms) and found.frame_p95_ms >= found.frame_ms


def test_a_face_that_is_lost_is_counted(bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synergy.benchmarks.speed.tracking_cost.FaceTracker.track", lambda self, frame: [])
    with FaceAligner.load(bundles["mb05"], "onnx", threads=1) as aligner:
        assert measure_tracking_cost(aligner, frames=5).lost == 5
