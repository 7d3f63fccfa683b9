"""Stages are measured on pictures of the size and with the faces that the table says."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from synergy.benchmarks.speed import stages
from synergy.benchmarks.speed import tracking_cost as following
from synergy.benchmarks.speed.stages import STAGES, StageReport, _medians, _picture
from synergy.runtime.aligner import FaceAligner
from synergy.runtime.media.image import decode_image


@pytest.mark.parametrize(("side", "faces"), [(512, 1), (300, 4)])
def test_the_picture_is_as_large_as_it_says(side: int, faces: int) -> None:
    jpeg, detections = _picture(side, faces)
    assert decode_image(jpeg).shape == (side, side, 3) and len(detections) == faces
    assert np.allclose(detections[0].box_xyxy, np.array([180, 72, 270, 184]) * side / 512)


def test_what_takes_longer_has_more_ms(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    found = _medians({"short": lambda: time.sleep(0.001), "long": lambda: time.sleep(0.02)})
    assert 1.0 <= found["short"] < found["long"] and found["long"] >= 20.0


def test_a_real_bundle(bundles: dict[str, Path], synergy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stages, "SIDES", (128, 256))
    monkeypatch.setattr(stages, "MIDDLE", 256)
    monkeypatch.setattr(stages, "ROUNDS", 2)
    monkeypatch.setattr(stages, "TURN_S", 0.0)
    monkeypatch.setattr(following, "FRAMES", 30)
    monkeypatch.setattr(FaceAligner, "detect", lambda *_: [])
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
    assert report.following.frame_ms > report.following.network_ms > 0 and "following one face" in out
