"""The engine interface, tested on every engine with every artifact that it reads."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synergy.runtime.bundle import Bundle
from synergy.runtime.engines import (
    ENGINES,
    available,
    default_threads,
    engine_class,
    engines_for,
    open_engine,
    readable,
)
from synergy.runtime.engines.base import Engine, check_inputs, check_outputs
from synergy.runtime.errors import EngineError, EngineUnavailableError
from synergy.runtime.specs import DYNAMIC, Availability, Device, EngineOptions, ModelFile, TensorSpec
from tests.runtime.threads import wrong_results

# engine, artifact; all engines are used through `open_engine`, which gives some of them a process of their own
COMBINATIONS = [("onnx", "onnx"), ("openvino", "onnx"), ("lite", "ms"), ("lite", "mindir_v1"), ("mindspore", "mindir")]
PARAMS_ATOL = 1e-4
LANDMARKS_ATOL = 0.1  # image pixels
SAME_ATOL = 1e-5  # one crop alone and among others


def ids(combination: tuple[str, str] | str) -> str:
    return combination if isinstance(combination, str) else "-".join(combination)


@pytest.fixture(scope="module")
def models(bundles: dict[str, Path]) -> dict[str, ModelFile]:
    """The official mb05 network, by format."""
    bundle = Bundle.open(bundles["mb05"])
    return {artifact.format: bundle.model_file(artifact) for artifact in bundle.manifest.artifacts}


@pytest.fixture(scope="module")
def emma(shared: Path) -> dict[str, np.ndarray]:
    return dict(np.load(shared / "reference" / "real_emma.npz"))


@pytest.fixture(scope="module", params=COMBINATIONS, ids=ids)
def engine(request: pytest.FixtureRequest, models: dict[str, ModelFile]) -> Iterator[Engine]:
    name, kind = request.param
    if not available(name).ok:
        pytest.skip(available(name).detail)
    with open_engine(name, models[kind]) as opened:
        yield opened


def run(engine: Engine, crops: np.ndarray) -> dict[str, np.ndarray]:
    return engine.run({"images": crops})


# --- results ---


def test_reference(engine: Engine, emma: dict[str, np.ndarray]) -> None:
    """Real weights, real faces: whitened parameters, and landmarks in the photograph."""
    outputs = run(engine, emma["crop_bgr_u8"])
    assert np.allclose(outputs["params"], emma["param_whitened"], rtol=0, atol=PARAMS_ATOL)
    corner, side = emma["roi_box"][:, :2], emma["roi_box"][:, 2:] - emma["roi_box"][:, :2]
    scale = np.concatenate([side, side.mean(1, keepdims=True)], 1) / 120
    image = outputs["landmarks"] * scale[:, :, None] + np.pad(corner, ((0, 0), (0, 1)))[:, :, None]
    assert np.allclose(image, emma["landmarks"], rtol=0, atol=LANDMARKS_ATOL)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 1])
def test_any_batch(engine: Engine, emma: dict[str, np.ndarray], count: int) -> None:
    crops = np.concatenate([emma["crop_bgr_u8"]] * 2)[:count]
    outputs = run(engine, crops)
    assert outputs["params"].shape == (count, 62) and outputs["landmarks"].shape == (count, 3, 68)
    expected = np.concatenate([emma["param_whitened"]] * 2)[:count]
    assert np.allclose(outputs["params"], expected, rtol=0, atol=PARAMS_ATOL)


def test_outputs_are_named_and_float32(engine: Engine, emma: dict[str, np.ndarray]) -> None:
    outputs = run(engine, emma["crop_bgr_u8"][:1])
    assert list(outputs) == ["params", "landmarks"]
    assert all(output.dtype == np.float32 for output in outputs.values())


@pytest.mark.parametrize("layout", ["mirrored", "every second", "fortran", "transposed"])
def test_any_memory_layout(engine: Engine, emma: dict[str, np.ndarray], layout: str) -> None:
    """Native code reads memory, not strides: a view must give what its copy gives."""
    crops = emma["crop_bgr_u8"]
    view = {
        "mirrored": crops[:, :, ::-1],
        "every second": np.repeat(crops, 2, axis=0)[::2],
        "fortran": np.asfortranarray(crops),
        "transposed": crops.transpose(0, 2, 1, 3),
    }[layout]
    assert not view.flags.c_contiguous
    found, expected = run(engine, view), run(engine, view.copy(order="C"))
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_outputs_are_new_arrays(engine: Engine, emma: dict[str, np.ndarray]) -> None:
    """Lite's outputs are views that its next run overwrites."""
    first = run(engine, emma["crop_bgr_u8"][:1])
    kept = {name: output.copy() for name, output in first.items()}
    second = run(engine, emma["crop_bgr_u8"][1:2])
    assert all(np.array_equal(first[name], kept[name]) for name in kept)
    assert not np.allclose(first["params"], second["params"], atol=0.01)
    first["params"][:] = 0  # writable, and of no consequence
    assert np.array_equal(run(engine, emma["crop_bgr_u8"][:1])["params"], kept["params"])


