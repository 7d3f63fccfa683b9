"""Tracking, losing and finding faces: in a simulated scene with an exact network, then with the real network."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from synergy.runtime.aligner import FaceAligner
from synergy.runtime.decode import SYNERGYNET_POSE, rotation_to_euler_deg
from synergy.runtime.engines import available
from synergy.runtime.faces import Detection, Face, Pose
from synergy.runtime.tracking.observation import MAX_INSTABILITY, TrackObservation, box_of, roi_around
from synergy.runtime.tracking.smoothing import OneEuro, jitter
from synergy.runtime.tracking.tracker import CHECK_INTERVAL, FaceTracker, TrackedFace, TrackOptions

WIDTH, HEIGHT = 640, 480
GREY, SKY = np.full((HEIGHT, WIDTH, 3), 90, np.uint8), np.full((HEIGHT, WIDTH, 3), (250, 200, 20), np.uint8)
RAW = TrackOptions(smoothing=None)


def template() -> np.ndarray:
    """68 points (68,3) around 0 in a box of 0.8 x 1."""
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (68, 3))
    points[:2, :2] = (-0.5, -0.5), (0.5, 0.5)
    return points * (0.8, 1.0, 0.5)


TEMPLATE = template()


def turned(yaw: float) -> np.ndarray:
    cos, sin = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
    return np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])


@dataclass
class Person:
    """A face `size` px high. stability 1: its landmarks stay in place; 0: they move with the crop, as on background."""

    x: float
    y: float
    size: float = 100.0
    yaw: float = 0.0
    seen: bool = True
    stretch: float = 1.0
    noise: float = 0.0
    stability: float = 1.0

    def landmarks(self, roi: np.ndarray, random: np.random.Generator) -> np.ndarray:
        shape = TEMPLATE * (self.stretch, 1.0, 1.0) + random.normal(0, self.noise, TEMPLATE.shape)
        own, crops = (np.array([*centre, 0.0]) for centre in ((self.x, self.y), (roi[:2] + roi[2:]) / 2))
        placed = shape * self.size + own
        moving = shape * (roi[2] - roi[0]) / np.sqrt(2) + crops
        return (self.stability * placed + (1 - self.stability) * moving).astype(np.float32)


@dataclass
class World:
    """Replaces a FaceAligner, its network and its detector, and records the calls."""

    people: list[Person]
    hidden_from_detector: list[Person] = field(default_factory=list)
    frame: int = -1
    detections: list[int] = field(default_factory=list)
    runs: list[int] = field(default_factory=list)  # crops of every engine run of the newest frame
    boxes: list[np.ndarray] | None = None
    score: float = 0.5
    max_faces: int | None = None

    @property
    def detector(self) -> World:
        return self

    pose: object = field(default_factory=lambda: SimpleNamespace(rule=SYNERGYNET_POSE))
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))

    def detect(self, image_bgr: np.ndarray) -> list[Detection]:
        self.detections.append(self.frame)
        shown = [one for one in self.people if one.seen and one not in self.hidden_from_detector]
        boxes = [
            np.array([p.x - 0.4 * p.size, p.y - 0.7 * p.size, p.x + 0.4 * p.size, p.y + 0.5 * p.size]) for p in shown
        ]
        return [Detection(box, self.score) for box in (boxes if self.boxes is None else self.boxes)]

    def align(self, image_bgr: np.ndarray, boxes_xyxy: np.ndarray) -> list[Face]:
        centres, sides = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2, 1.2 * np.ptp(boxes_xyxy[:, 1::2], axis=1)[:, None]
        return self.align_rois(image_bgr, np.hstack([centres - sides / 2, centres + sides / 2]))

    def align_rois(self, image_bgr: np.ndarray, rois_xyxy: np.ndarray) -> list[Face]:
        self.runs.append(len(rois_xyxy))
        return [self._face(roi) for roi in rois_xyxy]

    def _face(self, roi: np.ndarray) -> Face:
        x, y = (roi[:2] + roi[2:]) / 2
        here = [p for p in self.people if p.seen and max(abs(p.x - x), abs(p.y - y)) < (roi[2] - roi[0]) / 2]
        nothing = Person(x, y, stability=0.0)
        person = min(here, key=lambda p: abs(p.x - x) + abs(p.y - y), default=nothing)
        rotation = turned(person.yaw + self.random.normal(0, person.noise * 50))
        angles = rotation_to_euler_deg(rotation[None], SYNERGYNET_POSE)[0]
        params = np.full(62, self.frame, np.float32)
        return Face(person.landmarks(roi, self.random), Pose(*angles.tolist()), rotation, roi, roi, 1.0, params)


def tracker_of(world: World, options: TrackOptions = RAW) -> FaceTracker:
    return FaceTracker(world, options)  # type: ignore[arg-type]


def step(
    tracker: FaceTracker, world: World, image: np.ndarray = GREY, time_s: float | None = None
) -> list[TrackedFace]:
    world.frame, world.runs = world.frame + 1, []
    return tracker.track(image, time_s)


def run(tracker: FaceTracker, world: World, frames: int) -> list[list[int]]:
    """The ids of each frame."""
    return [[face.id for face in step(tracker, world)] for _ in range(frames)]


def centre(face: Face) -> np.ndarray:
    return (face.landmarks[:2, :2]).mean(axis=0)


# --- following ---


def test_a_face_is_detected_once_and_tracked_exactly() -> None:
    world = World([Person(200, 200)])
    tracker = tracker_of(world)
    for t in range(49):
        world.people[0].x, world.people[0].y, world.people[0].yaw = 200 + 4 * t, 200 + 2 * t, t
        [face] = step(tracker, world)
        assert face.id == 1 and np.allclose(centre(face), (200 + 4 * t, 200 + 2 * t), atol=0.01)
        assert face.pose.yaw == pytest.approx(t) and face.params[0] == t
    assert world.detections == [0]


def test_a_frame_is_one_engine_run_for_all_faces() -> None:
    world = World([Person(100, 100), Person(300, 300), Person(500, 200)])
    tracker = tracker_of(world)
    step(tracker, world)
    assert world.runs == [3, 6]  # by the detector's boxes, then by their own landmarks with the stability check
    for t in range(1, 31):
        assert [face.id for face in step(tracker, world)] == [1, 2, 3]
        assert world.runs == [6 if t % CHECK_INTERVAL == 0 else 3]


def test_a_fast_face_is_cropped_again_in_the_same_frame() -> None:
    world = World([Person(200, 200)])
    tracker = tracker_of(world)
    step(tracker, world)
    world.people[0].x += 0.3 * 100 * np.sqrt(2)
    [face] = step(tracker, world)
    assert face.id == 1 and world.runs == [1, 2] and world.detections == [0]
    assert np.allclose(face.roi_xyxy, roi_around(box_of(face.landmarks)), atol=0.01)


def test_the_crop_stays_while_the_face_does() -> None:
    world = World([Person(200, 200)])
    tracker = tracker_of(world)
    [first] = step(tracker, world)
    for shift in (3, -3, 5):
        world.people[0].x = 200 + shift
        [face] = step(tracker, world)
        assert np.array_equal(face.roi_xyxy, first.roi_xyxy)
    world.people[0].x = 210
    step(tracker, world)
    assert step(tracker, world)[0].roi_xyxy[0] == pytest.approx(first.roi_xyxy[0] + 10, abs=0.1)


def test_the_region_is_that_of_the_training_crops() -> None:
    world = World([Person(200, 240, size=90)])
    tracker = tracker_of(world)
    [face] = step(tracker, world)
    side = 90 * np.sqrt(2)
    assert np.allclose(face.roi_xyxy, [200 - side / 2, 240 - side / 2, 200 + side / 2, 240 + side / 2], atol=0.01)


def test_faces_come_by_id_with_the_box_of_their_landmarks_and_the_newest_score() -> None:
    world = World([Person(400, 200), Person(100, 200)])
    tracker = tracker_of(world, TrackOptions(redetect=3, smoothing=None))
    faces = step(tracker, world)
    assert [face.id for face in faces] == [1, 2] and isinstance(faces[0], Face)
    assert np.allclose(faces[1].box_xyxy, [60, 150, 140, 250], atol=0.01) and faces[1].score == 0.5
    world.score = 0.75
    assert [face.score for face in step(tracker, world)] == [0.5, 0.5]
    run(tracker, world, 1)
    assert [face.score for face in step(tracker, world)] == [0.75, 0.75]


# --- when the detector runs ---


def test_new_faces_are_sought_every_so_many_frames() -> None:
    world = World([Person(100, 200)])
    tracker = tracker_of(world, TrackOptions(redetect=8, smoothing=None))
    run(tracker, world, 3)
    world.people.append(Person(400, 200))
    assert run(tracker, world, 14) == [[1]] * 5 + [[1, 2]] * 9
    assert world.detections == [0, 8, 16]


def test_searches_in_vain_become_rare() -> None:
    world = World([])
    assert run(tracker_of(world), world, 200) == [[]] * 200
    assert world.detections == [0, 5, 15, 35, 75, 125, 175]  # 50 is the limit


def test_a_lost_face_is_sought_at_once_then_more_rarely() -> None:
    world = World([Person(100, 200), Person(400, 200)])
    tracker = tracker_of(world)
    run(tracker, world, 12)
    world.people[0].seen = False
    assert run(tracker, world, 20) == [[1, 2]] * 8 + [[2]] * 12  # noticed by the probe
    assert world.detections == [0, 20, 25]


def test_a_flickering_picture_does_not_run_the_detector_in_every_frame() -> None:
    world = World([Person(100, 200)])
    tracker = tracker_of(world)
    for t in range(20):
        assert [face.id for face in step(tracker, world, (GREY, SKY)[t % 2])] == [1]
    assert world.detections == [0, 5, 10, 15]


# --- losing and finding ---


def test_a_face_that_leaves_is_lost_when_most_of_it_is_out_and_comes_back_as_another() -> None:
    world = World([Person(560, 200)])
    tracker = tracker_of(world, TrackOptions(redetect=10, smoothing=None))
    shown = []
    for t in range(110):
        world.people[0].x = 560 + 5 * t if t < 60 else 860 - 8 * (t - 60)
        world.people[0].seen = world.people[0].x < WIDTH + 40
        shown.append([face.id for face in step(tracker, world)])
    gone = shown.index([])
    assert shown[:gone] == [[1]] * gone and 640 - 20 <= 560 + 5 * gone <= 640 + 20
    back = shown.index([2])
    assert shown[gone:back] == [[]] * (back - gone) and shown[back:] == [[2]] * (110 - back)


@pytest.mark.parametrize(("frames_away", "number"), [(20, 1), (45, 2)])
def test_a_face_found_at_its_last_place_keeps_its_id_for_a_second(frames_away: int, number: int) -> None:
    world = World([Person(200, 200)])
    tracker = tracker_of(world, TrackOptions(redetect=5, smoothing=None))
    run(tracker, world, 6)
    world.people[0].seen = False
    assert run(tracker, world, frames_away)[-1] == []
    world.people[0].seen = True
    assert run(tracker, world, 6)[-1] == [number]


def test_a_face_found_elsewhere_is_another() -> None:
    world = World([Person(200, 200)])
    tracker = tracker_of(world)
    run(tracker, world, 10)
    world.people[0].x = 500
    assert run(tracker, world, 1) == [[2]]  # frame 10 has a stability check


def test_after_a_cut_faces_are_found_in_the_same_frame_with_new_ids() -> None:
    world = World([Person(200, 200)])
    tracker = tracker_of(world)
    run(tracker, world, 6)
    world.people = [Person(245, 240), Person(450, 200)]  # the first one is within the old crop
    assert [face.id for face in step(tracker, world, SKY)] == [2, 3]
    assert np.allclose(centre(step(tracker, world, SKY)[0]), (245, 240), atol=0.01)
    assert [[face.id for face in step(tracker, world, SKY)] for _ in range(20)] == [[2, 3]] * 20
    assert world.detections == [0, 6]  # the first person is not missed


def test_a_flash_does_not_change_ids() -> None:
    world = World([Person(200, 200)])
    tracker = tracker_of(world)
    run(tracker, world, 6)
    assert [[face.id for face in step(tracker, world, image)] for image in (SKY, GREY)] == [[1], [1]]


def grow(person: Person) -> None:
    person.size *= 1.7


def turn(person: Person) -> None:
    person.yaw += 50


def squeeze(person: Person) -> None:
    person.stretch = 0.4


def break_down(person: Person) -> None:
    person.noise = np.nan


def shrink_away(person: Person) -> None:
    person.size = 16  # its region has 23 px


@pytest.mark.parametrize("happens", [grow, turn, squeeze, break_down, shrink_away])
def test_a_change_too_large_for_one_frame_loses_the_face(happens) -> None:
    world = World([Person(200, 200)])
    tracker = tracker_of(world)
    run(tracker, world, 6)
    world.hidden_from_detector = list(world.people)
    happens(world.people[0])
    assert run(tracker, world, 1) == [[]] and world.detections == [0, 6]


def test_the_fastest_motion_at_ten_frames_per_second_is_tracked() -> None:
    world = World([Person(200, 200, size=80)])
    tracker = tracker_of(world)
    for _ in range(8):
        assert run(tracker, world, 1) == [[1]]
        world.people[0].size *= 1.2
        world.people[0].yaw += 40 if world.people[0].yaw <= 0 else -40
    assert world.detections == [0]


def test_two_tracks_on_one_face_become_one() -> None:
    world = World([Person(200, 200), Person(400, 200)])
    tracker = tracker_of(world)
    run(tracker, world, 6)
    for x in range(200, 401, 10):  # walks behind the second and out of sight
        world.people[0].x, world.people[0].seen = x, x < 360
        faces = step(tracker, world)
    assert [face.id for face in faces] == [2] and np.allclose(centre(faces[0]), (400, 200), atol=0.01)


def test_an_inexact_or_duplicate_box_starts_no_second_track() -> None:
    world = World([Person(200, 200)])
    tracker = tracker_of(world, TrackOptions(redetect=5, smoothing=None))
    run(tracker, world, 3)
    world.boxes = [np.array([x, 130.0, x + 80, 250]) for x in (160.0, 165.0, 220.0)]
    assert run(tracker, world, 10) == [[1]] * 10 and len(world.detections) == 3


def test_a_smaller_frame_loses_the_faces_outside() -> None:
    world = World([Person(200, 200), Person(450, 200)])
    tracker = tracker_of(world)
    run(tracker, world, 3)
    assert [face.id for face in step(tracker, world, np.ascontiguousarray(GREY[:, :300]))] == [1]


def test_no_more_faces_are_tracked_than_the_detector_may_find() -> None:
    world = World([Person(200, 200), Person(450, 200)], max_faces=1)
    tracker = tracker_of(world, TrackOptions(redetect=5, smoothing=None))
    world.hidden_from_detector = [world.people[1]]
    assert run(tracker, world, 3) == [[1]] * 3
    world.hidden_from_detector = [world.people[0]]  # now the other one has the higher score
    assert run(tracker, world, 20) == [[1]] * 20 and len(world.detections) > 1


def test_the_detector_decides_if_the_network_is_unstable_on_faces() -> None:
    world = World([Person(200, 200, stability=0.4), Person(450, 200, stability=0.4)])
    tracker = tracker_of(world, TrackOptions(redetect=15, smoothing=None))
    assert run(tracker, world, 15) == [[1, 2]] * 15  # the stability check does not count
    world.hidden_from_detector = [world.people[0]]
    assert run(tracker, world, 15) == [[2]] * 15


def test_the_stability_check_decides_once_it_has_passed() -> None:
    world = World([Person(200, 200, stability=0.4)])
    tracker = tracker_of(world, TrackOptions(redetect=1000, smoothing=None))
    run(tracker, world, 5)
    world.people[0].stability = 1.0
    run(tracker, world, CHECK_INTERVAL)
    world.people[0].seen = False
    assert run(tracker, world, CHECK_INTERVAL)[-1] == []


def test_a_detection_whose_landmarks_cannot_be_a_face_is_dropped() -> None:
    world = World([Person(200, 200, noise=np.nan), Person(400, 200)])
    assert run(tracker_of(world), world, 2) == [[1], [1]]


# --- smoothing ---


def test_smoothing_changes_landmarks_pose_and_rotation_but_not_params() -> None:
    frames: dict[bool, list[TrackedFace]] = {}
    for smooth in (False, True):
        world = World([Person(200, 200, noise=0.004)])
        tracker = tracker_of(world, TrackOptions(smoothing=OneEuro() if smooth else None))
        frames[smooth] = [step(tracker, world)[0] for _ in range(60)]
    jitters = {smooth: jitter(np.stack([face.landmarks for face in faces[10:]])) for smooth, faces in frames.items()}
    assert jitters[True].percent < jitters[False].percent / 3
    swing = {smooth: np.abs(np.diff([face.pose.yaw for face in faces[10:]])).mean() for smooth, faces in frames.items()}
    assert swing[True] < swing[False] / 3
    face = frames[True][-1]
    assert np.allclose(face.rotation @ face.rotation.T, np.eye(3), atol=1e-3) and face.params[0] == 59
    assert face.pose.yaw == pytest.approx(rotation_to_euler_deg(face.rotation[None], SYNERGYNET_POSE)[0, 0])
    assert face.landmarks.dtype == np.float32 and face.landmarks.shape == (68, 3)
    assert np.allclose(face.box_xyxy[:2], face.landmarks[:, :2].min(axis=0))


def test_smoothed_landmarks_stay_within_a_hundredth_of_a_moving_face() -> None:
    world = World([Person(100, 200)])
    tracker = tracker_of(world, TrackOptions())
    for t in range(60):
        world.people[0].x = 100 + 100 * t / 30  # a face size per second
        [face] = step(tracker, world)
    assert abs(centre(face)[0] - world.people[0].x) <= 0.01 * 100


def test_a_turn_through_180_degrees_is_smoothed_the_short_way() -> None:
    world = World([Person(200, 200)])
    tracker = tracker_of(world, TrackOptions())
    step(tracker, world)
    for roll in (170, 175, 179, -179, -175, -170):
        cos, sin = np.cos(np.radians(roll)), np.sin(np.radians(roll))
        face = world._face(np.array([130.0, 130, 270, 270]))
        rotation = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
        tracker.tracks[0].observation = TrackObservation.of(replace(face, rotation=rotation), GREY.shape)
        tracker.advance(None)
        [found] = [track.to_face(tracker.last_time_s, SYNERGYNET_POSE) for track in tracker.tracks]
    assert abs(found.pose.roll) > 150


def test_refined_landmarks_are_smoothed_where_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = World._face
    monkeypatch.setattr(
        World, "_face", lambda self, roi: replace(face := plain(self, roi), refined_landmarks=face.landmarks + 1)
    )
    world = World([Person(200, 200, noise=0.01)])
    tracker = tracker_of(world, TrackOptions())
    for _ in range(5):
        [face] = step(tracker, world)
    assert np.allclose(face.refined_landmarks, face.landmarks + 1, atol=1e-3)


# --- input, time, memory ---


def test_time_must_increase_and_defaults_to_thirty_frames_per_second() -> None:
    world = World([])
    tracker = tracker_of(world)
    step(tracker, world, time_s=5.0)
    step(tracker, world)
    step(tracker, world, time_s=5.04)
    for late in (5.04, 5.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="time must increase"):
            step(tracker, world, time_s=late)


@pytest.mark.parametrize("frame", [GREY[:, :, 0], GREY.astype(np.float32), GREY[:0]])
def test_frames_must_be_images(frame: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"uint8|above 0"):
        tracker_of(World([])).track(frame)


def test_redetect_must_be_one_or_more_frames() -> None:
    with pytest.raises(ValueError, match="1 or more frames"):
        TrackOptions(redetect=0)


def test_memory_stays_flat() -> None:
    world = World([Person(200, 200), Person(400, 200)])
    tracker = tracker_of(world, TrackOptions())

    def go(frames: int) -> int:
        for t in range(frames):
            world.people[0].seen = t % 40 < 25  # comes and goes
            step(tracker, world)
        world.detections.clear()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        go(60)
        before = go(60)
        assert go(160) - before < 20_000
    finally:
        tracemalloc.stop()


# --- the real network ---


class FixedDetector:
    """A detector with fixed boxes that counts its calls."""

    def __init__(self) -> None:
        self.boxes: list[np.ndarray] = []
        self.calls = 0

    def detect(self, image_bgr: np.ndarray) -> list[Detection]:
        self.calls += 1
        return [Detection(box, 0.9) for box in self.boxes]


FACE_BOX = np.array([175.0, 75, 275, 195])  # of the portrait


def scene(portrait_bgr: np.ndarray, matrix: np.ndarray, noise: int = 0, seed: int = 0) -> np.ndarray:
    """The portrait's upper half laid over a plain picture of 640 x 480."""
    picture = cv2.warpAffine(portrait_bgr[:400], matrix, (WIDTH, HEIGHT), borderValue=(120, 110, 100))
    random = np.random.default_rng(seed)
    return (picture + random.normal(0, noise, picture.shape)).clip(0, 255).astype(np.uint8) if noise else picture


