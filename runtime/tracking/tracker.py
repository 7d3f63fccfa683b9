"""Track faces in a video: detected once, then followed by their landmarks.

The region to crop in the next frame comes from the landmarks of this one, as in the video demo of 3DDFA_V2 (Guo et
al., ECCV 2020).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from synergy.runtime.aligner import FaceAligner
from synergy.runtime.crop import check_image
from synergy.runtime.cropping.stability import check_roi, confidence
from synergy.runtime.decode import PoseRule, rotation_to_euler_deg, rows_to_rotation
from synergy.runtime.detection.boxes import MATCH_IOU, iou, match_boxes
from synergy.runtime.faces import Detection, Face, Pose, face_size
from synergy.runtime.opencv import cv2
from synergy.runtime.tracking.observation import TrackObservation, box_of
from synergy.runtime.tracking.schedule import DetectionSchedule
from synergy.runtime.tracking.smoothing import OneEuro, OneEuroFilter

FRAME_S = 1 / 30  # from frame to frame, where the caller gives no time

# In sides of the region. While the face has moved less, the crop stays where it is: a new crop in every frame would
# feed the landmarks' jitter back (0.5 % of the face on a still image, against 0). An offset of 0.1 costs no accuracy.
KEEP_OFFSET = 0.05
# In sides of the region. A face that moved more is cropped again around its new place. With an offset of 0.2 the error
# is 3.8 % against 3.3, with 0.3 it is 9 %, which the second crop reduces to 3.7.
RECROP_OFFSET = 0.15
# Larger changes in one frame mean that the face was lost. People turn their heads by up to 400 degrees/s and step
# closer by 20 % in a tenth of a second; the limits allow both at 10 frames per second.
MAX_TURN_DEG = 45.0
MAX_GROWTH = 1.6  # of the region's side, and its inverse
CHECK_INTERVAL = 10  # frames between stability checks; one more crop in every tenth frame costs a tenth of a run

# A scene cut: share of the pixels that changed their colour in the image's histogram. Up to 0.13 by pans, zooms and
# five frames of motion, 0.21 by noise (sigma 8), 0.27 to 1 (median 0.8) between photos. A flash counts as a cut too;
# that costs one detector run.
CUT_THRESHOLD = 0.4
CUT_SAMPLE_WH = (128, 18)  # pixels in the histogram

DUPLICATE_IOU = 0.5  # of two landmarks' boxes: both tracks follow the same face
LOST_TRACK_S = 1.0  # a lost face that is detected at its last place within this time keeps its id


@dataclass(frozen=True, eq=False)
class TrackedFace(Face):
    """A face in a frame, as `Face`, with an id that it keeps from frame to frame. Ids count from 1, none is reused.

    landmarks, refined_landmarks, rotation and pose are smoothed if the tracker smooths; params and vertices are the
    network's. box_xyxy is the box of the landmarks, score that of the newest detection of this face, confidence that of
    the newest stability check, every 10 frames.
    """

    id: int = field(kw_only=True)


@dataclass(frozen=True)
class TrackOptions:
    """redetect: frames between detector runs that look for new faces. smoothing: None for unsmoothed landmarks."""

    redetect: int = 50
    smoothing: OneEuro | None = field(default_factory=OneEuro)

    def __post_init__(self) -> None:
        if self.redetect < 1:
            raise ValueError(f"redetect must be 1 or more frames, not {self.redetect}")


class FaceTracker:
    """Tracks the faces of one video or camera with an open `FaceAligner`, which several trackers may share.

    Frames have an order, so `track` raises ValueError while another thread is in it.

    The detector runs on the first frame, after a scene cut, every `redetect` frames, and when a face is lost or there
    is none: at once, but at most every 5 frames, and less and less often while it finds nothing. All faces of a frame
    go through the engine in one run; faces that are new or moved far need a second run.
    """

    def __init__(self, aligner: FaceAligner, options: TrackOptions | None = None) -> None:
        self.aligner = aligner
        self.options = options or TrackOptions()
        self.tracks: list[_Track] = []
        self._lost: list[_Track] = []
        self._schedule = DetectionSchedule(self.options.redetect)
        self._histogram: np.ndarray | None = None
        self._frame = -1
        self.last_time_s = -FRAME_S
        self._last_id = 0
        self._in_use = threading.Lock()

    def track(self, frame_bgr: np.ndarray, time_s: float | None = None) -> list[TrackedFace]:
        """The faces of the next frame (H,W,3) uint8 BGR, sorted by id.

        time_s: the frame's time, which must increase; None for 1/30 s after the last frame.
        Raises ValueError for another shape, dtype or time, or if another thread is in this method; EngineError if the
        engine fails.
        """
        check_image(frame_bgr)
        if not self._in_use.acquire(blocking=False):
            raise ValueError("another thread runs this tracker: use one FaceTracker per video, in one thread at a time")
        try:
            return self._track(frame_bgr, time_s)
        finally:
            self._in_use.release()

    def _track(self, frame_bgr: np.ndarray, time_s: float | None) -> list[TrackedFace]:
        self.advance(time_s)
        cut = self._is_cut(frame_bgr)
        lost = self._update_tracks(frame_bgr, cut)
        self._lost = [track for track in self._lost if self.last_time_s - track.seen_s <= LOST_TRACK_S] + lost
        if self._schedule.is_due(self._frame, scene_changed=cut or bool(lost)):
            self._detect(frame_bgr)
            if cut:
                self._lost.clear()  # faces of the scene before the cut are not expected to come back
            self._schedule.detected(self._frame, faces_missing=bool(self._lost) or not self.tracks)
        rule = self.aligner.pose.rule
        return [track.to_face(self.last_time_s, rule) for track in sorted(self.tracks, key=lambda track: track.id)]

    def advance(self, time_s: float | None) -> None:
        now = self.last_time_s + FRAME_S if time_s is None else time_s
        if not (np.isfinite(now) and (self._frame < 0 or now > self.last_time_s)):
            raise ValueError(f"time must increase from frame to frame: {now} s comes after {self.last_time_s} s")
        self._frame, self.last_time_s = self._frame + 1, now

    def _is_cut(self, frame_bgr: np.ndarray) -> bool:
        before, self._histogram = self._histogram, _histogram(frame_bgr)
        if before is None:
            return False
        return cv2.norm(self._histogram, before, cv2.NORM_L1) > 2 * CUT_THRESHOLD * math.prod(CUT_SAMPLE_WH)

    def _update_tracks(self, frame_bgr: np.ndarray, cut: bool) -> list[_Track]:
        """Move the tracks into this frame; remove those that lost their face and return them.

        A face that moved far is cropped again; after a scene cut it is a different face, so its track is lost.
        """
        check = cut or self._frame % CHECK_INTERVAL == 0
        size_wh = np.array(frame_bgr.shape[1::-1])  # frames of a stream can change their size
        lost = [track for track in self.tracks if not (track.roi_xyxy[:2] < size_wh).all()]
        self.tracks = [track for track in self.tracks if track not in lost]
        observed = self.observe(frame_bgr, [track.roi_xyxy for track in self.tracks], check)
        max_offset = RECROP_OFFSET if cut else np.inf
        far = [i for i, each in enumerate(observed) if each.can_be_face and RECROP_OFFSET < each.offset <= max_offset]
        again = self.observe(frame_bgr, [observed[i].next_roi for i in far], check=True)
        for i, observation in zip(far, again, strict=True):
            observed[i] = observation
        kept: list[_Track] = []
        # Sorted by offset: of two tracks on one face, the one that moved less is kept.
        for track, each in sorted(zip(self.tracks, observed, strict=True), key=lambda pair: pair[1].offset):
            duplicate = any(iou(each.box_xyxy, other.box_xyxy) > DUPLICATE_IOU for other in kept)
            if duplicate or each.offset > max_offset or not track.accepts(each):
                lost.append(track)
            else:
                track.move(each, self.last_time_s)
                kept.append(track)
        self.tracks = kept
        return lost

    def _detect(self, frame_bgr: np.ndarray) -> None:
        """Run the detector. A detection that matches no track is a lost face or a new one."""
        detections = self.aligner.detect(frame_bgr)
        matched = match_boxes(
            [detection.box_xyxy for detection in detections], [track.box_xyxy for track in self.tracks]
        )
        for detection, track in matched.items():
            self.tracks[track].score = detections[detection].score
        self._drop_unconfirmed(set(matched.values()))
        self._start_tracks(frame_bgr, [detections[i] for i in range(len(detections)) if i not in matched])

    def _drop_unconfirmed(self, detected: set[int]) -> None:
        """Tracks that never passed the stability check, as with a network that is unstable on faces too, are kept only
        if the detector found them."""
        kept = [track for i, track in enumerate(self.tracks) if track.is_confirmed or i in detected]
        self._lost += [track for track in self.tracks if track not in kept]
        self.tracks = kept

    def _start_tracks(self, frame_bgr: np.ndarray, detections: Sequence[Detection]) -> None:
        max_faces = getattr(self.aligner.detector, "max_faces", None) or math.inf
        for score, observation in self._observe_detections(frame_bgr, detections):
            is_tracked = any(iou(observation.box_xyxy, track.box_xyxy) > MATCH_IOU for track in self.tracks)
            if is_tracked or len(self.tracks) >= max_faces:
                continue  # tracked already, if the detector's box was off; or a face too many
            known = match_boxes([observation.box_xyxy], [track.box_xyxy for track in self._lost])
            if known:
                face_id = self._lost.pop(known[0]).id
            else:
                face_id = self._last_id = self._last_id + 1
            smoother = _Smoother(self.options.smoothing) if self.options.smoothing else None
            stable, instability = observation.is_stable, observation.instability
            self.tracks.append(_Track(face_id, observation, score, stable, self.last_time_s, smoother, instability))

    def _observe_detections(
        self, frame_bgr: np.ndarray, detections: Sequence[Detection]
    ) -> list[tuple[float, TrackObservation]]:
        """Scores and observations. Each face is cropped twice: the landmarks' box is more exact than a detector's."""
        if not detections:
            return []
        faces = self.aligner.align(frame_bgr, np.stack([detection.box_xyxy for detection in detections]))
        first = [TrackObservation.of(face, frame_bgr.shape) for face in faces]
        good = [i for i, observation in enumerate(first) if observation.can_be_face]
        second = self.observe(frame_bgr, [first[i].next_roi for i in good], check=True)
        return [(detections[i].score, each) for i, each in zip(good, second, strict=True) if each.can_be_face]

    def observe(self, frame_bgr: np.ndarray, rois: Sequence[np.ndarray], check: bool) -> list[TrackObservation]:
        """One engine run for all regions (4,), and with `check` also for the shifted one of each."""
        if not rois:
            return []
        shifted = [check_roi(roi) for roi in rois] if check else []
        faces = self.aligner.align_rois(frame_bgr, np.stack([*rois, *shifted]))
        checked = faces[len(rois) :] if check else [None] * len(rois)
        return [TrackObservation.of(face, frame_bgr.shape, other) for face, other in zip(faces, checked, strict=False)]


@dataclass(eq=False)
class _Track:
    """A tracked face. is_confirmed: it passed the stability check once, so that a failed check means it is lost."""

    id: int
    observation: TrackObservation
    score: float
    is_confirmed: bool
    seen_s: float
    smoother: _Smoother | None
    instability: float | None = None  # of the newest stability check

    @property
    def face(self) -> Face:
        return self.observation.face

    @property
    def box_xyxy(self) -> np.ndarray:
        return self.observation.box_xyxy

    @property
    def roi_xyxy(self) -> np.ndarray:
        """The region to crop in the next frame."""
        return self.face.roi_xyxy if self.observation.offset <= KEEP_OFFSET else self.observation.next_roi

    def accepts(self, observation: TrackObservation) -> bool:
        """Whether the observation can show the same face one frame later."""
        if not observation.can_be_face:
            return False
        if self.is_confirmed and observation.instability is not None and not observation.is_stable:
            return False
        growth = observation.side / self.observation.side
        turn = _angle_deg(self.face.rotation, observation.face.rotation)
        return 1 / MAX_GROWTH <= growth <= MAX_GROWTH and turn <= MAX_TURN_DEG

    def move(self, observation: TrackObservation, time_s: float) -> None:
        self.observation, self.seen_s = observation, time_s
        self.is_confirmed = self.is_confirmed or observation.is_stable
        self.instability = self.instability if observation.instability is None else observation.instability

    def to_face(self, time_s: float, rule: PoseRule) -> TrackedFace:
        changes = {"box_xyxy": self.box_xyxy} if self.smoother is None else self.smoother(self.face, time_s, rule)
        sure = None if self.instability is None else confidence(self.instability)
        return TrackedFace(**{**vars(self.face), **changes, "score": self.score, "confidence": sure}, id=self.id)


class _Smoother:
    """The filter of one face: its landmarks, refined landmarks, and the rows of its rotation matrix. Angles would jump
    at 180 degrees, the rows do not."""

    def __init__(self, constants: OneEuro) -> None:
        self._filter = OneEuroFilter(constants)

    def __call__(self, face: Face, time_s: float, rule: PoseRule) -> dict[str, Any]:
        """The smoothed fields of the face, by name."""
        refined = () if face.refined_landmarks is None else (face.refined_landmarks,)
        points = np.concatenate([face.rotation[:2], face.landmarks, *refined])
        units = np.full((len(points), 1), face_size(face.landmarks))
        units[:2] = 1.0  # speeds: of the rotation in radians/s, of the landmarks in face sizes/s
        smooth = self._filter(points, time_s, units)
        rotation, landmarks = rows_to_rotation(smooth[None, :2])[0], smooth[2:].astype(np.float32)
        return {
            "landmarks": landmarks[:68],
            "refined_landmarks": landmarks[68:] if refined else None,
            "rotation": rotation,
            "pose": Pose(*rotation_to_euler_deg(rotation[None], rule)[0].tolist()),
            "box_xyxy": box_of(landmarks[:68]),
        }


def _histogram(frame_bgr: np.ndarray) -> np.ndarray:
    """How often (8,8,8) each of 512 colours occurs in a sample of the pixels."""
    coarse = cv2.resize(frame_bgr, CUT_SAMPLE_WH, interpolation=cv2.INTER_NEAREST)
    return cv2.calcHist([coarse], [0, 1, 2], None, [8, 8, 8], [0, 256] * 3)


def _angle_deg(one: np.ndarray, other: np.ndarray) -> float:
    """The angle between two rotation matrices (3,3)."""
    cosine = (float((one * other).sum()) - 1) / 2
    return math.degrees(math.acos(min(max(cosine, -1.0), 1.0)))