def test_threads_get_their_own_results(engine: Engine, emma: dict[str, np.ndarray]) -> None:
    crops = [emma["crop_bgr_u8"][:1], emma["crop_bgr_u8"][1:2]]
    assert not wrong_results(
        lambda crop: run(engine, crop)["params"], crops, lambda found, expected: np.allclose(found, expected, atol=1e-4)
    )


def test_inputs_are_not_touched(engine: Engine, emma: dict[str, np.ndarray]) -> None:
    crops = emma["crop_bgr_u8"].copy()
    crops.flags.writeable = False
    outputs = run(engine, crops)
    assert np.array_equal(crops, emma["crop_bgr_u8"])
    assert np.allclose(outputs["params"], emma["param_whitened"], rtol=0, atol=PARAMS_ATOL)


def test_input_may_change_after_the_run(engine: Engine, emma: dict[str, np.ndarray]) -> None:
    crops = emma["crop_bgr_u8"][:1].copy()
    first = run(engine, crops)["params"].copy()
    crops[:] = 0
    changed = run(engine, crops)["params"]
    assert np.abs(changed - first).max() > 0.1  # the new content is what is read


def test_same_result_every_time(engine: Engine, emma: dict[str, np.ndarray]) -> None:
    first, second = (run(engine, emma["crop_bgr_u8"]) for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first)


