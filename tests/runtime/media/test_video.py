"""Reading and writing videos: frame times, complete files after interruptions, one-line errors."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from synergy.runtime.errors import EngineError, MediaError
from synergy.runtime.faces import Face, Pose
from synergy.runtime.inference import videos as video_faces
from synergy.runtime.inference.records import FrameRecord
from synergy.runtime.inference.videos import VideoOptions, infer_video, video_outputs
from synergy.runtime.media import video as module
from synergy.runtime.media.mp4_times import set_frame_times
from synergy.runtime.media.video import Camera, VideoReader, VideoWriter, split_inputs
from synergy.runtime.tracking.tracker import TrackedFace, TrackOptions

ROOT = Path(__file__).resolve().parents[3]


def picture(number: int, width: int = 160, height: int = 120) -> np.ndarray:
    """Plain, of a grey that survives compression and tells the frame's number."""
    return np.full((height, width, 3), 40 + 4 * (number % 50), np.uint8)


def write_clip(path: Path, frames: int = 20, fps: float = 20.0, codec: str = "mp4v", noise: int = 0) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (160, 120))
    random = np.random.default_rng(0)
    for number in range(frames):
        writer.write((picture(number) + random.integers(0, noise + 1, (120, 160, 3))).astype(np.uint8))
    writer.release()
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4")


def count(path: Path) -> int:
    with VideoReader(path) as reader:
        return sum(1 for _ in reader.frames())


# --- which input is what ---


@pytest.mark.parametrize(
    ("inputs", "pictures", "videos"),
    [
        (["a.jpg", "b.png"], ["a.jpg", "b.png"], []),
        (["a.mp4", "b.MOV"], [], [Path("a.mp4"), Path("b.MOV")]),
        (["camera:0"], [], [Camera(0)]),
        (["camera:12", "a.avi", "camera:12"], [], [Path("a.avi"), Camera(12)]),
        (["./camera:0"], ["camera:0"], []),
        (["a.gif", "b.webm"], ["a.gif"], [Path("b.webm")]),
    ],
)
def test_inputs_are_split_into_images_and_videos(inputs: list[str], pictures: list[str], videos: list) -> None:
    assert split_inputs(inputs) == ([Path(name) for name in pictures], videos)


def test_patterns_match_videos(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.mp4", "c.jpg"):
        (tmp_path / name).touch()
    assert split_inputs([f"{tmp_path}/*"]) == ([tmp_path / "c.jpg"], [tmp_path / "a.mp4", tmp_path / "b.mp4"])


@pytest.mark.parametrize("text", ["camera:", "camera:front", "camera:-1", "camera:1.5", "camera:²", "camera:1234"])
def test_a_camera_needs_a_number(text: str) -> None:
    with pytest.raises(MediaError, match=f"camera:0 for the first one, or ./{text} for a file"):
        split_inputs([text])


def test_no_inputs_are_an_error() -> None:
    with pytest.raises(MediaError, match="no images were given"):
        split_inputs([])


# --- reading ---


def test_frames_have_numbers_and_times(clip: Path) -> None:
    with VideoReader(clip) as reader:
        assert reader.fps == 20 and reader.frame_count == 20
        frames = list(reader.frames())
        reader.check_end()
    assert [frame.index for frame in frames] == list(range(20))
    assert np.allclose([frame.time_s for frame in frames], np.arange(20) / 20, atol=1e-3)
    for number, frame in enumerate(frames):
        assert frame.image_bgr.shape == (120, 160, 3) and abs(int(frame.image_bgr[60, 80, 1]) - 40 - 4 * number) <= 3


def test_times_increase_without_timestamps_in_the_source(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VideoReader, "capture_clock_s", lambda self, start_s: 0.0)
    with VideoReader(clip) as reader:
        assert np.allclose([frame.time_s for frame in reader.frames()], np.arange(20) / 20)


@pytest.mark.parametrize("fps", [0.0, 1000.0, float("nan")])
def test_an_invalid_frame_rate_is_replaced_by_thirty(clip: Path, monkeypatch: pytest.MonkeyPatch, fps: float) -> None:
    monkeypatch.setattr(module, "open_capture", lambda source: Capture(fps=fps))
    with VideoReader(clip) as reader:
        assert reader.fps == 30 and reader.frame_count is None


class Capture:
    """Stands for cv2.VideoCapture with three frames."""

    def __init__(self, fps: float = 25.0, count: float = -1.0, frames: int = 3) -> None:
        self.properties = {cv2.CAP_PROP_FPS: fps, cv2.CAP_PROP_FRAME_COUNT: count, cv2.CAP_PROP_POS_MSEC: 0.0}
        self.left = frames

    def get(self, name: int) -> float:
        return self.properties[name]

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        return (True, picture(0)) if self.left >= 0 else (False, None)

    def release(self) -> None:
        pass


def test_a_camera_uses_the_clock_and_reports_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "open_capture", lambda source: Capture(count=100.0))
    with VideoReader(Camera(3)) as reader:
        assert reader.frame_count is None
        times = [frame.time_s for frame in reader.frames()]
        assert times == sorted(set(times)) and 0 <= times[0] < times[-1] < 1
        with pytest.raises(MediaError, match="camera:3 stopped after 3 frames: connect it"):
            reader.check_end()


