"""NME, pose MAE and their printed form, against results of the official benchmark and values computed by hand."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import cv2
import msgspec
import numpy as np
import pytest

from synergy.benchmarks.accuracy.aflw2000 import EVAL, EXCL, LABELS, SKIP, load_official, load_raw
from synergy.benchmarks.accuracy.data import DataError, EvaluationData, synthetic_data, to_crop_px, to_image_px
from synergy.benchmarks.accuracy.per_face import CAPTION, COLUMNS, ZOOM, montage, write_csv, write_montage
from synergy.benchmarks.accuracy.predictions import Predictions, predictions_from_npz, read_whitening
from synergy.benchmarks.accuracy.report import (
    CHUNK,
    AccuracyReport,
    NmeBinRecord,
    NmeRecord,
    PoseMaeRecord,
    evaluate,
    format_source,
    format_table,
    run_predictor,
    score,
)
from synergy.synergy_model.metrics import label_euler_deg

FACTS_TABLE = """Facial Alignment on AFLW2000-3D(NME):
[ 0, 30] Mean:2.656 Std:1.194
[30, 60] Mean:3.316 Std:1.924
[60, 90] Mean:4.268 Std:2.569
[ 0, 90] Mean:3.413 Std:0.662
Face orientation estimation:
Mean MAE = 3.388 (in deg), [yaw,pitch,roll] = [3.566, 4.059, 2.539]"""


def published_report() -> AccuracyReport:
    """The published result of SynergyNet."""
    bins = (
        NmeBinRecord((0, 30), 1312, 2.656, 1.194),
        NmeBinRecord((30, 60), 383, 3.316, 1.924),
        NmeBinRecord((60, 90), 305, 4.268, 2.569),
    )
    mae = PoseMaeRecord(yaw=3.566, pitch=4.059, roll=2.539, mean=3.388, count=1969)
    return AccuracyReport("AFLW2000-3D", "2000 crops", NmeRecord(bins, 3.413, 0.662, 3.0), mae, None, [3.0])


def square() -> np.ndarray:
    """(2,68) landmarks that span 100 x 100 px."""
    points = np.full((2, 68), 50.0)
    points[:, 0], points[:, 1] = 0.0, 100.0
    return points


def made_data(yaw_deg: list[float], size: float = 100.0, **changes: object) -> EvaluationData:
    """One face per yaw whose landmarks span `size` px; the crop is the image at half its size."""
    count = len(yaw_deg)
    yaw = np.array(yaw_deg)
    data = EvaluationData(
        title="AFLW2000-3D",
        source="made",
        names=tuple(f"face{i}.jpg" for i in range(count)),
        crops=np.full((count, 120, 120, 3), 128, np.uint8),
        landmarks=np.stack([square() * size / 100] * count),
        yaw_deg=yaw,
        roi_xyxy=np.tile([10.0, 20.0, 250.0, 260.0], (count, 1)),
        pose_deg=np.stack([yaw, np.zeros(count), np.zeros(count)], axis=1),
        scored=np.abs(yaw) <= 99,
    )
    return replace(data, **changes)  # type: ignore[arg-type]


def shifted(
    data: EvaluationData, by_px: list[float], pose_error: tuple[float, float, float] = (0, 0, 0)
) -> Predictions:
    """The ground truth moved right by some image px, with an error of the pose in degrees."""
    moved = data.landmarks[:, :2] + np.array(by_px)[:, None, None] * np.array([[1.0], [0.0]])
    assert data.pose_deg is not None
    return Predictions(to_crop_px(moved, data.roi_xyxy), data.pose_deg + pose_error)


# the figures


def test_bins_end_where_the_protocol_says() -> None:
    """|yaw| of 30 and 60 belong to the lower bin; labels beyond 90, even beyond 99, to the last."""
    data = made_data([0, 30, -30, 30.01, -60, 60.01, -88, 151])
    report = score(shifted(data, [1, 2, 3, 4, 6, 7, 8, 9]), data)
    assert [(b.range, b.count, b.mean) for b in report.nme.bins] == [
        ((0, 30), 3, pytest.approx(2.0)),
        ((30, 60), 2, pytest.approx(5.0)),
        ((60, 90), 3, pytest.approx(8.0)),
    ]
    assert [b.std for b in report.nme.bins] == pytest.approx([np.sqrt(2 / 3), 1.0, np.sqrt(2 / 3)])
    assert report.nme.mean == pytest.approx(5.0)
    assert report.nme.std == pytest.approx(np.std([2.0, 5.0, 8.0]))
    assert report.nme.image_mean == pytest.approx(5.0)
    assert report.nme_per_image == pytest.approx([1, 2, 3, 4, 6, 7, 8, 9])


def test_nme_is_relative_to_the_truths_box() -> None:
    data = made_data([0, 0], size=50.0)
    assert score(shifted(data, [1, 3]), data).nme_per_image == pytest.approx([2.0, 6.0])


def test_crop_to_image_by_each_side_of_the_box() -> None:
    """A clipped box is not square, so x and y have different scales: 12, 30 of 120 px in a 60 x 240 box."""
    rois = np.array([[5.0, 7.0, 65.0, 247.0]])
    crop = np.array([[[0.0, 12.0, 120.0], [0.0, 30.0, 120.0], [1.0, 2.0, 3.0]]])
    image = to_image_px(crop, rois)
    np.testing.assert_allclose(image, [[[5, 11, 65], [7, 67, 247]]])
    np.testing.assert_allclose(to_crop_px(image, rois), crop[:, :2])


def test_pose_mae_is_plain_and_leaves_faces_out() -> None:
    data = made_data([0, 120, -50])
    report = score(shifted(data, [1, 1, 1], pose_error=(1, -2, 6)), data)
    assert report.mae == PoseMaeRecord(yaw=1.0, pitch=2.0, roll=6.0, mean=3.0, count=2)
    assert report.mae_missing is None
    assert report.nme.bins[2].count == 1  # the face at 120 degrees still counts for NME


@pytest.mark.parametrize(
    ("changes", "blind", "reason"),
    [
        ({"pose_deg": None, "scored": None, "pose_missing": "skip.npy is missing"}, False, "skip.npy is missing"),
        ({}, True, "no params"),
        ({"scored": np.zeros(2, bool)}, False, "every face has an angle beyond 99 degrees"),
    ],
)
def test_without_pose_the_nme_is_given_and_the_reason(changes: dict, blind: bool, reason: str) -> None:
    data = made_data([0, 10])
    predictions = shifted(data, [2, 2])
    if blind:
        predictions = Predictions(predictions.landmarks, None, "no params")
    report = score(predictions, replace(data, **changes))
    assert report.mae is None and report.mae_missing == reason
    assert report.nme.mean == pytest.approx(2.0)
    assert format_table(report).endswith(f"Face orientation estimation:\nnot available: {reason}")
    assert json.loads(msgspec.json.encode(report))["mae"] is None


def test_empty_bins_are_null_and_do_not_count() -> None:
    data = made_data([0, 70])
    report = score(shifted(data, [2, 4]), data)
    assert report.nme.mean == pytest.approx(3.0) and report.nme.std == pytest.approx(1.0)
    decoded = json.loads(msgspec.json.encode(report))
    assert decoded["nme"]["bins"][1] == {"range": [30, 60], "count": 0, "mean": None, "std": None}
    assert "[30, 60] Mean:n/a Std:n/a" in format_table(report)


def test_wrong_predictions() -> None:
    data = made_data([0, 10])
    good = shifted(data, [1, 1])
    with pytest.raises(ValueError, match="1 predictions for 2 faces"):
        score(Predictions(good.landmarks[:1], None), data)
    landmarks = good.landmarks.copy()
    landmarks[1, 0, 0] = np.nan
    with pytest.raises(ValueError, match="predicted landmarks, row 1: a value is NaN"):
        score(Predictions(landmarks, good.euler_deg), data)
    with pytest.raises(ValueError, match=r"predicted poses, row 0 .*: a value is NaN"):
        score(Predictions(good.landmarks, np.full((2, 3), np.nan)), data)


# the printed form and the JSON


def test_table_is_the_official_form() -> None:
    assert format_table(published_report()) == FACTS_TABLE


def test_json_form() -> None:
    decoded = json.loads(msgspec.json.encode(published_report()))
    assert decoded["nme"]["bins"][0] == {"range": [0, 30], "count": 1312, "mean": 2.656, "std": 1.194}
    assert (decoded["nme"]["mean"], decoded["nme"]["std"]) == (3.413, 0.662)
    assert {key: decoded["mae"][key] for key in ("yaw", "pitch", "roll", "mean")} == {
        "yaw": 3.566,
        "pitch": 4.059,
        "roll": 2.539,
        "mean": 3.388,
    }
    assert decoded["nme_per_image"] == [3.0]
    assert msgspec.json.decode(msgspec.json.encode(published_report()), type=AccuracyReport) == published_report()


def test_source_line_has_the_image_mean() -> None:
    assert format_source(published_report()) == "2000 crops; NME over all images: 3.000; MAE over 1969 of 2000 faces"


# the official benchmark's figures for seeded predictions


@pytest.fixture(scope="module")
def inputs(shared: Path) -> ModuleType:
    """The reference code that makes seeded predictions."""
    spec = importlib.util.spec_from_file_location("make_metric_inputs", shared / "reference" / "make_metric_inputs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def labels_root(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official layout with only the published labels."""
    root = tmp_path_factory.mktemp("labels")
    (root / EVAL).mkdir()
    for path in (shared / "aflw2000").glob("*.npy"):
        (root / EVAL / path.name).write_bytes(path.read_bytes())
    return root