# --- refusals, after each of which the engine still works ---


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "inputs are"),
        ({"image": np.zeros((1, 120, 120, 3), np.uint8)}, "the model takes .*images"),
        ({"images": np.zeros((1, 120, 120, 3), np.uint8), "more": np.zeros(1)}, "inputs are"),
        ({"images": np.zeros((1, 120, 120, 3), np.float32)}, r"float32 .* takes uint8 \(N, 120, 120, 3\)"),
        ({"images": np.zeros((1, 120, 120, 3), np.int8)}, "int8"),
        ({"images": np.zeros((1, 120, 120, 3), bool)}, "bool"),
        ({"images": np.zeros((1, 3, 120, 120), np.uint8)}, r"\(1, 3, 120, 120\)"),  # the same number of bytes
        ({"images": np.zeros((1, 120, 120, 1), np.uint8)}, r"\(1, 120, 120, 1\)"),
        ({"images": np.zeros((120, 120, 3), np.uint8)}, r"\(120, 120, 3\)"),
        ({"images": np.zeros((1, 1, 120, 120, 3), np.uint8)}, r"\(1, 1, 120, 120, 3\)"),
        ({"images": np.zeros((2, 60, 120, 3), np.uint8)}, r"\(2, 60, 120, 3\)"),
        ({"images": np.zeros((), np.uint8)}, r"\(\)"),
        ({"images": np.zeros((0, 120, 120, 3), np.uint8)}, "empty batch"),
    ],
)
def test_wrong_inputs(engine: Engine, emma: dict[str, np.ndarray], inputs: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        engine.run(inputs)
    assert "\n" not in str(raised.value)
    found = run(engine, emma["crop_bgr_u8"][:1])["params"]
    assert np.allclose(found, emma["param_whitened"][:1], rtol=0, atol=PARAMS_ATOL)


def test_lists_are_no_arrays(engine: Engine) -> None:
    with pytest.raises((ValueError, TypeError)):
        engine.run({"images": [[[[0]]]]})  # type: ignore[dict-item]


# --- life and death ---


@pytest.mark.parametrize("combination", COMBINATIONS, ids=ids)
def test_closed_engine(combination: tuple[str, str], models: dict[str, ModelFile], emma: dict[str, np.ndarray]) -> None:
    name, kind = combination
    with open_engine(name, models[kind]) as engine:
        run(engine, emma["crop_bgr_u8"][:1])
    with pytest.raises(EngineError, match="closed"):
        run(engine, emma["crop_bgr_u8"][:1])
    engine.close()  # once more does no harm


@pytest.mark.parametrize(
    ("combination", "damage"),
    [
        (combination, damage)
        for combination in COMBINATIONS
        for damage in ("empty", "text", "truncated")
        if combination[0] != "mindspore"
        or damage == "empty"  # it takes seconds to start; test_mindspore.py has another
    ],
    ids=ids,
)
def test_damaged_model(combination: tuple[str, str], models: dict[str, ModelFile], damage: str) -> None:
    """Always an EngineError with a message of one line."""
    name, kind = combination
    data = {"empty": b"", "text": b"a text file\n" * 50, "truncated": models[kind].data[: len(models[kind].data) // 2]}
    with pytest.raises(EngineError) as raised, open_engine(name, replace(models[kind], data=data[damage])) as engine:
        run(engine, np.zeros((1, 120, 120, 3), np.uint8))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", list(ENGINES))
def test_formats_are_checked(name: str, models: dict[str, ModelFile]) -> None:
    other = next(kind for kind in ("onnx", "ms") if kind not in engine_class(name).formats)
    with pytest.raises(
        EngineError, match=f"engine {name} cannot read {other} files: it reads {engine_class(name).formats[0]}"
    ):
        open_engine(name, models[other])


@pytest.mark.parametrize(
    ("name", "kind", "device"),
    [
        *((name, kind, device) for name, kind in COMBINATIONS[:2] for device in ("gpu", "ascend:1")),
        *(("lite", "mindir_v1", device) for device in ("gpu", "ascend:1")),
        ("mindspore", "mindir", "gpu"),  # it takes seconds to start
    ],
)
def test_unavailable_devices(name: str, kind: str, device: str, models: dict[str, ModelFile]) -> None:
    """An error with cause and cure; no fallback, no crash."""
    with pytest.raises(EngineUnavailableError) as raised:
        open_engine(name, models[kind], device)
    message = str(raised.value)
    assert "--device cpu" in message and "\n" not in message and device.partition(":")[0] in message.lower()


@pytest.mark.parametrize("threads", [0, -1])
@pytest.mark.parametrize("name", list(ENGINES))
def test_no_threads(name: str, threads: int, models: dict[str, ModelFile]) -> None:
    with pytest.raises(ValueError, match=f"threads must be 1 or more, not {threads}"):
        open_engine(name, models[engine_class(name).formats[0]], threads=threads)


@pytest.mark.parametrize("threads", sorted({1, default_threads()}))
def test_threads(threads: int, models: dict[str, ModelFile], emma: dict[str, np.ndarray]) -> None:
    with open_engine("onnx", models["onnx"], threads=threads) as engine:
        assert engine.threads == threads
        found = run(engine, emma["crop_bgr_u8"])["params"]
    assert np.allclose(found, emma["param_whitened"], rtol=0, atol=PARAMS_ATOL)


@pytest.mark.parametrize("name", ["", "tensorrt", "ONNX", "synergy.runtime.engines.onnx"])
def test_unknown_engine_lists_the_known(name: str) -> None:
    model = ModelFile(b"", "onnx", (), ())
    for function in (engine_class, available, lambda name: open_engine(name, model)):
        with pytest.raises(ValueError, match="use one of lite, onnx, openvino, mindspore"):
            function(name)


@pytest.mark.parametrize(
    "device", ["cuda", "", "gpu:", "gpu:x", "gpu:-1", "gpu:1:2", "GPU", "cpu :0", "gpu:²", "npu:0"]
)
def test_unknown_device(device: str) -> None:
    if device == "gpu:":
        assert Device.parse(device) == Device("gpu", 0)
        return
    with pytest.raises(ValueError, match=r"use cpu, gpu\[:N\] or ascend\[:N\]"):
        Device.parse(device)


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("cpu", Device("cpu", 0)),
        ("gpu", Device("gpu", 0)),
        ("gpu:3", Device("gpu", 3)),
        ("ascend:10", Device("ascend", 10)),
    ],
)
def test_devices(text: str, device: Device) -> None:
    assert Device.parse(text) == device
    assert Device.parse(str(device)) == device


# --- options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precision": "half"}, "unknown precision 'half': use one of auto, fp32, fp16, bf16"),
        ({"affinity": (1, 0, 1)}, "affinity contains a core twice: 1, 0, 1"),
        ({"batches": ()}, "increasing numbers from 1, not none"),
        ({"batches": (0, 1)}, "increasing numbers from 1, not 0, 1"),
        ({"batches": (4, 2)}, "increasing numbers from 1, not 4, 2"),
        ({"batches": (2, 2)}, "increasing numbers from 1, not 2, 2"),
    ],
)
def test_wrong_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EngineOptions(**options)


