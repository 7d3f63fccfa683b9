"""From crops and pictures to faces, on every engine with every artifact, against the official codes' results."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from synergy.runtime import variants
from synergy.runtime.aligner import FaceAligner
from synergy.runtime.autotune import TuneRequest, tune
from synergy.runtime.bundle import Bundle
from synergy.runtime.decode import COMMON_POSE, rotation, rotation_to_euler_deg
from synergy.runtime.engines import ENGINES, available
from synergy.runtime.engines.base import Engine
from synergy.runtime.engines.onnx import OnnxEngine
from synergy.runtime.errors import BundleError, EngineError, EngineUnavailableError, MediaError
from synergy.runtime.faces import Detection, Face, Prediction
from synergy.runtime.inference.predictor import MAX_BATCH, PARALLEL_AFTER
from synergy.runtime.specs import Availability, Device

COMBINATIONS = [("onnx", "onnx"), ("lite", "ms"), ("lite", "mindir_v1"), ("mindspore", "mindir")]
ARCHS = ("mb05", "mobilenet_v2")

# What the official codes meet against themselves
PARAMS_ATOL, LANDMARKS_ATOL, EULER_ATOL = 2e-4, 0.01, 0.01
REAL_PARAMS_ATOL, REAL_LANDMARKS_ATOL, REAL_EULER_ATOL = 1e-4, 0.1, 0.02


def ids(value: object) -> str:
    return "-".join(value) if isinstance(value, tuple) else str(value)


@pytest.fixture(scope="module", params=[(arch, *pair) for arch in ARCHS for pair in COMBINATIONS], ids=ids)
def opened(request: pytest.FixtureRequest, bundles: dict[str, Path]) -> Iterator[tuple[str, FaceAligner]]:
    """Architecture and aligner, every combination in turn."""
    arch, engine, artifact = request.param
    if not available(engine).ok:
        pytest.skip(available(engine).detail)
    with FaceAligner.load(bundles[arch], engine=engine, artifact=artifact, angles="official") as aligner:
        yield arch, aligner


@pytest.fixture(scope="module")
def aligner(bundles: dict[str, Path]) -> Iterator[FaceAligner]:
    """The real mb05 on the engine that starts fastest."""
    with FaceAligner.load(bundles["mb05"], engine="onnx", threads=1) as aligner:
        yield aligner


@pytest.fixture(scope="module")
def emma(shared: Path) -> dict[str, np.ndarray]:
    return dict(np.load(shared / "reference" / "real_emma.npz"))


@pytest.fixture(scope="module")
def photos(shared: Path) -> dict[str, np.ndarray]:
    """The photographs as this OpenCV decodes them."""
    return {name: cv2.imread(str(shared / "images" / f"{name}.jpg")) for name in ("emma", "JianzhuGuo")}


class Fixed:
    """A detector that has made up its mind."""

    def __init__(self, boxes: Sequence[Sequence[float]]) -> None:
        self.boxes, self.seen = boxes, 0

    def detect(self, image_bgr: np.ndarray) -> list[Detection]:
        self.seen += 1
        return [Detection(np.array(box, np.float64), 0.5 + number / 10) for number, box in enumerate(self.boxes)]


# --- crops: the contract of the Python API ---


def test_predict_meets_the_official_code(opened: tuple[str, FaceAligner], shared: Path) -> None:
    arch, aligner = opened
    if arch == "mb05":
        for photo in ("emma", "JianzhuGuo"):
            expected = np.load(shared / "reference" / f"real_{photo}.npz")
            found = aligner.predict(expected["crop_bgr_u8"])
            assert np.allclose(found.params, expected["param_whitened"], rtol=0, atol=REAL_PARAMS_ATOL)
            euler = expected["pose_yaw_pitch_roll_deg"]
            assert np.allclose(found.euler_deg, euler, rtol=0, atol=REAL_EULER_ATOL)
        return
    expected = np.load(shared / "reference" / f"io_{arch}.npz")
    found = aligner.predict(np.load(shared / "reference" / "input_batch.npz")["images_bgr_u8"])
    assert np.allclose(found.params, expected["params"], rtol=0, atol=PARAMS_ATOL)
    assert np.allclose(found.landmarks, expected["lm68"], rtol=0, atol=LANDMARKS_ATOL)
    assert np.allclose(found.euler_deg, expected["euler_yaw_pitch_roll_deg"], rtol=0, atol=EULER_ATOL)


@pytest.mark.parametrize("opened", [("mb05", *pair) for pair in COMBINATIONS], ids=ids, indirect=True, scope="module")
def test_align_meets_the_official_code(
    opened: tuple[str, FaceAligner], shared: Path, photos: dict[str, np.ndarray]
) -> None:
    """From photograph and boxes to landmarks in the photograph."""
    _, aligner = opened
    for name, image in photos.items():
        expected = np.load(shared / "reference" / f"real_{name}.npz")
        if hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest() != str(expected["image_pixels_sha256"]):
            pytest.skip("this OpenCV decodes the JPEG to other pixels than the reference's")
        faces = aligner.align(image, expected["box"][:, :4])
        assert np.allclose([f.roi_xyxy for f in faces], expected["roi_box"], rtol=0, atol=1e-6)
        assert np.allclose([f.params for f in faces], expected["param_whitened"], rtol=0, atol=REAL_PARAMS_ATOL)
        landmarks = expected["landmarks"].transpose(0, 2, 1)
        assert np.allclose([f.landmarks for f in faces], landmarks, rtol=0, atol=REAL_LANDMARKS_ATOL)
        angles = [(f.pose.yaw, f.pose.pitch, f.pose.roll) for f in faces]
        assert np.allclose(angles, expected["pose_yaw_pitch_roll_deg"], rtol=0, atol=REAL_EULER_ATOL)


def test_align_meets_synergynet(bundles: dict[str, Path], shared: Path) -> None:
    """Its own mapping back, from the reference's ROI: landmarks times side / 120, plus the corner."""
    expected = np.load(shared / "reference" / "io_mobilenet_v2.npz")
    batch = np.load(shared / "reference" / "input_batch.npz")
    roi = batch["roi_box"][:, :4]
    scale = (roi[:, 2:] - roi[:, :2]) / 120
    with FaceAligner.load(bundles["mobilenet_v2"], engine="onnx") as aligner:
        found = aligner.predict(batch["images_bgr_u8"]).landmarks
    image_xy = found[:, :2] * scale[:, :, None] + roi[:, :2, None]
    assert np.allclose(image_xy, expected["lm68_image"][:, :2], rtol=0, atol=LANDMARKS_ATOL * scale.max())