def placed(x: float, y: float, scale: float = 1.0, roll: float = 0.0) -> np.ndarray:
    """The map (2,3) that brings the middle of the portrait's face to x, y."""
    matrix = cv2.getRotationMatrix2D((225.0, 135.0), roll, scale)
    matrix[:, 2] += (x - 225.0, y - 135.0)
    return matrix


def box_in(matrix: np.ndarray) -> np.ndarray:
    corners = FACE_BOX.reshape(2, 2) @ matrix[:, :2].T + matrix[:, 2]
    return np.concatenate([corners.min(axis=0), corners.max(axis=0)])


def open_tracker(bundle: Path, engine: str, options: TrackOptions = RAW) -> tuple[FaceTracker, FixedDetector]:
    if not available(engine).ok:
        pytest.skip(available(engine).detail)
    detector = FixedDetector()
    return FaceTracker(FaceAligner.load(bundle, engine=engine, threads=1, detector=detector), options), detector


@pytest.fixture
def real(bundles: dict[str, Path]) -> Iterator[tuple[FaceTracker, FixedDetector]]:
    tracker, detector = open_tracker(bundles["mb05"], "onnx")
    yield tracker, detector
    tracker.aligner.close()


def swing(frames: int) -> Iterable[np.ndarray]:
    for t in range(frames):
        yield placed(320 + 90 * np.sin(t / 10), 240 + 40 * np.sin(t / 6), 1 + 0.25 * np.sin(t / 15), 20 * np.sin(t / 8))