@pytest.mark.parametrize("codec", ["MJPG", "XVID"])
def test_a_truncated_file_gives_its_frames_and_an_error(tmp_path: Path, codec: str) -> None:
    path = write_clip(tmp_path / "clip.avi", frames=40, codec=codec, noise=60)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with VideoReader(path) as reader:
        read = len(list(reader.frames()))
        assert 10 < read < 36
        with pytest.raises(MediaError, match=f"clip.avi ends after {read} of 40 frames: copy it again"):
            reader.check_end()


@pytest.mark.parametrize(("suffix", "codec"), [(".mkv", "mp4v"), (".flv", "FLV1"), (".ts", "mpg2")])
def test_an_estimated_number_of_frames_is_no_error(tmp_path: Path, suffix: str, codec: str) -> None:
    """Where sound is longer than the pictures, times start late, or the frame rate is variable."""
    path = write_clip(tmp_path / f"clip{suffix}", frames=40, codec=codec, noise=20)
    assert split_inputs([str(path)]) == ([], [path])
    with VideoReader(path) as reader:
        reader.frame_count = 120
        assert len(list(reader.frames())) == 40
        reader.check_end()
    if suffix != ".ts":  # its duration is that of the rest
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with VideoReader(path) as reader:
            read = len(list(reader.frames()))
            with pytest.raises(MediaError, match=rf"is incomplete and ends after {read} frames: copy it again"):
                reader.check_end()


def test_frames_with_a_variable_rate_keep_their_times(tmp_path: Path) -> None:
    path, times = tmp_path / "clip.mp4", [0.0, 0.1, 0.15, 0.9, 1.0, 3.5]
    with VideoWriter(path, 10.0) as writer:
        for number, time_s in enumerate(times):
            writer.write(picture(number), time_s + 5)
    with VideoReader(path) as reader:
        frames = list(reader.frames())
        reader.frame_count = 36  # as an estimate from the duration and the highest rate
        reader.fps = 10.0
        reader.check_end()
    np.testing.assert_allclose([frame.time_s for frame in frames], times, atol=1e-3)
    assert [int(frame.image_bgr.mean()) // 4 - 10 for frame in frames] == pytest.approx(range(6), abs=1)


def test_times_of_another_file_are_not_changed(clip: Path, tmp_path: Path) -> None:
    data = clip.read_bytes()
    for wrong in (b"", b"no video at all", data[: len(data) // 2], bytes(8) + data):
        (tmp_path / "a.mp4").write_bytes(wrong)
        with pytest.raises(ValueError, match="the video file has"):
            set_frame_times(tmp_path / "a.mp4", [0.0, 1.0], 1.0)
        assert (tmp_path / "a.mp4").read_bytes() == wrong


def no_file(path: Path) -> None:
    pass


def folder(path: Path) -> None:
    path.mkdir()


def text(path: Path) -> None:
    path.write_text("no video\n" * 1000)


def empty(path: Path) -> None:
    path.touch()


def without_index(path: Path) -> None:
    write_clip(path)
    path.write_bytes(path.read_bytes()[:-600])


def without_frames(path: Path) -> None:
    write_clip(path.with_name("clip.avi"), frames=3, codec="MJPG")
    data = path.with_name("clip.avi").read_bytes()
    path.write_bytes(data[: data.index(b"movi") + 4])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (no_file, "does not exist"),
        (folder, "is not a regular file"),
        (text, "is not a video but a text file: give another file"),
        (empty, "is not a video but empty: copy or download it again"),
        (without_index, "is not a video that OpenCV can read, or is damaged: copy it again, or convert it"),
        (without_frames, "no frame that can be read|no video that OpenCV can read"),
    ],
)
def test_an_unreadable_file_is_one_line_without_warnings(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], make: Callable[[Path], None], words: str
) -> None:
    make(tmp_path / "bad.mp4")
    with pytest.raises(MediaError, match=f"bad.mp4 .*({words})") as error:
        VideoReader(tmp_path / "bad.mp4")
    assert "\n" not in str(error.value) and capfd.readouterr() == ("", "")


