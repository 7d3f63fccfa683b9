"""The parity check finds every kind of wrong artifact, and cannot be met by a network that ignores its input."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from synergy.benchmarks.parity import check as module
from synergy.benchmarks.parity import gate as proof
from synergy.benchmarks.parity.cell import cell_outputs
from synergy.benchmarks.parity.check import check_bundle, make_reference
from synergy.benchmarks.parity.gate import gate
from synergy.benchmarks.parity.golden import make_golden
from synergy.benchmarks.parity.report import ParityError, summary
from synergy.export.artifacts import ExportOptions
from synergy.export.bundle import export_bundle
from synergy.runtime import variants as variants_module
from synergy.runtime.bundle import Bundle
from synergy.runtime.engines import available
from synergy.runtime.engines.base import Engine
from synergy.runtime.errors import BundleError, EngineError
from synergy.runtime.specs import Availability, Device
from synergy.runtime.variants import RunnableVariants, Variant, VariantEngines
from synergy.runtime.verification.golden import Golden
from synergy.runtime.verification.parity_record import Accuracy, Check, ParityReport
from synergy.runtime.verification.reference import NOMINAL, SENSITIVITY_FACTOR, TOLERANCES, Reference
from synergy.synergy_model.checkpoints.checkpoint import Checkpoint, fill, load_checkpoint, save_checkpoint
from synergy.synergy_model.synergynet import SynergyNet

CONTRACT = {
    "checks": {"artifact", "engine", "output", "max_abs", "spread", "tolerance", "pass"},
    "accuracy": {"artifact", "engine", "nme", "nme_drift", "mae", "mae_drift", "pass"},
}


@pytest.fixture(scope="module")
def checkpoint(checkpoints: dict[str, Path]) -> Checkpoint:
    return load_checkpoint(checkpoints["mb05"])


@pytest.fixture(scope="module")
def golden(checkpoint: Checkpoint) -> Golden:
    return make_golden(checkpoint)


@pytest.fixture(scope="module")
def reference(checkpoint: Checkpoint, golden: Golden) -> Reference:
    return make_reference(checkpoint, golden)


@pytest.fixture
def once(reference: Reference, golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Cell is compiled and run once for all tests."""
    monkeypatch.setattr(module, "make_reference", lambda *_: reference)
    monkeypatch.setattr(proof, "make_golden", lambda *_: golden)
    monkeypatch.setattr(proof, "repeat_golden", lambda *_: golden)


@pytest.fixture
def copied(bundles: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundles["mb05"], tmp_path / "bundle"))


def check(bundle: Bundle, checkpoint: Checkpoint) -> ParityReport:
    with VariantEngines(bundle) as engines:
        return check_bundle(engines, checkpoint, proof.make_golden(checkpoint))