REFUSALS = [
    ("onnx", "cpu", EngineOptions(precision="fp16"), "computes in float16 only on ascend, not on cpu"),
    ("onnx", "gpu:1", EngineOptions(precision="fp16"), "computes in float16 only on ascend, not on gpu:1"),
    ("lite", "cpu", EngineOptions(precision="fp16"), "computes in float16 only on gpu and ascend, not on cpu"),
    ("mindspore", "gpu", EngineOptions(precision="fp16"), "computes in float16 only on ascend, not on gpu:0"),
    ("onnx", "cpu", EngineOptions(precision="bf16"), "computes in bfloat16 on no device: use precision fp32$"),
    ("lite", "gpu", EngineOptions(precision="bf16"), "computes in bfloat16 on no device: use precision fp32 or fp16$"),
    ("openvino", "cpu", EngineOptions(affinity=(0,)), "openvino does not support thread affinity"),
    ("mindspore", "cpu", EngineOptions(affinity=(0,)), "mindspore does not support thread affinity"),
    ("mindspore", "cpu", EngineOptions(lite_config=Path("x")), "mindspore does not support lite_config"),
    ("onnx", "cpu", EngineOptions(lite_config=Path("x")), "onnx does not support lite_config"),
]


@pytest.mark.parametrize(("name", "device", "options", "words"), REFUSALS)
def test_unsupported_options(name: str, device: str, options: EngineOptions, words: str) -> None:
    """An error, raised before anything is loaded."""
    kind, where = engine_class(name), Device.parse(device)
    model = ModelFile(b"", kind.formats_on(where)[0], (TensorSpec("x", (1,), "float32"),), ())
    with pytest.raises(EngineError, match=words):
        kind(model, where, 1, options)


@pytest.mark.parametrize("name", ["lite", "onnx"])
def test_missing_cores(name: str) -> None:
    model = ModelFile(b"", engine_class(name).formats[0], (TensorSpec("x", (1,), "float32"),), ())
    with pytest.raises(ValueError, match=r"cannot use core 8191: use \d"):
        engine_class(name)(model, Device(), 1, EngineOptions(affinity=(8191,)))


@pytest.mark.parametrize("name", list(ENGINES))
def test_formats_by_device(name: str) -> None:
    kind = engine_class(name)
    assert kind.formats == kind.formats_on(Device("cpu"))
    assert "ms" not in kind.formats_on(Device("ascend"))
    assert {*kind.formats, *kind.formats_on(Device("gpu"))} <= set(ENGINES[name][2])
    with pytest.raises(ValueError, match="unknown device"):
        readable(name, [], "npu")


@dataclass(frozen=True)
class File:
    format: str


FILES = [File(kind) for kind in ("mindir", "mindir_v1", "onnx", "ms")]