def test_a_video_without_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "open_capture", lambda source: Capture(frames=0))
    with pytest.raises(MediaError, match=r"x\.mp4 has no frame that can be read: copy it again"):
        VideoReader(Path("x.mp4"))


def test_a_missing_camera_is_one_line_without_warnings(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MediaError, match="camera:87 was not found: connect it"):
        VideoReader(Camera(87))
    assert capfd.readouterr() == ("", "")


def test_close_can_be_called_twice(clip: Path) -> None:
    reader = VideoReader(clip)
    reader.close()
    reader.close()


# --- writing ---


@pytest.mark.parametrize(("width", "height"), [(160, 120), (161, 121), (2, 2)])
def test_a_written_video_has_all_frames(tmp_path: Path, width: int, height: int) -> None:
    with VideoWriter(tmp_path / "out.mp4", 25.0) as writer:
        for number in range(12):
            writer.write(picture(number, width, height))
    with VideoReader(tmp_path / "out.mp4") as reader:
        frames = list(reader.frames())
        assert len(frames) == 12 and reader.fps == 25
        assert frames[0].image_bgr.shape == (height // 2 * 2, width // 2 * 2, 3)
    writer.close()


def test_frames_of_one_video_have_one_size(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", 25.0) as writer:
        writer.write(picture(0))
        with pytest.raises(MediaError, match="the frame size changes"):
            writer.write(picture(0, 80, 60))


def test_a_picture_too_small_for_video(tmp_path: Path) -> None:
    with (
        VideoWriter(tmp_path / "out.mp4", 25.0) as writer,
        pytest.raises(MediaError, match="cannot write a video of 1x1 pixels"),
    ):
        writer.write(picture(0, 1, 1))


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from synergy.runtime.files import whole_file
from synergy.runtime.media.video import VideoWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
random = np.random.default_rng(0)
with whole_file(Path(sys.argv[1]), stoppable=True) as place, VideoWriter(place, 25.0) as writer:
    for _ in range(20):
        writer.write(random.integers(0, 255, (240, 320, 3), np.uint8))
"""


def test_a_full_disk_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "out.mp4")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "is the disk full?" in done.stderr and not list(tmp_path.iterdir())


# --- both ends together ---


class Tracker:
    """Stands for FaceTracker: a face in every frame, but for the third, which has none."""

    seen: list[float]

    def __init__(self, aligner: object, options: TrackOptions) -> None:
        Tracker.seen = []

    def track(self, frame_bgr: np.ndarray, time_s: float) -> list[TrackedFace]:
        self.seen.append(time_s)
        if isinstance(fails_at, int) and len(self.seen) > fails_at:
            raise EngineError("the engine broke")
        points = np.random.default_rng(0).uniform(40, 90, (68, 3)).astype(np.float32)
        box, params = np.array([40.0, 40, 90, 90]), np.zeros(62, np.float32)
        face = Face(points, Pose(10, 5, 0), np.eye(3), box, box, 0.75, params)
        return [] if len(self.seen) == 3 else [TrackedFace(**vars(face), id=7)]


fails_at: int | None = None


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(video_faces, "FaceTracker", Tracker)
    monkeypatch.setattr(sys.modules[__name__], "fails_at", None)
    yield


def options(tmp_path: Path) -> VideoOptions:
    return VideoOptions(tmp_path / "out" / "clip.mp4", tmp_path / "out" / "clip.jsonl")


def records(path: Path) -> list[FrameRecord]:
    return [msgspec.json.decode(line, type=FrameRecord) for line in path.read_bytes().splitlines()]


def test_a_video_gives_an_overlay_and_a_line_per_frame(stub: None, clip: Path, tmp_path: Path) -> None:
    wanted = options(tmp_path)
    with VideoReader(clip) as reader:
        found = list(infer_video(None, reader, wanted))  # type: ignore[arg-type]
    assert records(wanted.json_lines) == found and Tracker.seen == [record.time_s for record in found]
    first, third = (json.loads(wanted.json_lines.read_text().splitlines()[i]) for i in (0, 2))
    assert set(first) == {"frame", "time_s", "faces"} and third == {"frame": 2, "time_s": 0.1, "faces": []}
    assert set(first["faces"][0]) == {"id", "box_xyxy", "score", "landmarks", "pose", "params"}
    assert first["faces"][0]["id"] == 7 and np.shape(first["faces"][0]["landmarks"]) == (68, 3)
    with VideoReader(wanted.overlay) as reader:
        drawn = [frame.image_bgr for frame in reader.frames()]
        assert len(drawn) == 20 and reader.fps == 20
    assert np.ptp(drawn[0][40:90, 40:90]) > 100 and np.ptp(drawn[2]) < 20
    assert {path.name for path in wanted.overlay.parent.iterdir()} == {"clip.mp4", "clip.jsonl"}


def test_stopping_early_leaves_the_frames_so_far(stub: None, clip: Path, tmp_path: Path) -> None:
    wanted = options(tmp_path)
    with VideoReader(clip) as reader:
        found = infer_video(None, reader, wanted)  # type: ignore[arg-type]
        assert [next(found).frame for _ in range(8)] == list(range(8))
        found.close()
    assert len(records(wanted.json_lines)) == 8 == count(wanted.overlay)


def test_an_error_leaves_no_file(stub: None, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "fails_at", 5)
    with VideoReader(clip) as reader, pytest.raises(EngineError, match="broke"):
        list(infer_video(None, reader, options(tmp_path)))  # type: ignore[arg-type]
    assert not list((tmp_path / "out").iterdir())


def test_a_truncated_video_leaves_its_frames_and_an_error(stub: None, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "cut.avi", frames=40, codec="MJPG", noise=60)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    wanted = options(tmp_path)
    with VideoReader(path) as reader, pytest.raises(MediaError, match="ends after"):
        list(infer_video(None, reader, wanted))  # type: ignore[arg-type]
    assert len(records(wanted.json_lines)) == count(wanted.overlay) > 10


def test_no_options_write_no_file(stub: None, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with VideoReader(clip) as reader:
        assert len(list(infer_video(None, reader, VideoOptions()))) == 20  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_overlays_are_named_after_their_videos_and_overwrite_none(tmp_path: Path) -> None:
    sources = [tmp_path / "a.mp4", tmp_path / "b" / "a.mov", Camera(0)]
    assert [path.name for path in video_outputs(sources, tmp_path)] == ["a-2.mp4", "a-3.mp4", "camera-0.mp4"]


def test_memory_stays_flat(stub: None, tmp_path: Path) -> None:
    """But for the few frames that wait between threads: those that are done are not kept."""
    path = write_clip(tmp_path / "long.mp4", frames=140)
    with VideoReader(path) as reader:
        found = infer_video(None, reader, options(tmp_path))  # type: ignore[arg-type]
        for _ in range(10):
            next(found)
        tracemalloc.start()
        try:
            for _ in range(5):
                next(found)
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(100):
                next(found)
            assert tracemalloc.get_traced_memory()[0] - before < 16 * picture(0).nbytes
        finally:
            tracemalloc.stop()
            found.close()
