"""The manifest's schema: valid manifests are read exactly, all others give an error of one line."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from synergy.runtime.errors import BundleError
from synergy.runtime.manifest import (
    MANIFEST_LIMIT,
    MANIFEST_NAME,
    OLDEST_SCHEMA,
    SCHEMA,
    Manifest,
    encode_manifest,
    read_manifest,
)
from synergy.runtime.specs import TensorSpec

SHA = "0123456789abcdef" * 4

SOUND: dict[str, Any] = {
    "schema": SCHEMA,
    "arch": "mb05",
    "convention": "3ddfa_v2",
    "inputs": [
        {"name": "images", "shape": [-1, 120, 120, 3], "dtype": "uint8", "layout": "NHWC", "meaning": "face crops"}
    ],
    "outputs": [
        {"name": "params", "shape": [-1, 62], "dtype": "float32", "layout": "NC", "meaning": "whitened"},
        {"name": "landmarks", "shape": [-1, 3, 68], "dtype": "float32", "layout": "NCP", "meaning": "crop px"},
    ],
    "preprocessing": {"size": 120, "colour": "BGR", "mean": 127.5, "scale": 128.0, "in_graph": True},
    "crop": {"side_of": "mean", "scale": 1.58, "round_to": 1, "shift_y": 0.14, "interpolation": "linear"},
    "pose": {"pitch_rc": [2, 1], "roll_rc": [1, 0]},
    "landmark_frame": {"y_from": 120.0, "x_shift": -1.0, "z_shift": -1.0, "z_min_to_zero": True},
    "toolchain": {"mindspore": "2.10.0"},
    "source": {"file": "mb05.ckpt", "sha256": SHA},
    "artifacts": [{"file": "model.onnx", "sha256": SHA, "bytes": 5, "format": "onnx", "precision": "fp32"}],
    "morphable": {"file": "morphable.npz", "sha256": SHA, "bytes": 5},
    "parity": {"file": "parity.json", "sha256": SHA, "bytes": 5},
}


def changed(place: str, value: Any) -> dict[str, Any]:
    """The sound manifest with `value` at "a.0.b"; `...` removes the key."""
    content = copy.deepcopy(SOUND)
    *parents, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    target: Any = content
    for part in parents:
        target = target[part]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return content


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], Manifest]:
    def read(content: Any) -> Manifest:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        (tmp_path / MANIFEST_NAME).write_bytes(data)
        return read_manifest(tmp_path)

    return read


def refused(read: Callable[[Any], Manifest], content: Any) -> str:
    with pytest.raises(BundleError) as raised:
        read(content)
    message = str(raised.value)
    assert MANIFEST_NAME in message and "\n" not in message and len(message) < 1000
    return message


def test_sound_manifest(read: Callable[[Any], Manifest]) -> None:
    manifest = read(SOUND)
    assert manifest.inputs[0].spec == TensorSpec("images", (-1, 120, 120, 3), "uint8")
    assert manifest.artifacts[0].mind_ir_version is None
    assert manifest.pose.pitch_rc == (2, 1) and manifest.crop.scale == 1.58
    assert manifest.landmark_frame.z_min_to_zero is True


def test_round_trip(read: Callable[[Any], Manifest]) -> None:
    manifest = read(SOUND)
    assert read(encode_manifest(manifest)) == manifest
    assert encode_manifest(manifest).endswith(b"}\n") and b'\n  "arch": "mb05"' in encode_manifest(manifest)


def test_bundles_of_the_first_schema_are_read(read: Callable[[Any], Manifest]) -> None:
    """They have no `compute_precision`."""
    manifest = read(changed("schema", OLDEST_SCHEMA))
    assert manifest.schema == OLDEST_SCHEMA < SCHEMA and manifest.artifacts[0].compute_precisions == ()


def test_int8_of_the_first_schema_is_to_be_exported_again(read: Callable[[Any], Manifest]) -> None:
    """It was written in a form that one engine alone reads."""
    old = changed("artifacts.0.precision", "int8") | {"schema": OLDEST_SCHEMA}
    assert "int8 was written in another form" in refused(read, old)
    assert read(old | {"schema": SCHEMA}).artifacts[0].precision == "int8"


DRIFT = {"nme": 0.01, "mae": None, "data": "faces"}


@pytest.mark.parametrize(
    ("entry", "precisions"),
    [
        ({"engine": "openvino", "precision": "bf16", "drift": DRIFT}, ("fp32", "bf16")),
        ({"engine": "onnx", "precision": "bf16", "drift": DRIFT}, ("fp32",)),
        ({"engine": "openvino", "precision": "bf16", "drift": {**DRIFT, "accepted": True}}, ("fp32",)),
        ({"engine": "openvino", "precision": "bf16", "drift": None}, ("fp32",)),
    ],
    ids=["proved", "on another engine", "accepted", "not proved"],
)
def test_what_an_artifact_was_proved_in(
    read: Callable[[Any], Manifest], entry: dict[str, Any], precisions: tuple[str, ...]
) -> None:
    manifest = read(changed("artifacts.0.computing", [entry]))
    assert manifest.artifacts[0].precisions("openvino") == precisions
    assert read(encode_manifest(manifest)) == manifest


@pytest.mark.parametrize(
    "entry",
    [
        {"engine": "openvino", "precision": "fp64"},
        {"engine": "open vino", "precision": "bf16"},
        {"engine": "openvino"},
        {"engine": "openvino", "precision": "bf16", "drift": DRIFT, "x": 1},
    ],
)
def test_what_no_artifact_is_proved_in(read: Callable[[Any], Manifest], entry: dict[str, Any]) -> None:
    refused(read, changed("artifacts.0.computing", [entry]))


def test_a_bundle_that_is_being_proved_has_no_parity_yet(read: Callable[[Any], Manifest]) -> None:
    assert read(changed("parity", ...)).parity is None


def test_real_manifests(bundles: dict[str, Path]) -> None:
    for arch, folder in bundles.items():
        manifest = read_manifest(folder)
        assert manifest.arch == arch
        assert encode_manifest(manifest) == (folder / MANIFEST_NAME).read_bytes()


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is not a bundle: it has no manifest\.json"):
        read_manifest(tmp_path)
    (tmp_path / MANIFEST_NAME).mkdir()
    with pytest.raises(BundleError, match=r"is not a bundle"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("schema", "cure"), [(SCHEMA + 1, "upgrade"), (OLDEST_SCHEMA - 1, "export the bundle again"), (-5, "")]
)
def test_other_schemas_name_the_cure(read: Callable[[Any], Manifest], schema: int, cure: str) -> None:
    message = refused(read, changed("schema", schema))
    assert f"schema {schema}" in message and cure in message


def test_a_newer_schema_may_look_quite_different(read: Callable[[Any], Manifest]) -> None:
    """The version is looked at first: "upgrade" helps, "unknown field" does not."""
    assert "upgrade" in refused(read, {"schema": SCHEMA + 1, "models": {"a": 1}})


@pytest.mark.parametrize(
    ("writer", "named"),
    [("0.3.0", True), ("1.0rc1", True), (7, False), ("x; rm", False), ("9" * 99, False), (None, False)],
)
def test_the_version_that_can_read_a_newer_schema_is_named(
    read: Callable[[Any], Manifest], writer: Any, named: bool
) -> None:
    message = refused(read, {"schema": SCHEMA + 1, "toolchain": {"synergy-mindir": writer}})
    assert (f"synergy-mindir {writer} wrote it" in message) is named and "upgrade" in message


@pytest.mark.parametrize("schema", ["1", 1.5, None, True, [1], 10**30, ...])
def test_schemas_that_are_no_numbers(read: Callable[[Any], Manifest], schema: Any) -> None:
    refused(read, changed("schema", schema))


@pytest.mark.parametrize(
    "name",
    [
        "../model.onnx",
        "..",
        ".",
        "",
        "/etc/passwd",
        "a/b.onnx",
        "a\\b.onnx",
        "C:model.onnx",
        ".hidden",
        "model.onnx\n",
        "model\0.onnx",
        "model .onnx",
        "mödel.onnx",
        "~root",
        "x" * 129,
        5,
        None,
    ],
)
@pytest.mark.parametrize("place", ["artifacts.0.file", "morphable.file", "parity.file"])
def test_only_bare_file_names(read: Callable[[Any], Manifest], place: str, name: Any) -> None:
    """No folder, no way out of the bundle."""
    refused(read, changed(place, name))


@pytest.mark.parametrize("value", [SHA[:-1], SHA + "0", SHA.upper(), "g" * 64, "", SHA + "\n", None, 5])
@pytest.mark.parametrize("place", ["artifacts.0.sha256", "morphable.sha256", "source.sha256"])
def test_only_whole_hashes(read: Callable[[Any], Manifest], place: str, value: Any) -> None:
    refused(read, changed(place, value))


@pytest.mark.parametrize("value", [0, -1, 2**31 + 1, 2**63, 2**64, 10**400, 1.5, 1e300, "5", None, True])
def test_only_sizes_that_a_file_can_have(read: Callable[[Any], Manifest], value: Any) -> None:
    refused(read, changed("artifacts.0.bytes", value))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("artifacts.0.format", "tflite"),
        ("artifacts.0.format", ...),
        ("artifacts.0.precision", "fp64"),
        ("artifacts.0.mind_ir_version", "1"),
        ("artifacts", {}),
        ("artifacts", ...),
        ("inputs", None),
        ("inputs.0.dtype", "float64"),
        ("inputs.0.shape", "wide"),
        ("inputs.0.shape", [1.5]),
        ("inputs.0.name", None),
        ("outputs.0.dtype", "uint64"),
        ("preprocessing.size", 0),
        ("preprocessing.size", 10**9),
        ("preprocessing.colour", "RGB"),
        ("preprocessing.mean", "127"),
        ("preprocessing.in_graph", 1),
        ("preprocessing.in_graph", False),
        ("preprocessing.mean", 0.0),
        ("preprocessing.scale", 255.0),
        ("inputs.0.layout", "NCHW"),
        ("crop.side_of", "width"),
        ("crop.scale", 0),
        ("crop.scale", -1.5),
        ("crop.scale", 1e30),
        ("crop.round_to", 0),
        ("crop.interpolation", "cubic"),
        ("pose.pitch_rc", [3, 0]),
        ("pose.roll_rc", [0]),
        ("pose.roll_rc", [-1, 0]),
        ("landmark_frame.y_from", None),
        ("toolchain", {"mindspore": 2}),
        ("arch", 5),
        ("morphable", None),
        ("surplus", 1),
        ("artifacts.0.surplus", 1),
        ("source.surplus", 1),
    ],
)
def test_other_values(read: Callable[[Any], Manifest], place: str, value: Any) -> None:
    message = refused(read, changed(place, value))
    assert "Export the bundle again" in message


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("inputs", []),
        ("inputs", [SOUND["inputs"][0], SOUND["inputs"][0]]),
        ("outputs", []),
        ("outputs", SOUND["outputs"][1:]),
        ("outputs", SOUND["outputs"][::-1]),
        ("outputs", [*SOUND["outputs"], {**SOUND["outputs"][1], "name": "heatmaps"}]),
        ("outputs", [*SOUND["outputs"], {**SOUND["outputs"][1], "name": "vertices", "shape": [-1, 3, 0]}]),
        ("outputs", [*SOUND["outputs"], {**SOUND["outputs"][1], "name": "vertices", "shape": [-1, 3, 2**40]}]),
        ("outputs", [*SOUND["outputs"], {**SOUND["outputs"][1], "name": "vertices", "shape": [-1, 9]}]),
        ("outputs", [*SOUND["outputs"], {**SOUND["outputs"][1], "name": "refined_landmarks", "shape": [-1, 3, 5]}]),
        ("outputs.0.name", "landmarks"),
        ("inputs.0.shape", []),
        ("inputs.0.shape", [-1]),
        ("inputs.0.shape", [-1, 3, 120, 120]),
        ("inputs.0.shape", [-1, 120, 120, -1]),
        ("inputs.0.shape", [0, 120, 120, 3]),
        ("inputs.0.shape", [-2, 120, 120, 3]),
        ("inputs.0.shape", [2**62, 120, 120, 3]),
        ("inputs.0.shape", [-1, 64, 64, 3]),
        ("inputs.0.dtype", "float32"),
        ("outputs.0.shape", [-1, 61]),
        ("outputs.0.shape", [2, 62]),
        ("outputs.1.shape", [-1, 68, 3]),
        ("artifacts", []),
    ],
)
def test_graphs_that_the_aligner_cannot_use(read: Callable[[Any], Manifest], place: str, value: Any) -> None:
    """Valid types but unusable: reported on reading, not as an IndexError later."""
    refused(read, changed(place, value))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"a text file",
        b"null",
        b"[]",
        b"5",
        b'"schema"',
        b"{}",
        b'{"schema": 1',
        b'{"schema": 1}',
        b'{"schema": 1,}',
        b"\xff\xfe{\x00}\x00",
        b"\x89PNG\r\n\x1a\n",
        b'{"schema": 1, "arch": "\xff"}',
        b'{"schema": NaN}',
        b"\xef\xbb\xbf{}",
    ],
)
def test_no_json(read: Callable[[Any], Manifest], content: bytes) -> None:
    refused(read, content)


@pytest.mark.parametrize("open_with", [b"[", b'{"a":'])
def test_endless_nesting(read: Callable[[Any], Manifest], open_with: bytes) -> None:
    refused(read, b'{"schema": 1, "toolchain": ' + open_with * 100_000)


@pytest.mark.parametrize("length", [len(json.dumps(SOUND)) // 4 * quarter for quarter in range(1, 4)])
def test_truncated(read: Callable[[Any], Manifest], length: int) -> None:
    refused(read, json.dumps(SOUND).encode()[:length])


def test_far_too_large(read: Callable[[Any], Manifest]) -> None:
    """It is not even parsed."""
    assert str(MANIFEST_LIMIT) in refused(read, changed("arch", "x" * 2 * MANIFEST_LIMIT))


def test_every_byte_may_be_damaged(read: Callable[[Any], Manifest]) -> None:
    """Nothing but BundleError, whatever the damage."""
    data = json.dumps(SOUND).encode()
    for place in range(0, len(data), 7):
        for byte in (0, ord("9"), ord("}")):
            damaged = data[:place] + bytes([byte]) + data[place + 1 :]
            try:
                read(damaged)
            except BundleError as error:
                assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("extra", "head"),
    [([], "landmarks"), (["refined_landmarks"], "refined"), (["vertices"], "mesh"), (None, "params")],
)
def test_heads(read: Callable[[Any], Manifest], extra: list[str] | None, head: str) -> None:
    points = {"refined_landmarks": 68, "vertices": 53215}
    more = [{**SOUND["outputs"][1], "name": name, "shape": [-1, 3, points[name]]} for name in extra or []]
    outputs = SOUND["outputs"][:1] if extra is None else [*SOUND["outputs"], *more]
    assert read(changed("outputs", outputs)).head == head