@pytest.mark.parametrize("rows", [2, 3])
def test_seed_0_to_the_last_printed_digit(
    shared: Path, inputs: ModuleType, labels_root: Path, tmp_path: Path, rows: int
) -> None:
    expected = json.loads((shared / "reference" / "metrics_seed0.json").read_text())
    landmarks = inputs.landmarks_crop(inputs.load_gt(shared / "aflw2000"), seed=0)
    assert inputs.sha(landmarks) == expected["input_sha256_ori"]
    padded = np.pad(landmarks, ((0, 0), (0, rows - 2), (0, 0)))
    np.savez(tmp_path / "made.npz", landmarks=padded)
    data = load_official(labels_root, pictures=False)
    report = score(predictions_from_npz(tmp_path / "made.npz", len(data)), data)
    official = [line.replace("\t", " ") for line in expected["printed"].strip().splitlines()[1:]]
    ours = [line.replace(" Std", ", Std").replace(":", ": ") for line in format_table(report).splitlines()[1:5]]
    assert ours == official
    figures = expected["nme_ori"]
    assert [b.count for b in report.nme.bins] == figures["bin_count"]
    assert [b.mean for b in report.nme.bins] == pytest.approx(figures["bin_mean"], rel=1e-5)
    assert [b.std for b in report.nme.bins] == pytest.approx(figures["bin_std"], rel=1e-5)
    assert report.nme.mean == pytest.approx(figures["mean_of_bin_means"], rel=1e-5)
    assert report.nme.std == pytest.approx(figures["std_of_bin_means"], rel=1e-5)
    assert report.nme.image_mean == pytest.approx(figures["mean_over_all_images"], rel=1e-5)
    assert report.nme_per_image[:5] == pytest.approx([100 * nme for nme in figures["nme_first5"]], rel=1e-5)
    assert report.mae is None and report.mae_missing is not None


