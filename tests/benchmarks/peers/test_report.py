"""From samples with known times to the rows of the report."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from synergy.benchmarks.peers.report import fastest, network_rows, overhead_rows, peak_rows, pipeline_rows
from synergy.benchmarks.speed.cases import SessionCase
from synergy.benchmarks.speed.engine_process import ISOLATED, NETWORK, OVERHEAD, PIPELINE, SessionSpec, Workload
from synergy.benchmarks.speed.peak_flops import PRODUCT_FLOP, PeakCase

MULTIPLY_ADDS = 50_000_000


def case(
    name: str,
    kind: str,
    samples: list[list[float]],
    bare: list[list[float]] | None = None,
    is_bare: bool | None = None,
    threads: int = 2,
    batch: int = 4,
    precision: str = "",
) -> SessionCase:
    """A library used directly unless it has samples of a bare session to compare with."""
    model: Any = None
    direct = bare is None if is_bare is None else is_bare
    spec = SessionSpec(model, name, Path("b"), "model.x", model, threads, (4,), precision, direct)
    starts: Any = [SimpleNamespace(cold_start_s=start, rss_mb=100 * start) for start in (1.0, 3.0, 2.0)]
    made = SessionCase(spec, starts, Workload(kind, batch))
    made.samples = dict(enumerate(samples))
    made.bare_samples = dict(enumerate(bare or []))
    return made


def peak(threads: int, samples: list[list[float]]) -> Any:
    made = PeakCase.__new__(PeakCase)
    made.threads, made.samples = threads, dict(enumerate(samples))
    return made


BASE = case("onnxruntime", NETWORK, [[0.010, 0.010], [0.020]])
FAST = case("openvino", NETWORK, [[0.005, 0.005], [0.010]], precision="bf16")
PACKAGE = case("lite", OVERHEAD, [[0.011], [0.022, 0.022]], bare=[[0.010], [0.020]])


def test_rows_of_the_network() -> None:
    rows = list(network_rows([BASE, FAST, PACKAGE], [peak(2, [[0.1], [0.2]])], MULTIPLY_ADDS))
    assert [row.engine for row in rows] == ["onnxruntime (bare)", "openvino bf16 (bare)", "lite"]
    assert [row.is_bare for row in rows] == [True, True, False]
    assert [row.ratio_to_onnxruntime for row in rows] == [1.0, 0.5, pytest.approx(1.1)]
    first = rows[0]
    assert (first.artifact, first.device, first.threads, first.batch) == ("model.x", "cpu", 2, 4)
    assert (
        first.median_ms == pytest.approx(10) and first.p95_ms == pytest.approx(19) and first.fps == pytest.approx(400)
    )
    assert (first.cold_start_s, first.rss_mb) == (2.0, 200.0)
    flop = 2 * MULTIPLY_ADDS * 4
    assert first.gflops == pytest.approx(flop / 0.010 / 1e9)
    assert first.share_of_peak == pytest.approx((flop / 0.010) / (PRODUCT_FLOP / 0.1))
    assert rows[1].share_of_peak == pytest.approx(2 * first.share_of_peak)


def test_only_the_same_threads_and_batch_are_compared() -> None:
    alone = [case("lite", OVERHEAD, [[0.01]], [[0.01]], **other) for other in ({"threads": 1}, {"batch": 1})]
    rows = list(network_rows([BASE, *alone], [peak(2, [[0.1]])], MULTIPLY_ADDS))
    assert [(row.threads, row.batch) for row in rows] == [(1, 4), (2, 1), (2, 4)]
    assert [row.ratio_to_onnxruntime for row in rows] == [None, None, 1.0]
    assert rows[0].share_of_peak is None and rows[0].gflops is not None
    assert rows[1].share_of_peak is not None


def test_even_fps_compares_the_same_rounds() -> None:
    """A case that was measured only while the machine was four times slower is still as fast as the baseline."""
    base = case("onnxruntime", NETWORK, [[0.04], [0.01], [0.01]])
    early = case("lite", OVERHEAD, [[0.04]], [[0.04]])
    rows = list(network_rows([base, early], [], None))
    assert [row.fps for row in rows] == pytest.approx([400, 100])
    assert [row.even_fps for row in rows] == pytest.approx([400, 400])
    assert next(network_rows([early], [], None)).even_fps == pytest.approx(100)


def test_without_the_baseline_or_a_common_round() -> None:
    (row,) = network_rows([PACKAGE], [], None)
    assert (row.ratio_to_onnxruntime, row.gflops, row.share_of_peak) == (None, None, None)
    late = case("openvino", NETWORK, [])
    late.samples = {7: [0.01]}
    assert [row.ratio_to_onnxruntime for row in network_rows([BASE, late], [], None)] == [1.0, None]


def test_overhead_is_that_of_the_median_round() -> None:
    ours = case("onnx", OVERHEAD, [[0.011], [0.055], [0.012]], [[0.010], [0.050], [0.010]])
    away = case("onnx", ISOLATED, [[0.012]], [[0.010]])
    rows = list(overhead_rows([BASE, away, ours]))
    assert [(row.engine, row.isolated) for row in rows] == [("onnx", False), ("onnx", True)]
    assert rows[0].ratio == pytest.approx(1.1) and rows[0].added_ms == pytest.approx(2)
    assert rows[0].predict_ms == pytest.approx(12) and rows[0].bare_ms == pytest.approx(10)
    assert rows[1].ratio == pytest.approx(1.2) and rows[1].added_ms == pytest.approx(2)


def test_pipelines_are_separate_rows() -> None:
    base = case("onnxruntime", PIPELINE, [[0.004]], batch=1)
    ours = case("lite", PIPELINE, [[0.002]], bare=[], is_bare=False, batch=1)
    rows = list(pipeline_rows([BASE, PACKAGE, base, ours]))
    assert [(row.engine, row.ratio_to_onnxruntime) for row in rows] == [("onnxruntime (bare)", 1.0), ("lite", 0.5)]
    assert rows[1].fps == pytest.approx(500) and rows[1].median_ms == pytest.approx(2)
    assert [row.engine for row in network_rows([base, ours, PACKAGE], [], None)] == ["lite"]
    assert next(pipeline_rows([ours])).ratio_to_onnxruntime is None


def test_peaks() -> None:
    (row,) = peak_rows([peak(2, [[0.1], [0.3], [0.2]])])
    assert row.threads == 2 and row.gflops == pytest.approx(PRODUCT_FLOP / 0.2 / 1e9)


def test_fastest() -> None:
    rows = list(network_rows([BASE, FAST, PACKAGE], [], None))
    assert fastest(rows, lambda row: row.is_bare) is rows[1]
    assert fastest(rows, lambda row: not row.is_bare) is rows[2]
    assert fastest(rows, lambda row: False) is None
