"""What engines are compared on: real crops that differ, and noise."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from synergy.benchmarks.sample_crops import (
    FEWEST_CROPS,
    FRAMINGS,
    NOISE_CROPS,
    PORTRAIT,
    PORTRAIT_BOX_XYXY,
    noise_crops,
    read_crops,
    real_crops,
)
from synergy.runtime.media.image import read_image


@pytest.mark.parametrize("size", [120, 64])
def test_shapes(size: int) -> None:
    real, noise = real_crops(size), noise_crops(size)
    assert real.shape == (2 * len(FRAMINGS), size, size, 3) and noise.shape == (NOISE_CROPS, size, size, 3)
    assert real.dtype == noise.dtype == np.uint8


def test_the_same_every_time() -> None:
    """Or a bundle's parity.json could not be repeated."""
    assert np.array_equal(real_crops(), real_crops())
    assert np.array_equal(noise_crops(), noise_crops())


def test_all_crops_differ() -> None:
    crops = np.concatenate([real_crops(), noise_crops()]).astype(int)
    for i in range(len(crops)):
        for j in range(i):
            assert np.abs(crops[i] - crops[j]).mean() > 5, (i, j)


def test_second_half_is_the_mirror_image() -> None:
    crops = real_crops()
    assert np.array_equal(crops[len(FRAMINGS) :], crops[: len(FRAMINGS), :, ::-1])


def test_noise_is_uniform() -> None:
    noise = noise_crops()
    assert abs(noise.mean() - 127.5) < 1 and noise.min() == 0 and noise.max() == 255
    assert np.abs(np.bincount(noise.reshape(-1), minlength=256) / noise.size * 256 - 1).max() < 0.3


def test_the_portrait_has_a_face_in_its_box() -> None:
    image = read_image(PORTRAIT)
    left, top, right, bottom = PORTRAIT_BOX_XYXY
    assert 0 < left < right < image.shape[1] and 0 < top < bottom < image.shape[0]
    blue, _, red = image[int(top) : int(bottom), int(left) : int(right)].reshape(-1, 3).mean(0)
    assert red > blue + 20  # skin, in BGR order


def test_the_portrait_is_the_public_domain_one(portrait_bgr: np.ndarray) -> None:
    image = read_image(PORTRAIT)
    assert image.shape == portrait_bgr.shape
    assert np.abs(image.astype(int) - portrait_bgr.astype(int)).mean() < 5  # it was compressed


def test_some_crops_reach_outside_the_picture_or_not_at_all() -> None:
    """Framings are those of detectors that are off: all still show the face's middle."""
    for dx, dy, side in FRAMINGS:
        assert side / 2 > np.hypot(dx, dy) and side > 1


def test_crops_of_a_folder(tmp_path: Path) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (FEWEST_CROPS, 120, 120, 3), np.uint8)
    for number, crop in enumerate(crops[:FEWEST_CROPS]):
        larger = cv2.resize(crop, (240, 240), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(tmp_path / f"{number:02}.png"), larger if number else crop)
    found = read_crops(tmp_path)
    assert found.shape == (FEWEST_CROPS, 120, 120, 3) and found.dtype == np.uint8
    assert np.array_equal(found, crops[:FEWEST_CROPS])
    (tmp_path / "00.png").unlink()
    with pytest.raises(ValueError, match=f"{FEWEST_CROPS - 1} pictures"):
        read_crops(tmp_path)