@pytest.mark.parametrize("count", [0, 1, 2, MAX_BATCH - 1, MAX_BATCH, MAX_BATCH + 1, 2 * MAX_BATCH + 3])
def test_any_number_of_crops(aligner: FaceAligner, emma: dict[str, np.ndarray], count: int) -> None:
    order = np.arange(count) % 3
    found = aligner.predict(emma["crop_bgr_u8"][order])
    assert found.params.shape == (count, 62) and found.landmarks.shape == (count, 3, 68)
    assert found.euler_deg.shape == (count, 3)
    assert found.params.dtype == found.landmarks.dtype == np.float32 and found.euler_deg.dtype == np.float64
    assert np.allclose(found.params, emma["param_whitened"][order], rtol=0, atol=REAL_PARAMS_ATOL)
    expected = rotation_to_euler_deg(rotation(emma["param"]), COMMON_POSE)[order]
    assert np.allclose(found.euler_deg, expected, rtol=0, atol=REAL_EULER_ATOL)


def test_angles_are_common_unless_official_ones_are_chosen(
    aligner: FaceAligner, bundles: dict[str, Path], emma: dict[str, np.ndarray], photos: dict[str, np.ndarray]
) -> None:
    common = aligner.align(photos["emma"], emma["box"][:, :4])
    for face in common:
        expected = rotation_to_euler_deg(face.rotation[None], COMMON_POSE)[0]
        assert [face.pose.yaw, face.pose.pitch, face.pose.roll] == expected.tolist()
        assert face.pose.yaw > 0 and face.landmarks[30, 0] < face.landmarks[[0, 16], 0].mean()  # faces image left
    with FaceAligner.load(bundles["mb05"], engine="onnx", threads=1, angles="official") as official:
        (face,) = official.align(photos["emma"], emma["box"][:1, :4])
        expected = emma["pose_yaw_pitch_roll_deg"][0]
        assert np.allclose([face.pose.yaw, face.pose.pitch, face.pose.roll], expected, rtol=0, atol=REAL_EULER_ATOL)
        assert face.pose.pitch * common[0].pose.pitch < 0
    with pytest.raises(ValueError, match="unknown angles 'other': use common or official"):
        FaceAligner.load(bundles["mb05"], engine="onnx", angles="other")


