"""From turns to rows: contenders whose times are known."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from synergy.benchmarks.peers.process import ISOLATED, NETWORK, OVERHEAD, PATH, SessionSpec, Workload
from synergy.benchmarks.peers.report import (
    SessionCase,
    fastest,
    network_rows,
    overhead_rows,
    path_rows,
    peak_rows,
)
from synergy.benchmarks.speed.peak_flops import PRODUCT_FLOP

MULTIPLY_ADDS = 50_000_000


def case(
    name: str, what: str, samples: list[list[float]], bare: list[list[float]] | None = None, **changes: Any
) -> SessionCase:
    """Of 2 threads and batch 4 unless told; ours if it has bare turns."""
    setting = {"threads": 2, "batch": 4, "precision": "", "is_ours": bare is not None, **changes}
    model: Any = None
    batch = setting.pop("batch")
    spec = SessionSpec(
        name, setting["is_ours"], Path("b"), "model.x", model, setting["threads"], (4,), setting["precision"]
    )
    starts: Any = [SimpleNamespace(cold_start_s=start, rss_mb=100 * start) for start in (1.0, 3.0, 2.0)]
    made = SessionCase(spec, starts, Workload(what, batch))
    made.samples = dict(enumerate(samples))
    made.bare_samples = dict(enumerate(bare or []))
    return made


def peak(threads: int, samples: list[list[float]]) -> Any:
    return SimpleNamespace(threads=threads, samples=dict(enumerate(samples)))


BASE = case("onnxruntime", NETWORK, [[0.010, 0.010], [0.020]])
FAST = case("openvino", NETWORK, [[0.005, 0.005], [0.010]], precision="bf16")
OURS = case("lite", OVERHEAD, [[0.011], [0.022, 0.022]], bare=[[0.010], [0.020]])


def test_rows_of_the_network() -> None:
    rows = list(network_rows([BASE, FAST, OURS], [peak(2, [[0.1], [0.2]])], MULTIPLY_ADDS))
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


def test_speeds_to_compare_are_of_the_same_rounds() -> None:
    """One that played only while the machine was four times slower is as fast as the baseline all the same."""
    base = case("onnxruntime", NETWORK, [[0.04], [0.01], [0.01]])
    early = case("lite", OVERHEAD, [[0.04]], [[0.04]])
    rows = list(network_rows([base, early], [], None))
    assert [row.fps for row in rows] == pytest.approx([400, 100])
    assert [row.even_fps for row in rows] == pytest.approx([400, 400])
    assert next(network_rows([early], [], None)).even_fps == pytest.approx(100)


def test_without_the_baseline_or_a_common_round() -> None:
    (row,) = network_rows([OURS], [], None)
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


def test_paths_are_apart_from_networks() -> None:
    base = case("onnxruntime", PATH, [[0.004]], batch=1)
    ours = case("lite", PATH, [[0.002]], bare=[], is_ours=True, batch=1)
    rows = list(path_rows([BASE, OURS, base, ours]))
    assert [(row.engine, row.ratio_to_onnxruntime) for row in rows] == [("onnxruntime (bare)", 1.0), ("lite", 0.5)]
    assert rows[1].fps == pytest.approx(500) and rows[1].median_ms == pytest.approx(2)
    assert [row.engine for row in network_rows([base, ours, OURS], [], None)] == ["lite"]
    assert next(path_rows([ours])).ratio_to_onnxruntime is None


def test_peaks() -> None:
    (row,) = peak_rows([peak(2, [[0.1], [0.3], [0.2]])])
    assert row.threads == 2 and row.gflops == pytest.approx(PRODUCT_FLOP / 0.2 / 1e9)


def test_fastest_is_of_most_faces_per_second() -> None:
    rows = list(network_rows([BASE, FAST, OURS], [], None))
    assert fastest(rows, lambda row: row.is_bare) is rows[1]
    assert fastest(rows, lambda row: not row.is_bare) is rows[2]
    assert fastest(rows, lambda row: False) is None


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (BASE, "model.x on onnxruntime (bare), 2 threads, batch 4"),
        (FAST, "model.x on openvino bf16 (bare), 2 threads, batch 4"),
        (
            case("lite", ISOLATED, [], [], is_ours=True, threads=1),
            "model.x on lite, 1 thread in a child process, batch 4",
        ),
        (case("lite", PATH, [], [], is_ours=True), "model.x on lite, 2 threads, picture to landmarks"),
    ],
)
def test_contenders_name_themselves(made: SessionCase, text: str) -> None:
    assert str(made) == text