def test_reannotated_labels_keep_the_bins(inputs: ModuleType, shared: Path, labels_root: Path) -> None:
    """Predictions made from the re-annotated labels score well on them; the yaw file stays the same."""
    landmarks = inputs.landmarks_crop(inputs.load_gt(shared / "aflw2000"), seed=0, option="re")
    data = {name: load_official(labels_root, labels=name, pictures=False) for name in LABELS}
    found = {name: score(Predictions(landmarks, None), each).nme for name, each in data.items()}
    assert [b.count for b in found["reannotated"].bins] == [1312, 383, 305]
    # noise of 0.015 (1 + |yaw|/90) per axis has a mean length of sqrt(pi/2) times that
    assert found["reannotated"].bins[0].mean == pytest.approx(2.11, abs=0.02)
    assert found["original"].mean > found["reannotated"].mean


def test_missing_pose_files_are_named_in_the_table(inputs: ModuleType, shared: Path, labels_root: Path) -> None:
    data = load_official(labels_root, pictures=False)
    landmarks = inputs.landmarks_crop(inputs.load_gt(shared / "aflw2000"), seed=0)
    table = format_table(score(Predictions(landmarks, np.zeros((2000, 3))), data))
    assert SKIP in table and EXCL in table and "are missing" in table


# predictions made elsewhere


