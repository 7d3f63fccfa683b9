"""The file of golden values: what is written is read, and nothing else is accepted."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest

from synergy.runtime.bundle import Bundle
from synergy.runtime.errors import BundleError
from synergy.runtime.verification.golden import (
    GOLDEN_LIMIT,
    GOLDEN_NAME,
    Golden,
    GoldenPicture,
    encode_golden,
    read_golden,
)
from synergy.runtime.verification.reference import Reference

FACES, NOISE = 3, 2


def golden(faces: int = FACES, seed: int = 0) -> Golden:
    random = np.random.default_rng(seed)
    count = faces + NOISE
    outputs = {
        "params": random.normal(size=(count, 62)).astype(np.float32),
        "landmarks": random.normal(size=(count, 3, 68)).astype(np.float32),
        "vertices": random.normal(size=(count, 3, 4)).astype(np.float32),
    }
    crops = random.integers(0, 256, (count, 120, 120, 3), np.uint8)
    image = random.integers(0, 256, (30, 40, 3), np.uint8)
    picture = GoldenPicture(image, np.array([5.0, 6, 20, 25]), random.normal(size=(68, 3)), np.array([1.0, 2, 3]))
    reference = Reference(crops, faces, outputs, {"vertices": np.array([0, 7, 9, 30])})
    euler = np.array([[1.0, 2, 3], [np.nan] * 3, [4, 5, 6]] * 40)[:faces]
    return Golden(reference, picture, random.normal(size=(faces, 2, 68)), random.normal(size=faces), euler)


def write(folder: Path, data: bytes) -> Bundle:
    """Put a file of golden values into a bundle, with its hash in the manifest."""
    (folder / GOLDEN_NAME).write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = {"file": GOLDEN_NAME, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    manifest["golden"] = {**entry, "data": "test", "real_faces": False, "nme": 3.0, "mae": None}
    manifest["schema"] = 3
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return Bundle.open(folder)


def test_what_is_written_is_read(tiny_bundle_copy: Path) -> None:
    expected = golden()
    found = read_golden(write(tiny_bundle_copy, encode_golden(expected)))
    assert found is not None
    assert found.reference.faces == FACES and (found.reference.crops == expected.reference.crops).all()
    for name, values in expected.reference.outputs.items():
        assert (found.reference.outputs[name] == values).all()
    assert found.reference.points["vertices"].tolist() == [0, 7, 9, 30]
    assert (found.picture.image_bgr == expected.picture.image_bgr).all()
    assert np.array_equal(found.euler_deg, expected.euler_deg, equal_nan=True)


def test_a_bundle_of_an_older_schema_has_none(tiny_bundle: Path) -> None:
    assert read_golden(Bundle.open(tiny_bundle)) is None


def test_more_than_2_mb_is_not_written() -> None:
    with pytest.raises(ValueError, match=f"the limit is {GOLDEN_LIMIT}: use fewer faces"):
        encode_golden(golden(faces=60))


def _archive(**changes: np.ndarray | None) -> bytes:
    content = dict(np.load(io.BytesIO(encode_golden(golden()))))
    content.update({name: value for name, value in changes.items() if value is not None})
    for name, value in changes.items():
        if value is None:
            del content[name]
    stream = io.BytesIO()
    np.savez_compressed(stream, **content)
    return stream.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no archive",
        encode_golden(golden())[:-200],
        _archive(crops=None),
        _archive(faces=np.array(9)),
        _archive(faces=np.array(0)),
        _archive(crops=np.zeros((5, 60, 60, 3), np.uint8)),
        _archive(crops=np.zeros((5, 120, 120, 3), np.float32)),
        _archive(output_params=np.full((5, 62), np.nan, np.float32)),
        _archive(output_params=np.zeros((4, 62), np.float32)),
        _archive(points_vertices=np.array([0, 1, 2])),
        _archive(points_vertices=np.array([-1, 1, 2, 3])),
        _archive(picture=np.zeros((0, 40, 3), np.uint8)),
        _archive(picture_box_xyxy=np.zeros(3)),
        _archive(label_landmarks=np.zeros((3, 2, 5))),
        _archive(output_params=np.array([object()] * 5)),
    ],
    ids=lambda _: "",
)
def test_other_content_is_refused(tiny_bundle_copy: Path, data: bytes) -> None:
    if not data:
        (tiny_bundle_copy / GOLDEN_NAME).write_bytes(b"x")
        data = b"x"
    with pytest.raises(BundleError, match=r"golden\.npz does not hold golden values"):
        read_golden(write(tiny_bundle_copy, data))


def test_an_altered_file_is_refused_by_its_hash(tiny_bundle_copy: Path) -> None:
    bundle = write(tiny_bundle_copy, encode_golden(golden()))
    data = bytearray((tiny_bundle_copy / GOLDEN_NAME).read_bytes())
    data[len(data) // 2] ^= 1
    (tiny_bundle_copy / GOLDEN_NAME).write_bytes(data)
    with pytest.raises(BundleError, match=r"golden\.npz was altered"):
        read_golden(bundle)
