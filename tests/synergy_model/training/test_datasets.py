from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from synergy.synergy_model.checkpoints.torch_pickle import TorchFileError
from synergy.synergy_model.synthetic.faces import SyntheticFaces
from synergy.synergy_model.training.datasets import (
    DatasetError,
    ListedSource,
    SyntheticSource,
    listed_validation,
    load_arrays,
    synthetic_arrays,
    synthetic_validation,
)

COUNT = 4


class Listed:
    """A small data set in 3DDFA's layout: synthetic faces, whitened parameters and 40 texture columns."""

    def __init__(self, folder: Path) -> None:
        self.root, self.list, self.params = folder / "train_aug_120x120", folder / "train.list", folder / "params.pkl"
        self.root.mkdir()
        source = SyntheticSource(3, COUNT)
        self.images, self.labels = source.batch(np.arange(COUNT))
        self.names = [f"AFW/face_{index}.png" for index in range(COUNT)]
        (self.root / "AFW").mkdir()
        for name, image in zip(self.names, self.images, strict=True):
            cv2.imwrite(str(self.root / name), image)
        self.write(self.names, np.hstack([self.labels, np.ones((COUNT, 40), np.float32)]))

    def write(self, names: list[str], params: np.ndarray) -> None:
        self.list.write_text("".join(f"{name}\n" for name in names))
        self.params.write_bytes(pickle.dumps(params, protocol=2))

    def open(self) -> ListedSource:
        return ListedSource(self.list, self.root, self.params)


@pytest.fixture
def listed(tmp_path: Path) -> Listed:
    return Listed(tmp_path)


def test_listed_faces_come_with_their_own_labels(listed: Listed) -> None:
    images, params = listed.open().batch(np.array([2, 0]))
    assert (images == listed.images[[2, 0]]).all()
    assert params.shape == (2, 62) and (params == listed.labels[[2, 0]]).all()


def test_listed_validation_decodes_landmarks_and_pose(listed: Listed) -> None:
    found = listed_validation(listed.open(), synthetic_arrays(), count=99)
    truth = SyntheticFaces(3).batch(range(COUNT))
    assert found.landmarks == pytest.approx(truth.landmarks, abs=1e-2)
    assert found.euler_deg == pytest.approx(truth.euler_deg, abs=1e-2)


def test_npy_parameters_are_read(listed: Listed) -> None:
    path = listed.params.with_suffix(".npy")
    np.save(path, listed.labels)
    assert (ListedSource(listed.list, listed.root, path).params == listed.labels).all()


def test_a_damaged_npy_is_named(listed: Listed) -> None:
    path = listed.params.with_suffix(".npy")
    path.write_bytes(b"half")
    with pytest.raises(DatasetError, match=r"params\.npy is not an \.npy file but a text file"):
        ListedSource(listed.list, listed.root, path)


def _missing_image(data: Listed) -> None:
    (data.root / data.names[1]).unlink()


def _short_params(data: Listed) -> None:
    data.write(data.names, data.labels[:-1])


def _narrow_params(data: Listed) -> None:
    data.write(data.names, data.labels[:, :50])


def _nan_label(data: Listed) -> None:
    labels = data.labels.copy()
    labels[2, 5] = np.nan
    data.write(data.names, labels)


def _empty_line(data: Listed) -> None:
    data.write([data.names[0], "", *data.names[1:]], data.labels)


def _empty_list(data: Listed) -> None:
    data.write([], data.labels)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_missing_image, r"train\.list line 2: no image .*face_1\.png, 1 missing in all"),
        (_short_params, r"params\.pkl has 3 rows but .*train\.list 4 lines"),
        (_narrow_params, r"params\.pkl holds \(4, 50\)"),
        (_nan_label, r"params\.pkl row 3 \(.*train\.list line 3\) is not finite, 1 such"),
        (_empty_line, r"train\.list line 2 is empty"),
        (_empty_list, r"train\.list lists no image"),
    ],
)
def test_bad_data_is_named_before_training(listed: Listed, spoil: Callable[[Listed], None], message: str) -> None:
    spoil(listed)
    with pytest.raises(DatasetError, match=message):
        listed.open()


