"""The MindSpore Lite engine: formats, errors, order of outputs."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
import pytest

from synergy.runtime.bundle import Bundle
from synergy.runtime.engines import lite as module
from synergy.runtime.engines.isolated import IsolatedEngine
from synergy.runtime.engines.lite import LiteEngine, readable_formats
from synergy.runtime.errors import EngineError, EngineUnavailableError
from synergy.runtime.lite.checks import check_arrays
from synergy.runtime.lite.config import lite_settings
from synergy.runtime.lite.gpu.float_inputs import with_float32_inputs
from synergy.runtime.lite.locate import locate
from synergy.runtime.specs import DYNAMIC, Device, EngineOptions, ModelFile, TensorSpec
from tests.runtime.threads import errors_of_calls_while_closing, wrong_results

CPU = Device()
IMAGES = TensorSpec("images", (DYNAMIC, 8, 8, 3), "uint8")
POOLED = TensorSpec("pooled", (DYNAMIC, 4), "float32")
SCORES = TensorSpec("scores", (DYNAMIC, 5), "float32")


def model_file(data: bytes, **changes: Any) -> ModelFile:
    return replace(ModelFile(data, "ms", (IMAGES,), (POOLED, SCORES)), **changes)


def test_formats() -> None:
    """Lite 2.0, or no Lite at all; newer releases are tried in lite/test_vendor.py and below."""
    assert LiteEngine.formats == readable_formats() == ("ms", "mindir_v1")


@pytest.mark.parametrize(("version", "reads"), [("2.0.1", False), ("2.1.0", True), ("2.10.0rc1", True)])
def test_newer_releases_read_mindir_of_version_3(
    version: str, reads: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / f"mindspore-lite-{version}-linux-x64"
    for name in ("include/api/model.h", "include/api/types.h", "include/api/context.h", "lib/libmindspore-lite.so"):
        (root / "runtime" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "runtime" / name).touch()
    monkeypatch.setenv("SYNERGY_LITE_HOME", str(root))
    assert ("mindir" in readable_formats()) == reads
    assert readable_formats(Device("ascend"))[0] == ("mindir" if reads else "mindir_v1")


def test_a_wrong_home_is_reported_on_opening(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SYNERGY_LITE_HOME", str(tmp_path))
    assert readable_formats() == ("ms", "mindir_v1")
    assert not LiteEngine.available().ok
    with pytest.raises(EngineUnavailableError, match="SYNERGY_LITE_HOME="):
        LiteEngine(model_file(b"any"), CPU, 1)


def test_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SYNERGY_LITE_HOME", raising=False)
    monkeypatch.setenv("SYNERGY_DATA_HOME", str(tmp_path))
    status = LiteEngine.available()
    assert (status.ok, status.detail, status.fix) == (
        False,
        "MindSpore Lite is not installed",
        "run `synergy lite install`",
    )


def test_available(lite_home: Path) -> None:
    status = LiteEngine.available()
    assert status.ok and status.detail == f"MindSpore Lite {locate().version} at {lite_home}"


@pytest.mark.parametrize("format_", ["onnx", "mindir"])
def test_refuses_formats_it_cannot_read(format_: str) -> None:
    with pytest.raises(EngineError, match=f"engine lite cannot read {format_} files: it reads ms, mindir_v1"):
        LiteEngine(model_file(b"any", format=format_), CPU, 1)


@pytest.mark.lite_process
def test_runs(tiny_ms: bytes, tiny: Any) -> None:
    with LiteEngine(model_file(tiny_ms), CPU, 1) as engine:
        for count in (1, 3, 1):
            images = tiny.images(count)
            result = engine.run({"images": images})
            for name, expected in zip(("pooled", "scores"), tiny.expected(images), strict=True):
                np.testing.assert_allclose(result[name], expected, atol=1e-4)


@pytest.mark.lite_process
def test_threads_closing_and_a_fork(tiny_ms: bytes, tiny: Any) -> None:
    """A forked child has no threads of Lite: it would hang in a run, and on freeing the model at exit."""
    images = [{"images": tiny.images(count, seed=count)} for count in (1, 3)]
    with LiteEngine(model_file(tiny_ms), CPU, 2) as engine:
        assert not wrong_results(
            engine.run, images, lambda found, expected: np.array_equal(found["scores"], expected["scores"])
        )
        child = os.fork()
        if not child:
            signal.alarm(20)
            with pytest.raises(EngineError, match=r"was opened in the parent .* open one in the child"):
                engine.run(images[0])
            engine.close()
            engine.session.close()
            with LiteEngine(model_file(tiny_ms), CPU, 2) as other:
                other.run(images[0])
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        errors = errors_of_calls_while_closing(lambda: engine.run(images[1]), engine.close)
    assert [str(error) for error in errors] == ["this lite engine is closed: open another one"] * 2


@pytest.mark.lite_process
def test_outputs_go_by_name_where_names_survive(tiny_ms: bytes, tiny: Any) -> None:
    with LiteEngine(model_file(tiny_ms, outputs=(SCORES, POOLED)), CPU, 1) as engine:
        result = engine.run({"images": tiny.images(2)})
    np.testing.assert_allclose(result["pooled"], tiny.expected(tiny.images(2))[0], atol=1e-4)


@pytest.mark.lite_process
def test_outputs_go_by_position_otherwise(tiny_ms: bytes, tiny: Any) -> None:
    renamed = (msgspec.structs.replace(POOLED, name="a"), msgspec.structs.replace(SCORES, name="b"))
    spec = msgspec.structs.replace(IMAGES, name="crops")
    with LiteEngine(model_file(tiny_ms, inputs=(spec,), outputs=renamed), CPU, 1) as engine:
        result = engine.run({"crops": tiny.images(2)})
    np.testing.assert_allclose(result["a"], tiny.expected(tiny.images(2))[0], atol=1e-4)


@pytest.mark.lite_process
def test_a_batch_fixed_by_the_manifest(tiny_ms: bytes, tiny: Any) -> None:
    spec = msgspec.structs.replace(IMAGES, shape=(2, 8, 8, 3))
    with LiteEngine(model_file(tiny_ms, inputs=(spec,)), CPU, 1) as engine:
        assert engine.run({"images": tiny.images(2)})["scores"].shape == (2, 5)
        with pytest.raises(ValueError, match="the model takes"):
            engine.run({"images": tiny.images(1)})


@pytest.mark.lite_process
@pytest.mark.parametrize(
    "inputs",
    [
        (TensorSpec(IMAGES.name, IMAGES.shape, "float32"),),
        (msgspec.structs.replace(IMAGES, shape=(DYNAMIC, 3, 8, 8)),),
        (msgspec.structs.replace(IMAGES, shape=(DYNAMIC, 192)),),
        (IMAGES, msgspec.structs.replace(IMAGES, name="more")),
    ],
    ids=["dtype", "layout", "rank", "count"],
)
def test_refuses_a_file_that_is_not_what_the_manifest_says(tiny_ms: bytes, inputs: tuple[TensorSpec, ...]) -> None:
    with pytest.raises(EngineError, match=r"takes images uint8 \(-1, 8, 8, 3\), its manifest says .*export"):
        LiteEngine(model_file(tiny_ms, inputs=inputs), CPU, 1)


@pytest.mark.lite_process
@pytest.mark.parametrize(
    "outputs",
    [
        (POOLED,),
        (POOLED, msgspec.structs.replace(SCORES, shape=(DYNAMIC, 6))),
        (POOLED, msgspec.structs.replace(SCORES, dtype="float16")),
    ],
    ids=["count", "shape", "dtype"],
)
def test_refuses_results_that_are_not_what_the_manifest_says(
    tiny_ms: bytes, tiny: Any, outputs: tuple[TensorSpec, ...]
) -> None:
    with (
        LiteEngine(model_file(tiny_ms, outputs=outputs), CPU, 1) as engine,
        pytest.raises(EngineError, match="returned"),
    ):
        engine.run({"images": tiny.images(1)})


@pytest.mark.lite_process
def test_lowered_mindir(mindirs: dict[str, bytes]) -> None:
    values = np.array([[-1, 2, -3, 4]], np.float32)
    spec = TensorSpec("x", (DYNAMIC, 4), "float32")
    file = ModelFile(mindirs["v1"], "mindir_v1", (spec,), (TensorSpec("y", spec.shape, spec.dtype),))
    with LiteEngine(file, CPU, 1) as engine:
        assert np.array_equal(engine.run({"x": values})["y"], np.maximum(values, 0))


@pytest.mark.lite_process
def test_damaged(tiny_ms: bytes) -> None:
    with pytest.raises(EngineError, match="The model buffer is invalid"):
        LiteEngine(model_file(tiny_ms[:-200]), CPU, 1)


@pytest.mark.lite_process
@pytest.mark.parametrize(
    ("device", "words"),
    [("ascend", r"ascend:0: lib\w+\.so: .*CANN"), ("gpu:1", r"gpu:1: lib\w+\.so[.\d]*: .*CUDA.*engine onnx")],
)
@pytest.mark.parametrize("options", [EngineOptions(), EngineOptions(precision="fp16")], ids=["fp32", "fp16"])
def test_a_device_that_is_not_here(mindirs: dict[str, bytes], device: str, words: str, options: EngineOptions) -> None:
    spec = TensorSpec("x", (DYNAMIC, 4), "float32")
    file = ModelFile(mindirs["v1"], "mindir_v1", (spec,), (TensorSpec("y", spec.shape, spec.dtype),))
    with pytest.raises(EngineUnavailableError, match=f"{words}.*--device cpu") as raised:
        LiteEngine(file, Device.parse(device), 1, options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("device", ["gpu", "ascend:1"])
def test_cards_compile_mindir(device: str) -> None:
    """`.ms` was made for the CPU, and some releases would run it there whatever the device."""
    assert readable_formats(Device.parse(device)) == LiteEngine.formats_on(Device.parse(device)) == ("mindir_v1",)
    assert LiteEngine.formats_on(Device()) == ("ms", "mindir_v1")
    with pytest.raises(EngineError, match=rf"lite cannot read ms files for {device}(:0)?: it reads mindir_v1"):
        LiteEngine(model_file(b"any"), Device.parse(device), 1)


class Card:
    """Stands in for a model on a card. As Lite with TensorRT it states the largest size of an open batch, and a uint8
    input only if the file was not changed."""

    stated_batch: ClassVar[int] = 64
    changed: ClassVar[bytes]  # the file with a float32 input
    opened: ClassVar[list[tuple[Any, ...]]] = []

    def __init__(self, *request: Any) -> None:
        self.opened.append(request)
        self.inputs, self.outputs = (IMAGES,), (POOLED, SCORES)
        if request[2].kind == "gpu":
            dtype = "float32" if request[0] == self.changed else "uint8"
            self.inputs = (TensorSpec("images", (self.stated_batch, 8, 8, 3), dtype),)
        self.batches: list[int] = []

    def run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        check_arrays(self.inputs, arrays)
        self.batches.append(len(arrays[0]))
        mean = arrays[0].mean((1, 2, 3), dtype=np.float32)[:, None]
        return [np.repeat(mean, 4, 1), np.repeat(mean, 5, 1)]

    def close(self) -> None:
        pass


@pytest.fixture
def card(cast_mindirs: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch) -> type[Card]:
    monkeypatch.setattr(Card, "changed", cast_mindirs[1], raising=False)
    monkeypatch.setattr(module, "LiteModel", Card)
    monkeypatch.setattr(module, "package_in_use", lambda: None)
    Card.opened.clear()
    return Card


@pytest.mark.parametrize("device", ["gpu:1", "ascend"])
def test_a_card_gets_its_settings_and_the_sizes_it_knows(
    card: type[Card], device: str, tiny: Any, cast_mindirs: tuple[bytes, bytes]
) -> None:
    file = model_file(cast_mindirs[0], format="mindir_v1")
    options = EngineOptions(batches=(1, 4))
    with LiteEngine(file, Device.parse(device), 3, options) as engine:
        for count, sizes in ((1, [1]), (3, [4]), (9, [4, 4, 1])):
            images = tiny.images(count)
            result = engine.run({"images": images})["scores"]
            np.testing.assert_allclose(result[:, 0], images.mean((1, 2, 3)), rtol=1e-5)
            assert engine.session.batches == sizes
            engine.session.batches.clear()
    settings = lite_settings(Device.parse(device), options, (IMAGES,))
    data = cast_mindirs[device == "gpu:1"]
    assert card.opened == [(data, "mindir", Device.parse(device), 3, settings)]
    assert "images:[-1,8,8,3]" in settings.config


def test_no_more_than_the_size_that_lite_states(
    card: type[Card], tiny: Any, cast_mindirs: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For instance because a configuration file of the user overrides the sizes."""
    monkeypatch.setattr(card, "stated_batch", 3)
    with LiteEngine(model_file(cast_mindirs[0], format="mindir_v1"), Device("gpu"), 1) as engine:
        engine.run({"images": tiny.images(5)})
        assert engine.session.batches == [2, 2, 1]


