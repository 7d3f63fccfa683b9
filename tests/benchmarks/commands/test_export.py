"""`synergy inspect`, and the last line of `synergy export`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import onnx
import pytest
from onnx import TensorProto, helper

from synergy.benchmarks.commands.export import verdict
from synergy.runtime.bundle import Bundle
from synergy.runtime.manifest import ComputePrecision, Drift, read_manifest
from synergy.runtime.verification.parity_record import read_parity

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def synergy(synergy: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """On a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    return synergy


def write_onnx(path: Path) -> Path:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in ("[bold]x", "y")]
    nodes = [helper.make_node("Relu", ["[bold]x"], ["z"]), helper.make_node("Relu", ["z"], ["y"])]
    onnx.save(helper.make_model(helper.make_graph(nodes, "relu", value[:1], value[1:])), str(path))
    return path


class TestInspect:
    def test_a_file(self, synergy: Run, tmp_path: Path) -> None:
        code, out, err = synergy("inspect", write_onnx(tmp_path / "[red]relu.onnx"), "--json", tmp_path / "found.json")
        assert code == 0 and err == ""
        for words in ("[red]relu.onnx", "[bold]x float32 (N, 4)", "Relu:2", "opset", " bytes", "0 values", "not ONNX"):
            assert words in out
        content = json.loads((tmp_path / "found.json").read_text())
        assert content["bundle"] is None and [model["file"] for model in content["models"]] == ["[red]relu.onnx"]
        assert content["models"][0]["operators"] == {"Relu": 2}
        engines = [engine["name"] for engine in content["models"][0]["engines"]]
        assert engines == ["lite", "onnx", "openvino", "mindspore"]

    def test_a_bundle_fits_a_terminal(self, synergy: Run, bundles: dict[str, Path], tmp_path: Path) -> None:
        code, out, _ = synergy("inspect", bundles["mb05"], "--json", tmp_path / "found.json")
        assert code == 0 and all(len(line) <= 80 for line in out.splitlines()[1:])
        assert "every artifact passed against the checkpoint" in out and "to MindIR 1 works" in out
        content = json.loads((tmp_path / "found.json").read_text())
        assert content["bundle"]["arch"] == "mb05" and content["bundle"]["proved"] is True
        models = {model["file"]: model for model in content["models"]}
        assert set(models) == {"model.mindir", "model.v1.mindir", "model.onnx", "model.ms"}
        for model in models.values():
            assert model["precision"] == "fp32" and any(engine["runs"] for engine in model["engines"])
            assert model["inputs"][0]["shape"] == [-1, 120, 120, 3]

    @pytest.mark.parametrize("name", ["none.onnx", "text.onnx", "text.ms", "text.mindir", "empty.onnx", "text.ckpt"])
    def test_other_files_are_one_line(self, synergy: Run, tmp_path: Path, name: str) -> None:
        if not name.startswith("none"):
            (tmp_path / name).write_text("" if name.startswith("empty") else "a text file\n")
        code, out, err = synergy("inspect", tmp_path / name)
        assert code == 1 and out == "" and err.startswith("error: ") and err.count("\n") == 1 and name in err

    def test_a_folder_that_is_no_bundle(self, synergy: Run, tmp_path: Path) -> None:
        code, _, err = synergy("inspect", tmp_path)
        assert code == 1 and "synergy export" in err

    def test_without_a_path_it_is_a_usage_error(self, synergy: Run) -> None:
        assert synergy("inspect")[0] == 2


def test_an_accepted_drift_is_no_agreement(bundles: dict[str, Path]) -> None:
    """The last line of an export states the result of the checks."""
    exact, report = read_manifest(bundles["mb05"]), read_parity(Bundle.open(bundles["mb05"]))
    compute_precision = ComputePrecision("openvino", "bf16", Drift(0.01, None, "faces"))

    def last_line(**changes: object) -> str:
        artifacts = (msgspec.structs.replace(exact.artifacts[0], **changes), *exact.artifacts[1:])
        return verdict(msgspec.structs.replace(exact, artifacts=artifacts), report)

    assert last_line() == "every artifact agrees with the checkpoint"
    assert last_line(precision="int8") == "every artifact is within the accuracy limits"
    assert last_line(compute_precisions=(compute_precision,)) == "every artifact is within the accuracy limits"
    accepted = Drift(1.0, None, "faces", accepted=True)
    assert last_line(precision="int8", drift=accepted) == "verified, except for the accuracy drift that was accepted"
    beyond = msgspec.structs.replace(compute_precision, drift=accepted)
    assert last_line(compute_precisions=(beyond,)) == "verified, except for the accuracy drift that was accepted"
