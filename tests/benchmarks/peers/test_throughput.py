"""Ratios are over the fastest that is alike, and everyone does what their row says."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from synergy.benchmarks.peers import throughput
from synergy.benchmarks.peers.throughput import (
    CROPS,
    EXACT,
    PHOTOS,
    PICTURES,
    POOL,
    ThroughputCase,
    ThroughputReport,
    bench_throughput,
    clocked,
)
from synergy.runtime.aligner import FaceAligner
from synergy.runtime.engines import DEFAULT_OPTIONS
from synergy.runtime.faces import Detection


class Told(ThroughputCase):
    """Who is as fast as it was told, in seconds for `size`."""

    def __init__(self, who: str, size: int, times: Iterable[float], precision: str = "") -> None:
        super().__init__(who, "engine", 1, 1, size)
        self.samples = {number: [seconds] for number, seconds in enumerate(times)}
        self.precision = precision

    def run_sample(self, number: int) -> list[float]:
        raise AssertionError("has played")


def ratios(entrants: list[ThroughputCase], precisions: tuple[str, ...] | None) -> list[float | None]:
    return [row.ratio for row in throughput._rows(CROPS, entrants, precisions)]


def test_ratios_are_of_units_per_second_in_the_same_round() -> None:
    slow, fast = Told("slow", 16, [2.0, 4.0]), Told("fast", 16, [1.0, 2.0])
    pool = Told(POOL, 160, [5.0, 10.0])
    assert ratios([slow, fast, pool], EXACT) == [0.5, 1.0, 2.0]
    assert slow.per_s == 6.0 and pool.per_s == 24.0


def test_the_base_computes_in_the_same_type() -> None:
    full, less = Told("f32", 1, [2.0], "f32"), Told("bf16", 1, [1.0], "bf16")
    pool = Told(POOL, 1, [1.0])
    assert ratios([full, less, pool], EXACT) == [1.0, 2.0, 2.0]
    assert ratios([full, less, pool], None) == [0.5, 1.0, 1.0]


def test_without_a_single_one_there_is_no_ratio() -> None:
    assert ratios([Told(POOL, 1, [1.0])], EXACT) == [None]


def test_results_are_waited_for() -> None:
    seen = []
    assert 0 <= clocked(seen.append(each) for each in range(3)) < 1
    assert seen == [0, 1, 2]


def test_a_real_bundle(bundles: dict[str, Path], synergy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(throughput, "ROUNDS", {CROPS: 1, PICTURES: 1, PHOTOS: 1})
    monkeypatch.setattr(throughput, "PICTURE_COUNT", 4)
    monkeypatch.setattr(throughput, "PHOTO_COUNT", 1)
    monkeypatch.setattr(throughput, "PICTURE_SIDE", 256)
    monkeypatch.setattr(FaceAligner, "detect", lambda *_: [Detection(np.array([90.0, 36, 135, 92]), 1.0)])
    bundle = shutil.copytree(bundles["mb05"], tmp_path / "mb05")  # what auto finds lies beside it
    assert synergy("bench", "throughput", bundle, "--json", tmp_path / "t.json")[0] == 0
    report = msgspec.json.decode((tmp_path / "t.json").read_bytes(), type=ThroughputReport)
    assert not report.failures and {row.work for row in report.rows} == {CROPS, PICTURES, PHOTOS}
    assert [row.workers for row in report.rows if row.who == POOL] == [throughput.default_workers()] * 3
    assert all(row.per_s > 0 and row.ratio for row in report.rows)
    peers = [row for row in report.rows if row.work == CROPS and row.who != POOL]
    assert {row.engine for row in peers} == {"onnxruntime", "openvino"}
    assert max(row.ratio or 0 for row in peers if "bf16" not in row.who and "f16" not in row.who) == 1.0


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="synergy export"):
        bench_throughput(tmp_path / "none", DEFAULT_OPTIONS)