def test_no_crops_on_every_engine(opened: tuple[str, FaceAligner]) -> None:
    found = opened[1].predict(np.zeros((0, 120, 120, 3), np.uint8))
    assert (found.params.shape, found.landmarks.shape, found.euler_deg.shape) == ((0, 62), (0, 3, 68), (0, 3))


@pytest.mark.parametrize(("engine", "artifact"), [("onnx", "onnx"), ("openvino", "onnx"), ("lite", "ms")])
def test_more_crops_than_one_run_takes(
    bundles: dict[str, Path], emma: dict[str, np.ndarray], engine: str, artifact: str
) -> None:
    """Full runs and a smaller one; the second call runs parts of the batch at the same time."""
    order = np.arange(PARALLEL_AFTER - 1) % 3
    with FaceAligner.load(bundles["mb05"], engine=engine, artifact=artifact) as aligner:
        for _ in range(2):
            found = aligner.predict(emma["crop_bgr_u8"][order])
            assert np.allclose(found.params, emma["param_whitened"][order], rtol=0, atol=REAL_PARAMS_ATOL)


def test_crops_are_not_touched(aligner: FaceAligner, emma: dict[str, np.ndarray]) -> None:
    crops = emma["crop_bgr_u8"].copy()
    crops.flags.writeable = False
    aligner.predict(crops)
    assert np.array_equal(crops, emma["crop_bgr_u8"])


@pytest.mark.parametrize(
    "crops",
    [
        np.zeros((120, 120, 3), np.uint8),
        np.zeros((1, 3, 120, 120), np.uint8),
        np.zeros((1, 120, 120), np.uint8),
        np.zeros((1, 120, 120, 4), np.uint8),
        np.zeros((1, 128, 128, 3), np.uint8),
        np.zeros((1, 120, 120, 3), np.float32),
        np.zeros((1, 120, 120, 3), np.int64),
        np.zeros((0,), np.uint8),
        [],
        None,
        "crops",
    ],
    ids=lambda crops: f"{crops.dtype}{crops.shape}" if isinstance(crops, np.ndarray) else repr(crops),
)
def test_wrong_crops(aligner: FaceAligner, crops: object) -> None:
    with pytest.raises(ValueError, match=r"crops must be uint8 \(N, 120, 120, 3\) BGR, not"):
        aligner.predict(crops)  # type: ignore[arg-type]


# --- pictures and boxes ---


def test_face(aligner: FaceAligner, photos: dict[str, np.ndarray], emma: dict[str, np.ndarray]) -> None:
    face = aligner.align(photos["emma"], emma["box"][:1, :4])[0]
    assert isinstance(face, Face)
    assert face.landmarks.shape == (68, 3) and face.landmarks.dtype == np.float32
    assert face.rotation.shape == (3, 3) and face.params.shape == (62,)
    assert np.array_equal(face.box_xyxy, emma["box"][0, :4]) and face.score == 1.0
    assert all(isinstance(angle, float) for angle in (face.pose.yaw, face.pose.pitch, face.pose.roll))
    x, y = face.landmarks[:, 0], face.landmarks[:, 1]
    left, top, right, bottom = face.roi_xyxy
    assert left < x.min() and x.max() < right and top < y.min() and y.max() < bottom
    assert y[8] > y[27]  # the chin lies below the bridge of the nose: y points down