@pytest.fixture
def eight(shared: Path) -> EvaluationData:
    return load_raw(shared / "aflw2000" / "raw")


@pytest.fixture
def real(shared: Path) -> dict[str, np.ndarray]:
    """Outputs of the real mb05 for the eight samples."""
    with np.load(shared / "reference" / "real_aflw8.npz") as reference:
        return {key: reference[key] for key in reference.files}


@pytest.mark.parametrize("border", ["", "_border5"])
def test_parameters_give_the_reference_nme(
    shared: Path, eight: EvaluationData, real: dict[str, np.ndarray], tmp_path: Path, border: str
) -> None:
    np.savez(tmp_path / "p.npz", params=real[f"param_whitened{border}"])
    whitening = shared / "checkpoints" / "real" / "param_mean_std_62d_120x120.pkl"
    bases = shared / "morphable" / "sparse68.npz"
    report = score(predictions_from_npz(tmp_path / "p.npz", 8, whitening, bases, "3ddfa_v2"), eight)
    assert report.nme_per_image == pytest.approx(real[f"nme_percent{border}"], abs=1e-4)
    assert f"{report.nme.image_mean:.3f}" == ("3.277" if border else "3.225")
    other = score(predictions_from_npz(tmp_path / "p.npz", 8, whitening, bases, "synergynet"), eight)
    assert other.nme.image_mean != pytest.approx(report.nme.image_mean, abs=1e-3)  # one crop pixel apart


def test_pose_has_the_signs_of_the_labels(shared: Path, eight: EvaluationData, real: dict[str, np.ndarray]) -> None:
    """3DDFA_V2's own pitch and roll have the other sign: against them the error would be 20 degrees and more."""
    mean, std = read_whitening(shared / "checkpoints" / "real" / "param_mean_std_62d_120x120.pkl")
    euler = label_euler_deg(real["param_whitened"], mean, std)
    report = score(Predictions(np.zeros((8, 3, 68)), euler), eight)
    assert report.mae is not None and max(report.mae.yaw, report.mae.pitch, report.mae.roll) < 5


def test_landmarks_and_parameters_together(shared: Path, real: dict[str, np.ndarray], tmp_path: Path) -> None:
    """The landmarks are scored as they are; the parameters give the pose. Whitening also as .npz."""
    mean, std = read_whitening(shared / "checkpoints" / "real" / "param_mean_std_62d_120x120.pkl")
    np.savez(tmp_path / "w.npz", mean=mean, std=std)
    landmarks = np.random.default_rng(0).uniform(0, 120, (8, 2, 68))
    np.savez(tmp_path / "p.npz", params=real["param_whitened"], landmarks=landmarks)
    found = predictions_from_npz(tmp_path / "p.npz", 8, whitening=tmp_path / "w.npz")
    np.testing.assert_array_equal(found.landmarks, landmarks)
    np.testing.assert_allclose(found.euler_deg, label_euler_deg(real["param_whitened"], mean, std), atol=1e-4)


