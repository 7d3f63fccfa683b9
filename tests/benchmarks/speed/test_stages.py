"""Stages are measured on pictures of the stated size and number of faces."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from synergy.benchmarks.speed import stages, tracking_cost
from synergy.benchmarks.speed.stages import ROUNDS, STAGES, StageReport, median_ms, stage_picture
from synergy.runtime.aligner import FaceAligner
from synergy.runtime.faces import Detection
from synergy.runtime.media.image import decode_image


@pytest.mark.parametrize(("side", "faces"), [(512, 1), (300, 4)])
def test_picture_size_and_faces(side: int, faces: int) -> None:
    jpeg, detections = stage_picture(side, faces)
    assert decode_image(jpeg).shape == (side, side, 3) and len(detections) == faces
    assert np.allclose(detections[0].box_xyxy, np.array([180, 72, 270, 184]) * side / 512)


def test_medians_and_rounds(fake_clock) -> None:
    calls: dict[str, int] = {"short": 0, "long": 0}

    def run(name: str, seconds: float) -> None:
        calls[name] += 1
        fake_clock.run(seconds)

    stages_s = {"short": 0.02, "long": 0.4}
    runs = {name: lambda name=name: run(name, stages_s[name]) for name in stages_s}
    assert median_ms(runs, fake_clock.clock) == pytest.approx({"short": 20.0, "long": 400.0})
    assert calls == {"short": ROUNDS * (1 + 3), "long": 1 + 2}  # with the first call, which is not timed


def test_a_real_bundle(bundles: dict[str, Path], synergy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stages, "SIDES", (128, 256))
    monkeypatch.setattr(stages, "FACES_SIDE", 256)
    monkeypatch.setattr(stages, "ROUNDS", 2)
    monkeypatch.setattr(stages, "SAMPLE_S", 0.0)
    monkeypatch.setattr(tracking_cost, "FRAMES", 30)

    def detect(self: FaceAligner, image_bgr: np.ndarray) -> list[Detection]:
        return [] if self.detector is None else self.detector.detect(image_bgr)

    monkeypatch.setattr(FaceAligner, "detect", detect)  # the default detectors take longer than all other stages
    code, out, _ = synergy(
        "bench", "stages", bundles["mb05"], "--engine", "onnx", "--threads", 1, "--json", tmp_path / "s.json"
    )
    report = msgspec.json.decode((tmp_path / "s.json").read_bytes(), type=StageReport)
    assert code == 0 and (report.engine, report.artifact, report.threads) == ("onnx", "model.onnx", 1)
    assert [(row.side, row.faces) for row in report.rows] == [(128, 1), (256, 1), (256, 4), (256, 16)]
    assert all(tuple(row.ms) == STAGES and min(row.ms.values()) >= 0 for row in report.rows)
    assert all(row.ms["geometry"] > 0.01 for row in report.rows)
    one, many = report.rows[1].ms, report.rows[3].ms
    assert many["network"] > 2 * one["network"] and "encode png" in out
    assert report.tracking.frame_ms > report.tracking.network_ms > 0 and "tracking one face" in out