def test_faces_of_one_picture_do_not_mix(
    aligner: FaceAligner, photos: dict[str, np.ndarray], emma: dict[str, np.ndarray]
) -> None:
    boxes = emma["box"][:, :4]
    together = aligner.align(photos["emma"], boxes)
    alone = [aligner.align(photos["emma"], boxes[i : i + 1])[0] for i in range(3)]
    backwards = aligner.align(photos["emma"], boxes[::-1])[::-1]
    for face, single, turned in zip(together, alone, backwards, strict=True):
        assert np.allclose(face.landmarks, single.landmarks, rtol=0, atol=0.01)
        assert np.allclose(face.landmarks, turned.landmarks, rtol=0, atol=0.01)


def test_a_fifth_column_is_ignored(
    aligner: FaceAligner, photos: dict[str, np.ndarray], emma: dict[str, np.ndarray]
) -> None:
    with_score, without = (aligner.align(photos["emma"], emma["box"][:, :n]) for n in (5, 4))
    assert all(np.array_equal(a.landmarks, b.landmarks) for a, b in zip(with_score, without, strict=True))
    assert [face.score for face in with_score] == [1.0] * 3


def test_regions_that_are_known(
    aligner: FaceAligner, photos: dict[str, np.ndarray], emma: dict[str, np.ndarray]
) -> None:
    """The crop rule makes the region of a box; given as it is, it must give the same face."""
    by_box = aligner.align(photos["emma"], emma["box"][:, :4])
    by_roi = aligner.align_rois(photos["emma"], emma["roi_box"])
    for box, roi in zip(by_box, by_roi, strict=True):
        assert np.allclose(box.landmarks, roi.landmarks, rtol=0, atol=0.05)
        assert np.allclose(box.roi_xyxy, roi.roi_xyxy)
    assert aligner.align_rois(photos["emma"], []) == []


@pytest.mark.parametrize(
    "rois",
    [[10, 10, 50, 50], [[10, 10, 50]], [[10, 10, 50, 50, 1]] * 4, [[[10, 10], [50, 50]]], [[50, 50, 10, 10]]],
    ids=str,
)
def test_wrong_regions(aligner: FaceAligner, photos: dict[str, np.ndarray], rois: list) -> None:
    """Four rows of five are not five regions."""
    with pytest.raises(ValueError):
        aligner.align_rois(photos["JianzhuGuo"], rois)


@pytest.mark.parametrize("boxes", [[], (), np.zeros((0, 4)), np.zeros((0, 5)), np.zeros(0)], ids=str)
def test_no_boxes(aligner: FaceAligner, photos: dict[str, np.ndarray], boxes: Sequence[Sequence[float]]) -> None:
    assert aligner.align(photos["JianzhuGuo"], boxes) == []


@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda b: np.array(b, np.float32), lambda b: np.array(b, int)])
def test_boxes_of_any_kind(aligner: FaceAligner, photos: dict[str, np.ndarray], kind: type) -> None:
    (face,) = aligner.align(photos["JianzhuGuo"], kind([[119, 93, 290, 312]]))
    assert face.box_xyxy.tolist() == [119, 93, 290, 312]


@pytest.mark.parametrize(
    "boxes",
    [
        [10, 10, 50, 50],
        [[10, 10, 50]],
        [[10, 10, 50, 50, 1, 1]],
        [[[10, 10, 50, 50]]],
        [[10, 10, 50, 50], [10, 10]],
        [["a", "b", "c", "d"]],
        [[None, 10, 50, 50]],
        [[np.nan, 10, 50, 50]],
        [[10, 10, np.inf, 50]],
        [[50, 10, 10, 50]],
        [[10, 10, 10, 50]],
        [[10, 50, 50, 10]],
        [[10, 10, 10.1, 10.1]],
        [[0, 0, 1e9, 1e9]],
        [[10, 10, 50, 50], [10, 10, 5, 5]],
        "boxes",
        5,
    ],
    ids=str,
)
def test_wrong_boxes(aligner: FaceAligner, photos: dict[str, np.ndarray], boxes: object) -> None:
    with pytest.raises((ValueError, TypeError)) as raised:
        aligner.align(photos["JianzhuGuo"], boxes)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "box",
    [[-80, -90, 120, 140], [300, 400, 500, 700], [-500, -500, 1, 1], [412, 550, 1000, 1000], [0, 0, 413, 551]],
)
def test_boxes_over_the_edge(aligner: FaceAligner, photos: dict[str, np.ndarray], box: list[float]) -> None:
    """What lies outside is black, as in the official code; there is always a result of the right shape."""
    (face,) = aligner.align(photos["JianzhuGuo"], [box])
    assert np.isfinite(face.landmarks).all() and face.landmarks.shape == (68, 3)


