"""Every term against values computed by hand."""

from __future__ import annotations

import math

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from synergy.synergy_model.losses import LossOptions, code_loss, param_loss, wing_loss

ms.set_context(mode=ms.PYNATIVE_MODE)


def test_wing_is_logarithmic_below_omega_and_linear_above() -> None:
    predicted = np.array([0.0, 1.0, -3.0, 12.0], np.float32)
    expected = (0.0 + 10 * math.log(1.5) + 10 * math.log(2.5) + 12.0 - (10 - 10 * math.log(6.0))) / 4
    assert float(wing_loss(Tensor(predicted), Tensor(np.zeros(4, np.float32)))) == pytest.approx(expected, rel=1e-6)


def test_wing_has_no_step_at_omega() -> None:
    zero = Tensor(np.zeros(1, np.float32))
    below, above = (float(wing_loss(Tensor(np.array([value], np.float32)), zero)) for value in (9.9999, 10.0001))
    assert below == pytest.approx(10 * math.log(6.0), abs=1e-3)
    assert above == pytest.approx(below, abs=1e-3)


def test_params_add_camera_and_code_errors_under_the_root() -> None:
    predicted, target = np.zeros((2, 62), np.float32), np.zeros((2, 62), np.float32)
    predicted[0, 0], predicted[0, 61] = 6.0, 10.0  # 36 / 12 + 100 / 50 = 5
    predicted[1, 12] = 50.0  # 2500 / 50 = 50
    expected = (math.sqrt(5.0) + math.sqrt(50.0)) / 2
    assert float(param_loss(Tensor(predicted), Tensor(target))) == pytest.approx(expected, rel=1e-6)


# regressed[0] = regressed[12] = 50, target[12] = 40, target[61] = 10. Columns 12 to 62 differ by 10 (at 12) and
# 10 (at 61); the official columns 0 to 50 by 10 (0 against 12), 50 (12 against 24) and 10 (49 against 61).
@pytest.mark.parametrize(("official", "squares"), [(False, 10**2 + 10**2), (True, 10**2 + 50**2 + 10**2)])
def test_code_columns_with_and_without_the_official_error(official: bool, squares: int) -> None:
    regressed, target = np.zeros((1, 62), np.float32), np.zeros((1, 62), np.float32)
    regressed[0, [0, 12]] = 50.0
    target[0, [12, 61]] = 40.0, 10.0
    found = float(code_loss(Tensor(regressed), Tensor(target), official))
    assert found == pytest.approx(math.sqrt(squares / 50), rel=1e-6)


def test_weights_are_the_official_ones() -> None:
    assert LossOptions().weights == (0.05, 0.02, 0.05, 0.02, 0.001)
