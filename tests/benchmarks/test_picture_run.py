"""`synergy infer` on many pictures, as it is typed: who computes changes nothing, and a stopped run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.commands.inferring import with_address

ROOT = Path(__file__).resolve().parents[2]
PICTURES = 40


@pytest.fixture(scope="module")
def folder(portrait_bgr: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with a known face each, and one that is damaged."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(PICTURES):
        cv2.imwrite(str(folder / f"{number:03}.png"), cv2.convertScaleAbs(portrait_bgr, alpha=1 - 0.01 * number))
    (folder / "005.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def arguments(folder: Path, bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    boxes = tmp_path_factory.mktemp("boxes") / "boxes.json"
    boxes.write_text(json.dumps({path.name: [[180, 72, 270, 184]] for path in folder.iterdir()}))
    return ["infer", str(bundles["mb05"]), str(folder), "--engine", "onnx", "--boxes", str(boxes)]


@pytest.fixture(scope="module")
def plain(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The report of one process."""
    path = tmp_path_factory.mktemp("plain") / "faces.json"
    done = subprocess.run(command(arguments, "--workers", "1", "--json", str(path)), cwd=ROOT, check=False)
    assert done.returncode == 1  # the damaged one
    return path.read_bytes()


def command(arguments: list[str], *more: str) -> list[str]:
    return [sys.executable, "cli.py", *arguments, *more]


def wait_for_lines(partial: Path, count: int, running: subprocess.Popen) -> None:
    end = time.monotonic() + 60
    while running.poll() is None and time.monotonic() < end:
        if partial.is_file() and partial.read_bytes().count(b"\n") > count:
            return
        time.sleep(0.005)
    pytest.fail(f"no {count} records: {running.communicate()}")


def children(pid: int) -> list[int]:
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for each in lists for child in each.read_text().split()]


@pytest.mark.parametrize("options", [[], ["--workers", "2"], ["--workers", "3", "--threads", "1"]])
def test_who_computes_changes_nothing(synergy, arguments: list[str], plain: bytes, tmp_path: Path, options) -> None:
    path = tmp_path / "faces.json"
    code, out, err = synergy(*arguments, *options, "--json", path)
    assert code == 1 and path.read_bytes() == plain
    assert err.count("error: ") == 1 and "005.png is no picture" in err
    assert out.count(": 1 face\n") == PICTURES - 1 and "workers" in out.splitlines()[-1]
    assert list(tmp_path.iterdir()) == [path]


def test_a_cluster_changes_nothing(arguments: list[str], plain: bytes, tmp_path: Path) -> None:
    typed = command(arguments, "--ray", "local", "--workers", "2", "--json", str(tmp_path / "faces.json"))
    done = subprocess.run(typed, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stdout.endswith("model.onnx on onnx, cpu, on Ray\n")
    assert (tmp_path / "faces.json").read_bytes() == plain


def test_a_few_pictures_need_no_workers(synergy, arguments: list[str], folder: Path) -> None:
    few = [*arguments[:2], str(folder / "001.png"), str(folder / "002.png"), *arguments[3:]]
    code, out, _ = synergy(*few)
    assert code == 0 and out.splitlines()[-1] == "model.onnx on onnx, cpu"


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_goes_on(arguments: list[str], plain: bytes, tmp_path: Path, number, workers: str) -> None:
    path, partial = tmp_path / "faces.json", tmp_path / "faces.json.partial"
    typed = command(arguments, "--workers", workers, "--json", str(path))
    running = subprocess.Popen(typed, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_for_lines(partial, 8, running)
        running.send_signal(number)
        _, err = running.communicate(timeout=60)
    finally:
        running.kill()
    if running.returncode == 1:
        pytest.skip("it was done before the signal came")
    assert not path.exists() and partial.exists()
    if number != signal.SIGKILL:
        assert running.returncode == 130 and "the same command goes on from there" in err
    again = subprocess.run(typed, cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 1 and "pictures were done before" in again.stdout
    assert path.read_bytes() == plain and not partial.exists()


def test_another_command_does_not_go_on(synergy, arguments: list[str], plain: bytes, tmp_path: Path) -> None:
    path = tmp_path / "faces.json"
    (tmp_path / "faces.json.partial").write_text('{"key":"of another command"}\n')
    assert synergy(*arguments, "--json", path)[0] == 1
    assert path.read_bytes() == plain


def test_a_worker_killed_in_the_middle(arguments: list[str], plain: bytes, tmp_path: Path) -> None:
    path = tmp_path / "faces.json"
    typed = command(arguments, "--workers", "2", "--json", str(path))
    running = subprocess.Popen(typed, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_for_lines(tmp_path / "faces.json.partial", 2, running)
        os.kill(children(running.pid)[0], signal.SIGKILL)
        running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 1 and path.read_bytes() == plain


def test_workers_do_not_outlive_the_command(arguments: list[str], tmp_path: Path) -> None:
    path = tmp_path / "faces.json"
    running = subprocess.Popen(
        command(arguments, "--workers", "2", "--json", str(path)),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for_lines(tmp_path / "faces.json.partial", 2, running)
    workers = children(running.pid)
    running.kill()
    running.wait()
    end = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < end:
        time.sleep(0.05)
    assert len(workers) == 2 and not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_options_that_are_not_for_videos(synergy, bundles: dict[str, Path]) -> None:
    for option in (["--workers", 2], ["--ray"]):
        code, _, err = synergy("infer", bundles["mb05"], "clip.mp4", *option)
        assert code == 1 and "are for pictures, not for videos" in err
    assert synergy("infer", bundles["mb05"], "x.jpg", "--workers", 0)[0] == 2


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("b p --ray", "b p --ray auto"),
        ("b --ray p", "b --ray auto p"),
        ("b --ray camera:0", "b --ray auto camera:0"),
        ("b p --ray --json f", "b p --ray auto --json f"),
        ("b p --ray auto --json f", "b p --ray auto --json f"),
        ("b p --ray local", "b p --ray local"),
        ("b p --ray 10.0.0.1:6379", "b p --ray 10.0.0.1:6379"),
        ("b --ray ray://head:10001 p", "b --ray ray://head:10001 p"),
        ("b p --ray=10.0.0.1:6379", "b p --ray=10.0.0.1:6379"),
        ("b p", "b p"),
    ],
)
def test_the_address_may_be_left_out(typed: str, read: str) -> None:
    assert with_address(typed.split()) == read.split()
