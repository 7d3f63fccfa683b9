"""The accuracy of the Cell survives export: real weights on real pictures, and drift that must not pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mindspore", reason="the Cell needs MindSpore")

from synergy.benchmarks.accuracy.aflw2000 import load_raw
from synergy.benchmarks.accuracy.data import SYNTHETIC_TITLE, to_image_px
from synergy.benchmarks.accuracy.report import AccuracyReport, NmeRecord, PoseMaeRecord
from synergy.benchmarks.parity.cell import CELL_BATCH
from synergy.benchmarks.parity.drift import (
    CELL,
    VariantAccuracy,
    cell_predictor,
    drift_rows,
    measure_bundle,
)
from synergy.benchmarks.parity.drift_limits import DRIFT_LIMITS
from synergy.runtime.bundle import Bundle
from synergy.runtime.variants import VariantEngines
from synergy.synergy_model.checkpoints.checkpoint import load_checkpoint
from synergy.synergy_model.metrics import nme_percent
from synergy.synergy_model.synergynet import SynergyNet

LIMIT = DRIFT_LIMITS["fp32"]


@pytest.fixture(scope="module")
def network(checkpoints: dict[str, Path]) -> SynergyNet:
    """mb05, compiled once for the tests of this file."""
    return load_checkpoint(checkpoints["mb05"]).network


def measured(nme: float, mae: float | None, precision: str = "fp32", title: str = "t") -> VariantAccuracy:
    pose = None if mae is None else PoseMaeRecord(mae, mae, mae, mae, 8)
    report = AccuracyReport(title, "s", NmeRecord((), nme, 0.0, nme), pose, None, [nme])
    return VariantAccuracy("model.onnx", "onnx", report, precision=precision)


@pytest.mark.parametrize(
    ("nme", "mae", "passed"),
    [
        (3.0, 4.0, True),
        (3.0 + 0.9 * LIMIT.nme, 4.0 - 0.9 * LIMIT.mae, True),
        (3.0 + 1.1 * LIMIT.nme, 4.0, False),
        (3.0 - 1.1 * LIMIT.nme, 4.0, False),
        (3.0, 4.0 + 1.1 * LIMIT.mae, False),
        (3.0, 4.0 - 1.1 * LIMIT.mae, False),
    ],
)
def test_drift_beyond_the_limit_fails_in_both_directions(nme: float, mae: float, passed: bool) -> None:
    cell = replace(measured(3.0, 4.0), artifact=CELL)
    first, second = drift_rows([cell, measured(nme, mae)])
    assert (first.artifact, first.nme_drift, first.mae_drift, first.passed) == (CELL, 0.0, 0.0, True)
    assert second.passed is passed
    assert second.nme_drift == pytest.approx(abs(nme - 3.0)) and second.mae_drift == pytest.approx(abs(mae - 4.0))


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_reduced_precisions_have_wider_limits(precision: str) -> None:
    limit = DRIFT_LIMITS[precision]
    assert LIMIT.nme < limit.nme and LIMIT.mae < limit.mae
    inside = measured(3.0 + 0.9 * limit.nme, 4.0 + 0.9 * limit.mae, precision)
    worse, turned = measured(3.0 + 1.1 * limit.nme, 4.0, precision), measured(3.0, 4.0 - 1.1 * limit.mae, precision)
    rows = drift_rows([measured(3.0, 4.0), inside, worse, turned])
    assert [row.passed for row in rows] == [True, True, False, False]


def test_limits_are_those_promised() -> None:
    assert {name: limit.nme for name, limit in DRIFT_LIMITS.items()} == {
        "fp32": 0.001,
        "fp16": 0.02,
        "bf16": 0.05,
        "int8": 0.15,
    }


def test_an_untrained_network_may_round_in_proportion() -> None:
    """At an NME of 1000 % the limit is a hundredfold; a real drift of a per cent still fails."""
    first, rounded, drifted = drift_rows([measured(1000.0, 90.0), measured(1000.09, 90.08), measured(1001.0, 90.0)])
    assert (first.passed, rounded.passed, drifted.passed) == (True, True, False)


@pytest.mark.parametrize(
    ("title", "cell", "precision", "reduced", "passed"),
    [
        (SYNTHETIC_TITLE, (4.70, 7.07), "int8", (4.74, 7.95), True),  # 3DDFA_V2's mb05, as it was measured
        (SYNTHETIC_TITLE, (4.70, 7.07), "int8", (4.74, 8.50), False),
        (SYNTHETIC_TITLE, (4.70, 7.07), "int8", (5.06, 7.07), False),
        (SYNTHETIC_TITLE, (4.70, 7.07), "fp32", (4.70, 7.09), False),
        (SYNTHETIC_TITLE, (3.90, 7.07), "int8", (3.90, 7.95), False),  # in its domain
        ("photographs", (4.70, 7.07), "int8", (4.74, 7.95), False),
        (SYNTHETIC_TITLE, (4.70, None), "int8", (4.74, None), True),
    ],
)
def test_out_of_its_domain_the_drift_is_relative(
    title: str,
    cell: tuple[float, float | None],
    precision: str,
    reduced: tuple[float, float | None],
    passed: bool,
) -> None:
    rows = drift_rows([measured(*cell, title=title), measured(*reduced, precision, title)])
    assert [row.passed for row in rows] == [True, passed]


def test_without_poses_nme_alone_decides() -> None:
    first, good, bad = drift_rows([measured(3.0, None), measured(3.0, None), measured(3.1, None)])
    assert first.mae is None and good.mae_drift is None
    assert (good.passed, bad.passed) == (True, False)


def test_cell_gives_every_crop_its_own_result(shared: Path, network: SynergyNet) -> None:
    """More crops than a batch of the Cell, not a multiple of it: row for row what PyTorch said."""
    with np.load(shared / "reference" / "real_aflw8.npz") as reference:
        crops = np.concatenate([reference["crop_bgr_u8"]] * 3)[: CELL_BATCH + 3]
        nme = np.concatenate([reference["nme_percent"]] * 3)[: CELL_BATCH + 3]
    data = load_raw(shared / "aflw2000" / "raw")
    predictions = cell_predictor(network)(crops)
    assert predictions.landmarks.shape == (CELL_BATCH + 3, 3, 68) and predictions.euler_deg is not None
    rows = np.arange(len(crops)) % 8
    image_px = to_image_px(predictions.landmarks, data.roi_xyxy[rows])
    np.testing.assert_allclose(nme_percent(image_px, data.landmarks[rows]), nme, atol=2e-3)


def test_real_weights_keep_their_accuracy_on_every_artifact(
    shared: Path, network: SynergyNet, bundles: dict[str, Path]
) -> None:
    """Eight real pictures, NME 3.225 % on the Cell and after every export."""
    data = load_raw(shared / "aflw2000" / "raw")
    bundle = Bundle.open(bundles["mb05"])
    with VariantEngines(bundle) as engines:
        found = list(measure_bundle(engines, network, data))
    assert found[0].artifact == CELL
    assert {entry.artifact for entry in found[1:]} == {artifact.file for artifact in bundle.manifest.artifacts}
    assert [f"{entry.report.nme.image_mean:.3f}" for entry in found] == ["3.225"] * len(found)
    rows = drift_rows(found)
    assert all(row.passed and row.nme_drift <= 0.001 for row in rows)
    assert all(entry.report.mae is not None and entry.report.mae.mean < 4 for entry in found)
