"""No card is believed untested: wrong answers of every kind are refused before the first result."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from synergy.runtime import aligner as module
from synergy.runtime.aligner import FaceAligner
from synergy.runtime.engines import Engine, open_engine
from synergy.runtime.errors import BundleError, EngineError
from synergy.runtime.inference.records import face_record
from synergy.runtime.specs import Availability, Device, EngineOptions, ModelFile

Change = Callable[[list[np.ndarray]], list[np.ndarray]]


class FakeCard(Engine):
    """onnxruntime on the CPU, which says that it is a card and changes its answers."""

    name, formats = "onnx", ("onnx",)
    change: Change = staticmethod(lambda outputs: outputs)

    def __init__(self, model: ModelFile, device: Device, threads: int, options: EngineOptions) -> None:
        super().__init__(model, device, threads, options)
        self.real = open_engine("onnx", model, "cpu", threads)

    @classmethod
    def available(cls) -> Availability:
        return Availability(True, "")

    def _run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        outputs = self.real.run({self.model.inputs[0].name: arrays[0]})
        return self.change([outputs[spec.name].copy() for spec in self.model.outputs])

    def close(self) -> None:
        self.real.close()


@pytest.fixture
def on_card(bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., FaceAligner]:
    """Load mb05's bundle on a card that changes its answers by `change`."""
    pytest.importorskip("onnxruntime")

    def load(change: Change, folder: Path = bundles["mb05"], **options: Any) -> FaceAligner:
        kind = type("Card", (FakeCard,), {"change": staticmethod(change)})

        def open_card(
            name: str, model: ModelFile, device: Device, threads: int | None, isolated: bool, options: EngineOptions
        ) -> Engine:
            return kind(model, device, threads or 1, options)

        monkeypatch.setattr(module, "open_engine", open_card)
        monkeypatch.setattr(module, "load_library", lambda name: None)
        return FaceAligner.load(folder, "onnx", "gpu", **options)

    return load


def first_forever() -> Change:
    """The first batch's answers, cut or repeated to the size of every later one."""
    kept: list[list[np.ndarray]] = []

    def change(outputs: list[np.ndarray]) -> list[np.ndarray]:
        kept.append(outputs)
        return [np.resize(old, new.shape) for old, new in zip(kept[0], outputs, strict=True)]

    return change


def shift(output: int, amount: float) -> Change:
    def change(outputs: list[np.ndarray]) -> list[np.ndarray]:
        outputs[output] += np.float32(amount)
        return outputs

    return change


def test_right_answers_are_accepted(on_card: Callable[..., FaceAligner], portrait_bgr: np.ndarray) -> None:
    with on_card(lambda outputs: outputs) as aligner:
        (face,) = aligner.align(portrait_bgr, [(180, 72, 270, 184)])
        assert not aligner.unverified and not face.unverified
        assert "unverified" not in json.loads(msgspec.json.encode(face_record(face)))


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (shift(1, np.nan), "NaN or infinite"),
        (shift(0, np.inf), "NaN or infinite"),
        (shift(1, 1e33), "landmarks differs"),
        (shift(1, 0.1), "landmarks differs"),
        (shift(0, 0.01), "params differs"),
        (lambda outputs: [output[::-1] for output in outputs], "differs"),
        (lambda outputs: [outputs[0], outputs[1][:, ::-1]], "landmarks differs"),
        (lambda outputs: [np.zeros_like(output) for output in outputs], "differs"),
        (lambda outputs: outputs if len(outputs[0]) == 1 else [output * 1.01 for output in outputs], "differs"),
        (first_forever(), "differs"),
    ],
    ids=[
        "NaN",
        "infinite",
        "1e33",
        "0.1 px",
        "params",
        "crops swapped",
        "axes swapped",
        "zeros",
        "batches only",
        "first batch always",
    ],
)
def test_wrong_answers_are_refused(on_card: Callable[..., FaceAligner], change: Change, words: str) -> None:
    with pytest.raises(EngineError) as raised:
        on_card(change)
    message = str(raised.value)
    assert message.startswith("model.onnx on onnx, gpu:0: ") and words in message and "synergy verify" in message
    assert "\n" not in message


def test_a_card_gets_many_crops_in_one_run(on_card: Callable[..., FaceAligner]) -> None:
    """On CPUs runs are limited to 64 crops, from which on larger ones gain nothing."""
    sizes: list[int] = []

    def note(outputs: list[np.ndarray]) -> list[np.ndarray]:
        sizes.append(len(outputs[0]))
        return outputs

    with on_card(note) as aligner:
        sizes.clear()
        assert len(aligner.predict(np.zeros((100, 120, 120, 3), np.uint8)).params) == 100
    assert sizes == [100]


def test_without_verification_every_output_says_so(
    on_card: Callable[..., FaceAligner], portrait_bgr: np.ndarray
) -> None:
    with on_card(shift(1, 5.0), verify=False) as aligner:
        (face,) = aligner.align(portrait_bgr, [(180, 72, 270, 184)])
        assert aligner.unverified and face.unverified and face_record(face).unverified


def without_golden(folder: Path, target: Path) -> Path:
    """As a bundle of schema 2."""
    shutil.copytree(folder, target)
    content = json.loads((target / "manifest.json").read_text())
    content["schema"], content["golden"] = 2, None
    (target / "manifest.json").write_text(json.dumps(content))
    return target


def test_a_bundle_without_golden_values_is_refused_on_a_card(
    on_card: Callable[..., FaceAligner], bundles: dict[str, Path], tmp_path: Path
) -> None:
    old = without_golden(bundles["mb05"], tmp_path / "old")
    with pytest.raises(BundleError, match=r"no golden values.*gpu:0.*--unverified"):
        on_card(lambda outputs: outputs, folder=old)
    with on_card(lambda outputs: outputs, folder=old, verify=False) as aligner:
        assert aligner.unverified


def test_cpus_are_checked_on_request_only(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaceAligner.load(without_golden(bundles["mb05"], tmp_path / "old"), "onnx") as aligner:
        assert not aligner.unverified
    with FaceAligner.load(bundles["mb05"], "onnx", verify=True) as aligner:
        assert not aligner.unverified
    with pytest.raises(BundleError, match="no golden values"):
        FaceAligner.load(tmp_path / "old", "onnx", verify=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"crop": {"scale": 1.2}}, "picture_(landmarks|pose)"),
        ({"landmark_frame": {"y_from": 121.0}}, "landmarks"),
        ({"pose": {"pitch_rc": [1, 2], "roll_rc": [0, 1]}}, "picture_pose"),
    ],
    ids=["crop rule", "landmark frame", "pose rule"],
)
def test_a_manifest_that_lies_is_found(
    bundles: dict[str, Path], tmp_path: Path, change: dict[str, dict], words: str
) -> None:
    """mb05's are 3DDFA_V2's; the changes are SynergyNet's."""
    folder = shutil.copytree(bundles["mb05"], tmp_path / "bundle")
    content = json.loads((folder / "manifest.json").read_text())
    for name, values in change.items():
        content[name].update(values)
    (folder / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(EngineError, match=words):
        FaceAligner.load(folder, "onnx", verify=True)