def test_float32_pixels_give_the_same_numbers(bundles: dict[str, Path], lite_home: Path) -> None:
    """What a GPU gets, run on the CPU beside the file in the bundle."""
    bundle = Bundle.open(bundles["mb05"])
    file = bundle.model_file(bundle.artifact("mindir_v1"))
    images = msgspec.structs.replace(file.inputs[0], dtype="float32")
    changed = replace(file, data=with_float32_inputs(file.data), inputs=(images,))
    crops = np.random.default_rng(5).integers(0, 256, (3, *images.shape[1:]), np.uint8)
    with IsolatedEngine("lite", file, CPU, 1) as engine, IsolatedEngine("lite", changed, CPU, 1) as other:
        expected, found = engine.run({"images": crops}), other.run({"images": crops.astype(np.float32)})
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("device", "precision", "before", "after"),
    [
        ("gpu", "fp32", None, "0"),
        ("gpu", "fp32", "1", "1"),
        ("gpu", "fp16", None, None),
        ("ascend", "fp32", None, None),
    ],
)
def test_tensorrt_does_not_round(
    card: type[Card],
    cast_mindirs: tuple[bytes, bytes],
    device: str,
    precision: str,
    before: str | None,
    after: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = module.DISABLE_TF32[0]
    monkeypatch.setenv(name, before or "")  # so that it is restored
    if before is None:
        monkeypatch.delenv(name)
    file = model_file(cast_mindirs[0], format="mindir_v1")
    LiteEngine(file, Device(device), 1, EngineOptions(precision=precision))
    assert os.environ.get(name) == after


def test_the_cpu_takes_any_batch_and_so_does_a_card_with_a_fixed_one(card: type[Card], tiny: Any) -> None:
    with LiteEngine(model_file(b"any"), CPU, 1) as engine:
        engine.run({"images": tiny.images(9)})
        assert engine.session.batches == [9]
    fixed = [TensorSpec(spec.name, (9, *spec.shape[1:]), spec.dtype) for spec in (IMAGES, POOLED, SCORES)]
    file = ModelFile(b"any", "mindir_v1", tuple(fixed[:1]), tuple(fixed[1:]))
    with LiteEngine(file, Device("ascend"), 1) as engine:
        engine.run({"images": tiny.images(9)})
        assert engine.session.batches == [9]
    assert "dynamic_dims" not in card.opened[1][4].config


@pytest.mark.lite_process
def test_closed(tiny_ms: bytes, tiny: Any) -> None:
    engine = LiteEngine(model_file(tiny_ms), CPU, 1)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run({"images": tiny.images(1)})
