"""Landmark jitter: with a real network, without noise, and with a network that loses the face."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synergy.benchmarks.accuracy import jitter
from synergy.benchmarks.accuracy.jitter import FRAMES, SETTLED, measure_jitter, noise_sigma, noisy_frames
from synergy.benchmarks.sample_crops import PORTRAIT
from synergy.runtime.aligner import FaceAligner
from synergy.runtime.media.image import read_image


def test_noise_is_of_the_stated_strength_and_new_in_each_frame() -> None:
    image = read_image(PORTRAIT).astype(np.float64)
    one, other = (frame.astype(np.float64) for frame in noisy_frames(2))
    middle = (image > 110) & (image < 145)  # far from 0 and 255, where it is cut
    assert (one - image)[middle].std() == pytest.approx(float(noise_sigma(np.array(127.5))), rel=0.03)
    assert abs((one - image)[middle].mean()) < 0.1
    assert np.corrcoef((one - image)[middle], (other - image)[middle])[0, 1] == pytest.approx(0, abs=0.02)
    assert noise_sigma(np.array(0.0)) < noise_sigma(np.array(200.0))


def test_frames_are_the_same_in_every_run() -> None:
    assert all(np.array_equal(a, b) for a, b in zip(noisy_frames(2), noisy_frames(2), strict=True))


def test_smoothing_reduces_jitter(bundles: dict[str, Path]) -> None:
    with FaceAligner.load(bundles["mb05"], "onnx", threads=1) as aligner:
        found = measure_jitter(aligner)
    assert (found.engine, found.frames) == ("onnx", FRAMES) and 4 < found.noise_sigma < 6
    assert 0.05 < found.raw_percent < 5 and 0 < found.smoothed_percent < found.raw_percent / 3
    assert found.smoothed_px / found.smoothed_percent == pytest.approx(found.raw_px / found.raw_percent, rel=0.05)


def test_no_jitter_without_noise(bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jitter, "noisy_frames", lambda count: [read_image(PORTRAIT)] * count)
    with FaceAligner.load(bundles["mb05"], "onnx", threads=1) as aligner:
        found = measure_jitter(aligner, SETTLED + 2)
    assert found.raw_px == found.raw_percent == 0
    assert found.smoothed_px == pytest.approx(0, abs=1e-5)  # of float32 landmarks


def test_a_network_that_loses_the_face(tiny_bundle: Path) -> None:
    pytest.importorskip("onnxruntime")
    with FaceAligner.load(tiny_bundle, "onnx", threads=1) as aligner, pytest.raises(ValueError, match="loses a face"):
        measure_jitter(aligner)


def test_too_few_frames(tiny_bundle: Path) -> None:
    pytest.importorskip("onnxruntime")
    with FaceAligner.load(tiny_bundle, "onnx", threads=1) as aligner, pytest.raises(ValueError, match="12 or more"):
        measure_jitter(aligner, 11)
