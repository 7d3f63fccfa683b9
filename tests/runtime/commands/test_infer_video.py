"""`synergy infer` on videos: what `test_infer.py` does not show by running the command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from synergy.runtime.commands import infer_video
from synergy.runtime.commands.infer_video import VideoRun, engine_threads
from synergy.runtime.inference.worker import WorkerSetup
from synergy.runtime.media.layers import Layers
from synergy.runtime.specs import EngineOptions

SETUP = WorkerSetup(Path("bundle"))
DRAWN = VideoRun(SETUP, Path("out"), None, 50, True, Layers())


@pytest.mark.parametrize(
    ("run", "cores", "threads"),
    [
        (DRAWN, 1, 1),
        (DRAWN, 2, 1),
        (DRAWN, 8, 7),
        (replace(DRAWN, out=None), 8, None),
        (replace(DRAWN, setup=replace(SETUP, threads=8)), 8, 8),
        (replace(DRAWN, setup=replace(SETUP, device="gpu:0")), 8, None),
        (replace(DRAWN, setup=replace(SETUP, options=EngineOptions(affinity=(0, 1)))), 8, None),
    ],
)
def test_a_core_is_left_for_drawing(
    monkeypatch: pytest.MonkeyPatch, run: VideoRun, cores: int, threads: int | None
) -> None:
    monkeypatch.setattr(infer_video, "default_threads", lambda: cores)
    assert engine_threads(run) == threads
