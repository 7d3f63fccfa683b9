"""The C++ example: built as its README says, the same landmarks as Python, the same crops to the last bit."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from synergy.runtime.aligner import FaceAligner
from synergy.runtime.bundle import Bundle
from synergy.runtime.crop import CROP_SIZE, DDFA_V2_CROP, SYNERGYNET_CROP, CropRule, crop_resize, roi_from_box
from synergy.runtime.errors import EngineUnavailableError
from synergy.runtime.lite.build import find_compiler
from synergy.runtime.media.image import read_image
from synergy.runtime.verification.golden_file import encode_golden_file

pytestmark = pytest.mark.e2e
SOURCES = Path(__file__).resolve().parents[2] / "examples" / "cpp"
ATOL = 1e-3  # image pixels; the same Lite runs on both sides, and four decimals are printed
RULES = {"synergynet": SYNERGYNET_CROP, "3ddfa_v2": DDFA_V2_CROP}

# All but Lite, for ctypes: thousands of calls in the time of one process.
BORDER = """
#include <cstring>
#include <stdexcept>
#include "crop.h"
#include "manifest.h"

template <typename Body>
int Guarded(char *error, Body body) {
  try {
    body();
    return 0;
  } catch (const std::runtime_error &problem) {
    std::strncpy(error, problem.what(), 1023);
    return 1;
  }
}

extern "C" int crop(const uint8_t *bgr, int width, int height, const double *box, int by_height, double scale,
                    int round_to, double shift_y, double *roi, uint8_t *crop, char *error) {
  return Guarded(error, [&] {
    const Image image{width, height, {bgr, bgr + static_cast<size_t>(width) * height * 3}};
    const Box region = RoiFromBox({box[0], box[1], box[2], box[3]}, {by_height != 0, scale, round_to, shift_y});
    std::memcpy(roi, &region, sizeof region);
    const Image made = CropResize(image, region, 120);
    std::memcpy(crop, made.bgr.data(), made.bgr.size());
  });
}

extern "C" int picture(const char *path, uint8_t *bgr, char *error) {
  return Guarded(error, [&] {
    const Image image = ReadImage(path);
    std::memcpy(bgr, image.bgr.data(), image.bgr.size());
  });
}

extern "C" int manifest(const char *bundle, char *error) {
  return Guarded(error, [&] { ReadManifest(bundle); });
}
"""


def absent(reason: str) -> None:
    if os.environ.get("SYNERGY_REQUIRE_LITE") == "1":
        pytest.fail(f"{reason}, and SYNERGY_REQUIRE_LITE=1 forbids skipping", pytrace=False)
    pytest.skip(reason)


def checked(command: list[str], cwd: Path = SOURCES) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning:" not in done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def compiler() -> list[str]:
    try:
        return find_compiler()
    except EngineUnavailableError as error:
        absent(str(error))
        raise


@pytest.fixture(scope="session")
def build(compiler: list[str], lite_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which CMake built the example."""
    if shutil.which("cmake") is None:
        absent("CMake is not installed")
    folder = tmp_path_factory.mktemp("cpp") / "build"
    checked(["cmake", "-S", str(SOURCES), "-B", str(folder), f"-DSYNERGY_LITE_HOME={lite_home}"])
    checked(["cmake", "--build", str(folder)])
    return folder


@pytest.fixture(scope="session")
def has_jpeg(build: Path) -> bool:
    return "image_jpeg.cpp" in "".join(str(path) for path in build.rglob("*.o"))


