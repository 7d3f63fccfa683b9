"""AFLW2000-3D: real raw samples against the published labels, the official layout, and damaged layouts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from synergy.benchmarks.accuracy.aflw2000 import (
    CROPS,
    EVAL,
    EXCL,
    LABELS,
    LIST,
    ROI,
    SKIP,
    YAW,
    load_official,
    load_raw,
    matlab_crop,
)
from synergy.benchmarks.accuracy.aflw2000 import prepare as prepare_with_progress
from synergy.benchmarks.accuracy.aflw2000_raw import read_raw_samples, roi_of_landmarks
from synergy.benchmarks.accuracy.data import DataError
from synergy.benchmarks.accuracy.imresize import cubic, imresize, resize_weights

POINTS = LABELS["original"]


def prepare(raw: Path, out: Path) -> int:
    return prepare_with_progress(raw, out, lambda part, doing: None)


@pytest.fixture(scope="module")
def raw(shared: Path) -> Path:
    return shared / "aflw2000" / "raw"


@pytest.fixture(scope="module")
def published(shared: Path) -> dict[str, np.ndarray]:
    """The official label files, and the rows of the eight raw samples in them."""
    arrays = {name: np.load(shared / "aflw2000" / name) for name in (POINTS, YAW, ROI, LABELS["reannotated"])}
    with np.load(shared / "reference" / "real_aflw8.npz") as reference:
        arrays.update({name: reference[name] for name in reference.files})
    return arrays


@pytest.fixture(scope="module")
def prepared(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("aflw") / "data"
    assert prepare(raw, out) == 8
    return out


@pytest.fixture
def root(prepared: Path, tmp_path: Path) -> Path:
    """A copy of the prepared layout that a test may damage."""
    for path in prepared.rglob("*"):
        if path.is_file():
            target = tmp_path / path.relative_to(prepared)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return tmp_path


SaveSample = Callable[..., Path]


@pytest.fixture
def save_sample(tmp_path: Path) -> SaveSample:
    """Writes a sample: an oval of landmarks in a noisy photo."""
    scipy_io = pytest.importorskip("scipy.io", reason="SciPy writes the .mat files")
    folder = tmp_path / "raw"
    folder.mkdir()

    def save(
        name: str, centre: tuple[float, float] = (225, 225), pose_deg: tuple = (3, -20, 7), **changes: object
    ) -> Path:
        turn = np.linspace(0, 2 * np.pi, 68, endpoint=False)
        points = np.stack([centre[0] + 80 * np.cos(turn), centre[1] + 100 * np.sin(turn), 10 * np.cos(turn)])
        pose = np.concatenate([np.radians(pose_deg), [0, 0, 0, 1]])[None].astype(np.float32)
        labels = {"pt3d_68": points.astype(np.float32), "Pose_Para": pose, **changes}
        scipy_io.savemat(
            folder / f"{name}.mat", {k: v for k, v in labels.items() if v is not None}, do_compression=True
        )
        photo = np.random.default_rng(0).integers(40, 256, (450, 450, 3), np.uint8)
        cv2.imwrite(str(folder / f"{name}.jpg"), cv2.GaussianBlur(photo, (0, 0), 3))
        return folder

    return save


# raw samples


def test_box_rule_gives_all_published_boxes(published: dict[str, np.ndarray]) -> None:
    boxes = np.stack([roi_of_landmarks(points) for points in published[POINTS]])
    np.testing.assert_array_equal(boxes.clip(1, 450), published[ROI])
    assert (boxes.clip(1, 450) != boxes).any(axis=1).sum() == 55


def test_raw_samples_have_the_published_labels(raw: Path, published: dict[str, np.ndarray]) -> None:
    rows = published["rows"]
    data = load_raw(raw)
    assert data.names == tuple(f"{name}.jpg" for name in published["names"])
    np.testing.assert_array_equal(data.landmarks, published[POINTS][rows])
    np.testing.assert_array_equal(data.roi_xyxy, published[ROI][rows])
    np.testing.assert_allclose(data.yaw_deg, published[YAW][rows], rtol=1e-6)
    assert data.pose_deg is not None
    np.testing.assert_array_equal(data.pose_deg[:, 0], data.yaw_deg)
    assert data.scored is not None and data.scored.all()


def test_raw_crops_are_the_reference_crops(raw: Path, published: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(load_raw(raw).crops, published["crop_bgr_u8"])


def test_border_is_black_and_in_the_source_line(raw: Path, published: dict[str, np.ndarray]) -> None:
    data = load_raw(raw, border=5)
    assert not data.crops[:, :5].any() and not data.crops[:, -5:].any()
    assert not data.crops[:, :, :5].any() and not data.crops[:, :, -5:].any()
    np.testing.assert_array_equal(data.crops[:, 5:-5, 5:-5], published["crop_bgr_u8"][:, 5:-5, 5:-5])
    assert "5-pixel black border" in data.source
    assert "no black border" in load_raw(raw).source
    for wrong in (-1, 60):
        with pytest.raises(ValueError, match="give 0 to 59"):
            load_raw(raw, border=wrong)


def test_pose_order_and_units(save_sample: SaveSample) -> None:
    """Pose_Para holds pitch, yaw, roll in radians; the result is yaw, pitch, roll in degrees."""
    data = load_raw(save_sample("image1", pose_deg=(10, -20, 30)))
    np.testing.assert_allclose(data.pose_deg, [[-20, 10, 30]], atol=1e-5)


@pytest.mark.parametrize("angle", [0, 1, 2])
def test_99_degree_rule(save_sample: SaveSample, angle: int) -> None:
    """One angle beyond 99, of either sign, excludes a face from the pose error; exactly 99 does not."""
    for name, value in (("image1", 98.99), ("image2", 99.1), ("image3", -99.1)):
        pose = [5.0, 5.0, 5.0]
        pose[angle] = value
        folder = save_sample(name, pose_deg=tuple(pose))
    data = load_raw(folder)
    assert data.scored is not None and data.scored.tolist() == [True, False, False]


def test_clipped_boxes_keep_their_mapping(save_sample: SaveSample) -> None:
    """A face at the edge: the published box ends at 1..450 and is not square."""
    folder = save_sample("image1", centre=(60, 225))
    side = np.sqrt(2) * 200
    left = np.floor(60 - side / 2 + 0.5)
    np.testing.assert_array_equal(load_raw(folder).roi_xyxy[0], [1, 84, np.floor(left + side + 0.5), 367])
    np.testing.assert_array_equal(read_raw_samples(folder)[0].roi_xyxy[0], left)


def test_names_of_the_files(save_sample: SaveSample) -> None:
    """Suffixes in capitals, PNG pictures, and the hidden files that macOS writes beside each file."""
    for name in ("image1", "image2", "image3"):
        folder = save_sample(name)
    (folder / "image1.jpg").rename(folder / "image1.JPG")
    (folder / "image1.mat").rename(folder / "image1.MAT")
    (folder / "image2.jpg").rename(folder / "image2.png")
    for name in ("._image1.MAT", "._image1.JPG", ".image9.mat"):
        (folder / name).write_bytes(b"\0\5\x16\7")
    samples = read_raw_samples(folder)
    assert [sample.picture.name for sample in samples] == ["image1.JPG", "image2.png", "image3.jpg"]
    assert [sample.image_bgr().shape for sample in samples] == [samples[2].image_bgr().shape] * 3


BAD_LABELS = {
    "no landmarks": ({"pt3d_68": None}, "image2.mat has no array pt3d_68"),
    "no pose": ({"Pose_Para": None}, "image2.mat has no array Pose_Para"),
    "21 points": ({"pt3d_68": np.ones((3, 21))}, r"image2.mat: needs pt3d_68 \(3, 68\)"),
    "short pose": ({"Pose_Para": np.ones((1, 2))}, "image2.mat: needs"),
    "NaN point": ({"pt3d_68": np.full((3, 68), np.nan)}, "image2.mat: pt3d_68: a value is NaN"),
    "NaN pose": ({"Pose_Para": np.full((1, 7), np.nan)}, "image2.mat: Pose_Para has a value that is NaN"),
    "flat": ({"pt3d_68": np.ones((3, 68))}, "image2.mat: pt3d_68: all landmarks lie on one line"),
    "far away": ({"pt3d_68": np.linspace(0, 1e9, 204).reshape(3, 68)}, "image2.mat: pt3d_68 reach beyond"),
    "outside": ({"pt3d_68": np.linspace(600, 700, 204).reshape(3, 68)}, "image2.jpg: the landmarks .* lie outside"),
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_bad_labels_name_the_file(save_sample: SaveSample, tmp_path: Path, case: str) -> None:
    changes, message = BAD_LABELS[case]
    save_sample("image1")
    folder = save_sample("image2", **changes)
    with pytest.raises(DataError, match=message):
        load_raw(folder)
    with pytest.raises(DataError, match=message):
        prepare(folder, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]


@pytest.mark.parametrize(("missing", "message"), [("jpg", "image2.jpg is missing"), ("mat", "image2.mat is missing")])
def test_incomplete_sample(save_sample: SaveSample, missing: str, message: str) -> None:
    save_sample("image1")
    folder = save_sample("image2")
    (folder / f"image2.{missing}").unlink()
    with pytest.raises(DataError, match=message):
        load_raw(folder)


def test_unreadable_photo_and_labels(save_sample: SaveSample) -> None:
    folder = save_sample("image1")
    (folder / "image1.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"image1\.jpg"):
        load_raw(folder)
    (folder / "image1.mat").write_bytes(b"no labels")
    with pytest.raises(DataError, match=r"image1.mat is not a MATLAB file but a text file"):
        load_raw(folder)


def test_no_samples(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no samples"):
        load_raw(tmp_path)
    with pytest.raises(DataError, match="is not a folder"):
        load_raw(tmp_path / "none")


# the official layout


def test_prepared_labels_are_the_published_rows(prepared: Path, published: dict[str, np.ndarray]) -> None:
    rows = published["rows"]
    for name in (POINTS, YAW, ROI):
        built = np.load(prepared / EVAL / name)
        assert built.dtype == published[name].dtype
        np.testing.assert_allclose(built, published[name][rows], rtol=1e-6 if name == YAW else 0)
    assert (prepared / LIST).read_text().split() == [f"{name}.jpg" for name in published["names"]]
    assert np.load(prepared / EVAL / SKIP).tolist() == []
    assert np.load(prepared / EVAL / EXCL).shape == (8, 3)


def test_prepared_crops_show_what_the_reference_crops_show(prepared: Path, published: dict[str, np.ndarray]) -> None:
    """Bicubic and JPEG here, linear there: some grey levels apart. A crop one pixel off would be 8 or more."""
    data = load_official(prepared, border=0)
    difference = np.abs(data.crops.astype(int) - published["crop_bgr_u8"]).mean(axis=(1, 2, 3))
    assert difference.max() < 6


def test_prepared_layout_scores_as_the_raw_folder(prepared: Path, raw: Path) -> None:
    official, direct = load_official(prepared), load_raw(raw)
    assert "5-pixel black border" in official.source
    assert not official.crops[:, :5].any()
    assert official.names == direct.names
    np.testing.assert_array_equal(official.landmarks, direct.landmarks)
    np.testing.assert_array_equal(official.roi_xyxy, direct.roi_xyxy)
    np.testing.assert_allclose(official.pose_deg, direct.pose_deg, rtol=1e-6)


def test_prepare_skips_and_clips(save_sample: SaveSample, tmp_path: Path) -> None:
    save_sample("image1", pose_deg=(1, 2, 3))
    save_sample("image2", pose_deg=(4, -120, 6))
    folder = save_sample("image3", centre=(60, 60), pose_deg=(7, 8, 9))
    prepare(folder, tmp_path / "out")
    assert np.load(tmp_path / "out" / EVAL / SKIP).tolist() == [1]
    np.testing.assert_allclose(np.load(tmp_path / "out" / EVAL / EXCL), [[1, 2, 3], [7, 8, 9]], rtol=1e-5)
    data = load_official(tmp_path / "out", border=0)
    assert data.roi_xyxy[2].tolist() == [1, 1, 202, 202]
    # the crop is of the whole box, black where that leaves the photo, though its file has the clipped box
    assert data.crops[2, :30, :30].max() < 16
    assert data.crops[2, 50:, 50:].min() > 60
    assert data.scored is not None and data.scored.tolist() == [True, False, True]
    assert data.pose_deg is not None and np.isnan(data.pose_deg[1]).all()
    np.testing.assert_allclose(data.pose_deg[2], [8, 7, 9], rtol=1e-5)


def test_prepare_all_or_nothing(save_sample: SaveSample, tmp_path: Path) -> None:
    save_sample("image1")
    folder = save_sample("image2")
    (folder / "image2.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"image2\.jpg"):
        prepare(folder, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="exists: choose another name"):
        prepare(folder, tmp_path / "out")


def test_prepare_reports_progress(raw: Path, tmp_path: Path) -> None:
    told: list[float] = []
    prepare_with_progress(raw, tmp_path / "out", lambda part, doing: told.append(part))
    assert told == sorted(told) and told[0] == 0 and told[-1] == 1


def test_reannotated_labels(root: Path, published: dict[str, np.ndarray]) -> None:
    truth = published[LABELS["reannotated"]][published["rows"]]
    with pytest.raises(DataError, match=r"Reannotated\.pts68\.npy is missing"):
        load_official(root, labels="reannotated")
    np.save(root / EVAL / LABELS["reannotated"], truth)
    data = load_official(root, labels="reannotated")
    np.testing.assert_array_equal(data.landmarks, truth)
    assert "reannotated" in data.source
    with pytest.raises(ValueError, match="use original or reannotated"):
        load_official(root, labels="new")


def test_labels_alone_need_no_pictures(root: Path) -> None:
    for path in (root / CROPS).iterdir():
        path.unlink()
    assert load_official(root, pictures=False).names[0] == "image00050.jpg"
    (root / LIST).unlink()
    data = load_official(root, pictures=False)
    assert len(data) == 8 and data.crops.shape == (0, 120, 120, 3) and data.names[7] == "row-00007"


@pytest.mark.parametrize("names", [(EXCL,), (SKIP,), (EXCL, SKIP)])
def test_missing_pose_files_are_named(root: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (root / EVAL / name).unlink()
    data = load_official(root)
    assert data.pose_deg is None and data.scored is None and data.pose_missing is not None
    assert [name for name in (EXCL, SKIP) if name in data.pose_missing] == list(names)


def _save(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        np.save(root / EVAL / name, change(np.load(root / EVAL / name)), allow_pickle=True)

    return apply


def _with(array: np.ndarray, at: tuple[int, ...], value: float) -> np.ndarray:
    array[at] = value
    return array


def _line(number: int, text: str) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        lines = (root / LIST).read_text().splitlines()
        lines[number - 1] = text
        (root / LIST).write_text("\n".join(lines) + "\n\n")

    return apply


def _small_crop(root: Path) -> None:
    cv2.imwrite(str(root / CROPS / "image00251.jpg"), np.zeros((100, 90, 3), np.uint8))


BAD_LAYOUTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "list missing": (lambda root: (root / LIST).unlink(), "crop.list is missing: .*prepare"),
    "list too short": (lambda root: (root / LIST).write_text("image00050.jpg\n"), "has 1 lines, .* 8 rows"),
    "list not text": (lambda root: (root / LIST).write_bytes(b"\xff\xfe\x00"), "not a text file"),
    "image missing": (_line(3, "image99999.jpg"), r"crop.list, line 3: .*image99999.jpg does not exist"),
    "image outside": (_line(4, "../../secret.jpg"), "crop.list, line 4: .* is not a picture inside"),
    "image absolute": (_line(4, "/etc/passwd"), "crop.list, line 4: .* is not a picture inside"),
    "blank line": (_line(2, ""), "crop.list, line 2"),
    "image damaged": (lambda root: (root / CROPS / "image00050.jpg").write_bytes(b"x"), "crop.list, line 1: "),
    "image of another size": (_small_crop, "crop.list, line 2: image00251.jpg is 90x100, crops are 120x120"),
    "landmarks missing": (lambda root: (root / EVAL / POINTS).unlink(), "pts68.npy is missing"),
    "landmarks NaN": (_save(POINTS, lambda a: _with(a, (5, 1, 7), np.nan)), "pts68.npy, row 5: a value is NaN"),
    "landmarks flat": (_save(POINTS, lambda a: _with(a, (2, 0), 3.0)), "pts68.npy, row 2: all landmarks"),
    "landmarks misshaped": (_save(POINTS, lambda a: a[:, :, :21]), r"pts68.npy has shape \(8, 3, 21\)"),
    "no rows": (_save(POINTS, lambda a: a[:0]), "pts68.npy has no rows"),
    "not numbers": (_save(POINTS, lambda a: a.astype(str)), "pts68.npy is <U"),
    "objects": (_save(YAW, lambda a: a.astype(object)), "pose.npy is not an .npy file of numbers"),
    "not a npy": (lambda root: (root / EVAL / YAW).write_bytes(b"text"), "pose.npy is not an .npy file"),
    "yaw of another length": (_save(YAW, lambda a: a[:7]), r"pose.npy is float32 \(7,\): expected numbers \(8,\)"),
    "yaw NaN": (_save(YAW, lambda a: _with(a, (6,), np.inf)), "pose.npy, row 6: a value is NaN"),
    "boxes of another length": (_save(ROI, lambda a: np.concatenate([a, a])), r"roi_box.npy is float32 \(16, 4\)"),
    "box empty": (_save(ROI, lambda a: _with(a, (1, 2), 0)), "roi_box.npy, row 1: a box is"),
    "box NaN": (_save(ROI, lambda a: _with(a, (1, 2), np.nan)), "roi_box.npy, row 1: a value is NaN"),
    "skip outside": (_save(SKIP, lambda a: np.array([8])), "skip.npy must list different rows from 0 to 7"),
    "skip twice": (_save(SKIP, lambda a: np.array([1, 1])), "skip.npy must list different rows"),
    "skip a mask": (_save(SKIP, lambda a: np.zeros((8, 1), int)), "skip.npy must list different rows"),
    "excl too long": (_save(SKIP, lambda a: np.array([1])), r"excl.npy is .* expected numbers \(7, 3\)"),
    "excl NaN": (_save(EXCL, lambda a: _with(a, (4, 2), np.nan)), "excl.npy, row 4: a value is NaN"),
}


@pytest.mark.parametrize("case", BAD_LAYOUTS)
def test_bad_layouts_name_file_and_place(root: Path, case: str) -> None:
    damage, message = BAD_LAYOUTS[case]
    damage(root)
    with pytest.raises(DataError, match=message) as failure:
        load_official(root)
    assert "\n" not in str(failure.value)


def test_no_layout(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        load_official(tmp_path / "none")


# the official crop


def test_matlab_crop_counts_from_one_and_includes_the_end() -> None:
    image = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3)
    np.testing.assert_array_equal(matlab_crop(image, np.array([2, 1, 4, 3])), image[0:3, 1:4])
    np.testing.assert_array_equal(matlab_crop(image, np.array([1, 1, 6, 5])), image)


@pytest.mark.parametrize("roi", [(-2, -1, 9, 8), (4, 3, 9, 9), (-3, 2, 2, 4), (-9, -9, -3, -2), (8, 1, 9, 5)])
def test_matlab_crop_is_black_outside(roi: tuple[int, ...]) -> None:
    image = np.full((5, 6, 3), 200, np.uint8)
    padded = np.pad(image, ((20, 20), (20, 20), (0, 0)))
    left, top, right, bottom = roi
    expected = padded[top + 19 : bottom + 20, left + 19 : right + 20]
    np.testing.assert_array_equal(matlab_crop(image, np.array(roi)), expected)


def test_imresize_weights_by_hand() -> None:
    """Halving: eight taps at odd quarters of the kernel, a = -0.5; they sum to 2 and are halved. Ends mirror."""
    taps = np.array([-0.0234375, -0.0703125, 0.2265625, 0.8671875])
    expected = np.concatenate([taps, taps[::-1]]) / 2
    np.testing.assert_allclose(resize_weights(16, 8)[3], np.pad(expected, (3, 5)), atol=1e-12)
    first = expected[3:].copy()
    first[:3] += expected[:3][::-1]
    np.testing.assert_allclose(resize_weights(16, 8)[0][:5], first, atol=1e-12)
    np.testing.assert_allclose(cubic(np.array([0.0, 1.0, 2.0, 2.5, -0.25])), [1, 0, 0, 0, 0.8671875])


@pytest.mark.parametrize("length", [1, 2, 7, 120, 121, 450])
def test_imresize_keeps_flat_pictures_and_its_own_size(length: int) -> None:
    flat = np.full((length, length, 3), 137, np.uint8)
    np.testing.assert_array_equal(imresize(flat, 120), np.full((120, 120, 3), 137))
    noise = np.random.default_rng(1).integers(0, 256, (120, 120, 3), np.uint8)
    np.testing.assert_array_equal(imresize(noise, 120), noise)


@pytest.mark.parametrize("size", [300, 60])
def test_imresize_agrees_with_pillow_inside(portrait_bgr: np.ndarray, size: int) -> None:
    """Pillow has the same kernel and anti-aliasing. It does not mirror at the edges, and its passes come in the other
    order, so overshoots must not be cut off."""
    pil = pytest.importorskip("PIL.Image", reason="Pillow comes with scikit-image")
    image = portrait_bgr[:size, 100 : 100 + size] // 2 + 64
    expected = np.asarray(pil.fromarray(image).resize((120, 120), pil.Resampling.BICUBIC)).astype(int)
    difference = np.abs(imresize(image, 120) - expected)[6:-6, 6:-6]
    assert difference.max() <= 1
