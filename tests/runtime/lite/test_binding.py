"""The C++ binding: results, copies of outputs, errors with their cause."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from synergy.runtime.errors import EngineError, EngineUnavailableError
from synergy.runtime.lite.binding import LiteModel, is_loaded
from synergy.runtime.lite.checks import check_process, open_failure
from synergy.runtime.lite.config import LiteSettings
from synergy.runtime.specs import DYNAMIC, Device, TensorSpec

CPU = Device()
TOLERANCE = 1e-4  # float32 sums of 27 products, on values up to about 10

pytestmark = pytest.mark.lite_process


def opened(data: bytes, threads: int = 1) -> LiteModel:
    return LiteModel(data, "ms", CPU, threads)


def test_describes_the_model(tiny_ms: bytes) -> None:
    model = opened(tiny_ms)
    assert model.inputs == (TensorSpec("images", (DYNAMIC, 8, 8, 3), "uint8"),)
    assert [(spec.name, spec.dtype) for spec in model.outputs] == [("pooled", "float32"), ("scores", "float32")]
    assert is_loaded()


@pytest.mark.parametrize("threads", [1, 2])
def test_computes_what_numpy_computes(tiny_ms: bytes, tiny: Any, threads: int) -> None:
    model = opened(tiny_ms, threads)
    for seed, count in enumerate([1, 3, 3, 2, 1, 16]):  # up, the same again, down
        images = tiny.images(count, seed)
        outputs = model.run([images])
        for output, expected in zip(outputs, tiny.expected(images), strict=True):
            assert output.shape == expected.shape and output.dtype == np.float32
            np.testing.assert_allclose(output, expected, atol=TOLERANCE, rtol=0)


def test_results_are_new_arrays(tiny_ms: bytes, tiny: Any) -> None:
    """Lite's own tensors are overwritten by the next run."""
    model = opened(tiny_ms)
    first = model.run([tiny.images(2, seed=1)])
    kept = [output.copy() for output in first]
    second = model.run([tiny.images(2, seed=2)])
    model.close()
    for output, copy, other in zip(first, kept, second, strict=True):
        assert np.array_equal(output, copy) and not np.array_equal(output, other)
        assert output.flags.owndata and output.flags.writeable


def test_takes_arrays_of_any_memory_order_and_leaves_them_alone(tiny_ms: bytes, tiny: Any) -> None:
    model, images = opened(tiny_ms), tiny.images(2)
    expected = model.run([images])
    backwards = np.ascontiguousarray(images[::-1, :, ::-1])[::-1, :, ::-1]
    for same in (np.asfortranarray(images), backwards):
        same.setflags(write=False)
        assert all(map(np.array_equal, model.run([same]), expected))
        assert np.array_equal(same, images)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((1, 8, 8, 3), np.float32),
        np.zeros((1, 8, 8, 3), np.int8),
        np.zeros((1, 3, 8, 8), np.uint8),  # as many bytes: Lite itself would take it
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((0, 8, 8, 3), np.uint8),
    ],
    ids=["float", "signed", "planes first", "no batch", "empty"],
)
def test_wrong_arrays_that_lite_would_accept(tiny_ms: bytes, tiny: Any, wrong: np.ndarray) -> None:
    model, images = opened(tiny_ms), tiny.images(1)
    with pytest.raises(ValueError, match="the model takes 1"):
        model.run([])
    expected = model.run([images])
    with pytest.raises(ValueError, match=r"input images is .*, the model takes uint8 \(-1, 8, 8, 3\)"):
        model.run([wrong])
    for count in ([], [images, images]):
        with pytest.raises(ValueError, match="the model takes 1"):
            model.run(count)
    assert all(map(np.array_equal, model.run([images]), expected))  # and is none the worse


def test_closing_twice_and_running_after(tiny_ms: bytes, tiny: Any) -> None:
    model = opened(tiny_ms)
    model.close()
    model.close()
    for arrays in ([tiny.images(1)], []):
        with pytest.raises(EngineError, match="closed"):
            model.run(arrays)


def test_models_do_not_share_state(tiny_ms: bytes, tiny: Any) -> None:
    one, two = opened(tiny_ms), opened(tiny_ms)
    few, many = tiny.images(1, seed=5), tiny.images(4, seed=6)
    expected = [one.run([few]), two.run([many])]
    assert all(map(np.array_equal, one.run([few]), expected[0]))
    one.close()
    assert all(map(np.array_equal, two.run([many]), expected[1]))


def test_one_model_per_thread(tiny_ms: bytes, tiny: Any) -> None:
    """Loading redirects stderr, which all threads share; running does not wait for Python's lock."""

    def work(seed: int) -> bool:
        images = tiny.images(1 + seed, seed)
        model = opened(tiny_ms)
        results = [model.run([images]) for _ in range(20)]
        return all(np.allclose(scores, tiny.expected(images)[1], atol=TOLERANCE) for _, scores in results)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(8)))