@pytest.fixture(scope="session")
def border(compiler: list[str], tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The example's own code without Lite, as a library."""
    folder = tmp_path_factory.mktemp("border")
    (folder / "border.cpp").write_text(BORDER)
    sources = [str(SOURCES / name) for name in ("crop.cpp", "image.cpp", "manifest.cpp", "flat_json.cpp")]
    options = ["-O2", "-std=c++17", "-ffp-contract=off", "-shared", "-fPIC", f"-I{SOURCES}"]
    library = folder / "border.so"
    checked([*compiler, *options, str(folder / "border.cpp"), *sources, "-o", str(library)])
    return ctypes.CDLL(str(library))


def run(build: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(build / "face_landmarks"), *map(str, arguments)]
    quiet = {**os.environ, "GLOG_v": "4"}
    return subprocess.run(command, env=quiet, capture_output=True, text=True, check=False)


def landmarks(build: Path, *arguments: object) -> np.ndarray:
    done = run(build, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return np.array([line.split() for line in done.stdout.splitlines()], np.float64)


# --- landmarks: the same as Python's ---


@pytest.fixture(scope="module", params=["mb05", "mobilenet_v2"])
def bundle(request: pytest.FixtureRequest, bundles: dict[str, Path]) -> Path:
    """Both conventions: 3DDFA_V2's crop rule and SynergyNet's."""
    return bundles[request.param]


@pytest.fixture(scope="module")
def aligner(bundle: Path) -> Iterator[FaceAligner]:
    with FaceAligner.load(bundle, engine="lite", threads=2, isolated=True) as aligner:
        yield aligner


@pytest.mark.parametrize(
    "box",
    [[173, 60, 280, 193], [170.4, 71.7, 282.9, 188.2], [-60, -40, 120, 130], [400.5, 380.5, 700.5, 700.5]],
    ids=["inside", "fractions", "over the top left", "over the bottom right"],
)
@pytest.mark.parametrize("suffix", [".ppm", ".bmp"])
def test_landmarks_are_pythons(
    build: Path, bundle: Path, aligner: FaceAligner, portrait_bgr: np.ndarray, box: list, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"portrait{suffix}"
    cv2.imwrite(str(path), portrait_bgr)
    found = landmarks(build, bundle, path, *box)
    assert found.shape == (68, 3)
    np.testing.assert_allclose(found, aligner.align(portrait_bgr, [box])[0].landmarks, rtol=0, atol=ATOL)


@pytest.mark.parametrize("name", ["emma", "JianzhuGuo"])
def test_photos(
    build: Path, has_jpeg: bool, bundle: Path, aligner: FaceAligner, shared: Path, name: str, tmp_path: Path
) -> None:
    path = shared / "images" / f"{name}.jpg"
    image = read_image(path)
    if not has_jpeg:
        path = tmp_path / f"{name}.ppm"
        cv2.imwrite(str(path), image)
    boxes = np.load(shared / "reference" / f"real_{name}.npz")["box"][:, :4]
    for box, face in zip(boxes.tolist(), aligner.align(image, boxes), strict=True):
        np.testing.assert_allclose(landmarks(build, bundle, path, *box), face.landmarks, rtol=0, atol=ATOL)


def test_the_readmes_command(
    compiler: list[str],
    build: Path,
    lite_home: Path,
    bundles: dict[str, Path],
    portrait_bgr: np.ndarray,
    tmp_path: Path,
) -> None:
    """Without CMake: the same program, but for JPEG. Not optimised here, to save time."""
    (command,) = [line for line in (SOURCES / "README.md").read_text().splitlines() if line.startswith("g++ ")]
    words = command.replace("$LITE", str(lite_home / "mindspore_lite")).split()
    words[words.index("-O2")] = "-O0"
    words[words.index("face_landmarks")] = str(tmp_path / "face_landmarks")
    checked([*compiler, *words[1:]])
    cv2.imwrite(str(tmp_path / "portrait.ppm"), portrait_bgr)
    arguments = bundles["mobilenet_v2"], tmp_path / "portrait.ppm", 173, 60, 280, 193
    np.testing.assert_array_equal(landmarks(tmp_path, *arguments), landmarks(build, *arguments))
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8")
    assert "built without libjpeg" in run(tmp_path, bundles["mobilenet_v2"], tmp_path / "a.jpg", 1, 1, 9, 9).stderr


def test_cmake_without_lite(tmp_path: Path, build: Path) -> None:
    command = ["cmake", "-S", str(SOURCES), "-B", str(tmp_path / "b"), f"-DSYNERGY_LITE_HOME={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "run `synergy lite install`" in " ".join(done.stderr.split())  # CMake wraps lines


# --- crops: the same pixels as Python's ---


class Cropper:
    """`RoiFromBox` and `CropResize` of the C++ code."""

    def __init__(self, border: ctypes.CDLL, rule: CropRule) -> None:
        self.border = border
        rest = ctypes.c_double(rule.scale), ctypes.c_int(rule.round_to), ctypes.c_double(rule.shift_y)
        self.rule = (int(rule.side_of == "height"), *rest)

    def __call__(self, image_bgr: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
        """(region, crop, error)."""
        box, roi = np.array(box, np.float64), np.zeros(4)
        crop, error = np.zeros((CROP_SIZE, CROP_SIZE, 3), np.uint8), ctypes.create_string_buffer(1024)
        height, width = image_bgr.shape[:2]
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (image_bgr, box, roi, crop)]
        self.border.crop(pointers[0], width, height, pointers[1], *self.rule, *pointers[2:], error)
        return roi, crop, error.value.decode()


def random_box(random: np.random.Generator, size_wh: np.ndarray) -> np.ndarray:
    """From a pixel to ten times the crop, inside, across the border or outside; some at halves, where rounding ties."""
    sides = np.exp(random.uniform(np.log(0.6), np.log(1000), 2))
    centre = random.uniform(-0.3, 1.3, 2) * size_wh
    box = np.concatenate([centre - sides / 2, centre + sides / 2])
    return np.round(box * 2) / 2 if random.random() < 0.3 else box


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_crops_are_pythons_to_the_last_bit(border: ctypes.CDLL, rule: CropRule) -> None:
    random, cropper, compared = np.random.default_rng(0), Cropper(border, rule), 0
    for _ in range(2000):
        height, width = random.integers(1, 400, 2)
        image = random.integers(0, 256, (height, width, 3), np.uint8)
        box = random_box(random, np.array([width, height]))
        found_roi, found, error = cropper(image, box)
        try:
            roi = roi_from_box(box, rule)
            crop = crop_resize(image, roi)
        except ValueError:
            assert "box" in error
            continue
        if "outside" in error:
            assert not crop.any()
            continue
        assert error == ""
        np.testing.assert_array_equal(found_roi, roi)
        np.testing.assert_array_equal(found, crop, err_msg=f"box {box.tolist()} in {width}x{height}")
        compared += 1
    assert compared > 1000


@pytest.mark.parametrize("side", [*range(100, 140), 238, 239, 240, 241, 360, 480, 1200])
def test_crops_of_every_scale(border: ctypes.CDLL, side: int) -> None:
    """Whole factors, where OpenCV has kernels of their own, and their neighbours."""
    image = np.random.default_rng(side).integers(0, 256, (side + 40, side + 60, 3), np.uint8)
    rule = CropRule("height", 1.0, 1, 0.0)
    for corner in (0, 17, -5):
        box = np.array([corner, corner, corner + side, corner + side])
        np.testing.assert_array_equal(Cropper(border, rule)(image, box)[1], crop_resize(image, box))


@pytest.mark.parametrize(
    ("box", "error"),
    [
        ([10, 10, 10, 20], "x1 < x2"),
        ([10, 30, 20, 20], "y1 < y2"),
        ([np.nan, 0, 10, 10], "finite"),
        ([0, 0, np.inf, 10], "finite"),
        ([0, 0, 0.2, 0.2], "smaller than one pixel"),
        ([0, 0, 1e9, 1e9], "too large"),
        ([0, 0, 1.7e308, 1.7e308], "too large"),
        ([1e15, 0, 1e15 + 100, 100], "outside"),
        ([-300, 0, -200, 100], "outside"),
        ([50, 0, 52, 2], "outside"),
    ],
)
def test_wrong_boxes(border: ctypes.CDLL, box: list[float], error: str) -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    assert error in Cropper(border, SYNERGYNET_CROP)(image, np.array(box))[2]


# --- pictures ---


def read_picture(border: ctypes.CDLL, path: Path, shape: tuple[int, ...] = (64, 64, 3)) -> tuple[np.ndarray, str]:
    image, error = np.zeros(shape, np.uint8), ctypes.create_string_buffer(1024)
    border.picture(str(path).encode(), ctypes.c_void_p(image.ctypes.data), error)
    return image, error.value.decode()


@pytest.mark.parametrize("suffix", [".ppm", ".bmp"])
@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 30])
def test_pictures(border: ctypes.CDLL, suffix: str, width: int, tmp_path: Path) -> None:
    """Every padding of BMP's rows."""
    image = np.random.default_rng(width).integers(0, 256, (7, width, 3), np.uint8)
    cv2.imwrite(str(tmp_path / f"a{suffix}"), image)
    found, error = read_picture(border, tmp_path / f"a{suffix}", image.shape)
    assert error == ""
    np.testing.assert_array_equal(found, image)


def test_unusual_pictures(border: ctypes.CDLL, tmp_path: Path) -> None:
    """Comments in a PPM, a pixel that looks like a blank, and a BMP from the top."""
    (tmp_path / "a.ppm").write_bytes(b"P6 # made by hand\n2\t#x\n 1\r\n255\n" + b" \n#456")
    assert read_picture(border, tmp_path / "a.ppm", (1, 2, 3))[0].tobytes() == b"#\n 654"
    image = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    data = bytearray(cv2.imencode(".bmp", image[::-1])[1].tobytes())
    data[22:26] = (-2).to_bytes(4, "little", signed=True)
    (tmp_path / "a.bmp").write_bytes(data)
    np.testing.assert_array_equal(read_picture(border, tmp_path / "a.bmp", image.shape)[0], image)


def bmp(**changes: int) -> bytes:
    """A BMP of 4x4 with one header field changed."""
    data = bytearray(cv2.imencode(".bmp", np.zeros((4, 4, 3), np.uint8))[1].tobytes())
    places = {"start": (10, 4), "width": (18, 4), "height": (22, 4), "bits": (28, 2), "compression": (30, 4)}
    for name, value in changes.items():
        at, size = places[name]
        data[at : at + size] = value.to_bytes(size, "little", signed=value < 0)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "not a PPM"),
        (b"hello", "not a PPM"),
        (b"\x89PNG\r\n\x1a\n", "not a PPM"),
        (b"P6", "damaged"),
        (b"P6 4 4 255", "damaged"),
        (b"P6 4 4 255\n" + bytes(47), "damaged"),
        (b"P6 0 4 255\n", "damaged"),
        (b"P6 4 x 255\n", "damaged"),
        (b"P6 4 4 65535\n" + bytes(96), "255 as its largest value"),
        (b"P6 99999999999999999999 4 255\n", "pixels"),
        (b"P6 100000 100000 255\n", "pixels"),
        (bmp()[:50], "damaged"),
        (bmp()[:-1], "damaged"),
        (bmp(start=10**9), "damaged"),
        (bmp(width=-4), "damaged"),
        (bmp(height=0), "damaged"),
        (bmp(height=5), "damaged"),
        (bmp(height=-(2**31)), "pixels"),
        (bmp(bits=8), "24 bits"),
        (bmp(compression=1), "24 bits"),
    ],
)
def test_wrong_pictures(border: ctypes.CDLL, data: bytes, error: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(data)
    assert error in read_picture(border, tmp_path / "a")[1]


# --- golden values ---


@pytest.fixture(scope="module")
def golden_bundle(bundles: dict[str, Path]) -> Path:
    """The bundle of the tests that was exported with golden values."""
    return bundles["mb05"]


@pytest.fixture(scope="module")
def golden_file(golden_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("golden") / "golden.bin"
    path.write_bytes(encode_golden_file(Bundle.open(golden_bundle)))
    return path


def test_golden_values_of_a_sound_bundle(build: Path, golden_bundle: Path, golden_file: Path) -> None:
    done = run(build, "--verify", golden_file, golden_bundle)
    assert (done.returncode, done.stderr) == (0, "")
    compared = [line.split(":")[0] for line in done.stdout.splitlines()]
    assert compared == [
        "params, one crop per run",
        "landmarks, one crop per run",
        "params, 35 crops in one run",
        "landmarks, 35 crops in one run",
        "landmarks of the picture in pixels",
    ]
    assert all(line.endswith(": ok") for line in done.stdout.splitlines())


def places(golden_file: Path) -> dict[str, int]:
    """Offsets of some values in the plain file."""
    data = golden_file.read_bytes()
    count, size, _ = struct.unpack_from("<3I", data, 76)
    params = 88 + count * size * size * 3
    width, height = struct.unpack_from("<2I", data, picture := params + 2 * 40 + count * (62 + 204) * 4)
    return {
        "magic": 0,
        "version": 8,
        "sha256": 12,
        "count": 76,
        "last param": params + 40 + count * 62 * 4 - 4,
        "tolerance": params + 36,
        "name's end": params + 31,
        "width": picture,
        "box": picture + 8 + width * height * 3,
        "landmark": len(data) - 4,
    }


@pytest.mark.parametrize(
    ("place", "value", "error"),
    [
        ("last param", struct.pack("<f", 99.0), "params, one crop per run: largest difference"),
        ("landmark", struct.pack("<f", 999.0), "landmarks of the picture in pixels: largest difference"),
        ("box", struct.pack("<d", 90.0), "landmarks of the picture in pixels: largest difference"),
    ],
)
def test_drift_is_found(
    build: Path, golden_bundle: Path, golden_file: Path, tmp_path: Path, place: str, value: bytes, error: str
) -> None:
    done = run(build, "--verify", spoilt(golden_file, tmp_path, place, value), golden_bundle)
    failed = [line for line in done.stdout.splitlines() if line.endswith(": FAIL")]
    assert failed[0].startswith(error) and len({line.split()[0] for line in failed}) == 1
    assert done.returncode == 1
    assert done.stderr == "face_landmarks: the model does not agree with the golden values on this device\n"


@pytest.mark.parametrize(
    ("place", "value", "error"),
    [
        ("magic", b"x", "another kind of file"),
        ("version", struct.pack("<I", 2), "its version is 2, not 1"),
        ("sha256", b"f" * 64, "belongs to a bundle of another checkpoint"),
        ("count", struct.pack("<I", 0), "the number of crops is not 1 to"),
        ("count", struct.pack("<I", 36), "; write it again"),
        ("count", struct.pack("<I", 2**32 - 1), "the number of crops is not 1 to"),
        ("tolerance", struct.pack("<f", float("nan")), "not finite"),
        ("tolerance", struct.pack("<f", 0.0), "a tolerance is not positive"),
        ("name's end", b"x", "the name of an output has no end"),
        ("last param", struct.pack("<f", float("inf")), "not finite"),
        ("width", struct.pack("<I", 4096), "it ends early"),
        ("box", struct.pack("<d", float("nan")), "finite"),
    ],
)
def test_damaged_golden_files(
    build: Path, golden_bundle: Path, golden_file: Path, tmp_path: Path, place: str, value: bytes, error: str
) -> None:
    assert_fails(run(build, "--verify", spoilt(golden_file, tmp_path, place, value), golden_bundle), error)


def test_truncated_golden_files(build: Path, golden_bundle: Path, golden_file: Path, tmp_path: Path) -> None:
    data, cut = golden_file.read_bytes(), tmp_path / "cut.bin"
    for length in (0, 7, 50, 1000, len(data) // 2, len(data) - 1):
        cut.write_bytes(data[:length])
        assert_fails(run(build, "--verify", cut, golden_bundle), "cut.bin has no golden values: it ends early")
    cut.write_bytes(data + b"x")
    assert_fails(run(build, "--verify", cut, golden_bundle), "bytes after its end")
    assert_fails(run(build, "--verify", tmp_path / "none.bin", golden_bundle), "none.bin: no such file")


def spoilt(golden_file: Path, folder: Path, place: str, value: bytes) -> Path:
    """A copy of the plain file with some bytes replaced."""
    data, at = bytearray(golden_file.read_bytes()), places(golden_file)[place]
    data[at : at + len(value)] = value
    (folder / "spoilt.bin").write_bytes(data)
    return folder / "spoilt.bin"


# --- failures of the command: one line, exit code 1 ---

Change = Callable[[Path], Any]


def edit(path: str, value: object) -> Change:
    """Set one value of the manifest, at "crop.scale" or "outputs.0.name"."""

    def change(bundle: Path) -> None:
        manifest = json.loads((bundle / "manifest.json").read_text())
        *parents, last = (int(part) if part.isdigit() else part for part in path.split("."))
        place = manifest
        for parent in parents:
            place = place[parent]
        place[last] = value
        (bundle / "manifest.json").write_text(json.dumps(manifest))

    return change


def swap_outputs(bundle: Path) -> None:
    outputs = json.loads((bundle / "manifest.json").read_text())["outputs"]
    edit("outputs", outputs[::-1])(bundle)


def replace_model(bundle: Path, data: bytes) -> None:
    """Another file under the model's name, and a manifest that knows its size."""
    (bundle / "model.ms").write_bytes(data)
    manifest = json.loads((bundle / "manifest.json").read_text())
    (which,) = [i for i, artifact in enumerate(manifest["artifacts"]) if artifact["format"] == "ms"]
    edit(f"artifacts.{which}.bytes", len(data))(bundle)


def other_size(bundle: Path) -> None:
    edit("preprocessing.size", 112)(bundle)
    edit("inputs.0.shape", [-1, 112, 112, 3])(bundle)


def add_output(bundle: Path) -> None:
    outputs = json.loads((bundle / "manifest.json").read_text())["outputs"]
    edit("outputs", [*outputs, {"name": "more", "dtype": "float32", "shape": [-1, 1]}])(bundle)


CHANGES: dict[str, tuple[Change, str]] = {
    "no manifest": (lambda bundle: (bundle / "manifest.json").unlink(), "manifest.json: no such file"),
    "empty manifest": (lambda bundle: (bundle / "manifest.json").write_text(""), "not JSON"),
    "no JSON": (lambda bundle: (bundle / "manifest.json").write_text("{'schema': 1}"), "not JSON"),
    "a line break": (lambda bundle: (bundle / "manifest.json").write_text('{"a\nb": 1}'), "not JSON"),
    "deep JSON": (lambda bundle: (bundle / "manifest.json").write_text("[" * 10**6), "not JSON"),
    "twice": (lambda bundle: (bundle / "manifest.json").write_text('{"a": 1, "a": 2}'), "a stands twice"),
    "schema": (edit("schema", 99), "schema is not 1 to 3"),
    "no schema": (edit("schema", None), "schema is no number"),
    "no number": (edit("crop.scale", "1.2"), "crop.scale is no number"),
    "no integer": (edit("crop.round_to", 1.5), "crop.round_to is no integer"),
    "no text": (edit("crop.side_of", 3), "crop.side_of is no text"),
    "missing": (edit("crop", {}), "crop.side_of is missing"),
    "side": (edit("crop.side_of", "width"), "neither height nor mean"),
    "scale": (edit("crop.scale", 0), "crop.scale"),
    "round_to": (edit("crop.round_to", 0), "crop.round_to"),
    "interpolation": (edit("crop.interpolation", "lanczos4"), "linear"),
    "batch": (edit("inputs.0.shape", [8, 120, 120, 3]), "batch is fixed to 8"),
    "no shape": (edit("inputs.0.shape", []), "inputs.0.shape is empty"),
    "no type": (edit("outputs.0.dtype", "float16"), "neither uint8 nor float32"),
    "input's type": (edit("inputs.0.dtype", "float32"), "no uint8 crop"),
    "input's shape": (edit("inputs.0.shape", [-1, 112, 112, 3]), "no uint8 crop"),
    "crop's size": (edit("preprocessing.size", 10**9), "preprocessing.size"),
    "no ms": (edit("artifacts", []), "no .ms artifact"),
    "outside": (edit("artifacts", [{"format": "ms", "file": "../model.ms", "bytes": 1}]), "bare file name"),
    "model missing": (lambda bundle: (bundle / "model.ms").unlink(), "model.ms is missing"),
    "model cut": (lambda bundle: (bundle / "model.ms").write_bytes(b"1"), "another size"),
    "other model": (lambda bundle: replace_model(bundle, b"no model" * 1000), "MindSpore Lite cannot load"),
    "empty model": (lambda bundle: replace_model(bundle, b""), "MindSpore Lite cannot load"),
    "foreign input": (other_size, "shape -1 120 120 3; its manifest says uint8, shape 1 112 112 3"),
    "input's name": (edit("inputs.0.name", "crops"), "does not take crops alone"),
    "no landmarks": (edit("outputs.1.name", "points"), "--head landmarks"),
    "landmarks' shape": (edit("outputs.1.shape", [-1, 68, 3]), "--head landmarks"),
    "outputs swapped": (swap_outputs, "landmarks is of type 43, shape 1 62; its manifest says float32, shape 1 3 68"),
    "output's type": (edit("outputs.0.dtype", "uint8"), "params is of type 43"),
    "outputs' number": (add_output, "another number of outputs"),
}


@pytest.fixture
def copy(bundles: dict[str, Path], tmp_path: Path) -> Path:
    """A bundle to spoil: what C++ reads of one."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name in ("manifest.json", "model.ms"):
        shutil.copyfile(bundles["mobilenet_v2"] / name, folder / name)
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.ppm"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (90, 80, 3), np.uint8))
    return path


def assert_fails(done: subprocess.CompletedProcess[str], error: str) -> None:
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("face_landmarks: ")
    assert error in done.stderr


@pytest.mark.parametrize(("change", "error"), CHANGES.values(), ids=CHANGES)
def test_wrong_bundles(build: Path, copy: Path, picture: Path, change: Change, error: str) -> None:
    change(copy)
    assert_fails(run(build, copy, picture, 20, 20, 60, 70), error)


def test_cut_manifests(border: ctypes.CDLL, copy: Path) -> None:
    """Cut off anywhere, a manifest is refused."""
    error = ctypes.create_string_buffer(1024)
    assert border.manifest(str(copy).encode(), error) == 0
    text = (copy / "manifest.json").read_bytes().rstrip()
    for length in range(len(text)):
        (copy / "manifest.json").write_bytes(text[:length])
        assert border.manifest(str(copy).encode(), error) == 1, length


@pytest.mark.parametrize(
    ("box", "error"),
    [
        ((20, 20, 60, "x"), "'x' is no number"),
        ((20, 20, 60, "70px"), "'70px' is no number"),
        ((20, 20, 60, ""), "'' is no number"),
        ((20, 20, 60, "nan"), "finite"),
        ((60, 20, 20, 70), "x1 < x2"),
        ((200, 20, 260, 70), "outside the image of 80x90 pixels"),
    ],
)
def test_wrong_boxes_of_the_command(build: Path, copy: Path, picture: Path, box: tuple, error: str) -> None:
    assert_fails(run(build, copy, picture, *box), error)


def test_wrong_files(build: Path, has_jpeg: bool, copy: Path, picture: Path, tmp_path: Path) -> None:
    box = (20, 20, 60, 70)
    assert_fails(run(build, copy, tmp_path / "none.ppm", *box), "none.ppm: no such file")
    assert_fails(run(build, copy, tmp_path, *box), "no such file")
    assert_fails(run(build, tmp_path / "none", picture, *box), "none/manifest.json: no such file")
    jpeg = cv2.imencode(".jpg", cv2.imread(str(picture)))[1].tobytes()
    for data in (jpeg[: len(jpeg) // 2], jpeg[:20], jpeg[:-200] + bytes(198) + jpeg[-2:]) if has_jpeg else ():
        picture.write_bytes(data)
        assert_fails(run(build, copy, picture, *box), "a.ppm: the JPEG is damaged: ")


def test_usage(build: Path, copy: Path) -> None:
    done = run(build, copy)
    assert (done.returncode, done.stdout) == (2, "")
    usage = "usage: face_landmarks BUNDLE IMAGE X1 Y1 X2 Y2\n       face_landmarks --verify FILE BUNDLE\n"
    assert done.stderr == usage
    assert run(build, "--verify", copy).returncode == 2


def test_a_full_disk_is_told(build: Path, copy: Path, picture: Path) -> None:
    with Path("/dev/full").open("w") as full:
        command = [str(build / "face_landmarks"), str(copy), str(picture), "20", "20", "60", "70"]
        quiet = {**os.environ, "GLOG_v": "4"}
        done = subprocess.run(command, env=quiet, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "face_landmarks: cannot write to stdout\n")