@pytest.mark.parametrize(
    ("name", "device", "expected"),
    [
        ("lite", "cpu", ["ms", "mindir_v1"]),
        ("onnx", "gpu", ["onnx"]),
        ("openvino", "cpu", ["onnx"]),
        ("openvino", "gpu", []),
    ],
)
def test_what_an_engine_can_run(name: str, device: str, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The best format first; none that it would refuse."""
    monkeypatch.setattr(engine_class("lite"), "formats", ("ms", "mindir_v1"))
    assert [each.format for each in readable(name, FILES, device)] == expected
    assert all((each in readable(name, FILES, device)) == (name in engines_for(each, device)) for each in FILES)


def test_engines_for_a_file() -> None:
    assert engines_for(File("onnx")) == ["onnx", "openvino"]
    assert engines_for(File("onnx"), "gpu") == ["onnx"]


def test_available_says_how_to_get_it() -> None:
    for name in ENGINES:
        status = available(name)
        assert isinstance(status, Availability) and status.detail
        assert status.ok or status.fix


def test_default_threads_are_the_cores_of_this_process() -> None:
    program = (
        "import os\nfrom synergy.runtime.engines import default_threads\n"
        "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\nprint(default_threads())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 1 and default_threads() >= 1


def test_opening_one_engine_loads_no_other(tiny_onnx: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom synergy.runtime.engines import open_engine\n"
        "from synergy.runtime.specs import ModelFile, TensorSpec\n"
        "images = (TensorSpec('images', (-1, 8, 8, 3), 'uint8'),)\n"
        "open_engine('onnx', ModelFile(Path(sys.argv[1]).read_bytes(), 'onnx', images, ()))\n"
        "print([name for name in ('mindspore', 'mindspore_lite', 'cv2', 'onnxruntime') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tiny_onnx)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['onnxruntime']"


# --- the checks themselves, on an engine with given outputs ---


SPECS = (TensorSpec("a", (DYNAMIC, 2), "float32"), TensorSpec("b", (DYNAMIC,), "uint8"))


class FakeEngine(Engine):
    """Gives the outputs it was given."""

    name = "fake"
    formats = ("fake",)

    def __init__(self, outputs: Sequence[np.ndarray], specs: tuple[TensorSpec, ...] = SPECS) -> None:
        super().__init__(ModelFile(b"", "fake", (TensorSpec("x", (DYNAMIC, 3), "float32"),), specs), Device(), 1)
        self.outputs, self.seen = outputs, []

    @classmethod
    def available(cls) -> Availability:
        return Availability(True, "always")

    def _run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        self.seen = list(arrays)
        return self.outputs

    def close(self) -> None:
        pass


def sound_outputs(batch: int) -> list[np.ndarray]:
    return [np.ones((batch, 2), np.float32), np.ones(batch, np.uint8)]


def test_engine_gets_contiguous_arrays() -> None:
    engine = FakeEngine(sound_outputs(2))
    engine.run({"x": np.asfortranarray(np.ones((2, 3), np.float32))})
    assert all(array.flags.c_contiguous for array in engine.seen)


def test_outputs_go_by_order() -> None:
    assert list(FakeEngine(sound_outputs(2)).run({"x": np.ones((2, 3), np.float32)})) == ["a", "b"]


@pytest.mark.parametrize(
    "outputs",
    [
        [],
        sound_outputs(2)[:1],
        [*sound_outputs(2), np.ones(2)],
        sound_outputs(2)[::-1],
        sound_outputs(1),
        sound_outputs(3),
        [np.ones((2, 3), np.float32), np.ones(2, np.uint8)],
        [np.ones((2, 2), np.float64), np.ones(2, np.uint8)],
        [np.ones((2, 2, 1), np.float32), np.ones(2, np.uint8)],
        [np.ones(4, np.float32), np.ones(2, np.uint8)],
        [np.ones((), np.float32), np.ones(2, np.uint8)],
    ],
)
def test_wrong_outputs_are_errors(outputs: list[np.ndarray]) -> None:
    with pytest.raises(EngineError, match="engine fake returned"):
        FakeEngine(outputs).run({"x": np.ones((2, 3), np.float32)})


def test_checks_take_several_inputs_in_any_order() -> None:
    a, b = np.ones((4, 2), np.float32), np.ones(4, np.uint8)
    arrays = check_inputs(SPECS, {"b": b, "a": a})
    assert arrays[0] is a and arrays[1] is b  # ordered as the specs, and not copied without need
    assert list(check_outputs(SPECS, [a, b], batch=4, engine="x")) == ["a", "b"]


def test_fixed_dimensions_are_fixed() -> None:
    spec = TensorSpec("a", (2, 3), "float32")
    assert spec.fits(np.ones((2, 3), np.float32)) and str(spec) == "float32 (2, 3)"
    for shape in ((1, 3), (3, 3), (2, 4), (2,), (2, 3, 1)):
        assert not spec.fits(np.ones(shape, np.float32))
    assert not spec.fits(np.ones((2, 3), ">f4"))  # the right type in the wrong byte order
