"""Golden values for MindSpore Lite's `benchmark` tool: its file form, and its rule applied to Lite's own outputs."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from synergy.runtime.aligner import FaceAligner
from synergy.runtime.bundle import Bundle
from synergy.runtime.engines import Engine
from synergy.runtime.errors import BundleError
from synergy.runtime.manifest import encode_manifest
from synergy.runtime.verification.golden import read_golden
from synergy.runtime.verification.golden_file import encode_golden_file
from synergy.runtime.verification.lite_benchmark import expected_text, write_lite_benchmark

ROOT = Path(__file__).resolve().parents[3]


def read_as_the_tool(path: Path) -> dict[str, np.ndarray]:
    """The loop of the tool: a line with name, rank and dimensions, and a line with values, until the end."""
    lines = path.read_text().split("\n")
    assert len(lines) % 2 == 0
    outputs = {}
    for header, values in zip(lines[::2], lines[1::2], strict=True):
        name, rank, *dims = header.split()
        assert len(dims) == int(rank)
        outputs[name] = np.array(values.split(), np.float32).reshape([int(dim) for dim in dims])
    return outputs


def bias_percent(expected: dict[str, np.ndarray], found: list[np.ndarray]) -> float:
    """The tool's rule: per output, the mean relative error of the values that differ by more than 1e-5."""
    biases = []
    for wanted, values in zip(expected.values(), found, strict=True):
        assert wanted.shape == values.shape
        error = np.abs(values.astype(np.float64) - wanted)
        wrong = error > 1e-8 + 1e-5 * np.abs(wanted)
        biases.append(float(np.mean(error[wrong] / np.abs(wanted[wrong]))) if wrong.any() else 0.0)
    return 100 * sum(biases) / len(biases)


def options_of(command: str) -> dict[str, str]:
    program, *options = shlex.split(command)
    assert program == "./benchmark"
    return dict(option.removeprefix("--").split("=", 1) for option in options)


def test_text_is_exact_and_has_no_last_line_break() -> None:
    values = np.array([[1 / 3, -2.5e-8, 119.99999]], np.float32)
    text = expected_text({"a/b": values, "c": values[0]})
    assert text.startswith("a/b 2 1 3\n0.333333343 ") and not text.endswith("\n")
    np.testing.assert_array_equal(np.array(text.split("\n")[1].split(), np.float32), values[0])


def raw_run(engine: Engine, crops: np.ndarray) -> list[np.ndarray]:
    outputs = engine.run({engine.model.inputs[0].name: crops})
    return [outputs[tensor.name] for tensor in engine.model.outputs]


def names_that_lite_reports(folder: Path) -> list[str]:
    """Output names of `model.ms`, in a process without MindSpore, as the tool is one."""
    code = (
        "import sys\n"
        "from synergy import FaceAligner\n"
        "with FaceAligner.load(sys.argv[1], 'lite', 'cpu', 1, 'model.ms') as aligner:\n"
        "    print(*(tensor.name for tensor in aligner.engine.session.outputs), sep='\\n')\n"
    )
    command = [sys.executable, "-c", code, str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def test_lite_passes_and_a_wrong_input_fails(bundles: dict[str, Path], lite_home: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(bundles["mb05"])
    commands = write_lite_benchmark(bundle, tmp_path)
    readme = (tmp_path / "README.txt").read_text()
    assert len(commands) == 2 and all(command in readme for command in commands)
    assert {path.name for path in tmp_path.iterdir()} == {
        "README.txt", "inputs_1.bin", "expected_1.txt", "inputs_4.bin", "expected_4.txt"
    }  # fmt: skip
    names = names_that_lite_reports(bundles["mb05"])
    with FaceAligner.load(bundles["mb05"], "lite", "cpu", 1, "model.ms") as aligner:
        for command in commands:
            options = options_of(command)
            shape = [int(size) for size in options["inputShapes"].split(",")]
            crops = np.frombuffer((tmp_path / options["inDataFile"]).read_bytes(), np.uint8).reshape(shape)
            expected = read_as_the_tool(tmp_path / options["benchmarkDataFile"])
            assert list(expected) == names and (options["modelFile"], options["modelType"]) == (
                "model.ms",
                "MindIR_Lite",
            )
            threshold = float(options["accuracyThreshold"])
            assert bias_percent(expected, raw_run(aligner.engine, crops)) < threshold / 5
            swapped = np.ascontiguousarray(crops[..., ::-1])
            assert bias_percent(expected, raw_run(aligner.engine, swapped)) > 2 * threshold


def test_inputs_are_the_golden_crops(bundles: dict[str, Path], tmp_path: Path) -> None:
    bundle = Bundle.open(bundles["mb05"])
    write_lite_benchmark(bundle, tmp_path)
    golden = read_golden(bundle)
    assert golden is not None
    assert (tmp_path / "inputs_4.bin").read_bytes() == golden.reference.crops[:4].tobytes()
    expected = list(read_as_the_tool(tmp_path / "expected_4.txt").values())
    for tensor, values in zip(bundle.manifest.outputs, expected, strict=True):
        np.testing.assert_array_equal(values, golden.reference.outputs[tensor.name][:4])


def altered(source: Path, folder: Path, **changes: object) -> Bundle:
    """A copy of a bundle with another manifest."""
    shutil.copytree(source, folder)
    manifest = msgspec.structs.replace(Bundle.open(source).manifest, **changes)
    (folder / "manifest.json").write_bytes(encode_manifest(manifest))
    return Bundle.open(folder)


def test_bundles_that_lack_something() -> None:
    builtin = ROOT / "runtime" / "assets" / "builtin"
    with pytest.raises(BundleError, match=r"has no \.ms file: export it with --formats lite"):
        write_lite_benchmark(Bundle.open(builtin), Path("unused"))


def test_older_bundles(bundles: dict[str, Path], tmp_path: Path) -> None:
    manifest = Bundle.open(bundles["mb05"]).manifest
    nameless = tuple(msgspec.structs.replace(each, outputs=()) for each in manifest.artifacts)
    with pytest.raises(BundleError, match=r"lacks the output names of model\.ms: export the bundle again"):
        write_lite_benchmark(altered(bundles["mb05"], tmp_path / "a", artifacts=nameless), tmp_path)
    with pytest.raises(BundleError, match="has no golden values: export it again"):
        write_lite_benchmark(altered(bundles["mb05"], tmp_path / "b", golden=None), tmp_path)


def test_the_command(bundles: dict[str, Path], synergy: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, out, err = synergy("golden", bundles["mb05"], "--lite-benchmark", tmp_path / "new" / "data")
    assert code == 0 and out.count("./benchmark --modelFile=model.ms") == 2, err
    assert (tmp_path / "new" / "data" / "README.txt").is_file()
    code, out, err = synergy("golden", bundles["mb05"])
    assert code == 2 and "--lite-benchmark DIR or" in " ".join(err.split())
    code, out, err = synergy("golden", bundles["mb05"], "--plain", tmp_path / "golden.bin")
    assert code == 0 and "face_landmarks --verify golden.bin" in out, err
    assert (tmp_path / "golden.bin").read_bytes() == encode_golden_file(Bundle.open(bundles["mb05"]))