def test_the_picture_is_not_touched(aligner: FaceAligner, photos: dict[str, np.ndarray]) -> None:
    image = photos["JianzhuGuo"].copy()
    image.flags.writeable = False
    boxes = np.array([[119.0, 93.0, 290.0, 312.0]])
    boxes.flags.writeable = False
    (face,) = aligner.align(image, boxes)
    face.box_xyxy[:] = 0  # the caller's own
    assert np.array_equal(image, photos["JianzhuGuo"]) and boxes[0, 0] == 119


def test_pictures_of_any_memory_layout(aligner: FaceAligner, photos: dict[str, np.ndarray]) -> None:
    image, box = photos["JianzhuGuo"], [[119.0, 93.0, 290.0, 312.0]]
    (expected,) = aligner.align(image, box)
    for view in (np.asfortranarray(image), image[:, ::-1][:, ::-1], np.repeat(image, 2, axis=1)[:, ::2]):
        assert np.allclose(aligner.align(view, box)[0].landmarks, expected.landmarks, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "image",
    [
        None,
        [[1, 2], [3, 4]],
        np.zeros((50, 50), np.uint8),
        np.zeros((50, 50, 4), np.uint8),
        np.zeros((50, 50, 1), np.uint8),
        np.zeros((3, 50, 50), np.uint8),
        np.zeros((1, 50, 50, 3), np.uint8),
        np.zeros((50, 50, 3), np.float32),
        np.zeros((50, 50, 3), np.uint16),
        np.zeros((0, 50, 3), np.uint8),
        np.zeros((50, 0, 3), np.uint8),
    ],
    ids=lambda image: f"{image.dtype}{image.shape}" if isinstance(image, np.ndarray) else repr(image),
)
def test_wrong_pictures(aligner: FaceAligner, image: object) -> None:
    for call in (
        aligner,
        aligner.detect,
        lambda image: aligner.align(image, [[1, 1, 9, 9]]),
        lambda i: aligner.align(i, []),
    ):
        with pytest.raises(ValueError, match=r"the image must be .*\(H, W, 3\)"):
            call(image)  # type: ignore[operator]


def test_a_path_that_is_no_picture(aligner: FaceAligner, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"photo\.jpg does not exist"):
        aligner(tmp_path / "photo.jpg")


# --- detection ---


def test_detects_with_the_default_detector(aligner: FaceAligner, portrait_bgr: np.ndarray) -> None:
    (face,) = aligner(portrait_bgr)
    x, y = face.landmarks[:, 0], face.landmarks[:, 1]
    assert 150 < x.min() < x.max() < 300 and 40 < y.min() < y.max() < 210  # the astronaut's face
    assert 0 < face.score <= 1


def test_detector_of_ones_own(bundles: dict[str, Path], photos: dict[str, np.ndarray]) -> None:
    detector = Fixed([[119.0, 93.0, 290.0, 312.0], [10.0, 10.0, 60.0, 80.0]])
    with FaceAligner.load(bundles["mb05"], engine="onnx", detector=detector) as aligner:
        faces = aligner(photos["JianzhuGuo"])
    assert detector.seen == 1 and [face.score for face in faces] == [0.5, 0.6]
    assert [face.box_xyxy.tolist() for face in faces] == [list(box) for box in detector.boxes]


def test_no_faces_need_no_run(bundles: dict[str, Path], photos: dict[str, np.ndarray]) -> None:
    aligner = FaceAligner.load(bundles["mb05"], engine="onnx", detector=Fixed([]))
    aligner.close()
    assert aligner(photos["JianzhuGuo"]) == []  # not even an open engine


# --- choosing an engine ---


def test_auto_takes_what_was_measured_fastest(copied: Path) -> None:
    with FaceAligner.load(copied) as aligner:
        best = tune(Bundle.open(copied), Device(), TuneRequest())[0]
        found = (aligner.engine.name, aligner.artifact.file, aligner.engine.threads)
        assert found == (best.engine, best.artifact, best.threads)