def test_unreadable_images_and_other_sizes_are_named(listed: Listed) -> None:
    (listed.root / listed.names[0]).write_bytes(b"not an image")
    cv2.imwrite(str(listed.root / listed.names[1]), np.zeros((100, 90, 3), np.uint8))
    (listed.root / listed.names[2]).write_bytes(b"")
    source = listed.open()
    for line, message in ((1, "is not an image"), (2, "is 90x100"), (3, "is not an image")):
        with pytest.raises(DatasetError, match=f"line {line}: .*{message}"):
            source.batch(np.array([line - 1]))


def test_missing_files_are_named(listed: Listed, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no image list"):
        ListedSource(tmp_path / "none", listed.root, listed.params)
    with pytest.raises(FileNotFoundError, match="no parameter file"):
        ListedSource(listed.list, listed.root, tmp_path / "none.pkl")


class _Hostile:
    def __reduce__(self) -> tuple:
        return (print, ("run",))


def test_a_parameter_pickle_runs_no_code(listed: Listed, capsys: pytest.CaptureFixture[str]) -> None:
    listed.params.write_bytes(pickle.dumps(_Hostile()))
    with pytest.raises(TorchFileError, match="refused"):
        listed.open()
    assert "run" not in capsys.readouterr().out


def test_real_whitening_and_bases_load(shared: Path, tmp_path: Path) -> None:
    arrays = load_arrays(shared / "morphable" / "sparse68.npz", shared / "morphable" / "param_whitening.pkl")
    sparse = np.load(shared / "morphable" / "sparse68.npz")
    assert arrays.param_mean == pytest.approx(sparse["param_mean_v1"][:62])
    assert arrays.u_base.shape == (204, 1) and arrays.w_exp_base.shape == (204, 10)
    with pytest.raises(DatasetError, match="lacks param_mean or mean"):
        load_arrays(shared / "morphable" / "sparse68.npz", shared / "morphable" / "sparse68.npz")
    with pytest.raises(FileNotFoundError):
        load_arrays(tmp_path / "none.npz", tmp_path / "none.npz")


def test_synthetic_faces_are_the_samplers_whitened() -> None:
    source, faces = SyntheticSource(11, 6), SyntheticFaces(11).batch([4, 1])
    images, params = source.batch(np.array([4, 1]))
    arrays = synthetic_arrays()
    assert (images == faces.images).all()
    assert params * arrays.param_std + arrays.param_mean == pytest.approx(faces.params, rel=1e-4, abs=1e-5)


def test_a_cache_is_filled_once_and_read_by_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = SyntheticSource(11, 6, cache=tmp_path).batch(np.array([3, 5]))
    second = SyntheticSource(11, 6, cache=tmp_path)
    monkeypatch.setattr(
        "synergy.synergy_model.training.datasets._render", lambda seed, indices: pytest.fail("drawn again")
    )
    assert (second.batch(np.array([3, 5]))[0] == first).all()


def test_rendering_processes_draw_the_same_faces() -> None:
    source = SyntheticSource(11, 20, workers=1)
    images, _ = source.batch(np.arange(10))
    source.close()
    assert (images == SyntheticSource(11, 20).batch(np.arange(10))[0]).all()


def test_held_out_faces_have_labels() -> None:
    found = synthetic_validation(seed=12, count=3)
    truth = SyntheticFaces(12).batch(range(3))
    assert (found.images == truth.images).all() and (found.landmarks == truth.landmarks).all()
    assert (found.euler_deg == truth.euler_deg).all()


def test_an_empty_set_is_refused() -> None:
    with pytest.raises(ValueError, match="1 or more"):
        SyntheticSource(0, 0)


def test_rendering_processes_need_not_load_mindspore() -> None:
    code = "import sys, synergy.synergy_model.training.datasets; sys.exit('mindspore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
