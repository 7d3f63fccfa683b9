"""`synergy bench --peers` as it is typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from synergy.runtime.engines import available

Run = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.skipif(not available("onnx").ok, reason="the first peer is onnxruntime")


def test_peers_with_json_and_chart(synergy: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    data, chart = tmp_path / "peers.json", tmp_path / "peers.svg"
    quick = ("--engine", "onnx", "--threads", 1, "--batch", 1, "--batch", 2, "--rounds", 1)
    code, out, err = synergy("bench", tiny_bundle, "--peers", *quick, "--json", data, "--chart", chart)
    assert code == 0 and err == ""
    assert "onnxruntime (bare)" in out and "68 landmarks" in out
    rows = json.loads(data.read_text())["rows"]
    assert {row["batch"] for row in rows} == {1, 2} and {row["threads"] for row in rows} == {1}
    assert {"onnx", "onnxruntime (bare)"} <= {row["engine"] for row in rows}
    assert ElementTree.parse(chart).getroot().tag.endswith("svg")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--chart", "x.svg"), 2, "--chart draws what --peers measures"),
        (("--peers", "--tune"), 2, "measure different things"),
        (("--tune", "--batch", "4"), 2, "--tune takes no --batch"),
        (("--tune", "--json", "x"), 2, "--tune takes no --json"),
        (("--throughput", "--device", "gpu"), 2, "--throughput takes no --device"),
        (("--stages", "--rounds", "3", "--all"), 2, "--stages takes no --all, --rounds"),
        (("--peers", "--device", "gpu"), 1, "peers are compared on the CPU only"),
        (("--peers", "--all"), 1, "leave --against and --all out"),
        (("--peers", "--affinity", "0"), 1, "leave them out"),
        (("--peers", "--threads", "0"), 1, "threads must be 1 or more"),
    ],
)
def test_refusals(synergy: Run, tiny_bundle: Path, arguments: tuple[str, ...], code: int, words: str) -> None:
    found, out, err = synergy("bench", tiny_bundle, *arguments)
    assert found == code and out == "" and words in " ".join(err.replace("│", "").split())
    assert not Path("x.svg").exists()
