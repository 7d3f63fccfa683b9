"""`synergy train` on the command line, with the one-layer backbone of the training loop's tests."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
LOOP_TESTS = ROOT / "tests" / "synergy_model" / "training" / "test_loop.py"
ARCH, COUNT, STEPS = "one_layer", 8, 4
LONG_RUN = 16  # steps: enough to be killed in the middle of
# The command in a process of its own, with that backbone; without a main file, which renderers would import again.
PROGRAM = f"""
import importlib.util, sys
sys.path.insert(0, {str(ROOT)!r})
from synergy import cli
from synergy.synergy_model.backbones import BACKBONES
spec = importlib.util.spec_from_file_location("loop_tests", {str(LOOP_TESTS)!r})
sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
BACKBONES[{ARCH!r}] = module.OneLayer
cli.main()
"""


def one_layer() -> type:
    spec = importlib.util.spec_from_file_location("loop_tests", LOOP_TESTS)
    assert spec is not None and spec.loader is not None
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)  # MindSpore compiles from its source
    spec.loader.exec_module(module)
    return module.OneLayer


@pytest.fixture(scope="module", autouse=True)
def backbone() -> Iterator[None]:
    from synergy.synergy_model.backbones import BACKBONES

    BACKBONES[ARCH] = one_layer()
    yield
    del BACKBONES[ARCH]


Run = Callable[..., tuple[int, str, str]]


def error_line(result: tuple[int, str, str]) -> str:
    code, out, err = result
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 1 and len(lines) == 1 and "Traceback" not in err + out, result
    return lines[0]


class Listed:
    """Data in 3DDFA's layout: pictures, a list and whitened parameters with 40 texture columns, and the other
    files for `--list`; the held-out half has its parameters as .npy.
    """

    def __init__(self, folder: Path) -> None:
        from synergy.synergy_model.training.datasets import synthetic_arrays

        self.folder, arrays, rng = folder, synthetic_arrays(), np.random.default_rng(0)
        self.names = [f"AFW/face_{index}.png" for index in range(COUNT)]
        self.labels = rng.standard_normal((COUNT, 62)).astype(np.float32)
        (folder / "crops" / "AFW").mkdir(parents=True)
        for name in self.names:
            cv2.imwrite(str(folder / "crops" / name), rng.integers(0, 256, (120, 120, 3), np.uint8))
        self.write(self.labels)
        (folder / "held_out.list").write_text("".join(f"{name}\n" for name in self.names[:2]))
        np.save(folder / "held_out.npy", self.labels[:2])
        np.savez(folder / "bases.npz", u_base=arrays.u_base, w_shp_base=arrays.w_shp_base, w_exp_base=arrays.w_exp_base)
        whitening = {"param_mean": arrays.param_mean, "param_std": arrays.param_std}
        (folder / "whitening.pkl").write_bytes(pickle.dumps(whitening, protocol=2))
        np.savez(folder / "whitening.npz", **whitening)

    def write(self, labels: np.ndarray) -> None:
        (self.folder / "train.list").write_text("".join(f"{name}\n" for name in self.names))
        wide = np.hstack([labels, np.ones((len(labels), 40), np.float32)])
        (self.folder / "train.pkl").write_bytes(pickle.dumps(wide, protocol=2))
        np.save(self.folder / "train.npy", labels)

    def arguments(self, run: str, params: str = "train.pkl", whitening: str = "whitening.pkl") -> list[object]:
        files = {
            "--list": "train.list", "--root": "crops", "--params": params, "--whitening": whitening,
            "--morphable": "bases.npz", "--held-out-list": "held_out.list", "--held-out-params": "held_out.npy",
        }  # fmt: skip
        given = [part for option, name in files.items() for part in (option, self.folder / name)]
        return ["train", self.folder / run, *given, *OPTIONS]


OPTIONS = ("--arch", ARCH, "--steps", STEPS, "--batch", 4, "--rate", 0.01, "--warmup", 0, "--validate-every", 2)


@pytest.fixture
def listed(tmp_path: Path) -> Listed:
    return Listed(tmp_path)


def log(run: Path) -> list[dict[str, Any]]:
    """What a run logged, but for how long its steps took."""
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


def test_a_list_is_trained_on_and_resumed_only_with_the_same_options(synergy: Run, listed: Listed) -> None:
    code, out, err = synergy(*listed.arguments("a"))
    assert code == 0, err
    assert (
        f"{listed.folder / 'a' / 'best.ckpt'}: NME " in out
        and "step 1 of 4: loss " in out
        and "step 4 of 4: loss " in out
    )
    assert all((listed.folder / "a" / name).is_file() for name in ("best.ckpt", "state.ckpt", "learning_curve.png"))
    records = log(listed.folder / "a")
    assert [record["step"] for record in records] == [1, 2, 3, 4]
    assert records[-1]["loss"] < records[0]["loss"] and np.isfinite(records[-1]["nme"])
    _other_options_are_refused(synergy, listed)


def _other_options_are_refused(synergy: Run, listed: Listed) -> None:
    """On the folder of the run "a", with each change in the message."""
    before = (listed.folder / "a" / "state.ckpt").read_bytes()
    other = ("--batch", 2, "--official-codes", "--steps", 9)
    line = error_line(synergy(*listed.arguments("a"), *other))
    changed = "(saved -> given: batch_size: 4 -> 2, losses.official_codes: false -> true)"
    assert changed in line and "state.ckpt" in line and "another folder" in line
    assert (listed.folder / "a" / "state.ckpt").read_bytes() == before


def _missing_image(data: Listed) -> None:
    (data.folder / "crops" / data.names[1]).unlink()


def _rows_missing(data: Listed) -> None:
    data.write(data.labels[:-1])


def _columns_missing(data: Listed) -> None:
    data.write(data.labels[:, :10])  # and 40 of texture


def _not_a_number(data: Listed) -> None:
    data.write(np.where(np.arange(COUNT)[:, None] == 2, np.nan, data.labels).astype(np.float32))


def _held_out_not_a_number(data: Listed) -> None:
    np.save(data.folder / "held_out.npy", np.full((2, 62), np.nan, np.float32))


@pytest.mark.parametrize("params", ["train.pkl", "train.npy"])
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_missing_image, ("train.list line 2: no image", "AFW/face_1.png")),
        (_rows_missing, ("{params} has 7 rows but", "train.list 8 lines")),
        (_columns_missing, ("{params} holds (8, ", "62 or more")),
        (_not_a_number, ("{params} row 3 (", "train.list line 3) is not finite")),
        (_held_out_not_a_number, ("held_out.npy row 1 (", "held_out.list line 1) is not finite")),
    ],
)
def test_bad_data_is_refused_before_anything_is_trained(
    synergy: Run, listed: Listed, spoil: Callable[[Listed], None], words: tuple[str, ...], params: str
) -> None:
    spoil(listed)
    line = error_line(synergy(*listed.arguments("run", params)))
    assert all(word.format(params=params) in line for word in words), line
    assert not (listed.folder / "run").exists()


def _start(run: Path) -> subprocess.Popen[str]:
    """Train on synthetic faces in a process, and a process group, of its own."""
    options = ("--synthetic", "16", "--held-out", "4", "--arch", ARCH, "--steps", str(LONG_RUN), "--batch", "4")
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "train", str(run), *options, "--warmup", "5", "--validate-every", "4"],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _wait_until(done: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(0.01)
    return done()


def _group_is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.e2e
def test_a_killed_run_is_completed_by_the_same_command(tmp_path: Path) -> None:
    """That a resumed run has the numbers of an uninterrupted one is tested with the training loop."""
    run = tmp_path / "run"
    first = _start(run)
    assert _wait_until((run / "log.jsonl").exists, 150) and _wait_until(lambda: len(log(run)) > 5, 60)
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    before = log(run)
    assert 5 < len(before) < LONG_RUN
    assert _wait_until(lambda: _group_is_gone(first.pid), 20), "rendering processes outlive the run"
    second = _start(run)
    assert second.communicate()[1].count("error: ") == 0 and second.returncode == 0
    records = log(run)
    assert [record["step"] for record in records] == [*range(1, LONG_RUN + 1)]
    assert records[: len(before)] == before
    assert (run / "best.ckpt").is_file()
