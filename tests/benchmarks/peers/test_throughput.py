"""Ratios are over the fastest comparable method; one real run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from synergy.benchmarks.peers import throughput
from synergy.benchmarks.peers.throughput import (
    CROPS,
    FLOAT32,
    PHOTOS,
    PICTURES,
    POOL,
    PREDICT,
    ThroughputCase,
    ThroughputReport,
    bench_throughput,
    seconds_until_done,
)
from synergy.runtime.aligner import FaceAligner
from synergy.runtime.faces import Detection
from synergy.runtime.specs import DEFAULT_OPTIONS


class KnownCase(ThroughputCase):
    """Its samples took the given seconds for `size`."""

    def __init__(self, method: str, size: int, times: Iterable[float], precision: str = "") -> None:
        super().__init__(method, "engine", 1, 1, size)
        self.samples = {number: [seconds] for number, seconds in enumerate(times)}
        self.precision = precision

    def run_sample(self, number: int) -> list[float]:
        raise AssertionError("the samples are given")


def ratios(cases: list[ThroughputCase], precisions: tuple[str, ...] | None) -> list[float | None]:
    return [row.ratio for row in throughput.throughput_rows(CROPS, cases, precisions)]


def test_ratios_are_by_round() -> None:
    slow, fast = KnownCase("slow", 16, [2.0, 4.0]), KnownCase("fast", 16, [1.0, 2.0])
    pool = KnownCase(POOL, 160, [5.0, 10.0])
    assert ratios([slow, fast, pool], FLOAT32) == [0.5, 1.0, 2.0]
    assert slow.per_s == 6.0 and pool.per_s == 24.0


def test_baseline_has_the_precision_of_the_pool() -> None:
    full, less = KnownCase("f32", 1, [2.0], "f32"), KnownCase("bf16", 1, [1.0], "bf16")
    pool = KnownCase(POOL, 1, [1.0])
    assert ratios([full, less, pool], FLOAT32) == [1.0, 2.0, 2.0]
    assert ratios([full, less, pool], None) == [0.5, 1.0, 1.0]


def test_predict_is_no_baseline() -> None:
    assert ratios([KnownCase("bare", 1, [2.0]), KnownCase(PREDICT, 1, [1.0])], FLOAT32) == [1.0, 2.0]


def test_no_ratio_without_a_baseline() -> None:
    assert ratios([KnownCase(POOL, 1, [1.0])], FLOAT32) == [None]


def test_all_results_are_consumed() -> None:
    seen = []
    assert 0 <= seconds_until_done(seen.append(each) for each in range(3)) < 1
    assert seen == [0, 1, 2]


def test_a_whole_run(tiny_bundle_copy: Path, synergy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(throughput, "ROUNDS", {CROPS: 1, PICTURES: 1, PHOTOS: 1})
    monkeypatch.setattr(throughput, "PICTURE_COUNT", 4)
    monkeypatch.setattr(throughput, "PHOTO_COUNT", 1)
    monkeypatch.setattr(throughput, "PICTURE_SIDE", 256)
    monkeypatch.setattr(FaceAligner, "detect", lambda *_: [Detection(np.array([90.0, 36, 135, 92]), 1.0)])
    bundle = tiny_bundle_copy  # the tuning file is written beside it
    assert synergy("bench", "throughput", bundle, "--json", tmp_path / "t.json")[0] == 0
    report = msgspec.json.decode((tmp_path / "t.json").read_bytes(), type=ThroughputReport)
    assert not report.failures and {row.work for row in report.rows} == {CROPS, PICTURES, PHOTOS}
    assert [row.workers for row in report.rows if row.method == POOL] == [throughput.default_workers()] * 3
    assert all(row.per_s > 0 and row.ratio for row in report.rows)
    libraries = [row for row in report.rows if row.work == CROPS and row.method not in (POOL, throughput.PREDICT)]
    assert {row.engine for row in libraries} == set(throughput.LIBRARIES)
    assert max(row.ratio or 0 for row in libraries if "bf16" not in row.method and "f16" not in row.method) == 1.0


def test_missing_bundle(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="synergy export"):
        bench_throughput(tmp_path / "none", DEFAULT_OPTIONS)