def test_ends_quietly_without_closing(tiny_ms: bytes, tmp_path: Path) -> None:
    (tmp_path / "tiny.ms").write_bytes(tiny_ms)
    code = (
        "import sys, numpy as np; from synergy.runtime.specs import Device;"
        "from synergy.runtime.lite.binding import LiteModel;"
        "data = open(sys.argv[1], 'rb').read(); model = LiteModel(data, 'ms', Device(), 2);"
        "print(model.run([np.zeros((2, 8, 8, 3), np.uint8)])[0].shape)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "tiny.ms")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "(2, 4)\n", "")


def test_closing_frees_the_memory(tiny_ms: bytes, tiny: Any) -> None:
    """40 models opened and dropped, with runs and resizes, cost less than 40 MB."""

    def resident_mb() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20

    def cycle() -> None:
        model = opened(tiny_ms)
        for count in (1, 64, 3):
            model.run([tiny.images(count)])

    for _ in range(5):
        cycle()
    before = resident_mb()
    for _ in range(40):
        cycle()
    assert resident_mb() - before < 40


def test_is_quiet(tiny_ms: bytes, tiny: Any, capfd: pytest.CaptureFixture[str]) -> None:
    model = opened(tiny_ms)
    for count in (1, 2):
        model.run([tiny.images(count)])
    model.close()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["ms", "mindir"])
@pytest.mark.parametrize("damage", ["empty", "random", "half"])
def test_damaged_models(tiny_ms: bytes, kind: str, damage: str, capfd: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(3).bytes(5000)
    data = {"empty": b"", "random": random, "half": tiny_ms[: len(tiny_ms) // 2]}[damage]
    with pytest.raises(
        EngineError, match=f"MindSpore Lite cannot load the model: .*; the file .*not a {kind} model"
    ) as e:
        LiteModel(data, kind, CPU, 1)
    message = str(e.value)
    assert "Common error code" not in message and "\n" not in message and "ERROR" not in message
    assert capfd.readouterr() == ("", "")  # the cause went into the message, not to the terminal


def test_mindir_of_version_3_is_an_error(mindirs: dict[str, bytes]) -> None:
    with pytest.raises(EngineError, match=r"maximum mind ir version: 1, the model has 3; export again, or use"):
        LiteModel(mindirs["v3"], "mindir", CPU, 1)


def test_lowered_mindir_runs(mindirs: dict[str, bytes]) -> None:
    model = LiteModel(mindirs["v1"], "mindir", CPU, 1)
    values = np.array([[-1.5, 0, 2, 3], [1, -2, 3, -4], [5, 6, 7, -8]], np.float32)
    for count in (1, 3, 2):
        (output,) = model.run([values[:count]])
        assert np.array_equal(output, np.maximum(values[:count], 0))


@pytest.mark.parametrize(
    ("device", "cause", "cure"),
    [("gpu", r"lib\w+\.so[.\d]*: cannot open", "CUDA 11, cuDNN 8"), ("ascend:3", r"lib\w+\.so", "CANN")],
)
def test_a_device_that_is_not_here(tiny_ms: bytes, device: str, cause: str, cure: str) -> None:
    """Holds wherever CUDA 11 with TensorRT 8, or CANN, is not installed."""
    with pytest.raises(EngineUnavailableError, match=f"cannot use {device}.*: {cause}.*{cure}.*--device cpu"):
        LiteModel(tiny_ms, "ms", Device.parse(device), 1)


@pytest.mark.parametrize(
    ("device", "log", "kind", "words"),
    [
        (
            "gpu",
            "DLSoOpen failed",
            EngineUnavailableError,
            "cannot use gpu:0: .*synergy-mindir\\[onnx-gpu\\].*--device cpu",
        ),
        ("ascend:1", "libgraph.so: cannot open", EngineUnavailableError, "cannot use ascend:1: .*CANN.*--device cpu"),
        ("ascend:1", "compile graph failed", EngineError, "on ascend:1: .*doctor.*precision fp16.*--device cpu"),
        ("gpu", "compile graph failed", EngineError, "on gpu:0: .*doctor.*--device cpu"),
        ("cpu", "libgraph.so: cannot open", EngineError, "cannot load the model: .*the file is damaged"),
    ],
)
def test_failures_on_cards(device: str, log: str, kind: type[EngineError], words: str) -> None:
    error = open_failure("mindir", Device.parse(device), log, "Common error code.")
    assert type(error) is kind and re.search(words, str(error)) and "\n" not in str(error)


def test_wrong_requests(tiny_ms: bytes) -> None:
    with pytest.raises(ValueError, match="ms or mindir"):
        LiteModel(tiny_ms, "onnx", CPU, 1)
    with pytest.raises(ValueError, match="threads is 0"):
        LiteModel(tiny_ms, "ms", CPU, 0)


def test_configuration_file(tiny_ms: bytes, tiny: Any) -> None:
    settings = LiteSettings(config="[execution_plan]\n")
    assert LiteModel(tiny_ms, "ms", CPU, 1, settings).run([tiny.images(1)])[0].shape == (1, 4)


def test_refuses_a_process_with_mindspore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mindspore", ModuleType("mindspore"))
    with pytest.raises(EngineError, match="MindSpore is loaded in this process"):
        check_process()
