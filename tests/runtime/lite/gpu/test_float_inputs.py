"""The uint8 input of a MindIR becomes float32 for TensorRT."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from synergy.runtime.diagnostics.probes import PROBE_MODELS
from synergy.runtime.errors import EngineError
from synergy.runtime.lite.gpu.float_inputs import with_float32_inputs


def test_one_byte_changes(cast_mindirs: tuple[bytes, bytes]) -> None:
    pixels, floats = cast_mindirs
    assert with_float32_inputs(pixels) == floats
    assert sum(before != after for before, after in zip(pixels, floats, strict=True)) == 1


def test_float32_stays(cast_mindirs: tuple[bytes, bytes]) -> None:
    assert with_float32_inputs(cast_mindirs[1]) == cast_mindirs[1]
    assert with_float32_inputs(PROBE_MODELS["lite"][1]) == PROBE_MODELS["lite"][1]


def test_other_operators_on_pixels_are_refused(cast_mindirs: tuple[bytes, bytes]) -> None:
    with pytest.raises(EngineError, match=r"REF::Relu:0 reads a uint8 input .*engine onnx"):
        with_float32_inputs(cast_mindirs[0].replace(b"REF::Cast", b"REF::Relu"))


@pytest.mark.parametrize("damage", [lambda _: b"", lambda _: b"any", lambda data: data[:-9]])
def test_damaged(damage: Callable[[bytes], bytes], cast_mindirs: tuple[bytes, bytes]) -> None:
    with pytest.raises(EngineError, match="damaged"):
        with_float32_inputs(damage(cast_mindirs[0]))