LANDMARKS, PARAMS = np.zeros((8, 3, 68)), np.zeros((8, 62))
DECODED = {"whitening": "w.npz", "convention": "3ddfa_v2"}
BAD_PREDICTIONS = {
    "neither": ({"points": LANDMARKS}, {}, "has neither landmarks"),
    "too few": ({"landmarks": LANDMARKS[:7]}, {}, r"landmarks is float64 \(7, 3, 68\), expected .* \(8, 3, 68\)"),
    "flat": ({"landmarks": LANDMARKS.reshape(8, 204)}, {}, "landmarks is float64"),
    "NaN": ({"landmarks": LANDMARKS + np.nan}, {}, "landmarks, row 0"),
    "text": ({"landmarks": LANDMARKS.astype(str)}, {}, "landmarks is <U"),
    "too many": ({"params": np.zeros((9, 62))}, {}, "params is float64"),
    "unwhitened": ({"params": PARAMS}, {}, "give --whitening FILE"),
    "no bases": ({"params": PARAMS}, {"whitening": "w.npz"}, "give --morphable FILE"),
    "whitening missing": ({"params": PARAMS}, {"whitening": "none.npz"}, "none.npz is missing"),
    "whitening pickle missing": ({"params": PARAMS}, {"whitening": "none.pkl"}, "none.pkl is missing"),
    "whitening empty": ({"params": PARAMS}, {"whitening": "bases.npz"}, "neither param_mean and param_std nor mean"),
    "whitening short": ({"params": PARAMS}, {"whitening": "short.npz"}, "mean is float64"),
    "whitening damaged": ({"params": PARAMS}, {"whitening": "bad.pkl"}, "bad.pkl"),
    "bases lack": ({"params": PARAMS}, {**DECODED, "morphable": "w.npz"}, "holds none of u_base, w_shp_base"),
    "bases misshaped": ({"params": PARAMS}, {**DECODED, "morphable": "bases.npz"}, "u_base is float32"),
    "unknown network": (
        {"params": PARAMS},
        {"whitening": "w.npz", "morphable": "w.npz"},
        "give --convention synergynet",
    ),
    "convention": ({"landmarks": LANDMARKS}, {"convention": "deca"}, "use synergynet or 3ddfa_v2"),
}


@pytest.mark.parametrize("case", BAD_PREDICTIONS)
def test_bad_predictions_say_what_is_needed(tmp_path: Path, case: str) -> None:
    arrays, options, message = BAD_PREDICTIONS[case]
    np.savez(tmp_path / "p.npz", **arrays)
    np.savez(tmp_path / "w.npz", param_mean=np.zeros(62), param_std=np.ones(62))
    np.savez(tmp_path / "short.npz", mean=np.zeros(61), std=np.ones(61))
    np.savez(tmp_path / "bases.npz", u_base=np.zeros(204), w_shp_base=np.zeros(1), w_exp_base=np.zeros(1))
    (tmp_path / "bad.pkl").write_bytes(b"no pickle")
    paths = {key: tmp_path / value if key != "convention" else value for key, value in options.items()}
    with pytest.raises(ValueError, match=message) as failure:
        predictions_from_npz(tmp_path / "p.npz", 8, **paths)
    assert "\n" not in str(failure.value)