@pytest.mark.parametrize("engine", ["onnx", "lite"])
def test_a_moving_portrait_is_tracked_by_the_engines(
    engine: str, bundles: dict[str, Path], portrait_bgr: np.ndarray
) -> None:
    tracker, detector = open_tracker(bundles["mb05"], engine)
    seen = []
    with tracker.aligner:
        for matrix in swing(45 if engine == "onnx" else 12):
            detector.boxes = [box_in(matrix)]
            [face] = tracker.track(scene(portrait_bgr, matrix))
            assert face.id == 1
            seen.append((face.landmarks[:, :2] - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T)  # portrait pixels
    apart = [np.linalg.norm(points - seen[0], axis=1).mean() / np.ptp(seen[0], axis=0).mean() for points in seen]
    assert detector.calls == 1 and max(apart) < 0.03, max(apart)


def test_the_real_network_loses_a_face_that_vanishes_and_keeps_one_that_stays(
    real: tuple[FaceTracker, FixedDetector], portrait_bgr: np.ndarray
) -> None:
    tracker, detector = real
    matrix = placed(320, 240)
    detector.boxes = [box_in(matrix)]
    for t in range(22):
        assert len(tracker.track(scene(portrait_bgr, matrix, noise=6, seed=t))) == 1
    assert tracker.tracks[0].is_confirmed and detector.calls == 1
    detector.boxes = []
    blank = scene(portrait_bgr, placed(320, 240 + 400), noise=6)
    shown = [bool(tracker.track(blank)) for _ in range(CHECK_INTERVAL + 1)]
    assert not shown[-1] and shown == sorted(shown, reverse=True)


def test_the_stability_check_separates_the_face_from_background(
    real: tuple[FaceTracker, FixedDetector], portrait_bgr: np.ndarray
) -> None:
    tracker, _ = real
    image = scene(portrait_bgr, placed(320, 240))
    [face] = tracker.aligner.align(image, [box_in(placed(320, 240))])
    [observation] = tracker.observe(image, [roi_around(box_of(face.landmarks))], check=True)
    assert observation.instability < MAX_INSTABILITY / 2
    for x, y in ((150, 380), (480, 380), (60, 60), (560, 240)):
        [observation] = tracker.observe(image, [np.array([x - 60.0, y - 60, x + 60, y + 60])], check=True)
        assert not observation.is_stable


def test_no_jitter_on_a_still_image_and_little_with_noise(bundles: dict[str, Path], portrait_bgr: np.ndarray) -> None:
    matrix, found = placed(320, 240), {}
    for noise, smooth in ((0, False), (6, False), (6, True)):
        tracker, detector = open_tracker(bundles["mb05"], "onnx", TrackOptions() if smooth else RAW)
        detector.boxes = [box_in(matrix)]
        with tracker.aligner:
            seen = [tracker.track(scene(portrait_bgr, matrix, noise, seed))[0].landmarks for seed in range(24)]
        found[noise, smooth] = jitter(np.stack(seen[4:])).percent
    assert found[0, False] == 0
    assert found[6, True] < found[6, False] / 3 and found[6, True] < 0.15, found


def test_a_scene_cut_is_detected_at_once(real: tuple[FaceTracker, FixedDetector], portrait_bgr: np.ndarray) -> None:
    tracker, detector = real
    ids = []
    for t in range(12):
        matrix = placed(180, 200) if t < 6 else placed(470, 260)
        detector.boxes = [box_in(matrix)]
        image = scene(portrait_bgr, matrix)
        ids.append([face.id for face in tracker.track(image if t < 6 else 255 - (255 - image) // 2)])
    assert ids == [[1]] * 6 + [[2]] * 6 and detector.calls == 2


def test_ids_of_several_faces_are_stable(real: tuple[FaceTracker, FixedDetector], portrait_bgr: np.ndarray) -> None:
    tracker, detector = real
    head = portrait_bgr[20:240, 130:320]
    for t in range(25):
        image, lefts = np.full((HEIGHT, WIDTH, 3), 110, np.uint8), (10 + 3 * t, 430 - 2 * t)
        for left in lefts:
            image[100:320, left : left + 190] = head
        detector.boxes = [FACE_BOX + np.tile([left - 130.0, 80.0], 2) for left in lefts]
        faces = tracker.track(image)
        assert [face.id for face in faces] == [1, 2]
        assert all(abs(face.box_xyxy[0] - left - 50) < 15 for face, left in zip(faces, lefts, strict=True))
    assert detector.calls == 1


def test_frames_are_not_changed(real: tuple[FaceTracker, FixedDetector], portrait_bgr: np.ndarray) -> None:
    tracker, detector = real
    detector.boxes = [box_in(placed(320, 240))]
    image = scene(portrait_bgr, placed(320, 240))
    copy = image.copy()
    for one, other in pairwise([tracker.track(image)[0].landmarks for _ in range(3)]):
        assert np.array_equal(one, other)
    assert np.array_equal(image, copy)
