"""The command line: results, exit codes, and one line for every error."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.main import get_command

from synergy import __version__, cli
from synergy.benchmarks import demo
from synergy.benchmarks.parity import gate
from synergy.benchmarks.speed import engine_process
from synergy.export.bundle import ParityResult
from synergy.runtime.bundle import BUILTIN
from synergy.runtime.diagnostics import doctor
from synergy.runtime.diagnostics.doctor import CheckResult, DoctorReport
from synergy.synergy_model.checkpoints import checkpoint
from synergy.synergy_model.checkpoints.checkpoint import Checkpoint

ROOT = Path(__file__).resolve().parent.parent


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The program, its groups and its commands, each with the words that select it."""
    yield words, command
    for name, each in getattr(command, "commands", {}).items():
        yield from commands(each, (*words, name))


COMMANDS = dict(commands(get_command(cli.app)))


def one_line_error(result: tuple[int, str, str], *words: str) -> None:
    code, out, err = result
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 1 and len(lines) == 1 and "Traceback" not in err + out, result
    assert all(word in lines[0] for word in words), lines[0]


@pytest.fixture(scope="module")
def emma_boxes(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    boxes = np.load(shared / "reference" / "real_emma.npz")["box"][:, :4].tolist()
    path = tmp_path_factory.mktemp("boxes") / "boxes.json"
    path.write_text(json.dumps({"emma.jpg": boxes}))
    return path


def test_help_lists_the_commands(synergy) -> None:
    code, out, _ = synergy("--help")
    assert code == 0
    names = "convert export inspect infer parity verify golden eval bench report train aflw2000 doctor demo lite"
    for name in names.split():
        assert name in out


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = "import sys, cli; sys.exit(bool({'cv2', 'mindspore', 'onnxruntime', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("program", [["cli.py"], ["-m", "synergy"]], ids=" ".join)
def test_version_of_a_source_tree(program: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, *program, "--version"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"synergy {__version__}\n")


def test_no_command_prints_the_help(synergy) -> None:
    code, out, err = synergy()
    assert code == 2 and "COMMAND" in out + err


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_page(synergy, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    code, page, err = synergy(*command, "-h")
    assert code == 0 and err == "" and page == synergy(*command, "--help")[1]
    assert max(map(len, page.splitlines())) <= 100
    for parameter in COMMANDS[command].params:
        assert getattr(parameter, "help", None), f"{parameter.name} has no help text"
    names = {option for parameter in COMMANDS[command].params for option in parameter.opts}
    if not hasattr(COMMANDS[command], "commands"):
        assert {"-q", "--quiet", "--debug"} <= names


def test_completion_lists_the_commands() -> None:
    environment = {**os.environ, "_SYNERGY_COMPLETE": "complete_bash", "COMP_WORDS": "synergy in", "COMP_CWORD": "1"}
    code = "import sys; sys.argv[0] = 'synergy'; from synergy.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert set(done.stdout.split()) == {"inspect", "infer"}, done


def test_debug_shows_the_traceback(synergy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["inspect", str(tmp_path)]
    for words in (["--debug", *command], [*command, "--debug"]):
        with pytest.raises(ValueError):
            synergy(*words)
    one_line_error(synergy(*command), "synergy export")
    monkeypatch.setenv("SYNERGY_DEBUG", "1")
    with pytest.raises(ValueError):
        synergy(*command)


class TestOutput:
    """`--json -` and `--quiet`, in a process of their own: native libraries write to the file descriptor."""

    @staticmethod
    def run(*words: object) -> tuple[int, str, str]:
        command = [sys.executable, "cli.py", *map(str, words)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def test_json_on_stdout(self, tiny_bundle: Path) -> None:
        code, out, err = self.run("inspect", tiny_bundle, "--json", "-")
        assert code == 0 and json.loads(out)["bundle"]["arch"] == "tiny" and "network" in err

    def test_json_and_quiet(self, tiny_bundle: Path) -> None:
        code, out, err = self.run("inspect", tiny_bundle, "--json", "-", "-q")
        assert code == 0 and json.loads(out)["models"] and err == ""

    def test_in_process_too(self, synergy, tiny_bundle: Path) -> None:
        code, out, err = synergy("inspect", tiny_bundle, "--json", "-")
        assert code == 0 and json.loads(out)["models"] and "network" in err
        assert synergy("inspect", tiny_bundle, "--quiet") == (0, "", "")

    def test_quiet_shows_errors(self, tmp_path: Path) -> None:
        one_line_error(self.run("inspect", tmp_path, "--quiet"), "synergy export")

    def test_pictures(self, tiny_bundle: Path, tmp_path: Path) -> None:
        photo, boxes = ROOT / "benchmarks" / "assets" / "astronaut.jpg", tmp_path / "boxes.json"
        boxes.write_text(json.dumps({"astronaut.jpg": [[180, 72, 270, 184]]}))
        infer = ("infer", tiny_bundle, photo, "--engine", "onnx", "--boxes", boxes)
        code, out, err = self.run(*infer, "--json", "-")
        (image,) = json.loads(out)["images"]
        assert code == 0 and len(image["faces"]) == 1 and "1 face" in err
        assert self.run(*infer, "--quiet") == (0, "", "")
        one_line_error(self.run(*infer, "--out", tmp_path, "--draw", "axes,mesh"), "has no dense basis")

    def test_native_output_is_no_part_of_the_report(self) -> None:
        code = (
            "import os; from synergy.runtime.terminal.output import command_output, write_report\n"
            "from synergy.runtime.terminal.paths import STDOUT\nwith command_output(STDOUT):\n"
            "    os.write(1, b'native'); print('python'); write_report('report')\n"
            "with command_output(None, quiet=True):\n    import logging; logging.getLogger('synergy.x').warning('no')\n"
            "print('after')"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.stdout, sorted(done.stderr.split())) == ("reportafter\n", ["nativepython"]), done


class TestConvert:
    def test_official_checkpoint(self, synergy, shared: Path, tmp_path: Path) -> None:
        source = shared / "checkpoints" / "reference" / "synergynet_mobilenet_v2.pth.tar"
        code, out, _ = synergy("convert", source, tmp_path / "a.ckpt")
        assert code == 0 and "mobilenet_v2" in out and (tmp_path / "a.ckpt").is_file()

    def test_wrong_path(self, synergy, tmp_path: Path) -> None:
        one_line_error(synergy("convert", tmp_path / "none.pth", tmp_path / "a.ckpt"), "none.pth")

    def test_truncated(self, synergy, shared: Path, tmp_path: Path) -> None:
        cut = tmp_path / "cut.pth"
        cut.write_bytes((shared / "checkpoints" / "real" / "mb05_120x120.pth").read_bytes()[:1_000_000])
        one_line_error(synergy("convert", cut, tmp_path / "a.ckpt"), "cut.pth", "truncated")
        assert not (tmp_path / "a.ckpt").exists()

    def test_what_the_file_lacks_is_named_with_the_option(self, synergy, shared: Path, tmp_path: Path) -> None:
        source = shared / "checkpoints" / "real" / "mb05_120x120.pth"
        one_line_error(synergy("convert", source, tmp_path / "a.ckpt"), "--whitening")


class TestExport:
    def test_not_a_checkpoint(self, synergy, tmp_path: Path) -> None:
        (tmp_path / "text.ckpt").write_text("no weights here")
        one_line_error(synergy("export", tmp_path / "text.ckpt", tmp_path / "b"), "text.ckpt")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["text.ckpt"]

    def test_unknown_format(self, synergy, checkpoints, tmp_path: Path) -> None:
        one_line_error(synergy("export", checkpoints["mb05"], tmp_path / "b", "--formats", "tflite"), "tflite")

    @pytest.mark.parametrize("batch", ["many", "-1", ""])
    def test_bad_batch_is_a_usage_error(self, synergy, checkpoints, tmp_path: Path, batch: str) -> None:
        code, _, err = synergy("export", checkpoints["mb05"], tmp_path / "b", f"--batch={batch}")
        assert code == 2 and "--batch" in err

    def test_existing_bundle_is_kept(self, synergy, checkpoints, bundles) -> None:
        before = (bundles["mb05"] / "manifest.json").read_bytes()
        one_line_error(synergy("export", checkpoints["mb05"], bundles["mb05"]), "exists", "--force")
        assert (bundles["mb05"] / "manifest.json").read_bytes() == before

    def test_without_lite_the_rest_is_made_and_said(
        self, synergy, checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The parity check takes most of an export's time, and other tests run it."""
        monkeypatch.setenv("SYNERGY_DATA_HOME", str(tmp_path / "empty"))
        monkeypatch.setattr(gate, "gate", lambda *_, **__: ParityResult(b'{"pass": false, "checks": []}'))
        code, _out, err = synergy("export", checkpoints["mb05"], tmp_path / "b")
        assert code == 0 and "synergy lite install" in err, err
        assert (tmp_path / "b" / "model.onnx").is_file() and not (tmp_path / "b" / "model.ms").exists()


class TestInfer:
    @pytest.mark.parametrize("engine", ["lite", "onnx", "openvino", "mindspore"])
    def test_three_faces_with_boxes_given(self, synergy, shared, bundles, emma_boxes, tmp_path, engine) -> None:
        photo = shared / "images" / "emma.jpg"
        result = synergy(
            "infer", bundles["mb05"], photo, "--engine", engine, "--boxes", emma_boxes,
            "--out", tmp_path, "--json", tmp_path / "faces.json", "--angles", "official",
        )  # fmt: skip
        assert result[0] == 0 and "3 faces" in result[1], result
        image = json.loads((tmp_path / "faces.json").read_text())["images"][0]
        reference = np.load(shared / "reference" / "real_emma.npz")
        assert (image["path"], image["width"], image["height"], image["error"]) == (str(photo), 3913, 1901, None)
        for face, landmarks, pose in zip(
            image["faces"], reference["landmarks"], reference["pose_yaw_pitch_roll_deg"], strict=True
        ):
            assert np.abs(np.array(face["landmarks"]) - landmarks.T).max() < 0.5  # the JPEG is decoded anew here
            assert np.abs(np.array([face["pose"][k] for k in ("yaw", "pitch", "roll")]) - pose).max() < 0.2
            assert len(face["params"]) == 62 and len(face["box_xyxy"]) == 4 and face["score"] == 1.0
        overlay = cv2.imread(str(tmp_path / "emma.jpg"))
        assert overlay.shape == (1901, 3913, 3)

    def test_detector_finds_the_portrait(self, synergy, bundles, portrait_bgr, tmp_path: Path) -> None:
        cv2.imwrite(str(tmp_path / "portrait.png"), portrait_bgr)
        code, out, _ = synergy("infer", bundles["mb05"], tmp_path / "portrait.png")
        assert code == 0 and "1 face" in out

    def test_one_bad_picture_is_reported_and_the_rest_done(self, synergy, bundles, portrait_bgr, tmp_path) -> None:
        (tmp_path / "bad.jpg").write_text("this is a text file")
        cv2.imwrite(str(tmp_path / "good.png"), portrait_bgr)
        out = tmp_path / "out"
        result = synergy("infer", bundles["mb05"], tmp_path, "--out", out, "--json", out / "faces.json")
        one_line_error(result, "bad.jpg")
        images = json.loads((out / "faces.json").read_text())["images"]
        assert [bool(image["error"]) for image in images] == [True, False] and (out / "good.png").is_file()

    def test_altered_artifact_is_refused_by_its_hash(self, synergy, bundles, tmp_path: Path) -> None:
        altered = shutil.copytree(bundles["mb05"], tmp_path / "altered")
        data = bytearray((altered / "model.ms").read_bytes())
        data[1000:1200] = bytes(255 - byte for byte in data[1000:1200])
        (altered / "model.ms").write_bytes(data)
        one_line_error(synergy("infer", altered, "x.jpg", "--engine", "lite"), "model.ms", "sha256")

    @pytest.mark.parametrize("device", ["ascend", "gpu:0"])
    @pytest.mark.parametrize("engine", ["lite", "onnx", "openvino"])
    def test_absent_device_says_why(self, synergy, bundles, engine: str, device: str) -> None:
        one_line_error(
            synergy("infer", bundles["mb05"], "x.jpg", "--engine", engine, "--device", device), "--device cpu"
        )

    def test_unknown_device(self, synergy, bundles) -> None:
        one_line_error(synergy("infer", bundles["mb05"], "x.jpg", "--device", "tpu"), "cpu, gpu[:N] or ascend[:N]")

    def test_no_such_bundle(self, synergy, tmp_path: Path) -> None:
        one_line_error(synergy("infer", tmp_path / "none", "x.jpg"), "synergy export")

    def test_mesh_without_a_dense_basis(self, synergy, bundles, tmp_path: Path) -> None:
        one_line_error(synergy("infer", bundles["mb05"], "x.jpg", "--mesh", "--out", tmp_path), "--morphable")

    def test_meshes_of_the_built_in_bundle(self, synergy, tmp_path: Path) -> None:
        photo = ROOT / "benchmarks" / "assets" / "astronaut.jpg"
        assert synergy("infer", photo, "--engine", "onnx", "--out", tmp_path, "--mesh")[0] == 0
        with np.load(BUILTIN / "morphable.npz") as dense:
            vertices, triangles = len(dense["u"]) // 3, len(dense["triangles"])
        lines = (tmp_path / "astronaut_face0.obj").read_text().splitlines()
        assert sum(line.startswith("v ") for line in lines) == vertices > 1000
        assert sum(line.startswith("f ") for line in lines) == triangles > 1000

    def test_mesh_without_out_is_a_usage_error(self, synergy, bundles) -> None:
        assert synergy("infer", bundles["mb05"], "x.jpg", "--mesh")[0] == 2

    def test_unknown_engine_is_a_usage_error(self, synergy, bundles) -> None:
        code, _, err = synergy("infer", bundles["mb05"], "x.jpg", "--engine", "tflite")
        assert code == 2 and "lite" in err


def with_formats(bundle: Path, target: Path, *formats: str) -> Path:
    """A copy of a bundle that lists only the artifacts of some formats."""
    content = json.loads((shutil.copytree(bundle, target) / "manifest.json").read_text())
    content["artifacts"] = [each for each in content["artifacts"] if each["format"] in formats]
    (target / "manifest.json").write_text(json.dumps(content))
    return target


@pytest.fixture(scope="module")
def load_once() -> Callable[[Path], Checkpoint]:
    """Loads each checkpoint once: its Cell is compiled, for seconds, in every object anew."""
    return functools.cache(checkpoint.load_checkpoint)


class TestParity:
    @pytest.fixture(autouse=True)
    def compiled_once(self, load_once: Callable[[Path], Checkpoint], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(checkpoint, "load_checkpoint", load_once)

    def test_passes_again_and_writes_the_contract(self, synergy, bundles, checkpoints, tmp_path: Path) -> None:
        """Two artifacts; all of them were compared when the bundle of the tests was made."""
        report, bundle = tmp_path / "parity.json", with_formats(bundles["mb05"], tmp_path / "b", "onnx", "ms")
        code, out, _ = synergy("parity", bundle, "--ckpt", checkpoints["mb05"], "--json", report)
        content = json.loads(report.read_text())
        assert code == 0 and content["pass"] is True and "passed" in out
        keys = {"artifact", "engine", "output", "max_abs", "spread", "tolerance", "pass"}
        assert all(set(check) == keys for check in content["checks"])
        assert {check["artifact"] for check in content["checks"]} == {
            "model.onnx", "model.ms", "morphable.npz", "golden.npz"
        }  # fmt: skip

    def test_other_checkpoint_fails(self, synergy, bundles, checkpoints, tmp_path: Path) -> None:
        bundle = with_formats(bundles["mobilenet_v2"], tmp_path / "b", "onnx")
        code, out, _ = synergy("parity", bundle, "--ckpt", checkpoints["mb05"])
        assert code == 1 and "FAIL" in out and "must not be used" in out


class TestBench:
    def test_rows_have_the_contracts_keys(self, synergy, bundles, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.setattr(engine_process, "COLD_STARTS", 1)
        report = tmp_path / "bench.json"
        code, out, _ = synergy(
            "bench", bundles["mb05"], "--engine", "lite", "--engine", "onnx",
            "--threads", 1, "--batch", 1, "--rounds", 3, "--json", report,
        )  # fmt: skip
        content = json.loads(report.read_text())
        keys = {
            "engine", "artifact", "device", "threads", "batch", "median_ms", "p95_ms", "fps",
            "cold_start_s", "rss_mb", "ratio_to_onnxruntime",
        }  # fmt: skip
        assert code == 0 and "model.ms" in out and content["host"]
        assert [row["engine"] for row in content["rows"]] == ["lite", "onnx"]
        assert all(set(row) == keys and row["median_ms"] > 0 for row in content["rows"])

    def test_zero_threads(self, synergy, bundles) -> None:
        one_line_error(synergy("bench", bundles["mb05"], "--threads", 0), "threads")


@pytest.mark.e2e
def test_demo_runs_every_step(synergy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ONNX only, and fewer faces, samples and starts than the command has; every step and image."""
    run, formats = demo.run_demo, []

    def quick(out: Path, given: tuple[str, ...], log: Callable[[str], None]) -> demo.DemoReport:
        formats.extend(given)
        return run(out, ("onnx",), log, faces=16, rounds=2)

    monkeypatch.setattr(demo, "run_demo", quick)
    monkeypatch.setattr(engine_process, "COLD_STARTS", 1)
    code, out, _ = synergy("demo", "--out", tmp_path, "--json", tmp_path / "demo.json")
    content = json.loads((tmp_path / "demo.json").read_text())
    assert code == 0 and content["parity"]["pass"] and content["bench"]["rows"]
    assert (Path(content["bundle"]) / "model.onnx").is_file() and {"mindir", "onnx"} <= set(formats)
    for picture in content["pictures"]:
        assert cv2.imread(picture) is not None and picture in out


def test_doctor_json(synergy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """tests/runtime/diagnostics/test_doctor.py runs the checks themselves."""
    checks = (CheckResult("python", True, "3.11"), CheckResult("engine", False, "none", "install one"))
    monkeypatch.setattr(doctor, "run_doctor", lambda: DoctorReport(checks))
    code, out, _ = synergy("doctor", "--json")
    assert synergy("doctor", "--json", tmp_path / "doctor.json")[0] == code == 1
    for content in (json.loads(out), json.loads((tmp_path / "doctor.json").read_text())):
        assert content["checks"] == [
            {"name": "python", "ok": True, "detail": "3.11", "fix": ""},
            {"name": "engine", "ok": False, "detail": "none", "fix": "install one"},
        ]


def test_lite_install_twice(synergy, lite_home: Path) -> None:
    code, out, _ = synergy("lite", "install")
    assert code == 0 and str(lite_home) in out


def test_lite_install_without_a_compiler(synergy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("SYNERGY_DATA_HOME", str(tmp_path / "data"))
    one_line_error(synergy("lite", "install"), "g++")