def keep(folder: Path, *names: str, **tensors: Any) -> Bundle:
    """Leave only these artifacts, hashed as they are now; `batch` fixes the batch."""
    content = json.loads((folder / "manifest.json").read_text())
    content["artifacts"] = [entry for entry in content["artifacts"] if entry["file"] in names]
    for entry in content["artifacts"]:
        data = (folder / entry["file"]).read_bytes()
        entry.update(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
    for tensor in (*content["inputs"], *content["outputs"]):
        tensor["shape"][0] = tensors.get("batch", tensor["shape"][0])
    (folder / "manifest.json").write_text(json.dumps(content))
    return Bundle.open(folder)


# --- real artifacts ---


def test_a_sound_bundle_passes_with_the_contracts_keys(bundles: dict[str, Path]) -> None:
    report = json.loads((bundles["mb05"] / "parity.json").read_text())
    assert report["pass"] is True and {"pass", "checks", "accuracy"} <= set(report)
    for part, keys in CONTRACT.items():
        assert report[part] and all(set(row) == keys for row in report[part])
    for check in report["checks"]:
        assert check["pass"] is True
        assert 0 <= check["max_abs"] <= check["tolerance"]
        if not check["output"].startswith("picture"):
            assert check["spread"] >= SENSITIVITY_FACTOR * check["tolerance"]
    ran = {(check["artifact"], check["engine"], check["output"]) for check in report["checks"]}
    pairs = {
        ("model.mindir", "mindspore"),
        ("model.v1.mindir", "lite"),
        ("model.ms", "lite"),
        ("model.onnx", "onnx"),
    } | ({("model.onnx", "openvino")} if available("openvino").ok else set())
    outputs = ("params", "landmarks", "picture_landmarks", "picture_pose")
    assert ran == {(*pair, output) for pair in pairs for output in outputs} | {("morphable.npz", "numpy", "landmarks")}


def test_another_networks_artifact_is_found(
    once: None, bundles: dict[str, Path], copied: Path, checkpoint: Checkpoint
) -> None:
    """Hashed anew, so that nothing but the numbers gives it away."""
    shutil.copy(bundles["mobilenet_v2"] / "model.onnx", copied / "model.onnx")
    bundle = keep(copied, "model.onnx", "model.ms")
    report = check(bundle, checkpoint)
    assert report.passed is False
    assert {(check.artifact, check.passed) for check in report.checks} == {
        ("model.onnx", False),
        ("model.ms", True),
        ("morphable.npz", True),
    }
    assert all(check.max_abs > 3 * check.tolerance for check in report.checks if not check.passed)
    message = summary(report)
    assert "model.onnx on onnx" in message and "model.ms" not in message and "\n" not in message


def test_the_gate_raises_with_the_report(
    once: None, bundles: dict[str, Path], copied: Path, checkpoint: Checkpoint
) -> None:
    shutil.copy(bundles["mobilenet_v2"] / "model.onnx", copied / "model.onnx")
    keep(copied, "model.onnx")
    with pytest.raises(ParityError, match=r"model\.onnx on onnx") as raised:
        gate(copied, checkpoint)
    assert raised.value.report.passed is False and raised.value.report.checks
    assert "\n" not in str(raised.value)


def test_altered_artifact_is_refused_by_its_hash(once: None, copied: Path, checkpoint: Checkpoint) -> None:
    keep(copied, "model.onnx")
    with (copied / "model.onnx").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(BundleError, match=r"model\.onnx"):
        check(Bundle.open(copied), checkpoint)


def test_an_artifact_that_does_not_load_is_a_failure(once: None, copied: Path, checkpoint: Checkpoint) -> None:
    (copied / "model.onnx").write_bytes(b"a text file")
    report = check(keep(copied, "model.onnx", "model.ms"), checkpoint)
    assert report.passed is False and {check.artifact for check in report.checks} == {"model.ms", "morphable.npz"}
    assert report.failures[0].startswith("model.onnx on onnx: ")
    assert all(failure.startswith("model.onnx on ") for failure in report.failures)
    assert "model.onnx on onnx" in summary(report)


def test_a_network_that_ignores_its_input_is_no_proof(
    checkpoints: dict[str, Path], checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """Its artifacts agree with it perfectly, as those of any broken export would."""
    weights = {name: param.asnumpy() for name, param in checkpoint.network.parameters_and_names()}
    (head,) = [name for name in weights if name.endswith("fc_param.weight")]
    blind = SynergyNet("mb05", "3ddfa_v2", refiner=False, regressor=False)
    fill(blind, {**weights, head: np.zeros_like(weights[head])}, "test")
    save_checkpoint(tmp_path / "blind.ckpt", Checkpoint(blind, None))
    with pytest.raises(ParityError) as raised:
        export_bundle(tmp_path / "blind.ckpt", tmp_path / "b", ExportOptions(("onnx",)), gate, lambda _: None)
    checks = raised.value.report.checks
    assert all(check.max_abs <= check.tolerance for check in checks)
    assert all(
        check.input_sensitivity < check.tolerance
        for check in checks
        if check.engine == "onnx" and "picture" not in check.output
    )
    assert not (tmp_path / "b").exists()
    # the artifact does match the Cell: what is wrong is another thing, and must be said
    assert "input" in str(raised.value) and "does not match" not in str(raised.value)


# --- the reference ---


def test_reference_is_the_cell_on_real_crops_and_noise(reference: Reference) -> None:
    assert reference.faces == 32 + 10 and len(reference.crops) == 45
    assert {name: output.shape for name, output in reference.outputs.items()} == {
        "params": (45, 62),
        "landmarks": (45, 3, 68),
    }


def test_the_cell_meets_the_official_code(checkpoint: Checkpoint, shared: Path) -> None:
    """Normalised here, not by the exported graph: a slip there cannot cancel out."""
    expected = np.load(shared / "reference" / "real_emma.npz")
    outputs = cell_outputs(checkpoint.network, expected["crop_bgr_u8"])
    assert np.allclose(outputs["params"], expected["param_whitened"], rtol=0, atol=1e-4)


def test_spread_is_of_real_crops_alone() -> None:
    """Noise moves any network; a face must do."""
    outputs = {"params": np.zeros((4, 62), np.float32)}
    outputs["params"][3] = 100
    crops = np.zeros((4, 120, 120, 3), np.uint8)
    assert Reference(crops, 3, outputs, {}).input_sensitivity("params") == 0
    outputs["params"][0] = 0.5
    assert Reference(crops, 3, outputs, {}).input_sensitivity("params") == 0.5


def test_tolerance_grows_with_values_beyond_the_nominal_ones() -> None:
    def tolerance(value: float, arch: str = "mb05") -> float:
        outputs = {"params": np.full((1, 62), value, np.float32)}
        return Reference(np.zeros((1, 120, 120, 3), np.uint8), 1, outputs, {}).tolerance("params", arch)

    assert tolerance(0) == tolerance(NOMINAL["params"]) == TOLERANCES["params"]
    assert tolerance(10 * NOMINAL["params"]) == pytest.approx(10 * TOLERANCES["params"])
    assert tolerance(0, "resnet50") == 5 * TOLERANCES["params"]


def test_tolerances_are_those_of_the_official_code() -> None:
    points = ("landmarks", "refined_landmarks", "vertices")
    assert {"params": 2e-4, **dict.fromkeys(points, 1e-2)} == TOLERANCES


# --- every way to be wrong, on engines that do as they are told ---


Change = Callable[[dict[str, np.ndarray], np.ndarray], dict[str, np.ndarray]]


@pytest.fixture
def checked(
    copied: Path, checkpoint: Checkpoint, golden: Golden, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., ParityReport]:
    """Check a bundle with one artifact on an engine that gives the Cell's outputs, changed by `change`."""

    def checked(
        change: Change,
        reference: Reference = reference,
        batch: int = -1,
        variant: tuple[str, str] = ("onnx", "fp32"),
    ) -> ParityReport:
        class FakeEngine(Engine):
            name, formats = "onnx", ("onnx",)

            @classmethod
            def available(cls) -> Availability:
                return Availability(True, "")

            def _run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
                places = [_place(crop, reference.crops) for crop in arrays[0]]
                outputs = {name: output[places].copy() for name, output in reference.outputs.items()}
                return list(change(outputs, np.array(places)).values())

            def close(self) -> None:
                pass

        monkeypatch.setattr(module, "make_reference", lambda *_: reference)
        monkeypatch.setattr(module, "check_picture", lambda *_: iter(()))
        monkeypatch.setattr(module, "check_decoding", lambda *_: iter(()))
        monkeypatch.setattr(proof, "make_golden", lambda *_: golden)
        monkeypatch.setattr(
            module,
            "runnable_variants",
            lambda artifacts, **_: RunnableVariants(
                tuple(Variant(each, variant[0], 1, variant[1]) for each in artifacts), ()
            ),
        )
        monkeypatch.setattr(
            variants_module,
            "open_engine",
            lambda name, model, device, threads, isolated, options: FakeEngine(model, Device(), 1),
        )
        return check(keep(copied, "model.onnx", batch=batch), checkpoint)

    return checked


def _place(crop: np.ndarray, crops: np.ndarray) -> int:
    return next(i for i, known in enumerate(crops) if np.array_equal(known, crop))


def same(outputs: dict[str, np.ndarray], places: np.ndarray) -> dict[str, np.ndarray]:
    return outputs


def off_by(amount: float, name: str, where: Callable[[np.ndarray], np.ndarray] = np.ones_like) -> Change:
    """One value of output `name` is off, in the crops that `where` picks."""

    def change(outputs: dict[str, np.ndarray], places: np.ndarray) -> dict[str, np.ndarray]:
        picked = np.flatnonzero(where(places))
        outputs[name].reshape(len(places), -1)[picked, 7] += np.float32(amount)
        return outputs

    return change


def test_exact_outputs_pass(checked: Callable[..., ParityReport]) -> None:
    report = checked(same)
    assert report.passed and [check.max_abs for check in report.checks] == [0, 0]
    assert summary(report) == "all 2 checks passed"


@pytest.mark.parametrize("name", ["params", "landmarks"])
@pytest.mark.parametrize(("share", "passes"), [(0.5, True), (0.9, True), (1.5, False), (-1.5, False)])
def test_the_limit(
    checked: Callable[..., ParityReport], reference: Reference, name: str, share: float, passes: bool
) -> None:
    report = checked(off_by(share * reference.tolerance(name, "mb05"), name))
    assert report.passed is passes
    assert {check.output: check.passed for check in report.checks} == {
        "params": passes or name != "params",
        "landmarks": passes or name != "landmarks",
    }


@pytest.mark.parametrize(
    "where",
    [
        lambda places: places == 0,
        lambda places: places == 41,
        lambda places: places == 44,
        lambda places: np.full(len(places), len(places) == 1),
        lambda places: np.full(len(places), len(places) > 1),
    ],
    ids=["first crop", "last real crop", "last noise", "alone", "together"],
)
def test_one_wrong_value_anywhere_is_found(checked: Callable[..., ParityReport], where: Callable) -> None:
    assert checked(off_by(1.0, "landmarks", where)).passed is False


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "where",
    [
        lambda places: np.ones(len(places)),
        lambda places: np.full(len(places), len(places) > 1),
        lambda places: places == 44,
    ],
    ids=["everywhere", "together", "last noise"],
)
@pytest.mark.parametrize("name", ["params", "landmarks"])
def test_values_that_are_no_numbers_are_found(
    checked: Callable[..., ParityReport], name: str, where: Callable, value: float
) -> None:
    """The engine's own check refuses them."""
    report = checked(off_by(value, name, where))
    assert report.passed is False and not report.checks
    assert f"values of {name} that are NaN or infinite" in report.failures[0]


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_cell_that_gives_no_numbers_proves_nothing(
    checked: Callable[..., ParityReport], reference: Reference, value: float
) -> None:
    broken = {name: output.copy() for name, output in reference.outputs.items()}
    broken["landmarks"][-1] = value
    finite = checked(
        lambda outputs, _: {k: np.nan_to_num(v) for k, v in outputs.items()}, replace(reference, outputs=broken)
    )
    assert finite.passed is False
    assert checked(same, replace(reference, outputs=broken)).passed is False


@pytest.mark.parametrize("still", ["params", "landmarks"])
def test_outputs_must_move_with_the_input(
    checked: Callable[..., ParityReport], reference: Reference, still: str
) -> None:
    outputs = {**reference.outputs, still: np.repeat(reference.outputs[still][:1], len(reference.crops), axis=0)}
    report = checked(same, replace(reference, outputs=outputs))
    assert {check.output: check.passed for check in report.checks}[still] is False
    assert report.passed is False


def test_swapped_crops_are_found(checked: Callable[..., ParityReport]) -> None:
    """All values are right, in the wrong order."""
    assert checked(lambda outputs, _: {name: value[::-1] for name, value in outputs.items()}).passed is False


@pytest.mark.parametrize("batch", [1, 2, 7, 45, 50])
def test_fixed_batch(checked: Callable[..., ParityReport], batch: int) -> None:
    """The engine refuses any other batch, so the crops are filled up; the filling is not judged."""
    assert checked(same, batch=batch).passed
    assert not checked(off_by(1.0, "params", lambda places: places == 44), batch=batch).passed


def test_a_dynamic_batch_is_tried_alone_and_together(checked: Callable[..., ParityReport]) -> None:
    sizes: list[int] = []

    def change(outputs: dict[str, np.ndarray], places: np.ndarray) -> dict[str, np.ndarray]:
        sizes.append(len(places))
        return outputs

    checked(change)
    assert sizes == [1] * 45 + [45]


def test_all_failures_together(
    once: None, copied: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One broken engine hides no other."""

    def fail(name: str, *_: object, **__: object) -> Engine:
        raise EngineError(f"{name} is broken")

    monkeypatch.setattr(variants_module, "open_engine", fail)
    monkeypatch.setattr(variants_module, "available", lambda name: Availability(True, "here"))
    report = check(Bundle.open(copied), checkpoint)
    assert report.passed is False and report.checks == ()
    assert [failure.split(": ")[0] for failure in report.failures] == [
        "model.mindir on mindspore",
        "model.v1.mindir on lite",
        "model.onnx on onnx",
        "model.onnx on openvino",
        "model.ms on lite",
    ]
    assert all(failure in summary(report) for failure in report.failures)


def test_an_artifact_that_nothing_here_can_run_is_not_proved(
    once: None, copied: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        variants_module, "available", lambda name: Availability(False, f"{name} is missing", f"get {name}")
    )
    report = check(Bundle.open(copied), checkpoint)
    assert report.passed is False and len(report.failures) == 4
    missing = "onnx is missing, get onnx; openvino is missing, get openvino"
    assert f"model.onnx was run on no engine ({missing})" in report.failures


def test_every_engine_runs_in_its_own_process(
    once: None, copied: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, bool]] = []

    def note(name: str, *_: object, isolated: bool, **__: object) -> Engine:
        asked.append((name, isolated))
        raise EngineError("enough")

    monkeypatch.setattr(variants_module, "open_engine", note)
    monkeypatch.setattr(variants_module, "available", lambda name: Availability(True, "here"))
    check(Bundle.open(copied), checkpoint)
    assert len(asked) == 5 and all(isolated for _, isolated in asked)


# --- the report ---


def report(**changes: Any) -> ParityReport:
    check = Check("model.ms", "lite", "params", 1e-5, 0.3, 2e-4, True)
    row = Accuracy("model.ms", "lite", 3.0, 0.0001, 2.0, 0.001, True)
    return ParityReport(**{"passed": True, "checks": (check,), "accuracy": (row,), **changes})


def test_report_as_json() -> None:
    content = json.loads(msgspec.json.encode(report()))
    assert content == {
        "pass": True,
        "checks": [
            {
                "artifact": "model.ms",
                "engine": "lite",
                "output": "params",
                "max_abs": 1e-5,
                "spread": 0.3,
                "tolerance": 2e-4,
                "pass": True,
            }
        ],
        "accuracy": [
            {
                "artifact": "model.ms",
                "engine": "lite",
                "nme": 3.0,
                "nme_drift": 0.0001,
                "mae": 2.0,
                "mae_drift": 0.001,
                "pass": True,
            }
        ],
        "failures": [],
    }


def test_summary_names_lost_accuracy() -> None:
    row = Accuracy("model.onnx", "onnx", 3.0, 1.0, 2.0, 0.0, False)
    message = summary(report(passed=False, accuracy=(row,)))
    assert "model.onnx on onnx drifts from the Cell: NME by 1.000 points" in message and "must not be used" in message


# --- reduced precision ---


def reduced(copied: Path, precision: str) -> Bundle:
    content = json.loads((copied / "manifest.json").read_text())
    for entry in content["artifacts"]:
        entry["precision"] = precision
    (copied / "manifest.json").write_text(json.dumps(content))
    return keep(copied, "model.onnx")


@pytest.mark.parametrize(("precision", "px", "passes"), [("fp16", 0.9, True), ("fp16", 1.1, False), ("int8", 19, True)])
def test_reduced_precisions_may_round_more(
    checked: Callable[..., ParityReport], copied: Path, precision: str, px: float, passes: bool
) -> None:
    reduced(copied, precision)
    report = checked(off_by(px, "landmarks", lambda places: places == 0))
    assert report.passed is passes


def test_reduced_precisions_are_compared_on_real_crops(checked: Callable[..., ParityReport], copied: Path) -> None:
    """int8 is not calibrated for noise."""
    reduced(copied, "int8")
    assert checked(off_by(1000.0, "landmarks", lambda places: places >= 42)).passed
    assert not checked(off_by(1000.0, "landmarks", lambda places: places == 41)).passed


@pytest.mark.parametrize(("px", "passes"), [(4.9, True), (5.5, False)])
def test_computing_in_less_may_round_more(
    checked: Callable[..., ParityReport], copied: Path, px: float, passes: bool
) -> None:
    """It is judged beside float32 of the same file, on real crops."""
    change = off_by(px, "landmarks", lambda places: places == 41)
    report = checked(change, variant=("openvino", "bf16"))
    assert report.passed is passes
    assert [(each.engine, each.compute_precision, each.where) for each in report.checks] == [
        ("openvino", "bf16", "openvino bf16")
    ] * len(report.checks)
    noise = off_by(1000.0, "landmarks", lambda places: places >= 42)
    assert checked(noise, variant=("openvino", "bf16")).passed
    assert not checked(noise).passed


@pytest.mark.parametrize("accept", [False, True])
def test_drift_of_what_is_computed_in_less(
    once: None, copied: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, accept: bool
) -> None:
    """It is that of the computing, not of the artifact, whose float32 is exact; and accepting it is said there."""
    content = json.loads((copied / "manifest.json").read_text())
    for entry in content["artifacts"]:
        if entry["file"] == "model.onnx":
            entry["computing"] = [{"engine": "openvino", "precision": "bf16", "drift": None}]
    (copied / "manifest.json").write_text(json.dumps(content))
    bundle = keep(copied, "model.onnx")
    rows = (
        Accuracy("Cell", "mindspore", 3.0, 0.0, 2.0, 0.0, True),
        Accuracy("model.onnx", "onnx", 3.0, 0.0, 2.0, 0.0, True),
        Accuracy("model.onnx", "openvino", 3.2, 0.2, 2.0, 0.0, False, compute_precision="bf16"),
    )
    monkeypatch.setattr(proof, "measure_bundle", lambda *_: ())
    monkeypatch.setattr(proof, "synthetic_data", lambda count: SimpleNamespace(source=f"{count} faces"))
    monkeypatch.setattr(proof, "drift_rows", lambda _: rows)
    if not accept:
        with pytest.raises(ParityError, match=r"model\.onnx on openvino bf16 drifts.*--accept-drift"):
            gate(copied, checkpoint)
        return
    given = gate(copied, checkpoint, accept_drift=True)
    (compute_precision,) = given.compute_precisions["model.onnx"]
    assert (
        compute_precision.drift is not None and compute_precision.drift.nme == 0.2 and compute_precision.drift.accepted
    )
    assert given.drift["model.onnx"].nme == 0.0 and not given.drift["model.onnx"].accepted
    last = json.loads(given.report)["accuracy"][-1]
    assert (last["computing"], last["accepted"]) == ("bf16", True)
    proved = msgspec.structs.replace(bundle.manifest.artifacts[0], compute_precisions=(compute_precision,))
    again = Bundle(copied, msgspec.structs.replace(bundle.manifest, artifacts=(proved,)))
    assert proof.prove_bundle(again, checkpoint).passed  # accepted once


@pytest.mark.parametrize(("accept", "drift"), [(False, None), (True, True)])
def test_drift_beyond_the_limit_is_refused_unless_accepted(
    once: None, copied: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, accept: bool, drift: bool | None
) -> None:
    rows = (
        Accuracy("Cell", "mindspore", 3.0, 0.0, 2.0, 0.0, True),
        Accuracy("model.onnx", "onnx", 3.2, 0.2, 2, 0, False),
    )
    monkeypatch.setattr(proof, "measure_bundle", lambda *_: ())
    monkeypatch.setattr(proof, "synthetic_data", lambda count: SimpleNamespace(source=f"{count} faces"))
    monkeypatch.setattr(proof, "drift_rows", lambda _: rows)
    reduced(copied, "int8")
    if not accept:
        with pytest.raises(ParityError, match="--accept-drift"):
            gate(copied, checkpoint)
        return
    given = gate(copied, checkpoint, accept_drift=True)
    assert given.drift["model.onnx"].accepted and given.drift["model.onnx"].nme == 0.2
    content = json.loads(given.report)
    assert content["pass"] is True and content["accuracy"][1]["pass"] is False
    assert content["accuracy"][1]["accepted"] is True and "accepted" not in content["accuracy"][0]


def test_a_drift_of_fp32_cannot_be_accepted(
    once: None, copied: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = (Accuracy("model.onnx", "onnx", 3.2, 0.2, None, None, False),)
    monkeypatch.setattr(proof, "measure_bundle", lambda *_: ())
    monkeypatch.setattr(proof, "synthetic_data", lambda count: SimpleNamespace(source=f"{count} faces"))
    monkeypatch.setattr(proof, "drift_rows", lambda _: rows)
    keep(copied, "model.onnx")
    with pytest.raises(ParityError, match="drifts from the Cell") as raised:
        gate(copied, checkpoint, accept_drift=True)
    assert "--accept-drift" not in str(raised.value)


@pytest.fixture(autouse=True, scope="module")
def _mode() -> Iterator[None]:
    """`cell_outputs` chooses the graph mode for its process."""
    import mindspore as ms

    before = SimpleNamespace(mode=ms.get_context("mode"))
    yield
    ms.set_context(mode=before.mode)