def test_auto_goes_by_the_artifact_and_the_threads(bundles: dict[str, Path]) -> None:
    with FaceAligner.load(bundles["mb05"], artifact="model.onnx", threads=1) as aligner:
        assert aligner.engine.name in ("onnx", "openvino") and aligner.engine.threads == 1


def test_auto_without_any_engine_names_all_reasons(bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "available", lambda name: Availability(False, f"{name} is not here", f"get {name}"))
    with pytest.raises(EngineUnavailableError) as raised:
        FaceAligner.load(bundles["mb05"])
    assert all(f"{name} is not here, get {name}" in str(raised.value) for name in ENGINES)


def test_default_is_auto_and_arguments_are_the_contracts(bundles: dict[str, Path]) -> None:
    with FaceAligner.load(str(bundles["mb05"]), engine="onnx", device="cpu", threads=2) as aligner:
        assert aligner.engine.threads == 2 and str(aligner.engine.device) == "cpu"


def test_isolated_on_request(bundles: dict[str, Path], emma: dict[str, np.ndarray]) -> None:
    with FaceAligner.load(bundles["mb05"], engine="onnx", isolated=True) as aligner:
        assert type(aligner.engine).__name__ == "IsolatedEngine"
        found = aligner.predict(emma["crop_bgr_u8"])
    assert np.allclose(found.params, emma["param_whitened"], rtol=0, atol=REAL_PARAMS_ATOL)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"engine": "tensorrt"}, ValueError, "use one of lite, onnx, openvino, mindspore"),
        ({"engine": ""}, ValueError, "use one of"),
        ({"engine": "onnx", "device": "cuda"}, ValueError, r"use cpu, gpu"),
        ({"engine": "onnx", "device": "gpu"}, EngineUnavailableError, "--device cpu"),
        ({"engine": "onnx", "threads": 0}, ValueError, "threads must be 1 or more"),
        ({"engine": "onnx", "artifact": "model.ms"}, EngineError, "engine onnx cannot read ms files"),
        ({"engine": "onnx", "artifact": "../model.onnx"}, BundleError, "it has model.mindir"),
        ({"artifact": "tflite"}, BundleError, "it has model.mindir"),
    ],
    ids=str,
)
def test_wrong_options(bundles: dict[str, Path], options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as raised:
        FaceAligner.load(bundles["mb05"], **options)
    assert "\n" not in str(raised.value)


def test_no_bundle(tmp_path: Path) -> None:
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(BundleError):
            FaceAligner.load(folder)


# --- bundles that lack or lie ---


@pytest.fixture
def copied(bundles: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundles["mb05"], tmp_path / "bundle"))