def test_prediction_files_of_other_formats(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"p\.npz is missing"):
        predictions_from_npz(tmp_path / "p.npz", 8)
    for content in (b"", b"text", b"PK\x03\x04broken"):
        (tmp_path / "p.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"p\.npz is not a \.npz file"):
            predictions_from_npz(tmp_path / "p.npz", 8)
    np.save(tmp_path / "p.npy", PARAMS)
    with pytest.raises(DataError, match=r"p\.npy is a single array"):
        predictions_from_npz(tmp_path / "p.npy", 8)


# running a network


def test_crops_run_in_order_and_in_chunks() -> None:
    count = 2 * CHUNK + 5
    crops = np.zeros((count, 120, 120, 3), np.uint8)
    crops[:, 0, 0, 0] = np.arange(count) % 256
    data = made_data([0.0] * count, crops=crops)
    sizes: list[int] = []
    told: list[float] = []

    def predict(chunk: np.ndarray) -> Predictions:
        sizes.append(len(chunk))
        first = chunk[:, 0, 0, 0].astype(float)
        return Predictions(np.ones((len(chunk), 3, 68)) * first[:, None, None], np.stack([first] * 3, axis=1))

    found = run_predictor(predict, data, lambda part, doing: told.append(part))
    assert sizes == [CHUNK, CHUNK, 5]
    np.testing.assert_array_equal(found.landmarks[:, 0, 0], np.arange(count) % 256)
    assert found.euler_deg is not None
    np.testing.assert_array_equal(found.euler_deg[:, 2], np.arange(count) % 256)
    assert told == sorted(told) and told[0] == 0


def test_a_network_or_montage_needs_the_crops() -> None:
    data = made_data([0.0])
    blind = replace(data, crops=data.crops[:0])
    with pytest.raises(DataError, match="only labels were read"):
        run_predictor(lambda crops: Predictions(crops, None), blind)
    predictions = shifted(data, [1])
    with pytest.raises(DataError, match="only labels were read"):
        montage(score(predictions, data), predictions, blind)


def test_synthetic_faces_are_scored_exactly() -> None:
    """A predictor that returns the labels has no error; the set is the same every time."""
    data = synthetic_data(6)
    assert data.pose_deg is not None
    report = evaluate(lambda crops: Predictions(data.landmarks, data.pose_deg), data)
    assert report.nme.mean == pytest.approx(0, abs=1e-6)
    assert report.mae is not None and report.mae.mean == 0
    assert format_table(report).startswith("Facial Alignment on synthetic faces(NME):\n")
    again = synthetic_data(6)
    np.testing.assert_array_equal(again.crops, data.crops)
    np.testing.assert_array_equal(again.landmarks, data.landmarks)
    np.testing.assert_array_equal(data.yaw_deg, data.pose_deg[:, 0])
    with pytest.raises(ValueError, match="at least one"):
        synthetic_data(0)


# face by face


def test_csv_has_a_line_per_face(tmp_path: Path) -> None:
    data = made_data([0, 120, -50])
    predictions = shifted(data, [1, 2, 3], pose_error=(1, -2, 6))
    write_csv(tmp_path / "out" / "faces.csv", score(predictions, data), predictions, data)
    rows = list(csv.reader(io.StringIO((tmp_path / "out" / "faces.csv").read_text())))
    assert rows == [
        list(COLUMNS),
        ["face0.jpg", "0", "1", "1", "2", "6"],
        ["face1.jpg", "120", "2", "", "", ""],
        ["face2.jpg", "-50", "3", "1", "2", "6"],
    ]
    write_csv(tmp_path / "blind.csv", score(predictions, data), Predictions(predictions.landmarks, None), data)
    assert (tmp_path / "blind.csv").read_text().splitlines()[1] == "face0.jpg,0,1,,,"


def test_montage_shows_the_worst_first_with_truth_and_prediction(tmp_path: Path) -> None:
    data = made_data([0.0] * 6)
    for index in range(6):
        data.crops[index, :, :, :] = 20 * index
    predictions = shifted(data, [1, 30, 2, 20, 5, 10])
    picture = montage(score(predictions, data), predictions, data, faces=5)
    side = picture.shape[1] // 4
    assert picture.shape == (CAPTION + 2 * (120 * ZOOM + CAPTION), 4 * side, 3)
    corners = [picture[CAPTION + 5, column * side + side // 2, 0] for column in range(4)]
    assert corners == [20, 60, 100, 80]  # faces 1, 3, 5, 4 by their grey
    first = picture[CAPTION : CAPTION + 120 * ZOOM, :side].astype(int)
    truth = to_crop_px(data.landmarks[1:2], data.roi_xyxy[1:2])[0, :, 1]
    for point, channel in ((truth, 1), (truth + np.array([15, 0]), 2)):  # 30 image px are 15 of the crop
        x, y = np.rint((point + 0.5) * ZOOM - 0.5).astype(int)
        near = first[y - 1 : y + 2, x + 2 : x + 5]
        assert (near[:, :, channel] - near.sum(axis=2) / 3).max() > 40
    write_montage(tmp_path / "worst.png", score(predictions, data), predictions, data, faces=5)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "worst.png")), picture)


def test_montage_of_few_faces_and_wild_predictions() -> None:
    data = made_data([0.0])
    predictions = Predictions(shifted(data, [1]).landmarks + 1e12, None)
    assert montage(score(predictions, data), predictions, data).shape[0] == 2 * CAPTION + 120 * ZOOM
    with pytest.raises(ValueError, match="at least one"):
        montage(score(predictions, data), predictions, data, faces=0)
