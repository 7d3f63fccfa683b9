"""`synergy infer` on videos and cameras, as it is typed."""

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

from synergy.runtime.detection import detector as detection
from synergy.runtime.faces import Detection
from synergy.runtime.media.video import VideoReader

ROOT = Path(__file__).resolve().parents[3]
FACE_BOX = (175.0, 75.0, 275.0, 195.0)  # in the portrait
SIZE_WH = (400, 300)
FRAMES = 30

# The command with a detector that knows where the face is: OpenCV's takes seconds.
STUB = f"""
import sys, numpy as np, cli
from synergy.runtime.detection import detector as detection
class Sitter:
    def detect(self, image_bgr):
        return [detection.Detection(np.array({FACE_BOX}), 0.9)]
detection.make_detector = lambda *_: Sitter()
sys.argv[0] = "synergy"
cli.main()
"""


class Sitter:
    """Knows where the face is, and counts how often it was asked."""

    calls = 0

    def detect(self, image_bgr: np.ndarray) -> list[Detection]:
        Sitter.calls += 1
        return [Detection(np.array(FACE_BOX), 0.9)]


@pytest.fixture
def synergy(synergy, monkeypatch: pytest.MonkeyPatch):
    """With its detector stubbed."""
    monkeypatch.setattr(detection, "make_detector", lambda *_: Sitter())
    Sitter.calls = 0
    return synergy


