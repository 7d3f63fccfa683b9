"""The chart that is a file: valid SVG, bars as long as their values, no scripts and nothing to fetch."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from matplotlib.colors import to_hex

from synergy.benchmarks.peers.report import PeerReport, PeerRow
from synergy.benchmarks.report.charts import SERIES
from synergy.benchmarks.report.peer_chart import WIDTH_PX, peers_chart, peers_figure
from synergy.runtime.diagnostics.host import describe_host

SVG = "{http://www.w3.org/2000/svg}"


def row(engine: str, threads: int, batch: int, fps: float, ratio: float | None = 1.0) -> PeerRow:
    return PeerRow(engine, "model.onnx", "cpu", threads, batch, 1e3, 9.9, 1.0, 0.5, 100.0, ratio, even_fps=fps)


def report(*rows: PeerRow, network: str = "mb05") -> PeerReport:
    return PeerReport(describe_host(), network, rows, (), (), (), None, None)


def words(text: str) -> list[str]:
    return [each.text or "" for each in ElementTree.fromstring(text).iter(f"{SVG}text")]


def test_bars_of_most_threads_by_batch_the_fastest_first() -> None:
    measured = report(
        row("lite", 1, 1, 999.0), row("onnxruntime (bare)", 2, 1, 200.0), row("lite", 2, 1, 400.0, 0.5),
        row("onnxruntime (bare)", 2, 16, 800.0), row("lite", 2, 16, 100.0, None),
    )  # fmt: skip
    bars = peers_figure(measured).axes[0].patches[1:]  # the first is the background
    colours = [to_hex(bar.get_facecolor()) for bar in bars]
    assert colours == [SERIES[name] for name in ("ours", "peer", "peer", "ours")]
    longest = bars[2].get_width()
    assert [bar.get_width() for bar in bars] == pytest.approx([longest / 2, longest / 4, longest, longest / 8])
    shown = words(peers_chart(measured))
    assert [each for each in shown if "per run" in each] == ["one face per run", "16 faces per run"]
    assert shown.index("lite") < shown.index("onnxruntime (bare)") and "999" not in shown
    assert shown[shown.index("400") + 1] == "2.00x" and "x" not in shown[shown.index("100") + 1][-1:]
    assert any("mb05" in each and "2 threads" in each for each in shown)


def test_it_stands_alone_and_is_reproducible() -> None:
    measured = report(row("openvino bf16 (bare)", 2, 16, 12345.0), row("lite", 2, 16, 1.0))
    text = peers_chart(measured)
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg" and root.get("width") == str(WIDTH_PX) and text == peers_chart(measured)
    assert "prefers-color-scheme:dark" in text and "http" not in text.replace("http://www.w3.org/", "")
    assert not list(root.iter(f"{SVG}script")) and not list(root.iter(f"{SVG}image"))


def test_everything_is_inside_the_chart() -> None:
    figure = peers_figure(report(row("openvino bf16 (bare)", 2, 16, 12345.0), row("lite", 2, 16, 1.0)))
    figure.draw_without_rendering()
    for text in figure.axes[0].texts:
        box = text.get_window_extent().transformed(figure.transFigure.inverted())
        assert 0 < box.x0 < box.x1 < 1 and 0 < box.y0 < box.y1 < 1, text.get_text()


def test_names_are_text() -> None:
    assert {"<i> & $x$", "12"} <= set(words(peers_chart(report(row("<i> & $x$", 1, 1, 12.0), network="<b>"))))


def test_bars_of_nothing_are_drawn() -> None:
    assert [bar.get_width() for bar in peers_figure(report(row("lite", 1, 1, 0.0))).axes[0].patches[1:]] == [1]


def test_nothing_measured() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        peers_chart(report())
