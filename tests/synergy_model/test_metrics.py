from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synergy.synergy_model.metrics import label_euler_deg, measure, nme_percent


def _square(count: int) -> np.ndarray:
    """68 points whose box is 100 x 25: sqrt(w h) = 50."""
    points = np.tile(np.array([[50.0], [10.0]]), (count, 1, 68))
    points[:, 0, :2], points[:, 1, :2] = (0.0, 100.0), (0.0, 25.0)
    return points


def test_nme_is_the_distance_over_the_geometric_mean_of_the_truths_box() -> None:
    truth = _square(2)
    predicted = truth + np.array([[3.0], [4.0]])
    predicted[1] = truth[1]
    assert nme_percent(predicted, truth) == pytest.approx([10.0, 0.0])


def test_depth_does_not_count_and_nothing_is_changed() -> None:
    truth = np.concatenate([_square(1), np.zeros((1, 1, 68))], axis=1)
    predicted = truth + np.array([[0.0], [0.0], [99.0]])
    before = predicted.copy(), truth.copy()
    assert nme_percent(predicted, truth) == pytest.approx([0.0])
    assert (predicted == before[0]).all() and (truth == before[1]).all()


def test_landmarks_of_different_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="give both"):
        nme_percent(_square(2), _square(3))


def test_bins_are_closed_above_and_the_last_one_is_open() -> None:
    yaw = np.array([0.0, -30.0, 30.1, -60.0, 60.1, 120.0])
    truth = _square(6)
    shift = np.array([1, 3, 5, 7, 9, 11.0])[:, None, None] * np.array([[1.0], [0.0]])
    euler = np.stack([yaw, np.zeros(6), np.zeros(6)], axis=1)
    found = measure(truth + shift / 2, euler, truth, euler)
    assert [entry.count for entry in found.bins] == [2, 2, 2]
    assert [entry.mean for entry in found.bins] == pytest.approx([2.0, 6.0, 10.0])
    assert [entry.std for entry in found.bins] == pytest.approx([1.0, 1.0, 1.0])
    assert (found.nme, found.nme_std) == pytest.approx((6.0, np.std([2.0, 6.0, 10.0])))


def test_an_empty_bin_is_left_out_of_the_mean() -> None:
    truth, euler = _square(1), np.zeros((1, 3))
    found = measure(truth + np.array([[5.0], [0.0]]), euler, truth, euler)
    assert found.bins[1].count == 0 and np.isnan(found.bins[1].mean)
    assert (found.nme, found.nme_std) == pytest.approx((10.0, 0.0))


def test_pose_error_leaves_out_what_the_protocol_leaves_out() -> None:
    truth = _square(3)
    true_euler = np.array([[0, 0, 0], [10, 20, 30], [0, 99.5, 0]], float)
    euler = np.array([[1, 2, 3], [7, 20, 31], [50, 50, 50]], float)
    found = measure(truth, euler, truth, true_euler)
    assert found.mae_deg == pytest.approx((2.0, 1.0, 2.0))
    assert found.mae == pytest.approx(5 / 3)


def test_angles_are_the_samplers() -> None:
    from synergy.synergy_model.synthetic.faces import SyntheticFaces

    labels = [SyntheticFaces(5).labels(index) for index in range(50)]
    found = label_euler_deg(np.stack([label.params for label in labels]), np.zeros(62), np.ones(62))
    assert found == pytest.approx(np.stack([label.euler_deg for label in labels]), abs=1e-2)


def test_angles_are_the_official_codes(shared: Path) -> None:
    data = np.load(shared / "reference" / "io_mobilenet_v2.npz")
    sparse = np.load(shared / "morphable" / "sparse68.npz")
    found = label_euler_deg(data["params"], sparse["param_mean_v1"][:62], sparse["param_std_v1"][:62])
    assert found == pytest.approx(data["euler_yaw_pitch_roll_deg"], abs=0.01)