@pytest.fixture(scope="module")
def clip(portrait_bgr: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", portrait_bgr, FRAMES)


def write_clip(path: Path, portrait_bgr: np.ndarray, frames: int, codec: str = "mp4v") -> Path:
    """The portrait, sliding by a pixel per frame to and fro."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 25.0, SIZE_WH)
    for t in range(frames):
        shift = np.array([[1, 0, 15 - abs(t % 60 - 30)], [0, 1, 0]], np.float64)
        writer.write(cv2.warpAffine(portrait_bgr, shift, SIZE_WH))
    writer.release()
    return path


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def frames_of(path: Path) -> int:
    with VideoReader(path) as reader:
        count = sum(1 for _ in reader.frames())
        reader.check_end()
        return count


def one_line_error(result: tuple[int, str, str], *words: str) -> None:
    code, _, err = result
    assert code == 1 and err.startswith("error: ") and err.count("\n") == 1, result
    assert all(word in err for word in words), err


def test_a_video_gives_an_overlay_and_json_lines(synergy, bundles: dict[str, Path], clip: Path, tmp_path: Path) -> None:
    code, out, err = synergy(
        "infer", bundles["mb05"], clip, "--engine", "onnx", "--out", tmp_path, "--json", tmp_path / "faces.jsonl"
    )
    assert code == 0 and err == "" and f"{clip}: {FRAMES} frames, 1 face, " in out
    found = lines(tmp_path / "faces.jsonl")
    assert [line["frame"] for line in found] == list(range(FRAMES)) and frames_of(tmp_path / "clip.mp4") == FRAMES
    assert [[face["id"] for face in line["faces"]] for line in found] == [[1]] * FRAMES
    nose = np.array([line["faces"][0]["landmarks"][30][0] for line in found])
    assert np.diff(nose).min() > 0 and abs(nose[-1] - nose[5] - 24) < 2  # one pixel per frame
    assert found[5]["time_s"] == pytest.approx(0.2, abs=1e-3) and Sitter.calls == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "faces.jsonl"]


def test_redetect_and_smoothing_are_options(synergy, bundles: dict[str, Path], clip: Path, tmp_path: Path) -> None:
    moved = {}
    for option in ("--smooth", "--no-smooth"):
        file = tmp_path / f"faces{option}.jsonl"
        assert (
            synergy("infer", bundles["mb05"], clip, "--engine", "onnx", option, "--redetect", 6, "--json", file)[0] == 0
        )
        landmarks = np.array([line["faces"][0]["landmarks"] for line in lines(file)])
        moved[option] = np.abs(np.diff(landmarks[:, :, 1], axis=0)).mean()  # it slides sideways only
    assert moved["--smooth"] < 0.8 * moved["--no-smooth"] and Sitter.calls == 2 * 5


def test_several_videos_are_done_though_one_is_bad(
    synergy, bundles: dict[str, Path], clip: Path, portrait_bgr: np.ndarray, tmp_path: Path
) -> None:
    bad, cut = tmp_path / "bad.mp4", write_clip(tmp_path / "cut.avi", portrait_bgr, 20, "MJPG")
    bad.write_text("no video")
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    out = tmp_path / "out"
    code, printed, err = synergy("infer", bundles["mb05"], bad, cut, clip, "--engine", "onnx", "--out", out)
    assert code == 1 and [line[:7] for line in err.splitlines()] == ["error: "] * 2
    assert "bad.mp4 is not a video" in err and "cut.avi ends after" in err and f"clip.mp4: {FRAMES} frames" in printed
    assert sorted(path.name for path in out.iterdir()) == ["clip.mp4", "cut.mp4"]


def test_what_is_wrong_is_one_line(synergy, bundles: dict[str, Path], clip: Path, tmp_path: Path) -> None:
    infer = ("infer", bundles["mb05"], "--engine", "onnx")
    one_line_error(synergy(*infer, "camera:87"), "camera:87 was not found", "connect it")
    one_line_error(synergy(*infer, "camera:front"), "camera:0 for the first one")
    one_line_error(synergy(*infer, tmp_path / "none.mp4"), "none.mp4 does not exist")
    one_line_error(synergy(*infer, clip, "face.jpg"), "images and videos", "separate commands")
    one_line_error(synergy(*infer, clip, "b.mp4", "--json", tmp_path / "x"), "several videos with --json")
    one_line_error(synergy(*infer, clip, "--mesh", "--out", tmp_path), "--mesh", "do not apply to videos")
    (tmp_path / "boxes.json").write_text("[[1, 2, 30, 40]]")
    one_line_error(synergy(*infer, clip, "--boxes", tmp_path / "boxes.json"), "--boxes")
    one_line_error(synergy(*infer, clip, "--json", tmp_path / "boxes.json" / "x"), "cannot write")
    assert synergy(*infer, clip, "--redetect", 0)[0] == 2


@pytest.fixture(scope="module")
def long(portrait_bgr: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("long") / "long.mp4", portrait_bgr, 900)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_whole_files(
    bundles: dict[str, Path], long: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    arguments = ["infer", str(bundles["mb05"]), str(long), "--engine", "onnx", "--out", str(out)]
    command = [sys.executable, "-c", STUB, *arguments, "--json", str(out / "faces.jsonl")]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_for_lines(out, 20, running)
        running.send_signal(number)
        printed, err = running.communicate(timeout=60)
    finally:
        running.kill()
    found = lines(out / "faces.jsonl")
    assert running.returncode == 130 and err == "", (printed, err)
    assert 20 <= len(found) < 900 and [line["frame"] for line in found] == list(range(len(found)))
    assert frames_of(out / "long.mp4") == len(found) and f"long.mp4: {len(found)} frames, 1 face" in printed
    assert sorted(path.name for path in out.iterdir()) == ["faces.jsonl", "long.mp4"]


def wait_for_lines(folder: Path, count: int, running: subprocess.Popen) -> None:
    """Until the file in the making has that many lines."""
    end = time.monotonic() + 120
    while running.poll() is None and time.monotonic() < end:
        if any(path.read_bytes().count(b"\n") >= count for path in folder.glob(".*.jsonl")):
            return
        time.sleep(0.02)
    pytest.fail(f"no {count} frames: {running.communicate() if running.poll() is not None else 'too slow'}")


def test_the_second_ctrl_c_ends_at_once() -> None:
    code = (
        "import os, signal, time\n"
        "from synergy.runtime.terminal.interrupt import interruptible\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it\n"
        "with interruptible() as interrupted:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    assert interrupted.is_set()\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(60)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ, capture_output=True, timeout=50, check=False
    )
    assert b"KeyboardInterrupt" in done.stderr


def test_handlers_are_put_back() -> None:
    from synergy.runtime.terminal.interrupt import interruptible

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with interruptible() as interrupted:
        assert signal.getsignal(signal.SIGINT) is not before[0] and not interrupted.is_set()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
