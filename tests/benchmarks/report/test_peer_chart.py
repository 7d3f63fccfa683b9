"""The chart that is a file: valid SVG, bars as long as their values, nothing that is fetched or run."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from synergy.benchmarks.peers.report import PeerReport, PeerRow
from synergy.benchmarks.report.charts import Bar
from synergy.benchmarks.report.peer_chart import MARGIN_PX, WIDTH_PX, Group, bar_groups, peers_chart
from synergy.runtime.diagnostics.host import describe_host

SVG = "{http://www.w3.org/2000/svg}"


def row(engine: str, threads: int, batch: int, fps: float, ratio: float | None = 1.0) -> PeerRow:
    return PeerRow(engine, "model.onnx", "cpu", threads, batch, 1e3, 9.9, 1.0, 0.5, 100.0, ratio, even_fps=fps)


def report(*rows: PeerRow) -> PeerReport:
    return PeerReport(describe_host(), "mb05", rows, (), (), (), None, None)


def bars(text: str) -> list[tuple[str, float]]:
    """Series and width of each, from top to bottom."""
    found = ElementTree.fromstring(text).iter(f"{SVG}rect")
    return [(bar.get("class", ""), float(bar.get("width", 0))) for bar in found if bar.get("class") != "card"]


def words(text: str) -> list[str]:
    return [each.text or "" for each in ElementTree.fromstring(text).iter(f"{SVG}text")]


def test_bars_of_most_threads_by_batch_the_fastest_first() -> None:
    text = peers_chart(report(
        row("lite", 1, 1, 999.0), row("onnxruntime (bare)", 2, 1, 200.0), row("lite", 2, 1, 400.0, 0.5),
        row("onnxruntime (bare)", 2, 16, 800.0), row("lite", 2, 16, 100.0, None),
    ))  # fmt: skip
    (a, first), (b, second), (c, third), (d, fourth) = bars(text)
    assert (a, b, c, d) == ("ours", "peer", "peer", "ours")
    widths = [first, second, third, fourth]
    assert widths == pytest.approx([third / 2, third / 4, third, third / 8], rel=1e-3)
    shown = words(text)
    assert [each for each in shown if "at a time" in each] == ["one face at a time", "16 faces at a time"]
    assert shown.index("lite") < shown.index("onnxruntime (bare)") and "999" not in shown
    assert shown[shown.index("400") + 1] == "2.00x" and shown[shown.index("100") + 1] == ""
    assert any("mb05" in each and "2 threads" in each for each in shown)


def test_it_stands_alone_and_inside_its_card() -> None:
    text = peers_chart(report(row("openvino bf16 (bare)", 2, 16, 12345.0), row("lite", 2, 16, 1.0)))
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg" and root.get("width") == str(WIDTH_PX)
    assert "prefers-color-scheme:dark" in text and "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert not list(root.iter(f"{SVG}script")) and not list(root.iter(f"{SVG}image"))
    height = float(root.get("height", 0))
    for each in root.iter(f"{SVG}text"):
        left, right = float(each.get("x", 0)), float(each.get("x", 0))
        length = 8 * len(each.text or "")
        if each.get("text-anchor") == "end":
            left -= length
        else:
            right += length if each.get("class") in ("value", "ratio") else 0
        assert left >= MARGIN_PX / 2 and right <= WIDTH_PX - MARGIN_PX / 2, each.text
        assert 0 < float(each.get("y", 0)) < height


def test_names_are_text() -> None:
    text = bar_groups("<b>", "&", [Group("<g>", [Bar("<i>", 1.0, "1\t<x>", "ours")])], ["<note>"])
    assert {"<b>", "&", "<g>", "<i>", "<x>", "<note>"} <= set(words(text))


def test_bars_of_nothing_are_drawn() -> None:
    assert bars(bar_groups("t", "a", [Group("g", [Bar("x", 0.0, "0", "ours")])], [])) == [("ours", 1.0)]
    assert bars(bar_groups("t", "a", [], [])) == []


def test_nothing_measured() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        peers_chart(report())
