"""MindIR files on MindSpore: in this process if MindSpore was not loaded yet, else in a child process."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from synergy.runtime.bundle import Bundle
from synergy.runtime.engines import mindspore as module
from synergy.runtime.engines import open_engine
from synergy.runtime.engines.isolated import IsolatedEngine
from synergy.runtime.engines.mindspore import MindSporeEngine
from synergy.runtime.errors import EngineError, EngineUnavailableError
from synergy.runtime.specs import Device, EngineOptions, ModelFile

PARAMS_ATOL = 1e-4


@pytest.fixture(scope="module")
def model(bundles: dict[str, Path]) -> ModelFile:
    bundle = Bundle.open(bundles["mb05"])
    return bundle.model_file(bundle.artifact("mindir"))


@pytest.fixture(scope="module")
def emma(shared: Path) -> dict[str, np.ndarray]:
    return dict(np.load(shared / "reference" / "real_emma.npz"))


FRESH = """
import sys
from pathlib import Path
import numpy as np
from synergy.runtime.bundle import Bundle
from synergy.runtime.engines import open_engine
from tests.runtime.threads import wrong_results

bundle = Bundle.open(sys.argv[1])
with np.load(sys.argv[2]) as expected:
    crops, params = expected["crop_bgr_u8"], expected["param_whitened"]
with open_engine("mindspore", bundle.model_file(bundle.artifact("mindir")), threads=1) as engine:
    print(type(engine).__name__, "mindspore" in sys.modules)
    first = engine.run({"images": crops[:1]})
    kept = first["params"].copy()
    both = [engine.run({"images": crops})["params"], engine.run({"images": crops[1:]})["params"]]
    print(np.array_equal(first["params"], kept), np.abs(both[0] - params).max() < 1e-4)
    print(np.abs(both[1] - params[1:]).max() < 1e-4)
    same = lambda found, expected: np.allclose(found, expected, atol=1e-4)
    print(wrong_results(lambda crop: engine.run({"images": crop})["params"], [crops[:1], crops[1:2]], same))
    with open_engine("mindspore", bundle.model_file(bundle.artifact("mindir")), threads=2) as second:
        print(type(second).__name__, np.abs(second.run({"images": crops})["params"] - params).max() < 1e-4)
try:
    engine.run({"images": crops})
except Exception as error:
    print(type(error).__name__, "closed" in str(error))
"""


def test_in_a_process_without_mindspore(bundles: dict[str, Path], shared: Path) -> None:
    """The first engine has the process to itself; a second one, with its own threads, gets another process."""
    arguments = [str(bundles["mb05"]), str(shared / "reference" / "real_emma.npz")]
    done = subprocess.run([sys.executable, "-c", FRESH, *arguments], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        "MindSporeEngine True",
        "True True",
        "True",
        "[]",
        "IsolatedEngine True",
        "EngineError True",
    ], done.stderr[-2000:]
    assert "NumPy" not in done.stderr


def test_beside_mindspore_it_gets_its_own_process(model: ModelFile, emma: dict[str, np.ndarray]) -> None:
    """The tests hold MindSpore already, whose device and threads can be chosen once."""
    assert "mindspore" in sys.modules
    with open_engine("mindspore", model, threads=1) as engine:
        assert isinstance(engine, IsolatedEngine)
        found = engine.run({"images": emma["crop_bgr_u8"]})
    assert np.allclose(found["params"], emma["param_whitened"], rtol=0, atol=PARAMS_ATOL)


def test_missing_package(model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    find = module.find_spec

    def without(name: str) -> ModuleSpec | None:
        return None if name == "mindspore" else find(name)

    monkeypatch.setattr(module, "find_spec", without)
    assert not MindSporeEngine.available().ok
    with pytest.raises(
        EngineUnavailableError, match=r"mindspore is not installed: pip install 'synergy-mindir\[export\]'"
    ):
        open_engine("mindspore", model)


def test_damaged_file(model: ModelFile) -> None:
    data = bytearray(model.data)
    for place in range(0, 4000, 7):
        data[place] ^= 0xFF
    with pytest.raises(EngineError) as raised, open_engine("mindspore", replace(model, data=bytes(data))) as engine:
        engine.run({"images": np.zeros((1, 120, 120, 3), np.uint8)})
    assert "\n" not in str(raised.value) and str(raised.value).strip()


# --- cards, played by a stand-in that notes what it is told


def stand_in(notes: list[tuple[Any, ...]], problem: str = "") -> Any:
    def note(name: str) -> Any:
        return lambda *arguments: notes.append((name, *arguments))

    def set_device(*arguments: Any) -> None:
        notes.append(("set_device", *arguments))
        if problem:
            os.write(2, b"[ERROR] ME(1:2,MainProcess):2026 [mindspore/run_check.py:229] libcuda.so is not found.\n")
            raise RuntimeError(problem)

    ascend = SimpleNamespace(
        **{name: note(name) for name in ("precision_mode", "conv_allow_hf32", "matmul_allow_hf32")}
    )
    gpu = SimpleNamespace(**{name: note(name) for name in ("conv_allow_tf32", "matmul_allow_tf32")})
    context = SimpleNamespace(
        cpu=SimpleNamespace(op_tuning=SimpleNamespace(threads_num=note("threads_num"))),
        ascend=SimpleNamespace(op_precision=ascend),
        gpu=SimpleNamespace(op_precision=gpu),
    )
    return SimpleNamespace(set_device=set_device, device_context=context)


@pytest.mark.parametrize(
    ("device", "precision", "expected"),
    [
        ("cpu", "fp32", [("set_device", "CPU")]),
        ("gpu:1", "fp32", [("set_device", "GPU", 1), ("conv_allow_tf32", False), ("matmul_allow_tf32", False)]),
        (
            "ascend:2",
            "fp32",
            [
                ("set_device", "Ascend", 2),
                ("precision_mode", "must_keep_origin_dtype"),
                ("conv_allow_hf32", False),
                ("matmul_allow_hf32", False),
            ],
        ),
        (
            "ascend",
            "fp16",
            [
                ("set_device", "Ascend", 0),
                ("precision_mode", "force_fp16"),
                ("conv_allow_hf32", False),
                ("matmul_allow_hf32", False),
            ],
        ),
    ],
)
def test_device_settings(
    device: str, precision: str, expected: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[tuple[Any, ...]] = []
    monkeypatch.setitem(sys.modules, "mindspore", stand_in(notes))
    module.choose_device(Device.parse(device), 3, EngineOptions(precision=precision))
    assert notes == [("threads_num", 3), *expected]


@pytest.mark.parametrize(("device", "cure"), [("gpu", r"CUDA 11\.1 or 11\.6"), ("ascend:1", "CANN")])
def test_a_card_that_is_not_here(
    device: str, cure: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line, though MindSpore prints several of its own; test_base.py has the real one."""
    monkeypatch.setitem(sys.modules, "mindspore", stand_in([], "Unsupported device. Only CPU. Please check\nmore"))
    with pytest.raises(
        EngineUnavailableError,
        match=rf"cannot use {device}(:0)?: Unsupported device\. Only CPU; .*{cure}.*--device cpu",
    ):
        module.choose_device(Device.parse(device), 1, EngineOptions())
    assert capfd.readouterr() == ("", "")
