"""`synergy infer` on many pictures, as it is typed: who computes changes nothing, and a stopped run goes on."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from synergy.runtime.commands import infer_pictures as picture_run
from synergy.runtime.commands.infer import ray_address
from synergy.runtime.commands.infer_pictures import PictureRun
from synergy.runtime.inference.journal import Journal
from synergy.runtime.inference.pictures import InferOptions
from synergy.runtime.inference.worker import WorkerSetup
from synergy.runtime.specs import EngineOptions

ROOT = Path(__file__).resolve().parents[3]
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


@pytest.mark.parametrize("options", [[], ["--workers", "2"], ["--workers", "2", "--threads", "1"]])
def test_who_computes_changes_nothing(synergy, arguments: list[str], plain: bytes, tmp_path: Path, options) -> None:
    path = tmp_path / "faces.json"
    code, out, err = synergy(*arguments, *options, "--json", path)
    assert code == 1 and path.read_bytes() == plain
    assert err.count("error: ") == 1 and "005.png is not an image" in err
    assert out.count(": 1 face\n") == PICTURES - 1 and "workers" in out.splitlines()[-1]
    assert list(tmp_path.iterdir()) == [path]


def test_a_cluster_changes_nothing(arguments: list[str], plain: bytes, tmp_path: Path) -> None:
    typed = command(arguments, "--ray", "local", "--workers", "2", "--json", str(tmp_path / "faces.json"))
    done = subprocess.run(typed, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stdout.endswith("model.onnx on onnx, cpu, on Ray\n")
    assert (tmp_path / "faces.json").read_bytes() == plain


def test_bound_threads_stay_in_one_process(
    synergy, arguments: list[str], plain: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound = ("--affinity", ",".join(map(str, sorted(os.sched_getaffinity(0)))))
    monkeypatch.setattr(picture_run, "default_workers", lambda threads=1: 4)
    code, out, _ = synergy(*arguments, "--threads", 2, *bound, "--json", tmp_path / "faces.json")
    assert code == 1 and out.splitlines()[-1] == "model.onnx on onnx, cpu"
    assert (tmp_path / "faces.json").read_bytes() == plain
    for several in (("--workers", 2), ("--ray", "local")):
        code, _, err = synergy(*arguments, *bound, *several)
        assert code == 1 and "not to several workers: add --workers 1" in err


def test_no_more_workers_than_pictures(monkeypatch: pytest.MonkeyPatch, bundles: dict[str, Path]) -> None:
    monkeypatch.setattr(picture_run, "default_workers", lambda threads=1: 64)
    run = PictureRun(WorkerSetup(bundles["mb05"], "onnx"), InferOptions())
    assert [picture_run.plan_workers(run, count)[0] for count in (1, 7, 8, 20, 1000)] == [1, 1, 8, 20, 64]
    most = len(os.sched_getaffinity(0))
    assert picture_run.plan_workers(replace(run, workers=most), 1)[0] == 1
    with pytest.raises(ValueError, match=f"use at most as many workers, not {most + 1}"):
        picture_run.plan_workers(replace(run, workers=most + 1), 1)


def test_a_name_that_is_no_text_is_reported_and_skipped(
    synergy, arguments: list[str], portrait_bgr: np.ndarray, tmp_path: Path
) -> None:
    """Other systems write names in other encodings."""
    odd = tmp_path / "pictures" / os.fsdecode(b"caf\xe9.png")
    odd.parent.mkdir()
    cv2.imwrite(str(odd.with_name("good.png")), portrait_bgr)
    try:
        odd.write_bytes(odd.with_name("good.png").read_bytes())
    except OSError:
        pytest.skip("this file system has no such names")
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"good.png": [[180, 72, 270, 184]]}))
    typed = ["infer", arguments[1], odd.parent, "--engine", "onnx", "--boxes", boxes, "--json", tmp_path / "f.json"]
    for _ in range(2):
        code, out, err = synergy(*typed)
        records = json.loads((tmp_path / "f.json").read_text())["images"]
        assert code == 1 and "good.png: 1 face" in out and "not UTF-8" in err and "rename" in err
        assert [len(record["faces"]) for record in records] == [0, 1] and "caf\\xe9.png" in records[0]["path"]


def test_nothing_left_to_do_starts_nobody(synergy, arguments: list[str], plain: bytes, tmp_path: Path) -> None:
    """A run that was stopped after its last record."""
    good = [*arguments[:2], str(Path(arguments[2]) / "00[0-4].png"), *arguments[3:], "--json", tmp_path / "f.json"]
    whole = Journal.finish
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "finish", lambda self: None)
        assert synergy(*good)[0] == 0
    assert Journal.finish is whole and not (tmp_path / "f.json").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WorkerSetup, "open", None)
        code, out, _ = synergy(*good)
    assert code == 0 and "5 of 5 images were done before" in out
    assert len(json.loads((tmp_path / "f.json").read_text())["images"]) == 5


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
        assert running.returncode == 130 and "run the same command again to continue" in err
    again = subprocess.run(typed, cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 1 and "images were done before" in again.stdout
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
    for option in (["--workers", 2], ["--ray", "auto"]):
        code, _, err = synergy("infer", bundles["mb05"], "clip.mp4", *option)
        assert code == 1 and "do not apply to videos" in err
    assert synergy("infer", bundles["mb05"], "x.jpg", "--workers", 0)[0] == 2


@pytest.mark.parametrize("address", ["auto", "local", "10.0.0.1:6379", "ray://head:10001"])
def testray_addresses(address: str) -> None:
    assert ray_address(address) == address


@pytest.mark.parametrize("words", [("--ray", "p.jpg"), ("--ray", "camera:0"), ("--ray",)])
def test_ray_without_an_address_is_a_usage_error(synergy, tmp_path: Path, words: tuple[str, ...]) -> None:
    code, out, err = synergy("infer", tmp_path, "p.jpg", *words)
    assert code == 2 and out == "" and "--ray" in err


def test_a_bar_on_the_terminal_leaves_stdout_alone(arguments: list[str], tmp_path: Path) -> None:
    """Where stderr is a terminal and stdout is not, the results still go to stdout."""
    main, terminal = pty.openpty()
    few = [*arguments[:2], str(Path(arguments[2]) / "00[0-2].png"), *arguments[3:]]
    with (tmp_path / "out.txt").open("wb") as out:
        done = subprocess.Popen(command(few), cwd=ROOT, stdout=out, stderr=terminal)
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # how Linux says that the other end is closed
        while part := os.read(main, 4096):
            shown += part
    os.close(main)
    assert done.wait() == 0 and b"images" in shown and b"1 face" not in shown
    assert (tmp_path / "out.txt").read_text().count(": 1 face\n") == 3


def test_records_computed_in_something_else_are_made_anew(bundles: dict[str, Path]) -> None:
    """Half a run in float32 and half in bfloat16 would differ by half a pixel, and nothing would say so."""
    run = PictureRun(WorkerSetup(bundles["mb05"]), InferOptions())
    assert picture_run.run_key(run, "fp32") == picture_run.run_key(run, "fp32") != picture_run.run_key(run, "bf16")


def test_a_cluster_computes_in_float32_unless_told(bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its nodes may not have what this machine measures fastest."""
    monkeypatch.setattr(WorkerSetup, "resolved", lambda self, batch: self)
    for asked, compute_precision in (("auto", "fp32"), ("fp32", "fp32"), ("bf16", "bf16")):
        setup = WorkerSetup(bundles["mb05"], options=EngineOptions(asked))
        _, sent = picture_run.plan_workers(PictureRun(setup, InferOptions(), ray="auto"), 3)
        assert sent.options.precision == compute_precision
        _, local = picture_run.plan_workers(PictureRun(setup, InferOptions(), workers=2), 3)
        assert local.options.precision == asked
