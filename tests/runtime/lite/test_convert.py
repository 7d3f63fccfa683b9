"""Conversion to `.ms`: whole or not at all, quiet, and with a cause when it fails."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from synergy.runtime.errors import EngineError, EngineUnavailableError
from synergy.runtime.lite.convert import convert


def test_writes_the_file_and_nothing_else(lite_home: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    convert(tiny_onnx, "onnx", tmp_path / "model.anything")
    assert [path.name for path in tmp_path.iterdir()] == ["model.anything"]
    assert (tmp_path / "model.anything").stat().st_mode & 0o600 == 0o600  # Lite alone would make it read-only


def test_is_quiet(lite_home: Path, tiny_onnx: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    convert(tiny_onnx, "onnx", tmp_path / "model.ms")
    assert capfd.readouterr() == ("", "")


def test_replaces_an_older_file(lite_home: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    output = tmp_path / "model.ms"
    output.write_bytes(b"old")
    convert(tiny_onnx, "onnx", output)
    assert output.stat().st_size > 1000


def test_weight_fp16_is_smaller(lite_home: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    convert(tiny_onnx, "onnx", tmp_path / "full.ms")
    convert(tiny_onnx, "onnx", tmp_path / "half.ms", weight_fp16=True)
    assert (tmp_path / "half.ms").stat().st_size < (tmp_path / "full.ms").stat().st_size


def test_configuration_reaches_the_converter(lite_home: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    config = tmp_path / "quantise.cfg"
    config.write_text("[common_quant_param]\nquant_type=NO_SUCH_TYPE\n")
    with pytest.raises(EngineError, match="quant"):
        convert(tiny_onnx, "onnx", tmp_path / "model.ms", config_file=config)


def test_works_beside_mindspore(
    lite_home: Path, tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mindspore", sys)
    convert(tiny_onnx, "onnx", tmp_path / "model.ms")
    assert (tmp_path / "model.ms").is_file()


@pytest.mark.parametrize("framework", ["mindir", "onnx"])
@pytest.mark.parametrize("content", [b"", b"not a model\n" * 50], ids=["empty", "text"])
def test_damaged_source(lite_home: Path, tmp_path: Path, framework: str, content: bytes) -> None:
    """Lite's ONNX parser crashes on some of these; this must not end the program."""
    source = tmp_path / "broken"
    source.write_bytes(content)
    output = tmp_path / "model.ms"
    output.write_bytes(b"old")
    with pytest.raises(EngineError, match=r"broken: .*(correct|damaged|valid|fail)"):
        convert(source, framework, output)
    assert output.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "model.ms"]


def test_the_message_is_one_line(lite_home: Path, tmp_path: Path) -> None:
    source = tmp_path / "broken"
    source.write_bytes(b"x" * 100)
    with pytest.raises(EngineError) as raised:
        convert(source, "mindir", tmp_path / "model.ms")
    assert "\n" not in str(raised.value) and "ME(" not in str(raised.value)


def test_refuses_wrong_requests(tiny_onnx: Path, tmp_path: Path) -> None:
    output = tmp_path / "model.ms"
    with pytest.raises(ValueError, match="onnx or mindir"):
        convert(tiny_onnx, "tflite", output)
    with pytest.raises(ValueError, match="NCHW or NHWC"):
        convert(tiny_onnx, "onnx", output, input_format="CHWN")
    with pytest.raises(ValueError, match=r"missing\.onnx"):
        convert(tmp_path / "missing.onnx", "onnx", output)
    with pytest.raises(ValueError, match=r"missing\.cfg"):
        convert(tiny_onnx, "onnx", output, config_file=tmp_path / "missing.cfg")
    with pytest.raises(ValueError, match="not a folder"):
        convert(tiny_onnx, "onnx", tmp_path / "nowhere" / "model.ms")


def test_without_lite(tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNERGY_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("SYNERGY_LITE_HOME", raising=False)
    with pytest.raises(EngineUnavailableError, match="synergy lite install"):
        convert(tiny_onnx, "onnx", tmp_path / "model.ms")