def rehash(folder: Path, name: str) -> None:
    """Let the manifest vouch for what is there now."""
    content = json.loads((folder / "manifest.json").read_text())
    data = (folder / name).read_bytes()
    for entry in (*content["artifacts"], content["morphable"]):
        if entry["file"] == name:
            entry.update(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
    (folder / "manifest.json").write_text(json.dumps(content))


@pytest.mark.parametrize("name", ["model.ms", "model.onnx", "morphable.npz"])
def test_flipped_byte_is_refused_by_its_hash(copied: Path, name: str) -> None:
    data = bytearray((copied / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copied / name).write_bytes(data)
    with pytest.raises(BundleError, match=f"{name} was altered"):
        FaceAligner.load(copied, engine="lite" if name == "model.ms" else "onnx")


def test_missing_artifact(copied: Path) -> None:
    (copied / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"model\.onnx is missing"):
        FaceAligner.load(copied, engine="onnx")
    with FaceAligner.load(copied, engine="lite") as aligner:  # the others are whole
        assert aligner.artifact.file == "model.ms"


def test_a_failed_load_leaves_no_process(copied: Path) -> None:
    (copied / "morphable.npz").write_bytes(b"x")
    rehash(copied, "morphable.npz")
    before = _children()
    with pytest.raises(BundleError, match=r"morphable\.npz") as raised:
        FaceAligner.load(copied, engine="onnx", isolated=True)
    assert _children() == before and raised.value is not None  # while the error, and what it refers to, is alive


def _children() -> list[str]:
    listing = Path(f"/proc/self/task/{os.getpid()}/children")
    return listing.read_text().split() if listing.is_file() else []


def test_no_dense_basis(aligner: FaceAligner, photos: dict[str, np.ndarray]) -> None:
    (face,) = aligner.align(photos["JianzhuGuo"], [[119, 93, 290, 312]])
    with pytest.raises(BundleError, match=r"no dense basis: convert the checkpoint with --morphable FILE\.npz"):
        aligner.mesh(face)


def test_dense_mesh(copied: Path, photos: dict[str, np.ndarray]) -> None:
    """With the sparse basis as the dense one, the vertices are the landmarks."""
    with np.load(copied / "morphable.npz") as arrays:
        content = dict(arrays)
    dense = {name: content[f"{name}_base"] for name in ("u", "w_shp", "w_exp")}
    np.savez(copied / "morphable.npz", **content, **dense, triangles=np.int32([[0, 1, 2], [65, 66, 67]]))
    rehash(copied, "morphable.npz")
    with FaceAligner.load(copied, engine="onnx") as aligner:
        (face,) = aligner.align(photos["JianzhuGuo"], [[119, 93, 290, 312]])
        assert np.allclose(aligner.mesh(face), face.landmarks, rtol=0, atol=0.05)
        assert aligner.dense_basis().triangles.shape == (2, 3)


# --- life and death ---


def test_closed(bundles: dict[str, Path], emma: dict[str, np.ndarray]) -> None:
    with FaceAligner.load(bundles["mb05"], engine="onnx") as aligner:
        assert isinstance(aligner.predict(emma["crop_bgr_u8"]), Prediction)
    with pytest.raises(EngineError, match="closed"):
        aligner.predict(emma["crop_bgr_u8"])
    aligner.close()


def test_an_exception_closes_too(bundles: dict[str, Path], emma: dict[str, np.ndarray]) -> None:
    with pytest.raises(KeyboardInterrupt), FaceAligner.load(bundles["mb05"], engine="onnx") as aligner:
        raise KeyboardInterrupt
    with pytest.raises(EngineError):
        aligner.predict(emma["crop_bgr_u8"])


def test_a_library_that_does_not_load_is_said_as_ever(
    bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is loaded while the model is hashed; what goes wrong then is no error of its own."""

    def fail(*_: object) -> None:
        raise ImportError("libonnxruntime is broken")

    monkeypatch.setattr(OnnxEngine, "load_library", fail)
    with FaceAligner.load(bundles["mb05"], "onnx") as aligner:  # the library is well: only its early load failed
        assert len(aligner.predict(np.zeros((1, 120, 120, 3), np.uint8)).params) == 1
    monkeypatch.setattr(OnnxEngine, "__init__", fail)
    with pytest.raises(ImportError, match="libonnxruntime is broken"):
        FaceAligner.load(bundles["mb05"], "onnx")


def test_any_engine_may_be_put_in(bundles: dict[str, Path], emma: dict[str, np.ndarray]) -> None:
    """The aligner knows engines only by their contract."""

    class Constant(Engine):
        name, formats = "constant", ("onnx",)

        @classmethod
        def available(cls) -> Availability:
            return Availability(True, "")

        def _run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
            count = len(arrays[0])
            return [np.zeros((count, 62), np.float32), np.full((count, 3, 68), 60, np.float32)]

        def close(self) -> None:
            pass

    from synergy.runtime.specs import Device

    bundle = Bundle.open(bundles["mb05"])
    artifact = bundle.artifact("onnx")
    aligner = FaceAligner(bundle, artifact, Constant(bundle.model_file(artifact), Device(), 1))
    assert (aligner.predict(emma["crop_bgr_u8"]).landmarks == 60).all()
    (face,) = aligner.align(np.zeros((200, 200, 3), np.uint8), [[50, 50, 150, 150]])
    assert np.allclose(
        face.landmarks[:, :2], (face.roi_xyxy[:2] + face.roi_xyxy[2:]) / 2
    )  # crop's centre, ROI's centre
