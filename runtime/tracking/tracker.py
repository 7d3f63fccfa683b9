"""Faces from frame to frame: found by a detector once, then followed by their landmarks.

The region to crop in the next frame comes from the landmarks of this one, as in the video demo of 3DDFA_V2 (Guo et
al., ECCV 2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from synergy.runtime.aligner import FaceAligner
from synergy.runtime.crop import check_image
from synergy.runtime.decode import PoseRule, rotation_to_euler_deg, rows_to_rotation
from synergy.runtime.detection.boxes import TRACKED_FACE, iou, match
from synergy.runtime.faces import Detection, Face, Pose
from synergy.runtime.tracking.observation import Look, box_of, probe_roi
from synergy.runtime.tracking.smoothing import OneEuro, OneEuroFilter, face_size

FRAME_S = 1 / 30  # from frame to frame, where the caller tells no time

# Of the region's side. As long as the face is that near to where it was, the crop stays: cropping anew in each frame
# feeds the landmarks' trembling back (0.5 % of the face on a still picture, against 0). Off by 0.1 costs no accuracy.
STAY = 0.05
# Of the side: a face that moved more is looked at again around where it is now. Off by 0.2 the error is 3.8 %
# against 3.3, off by 0.3 it is 9 %, and the second look brings it to 3.7.
FAR = 0.15
# What can be no face any more. People turn their heads by up to 400 degrees/s and step closer by 20 % in a tenth of a
# second; the limits leave room for both at 10 frames per second.
MAX_TURN_DEG = 45.0
MAX_GROWTH = 1.6  # of the region's side in one frame, and its inverse
PROBE_EVERY = 10  # frames; a crop more in one frame of ten costs a tenth of a network run

# Share of the pixels that changed their colour for another in the picture's histogram: up to 0.13 by pans, zooms and
# five frames of motion, 0.21 by noise (sigma 8), 0.27 to 1 (median 0.8) between photos. A flash looks like a cut too;
# it costs a search.
CUT = 0.4
CUT_SAMPLES_WH = (128, 18)  # pixels that are looked at

SAME_PLACE = 0.5  # overlap of two landmarks' boxes: one of the tracks went over to the other's face
REMEMBER_S = 1.0  # for that long a lost face that is found at its last place keeps its id
# Frames from one search to the next at the least; searches in vain double it. OpenCV's cascades take as long as
# hundreds of network runs.
SEARCH_AGAIN = 5


@dataclass(frozen=True, eq=False)
class TrackedFace(Face):
    """A face in a frame, as `Face`, with the number that it keeps from frame to frame, from 1; none is used twice.

    landmarks, refined_landmarks, rotation and pose are smoothed if the tracker smooths; params and vertices are as
    the network gave them. box_xyxy is the box of the landmarks, score that of the newest detection of this face.
    """

    id: int = field(kw_only=True)


@dataclass(frozen=True)
class TrackOptions:
    """redetect: frames after which the detector looks for new faces; smoothing: None for landmarks as they come."""

    redetect: int = 50
    smoothing: OneEuro | None = field(default_factory=OneEuro)

    def __post_init__(self) -> None:
        if self.redetect < 1:
            raise ValueError(f"faces are sought every 1 or more frames, not every {self.redetect}")


class FaceTracker:
    """Follows the faces of one video or camera through an open `FaceAligner`. Not thread-safe.

    The detector runs on the first frame, after a cut, every `redetect` frames, and when a face is lost or none is
    there: at once, but every 5 frames at most, and in vain ever less often. All faces of a frame go through the engine
    in one run; a second one is only for faces that are new or moved far.
    """

    def __init__(self, aligner: FaceAligner, options: TrackOptions | None = None) -> None:
        self.aligner = aligner
        self.options = options or TrackOptions()
        self._tracks: list[_Track] = []
        self._lost: list[_Track] = []
        self._search = _Search(self.options.redetect)
        self._colours: np.ndarray | None = None
        self._frame = -1
        self._time_s = -FRAME_S
        self._last_id = 0

    def track(self, frame_bgr: np.ndarray, time_s: float | None = None) -> list[TrackedFace]:
        """The faces of the next frame (H,W,3) uint8, by id. `time_s` must go on; None is 1/30 s after the last.

        Raises ValueError for an unfit frame or time, EngineError if the engine fails.
        """
        check_image(frame_bgr)
        self._advance(time_s)
        cut = self._is_cut(frame_bgr)
        lost = self._follow(frame_bgr, cut)
        self._lost = [track for track in self._lost if self._time_s - track.seen_s <= REMEMBER_S] + lost
        if self._search.is_due(self._frame, news=cut or bool(lost)):
            self._discover(frame_bgr)
            if cut:
                self._lost.clear()  # who is not there in the first frame of a scene is not missing
            self._search.done(self._frame, in_vain=bool(self._lost) or not self._tracks)
        convention = self.aligner.bundle.manifest.pose
        return [track.shown(self._time_s, convention) for track in sorted(self._tracks, key=lambda track: track.id)]

    def _advance(self, time_s: float | None) -> None:
        now = self._time_s + FRAME_S if time_s is None else time_s
        if not (np.isfinite(now) and (self._frame < 0 or now > self._time_s)):
            raise ValueError(f"time must go on from frame to frame: {now} s comes after {self._time_s} s")
        self._frame, self._time_s = self._frame + 1, now

    def _is_cut(self, frame_bgr: np.ndarray) -> bool:
        before, self._colours = self._colours, _colours(frame_bgr)
        if before is None:
            return False
        return cv2.norm(self._colours, before, cv2.NORM_L1) > 2 * CUT * math.prod(CUT_SAMPLES_WH)

    def _follow(self, frame_bgr: np.ndarray, cut: bool) -> list[_Track]:
        """Move the tracks into this frame; those that lost their face are taken out and returned.

        A face that moved far is looked at again; after a cut it is someone else's.
        """
        looks = self._look(frame_bgr, [track.roi_xyxy for track in self._tracks], cut or self._frame % PROBE_EVERY == 0)
        farthest = FAR if cut else np.inf
        far = [i for i, look in enumerate(looks) if look.can_be_face and FAR < look.offset <= farthest]
        for i, look in zip(far, self._look(frame_bgr, [looks[i].next_roi for i in far], probe=True), strict=True):
            looks[i] = look
        kept: list[_Track] = []
        lost: list[_Track] = []
        # the one that moved least first: if two are on one face, the other went astray
        for track, look in sorted(zip(self._tracks, looks, strict=True), key=lambda pair: pair[1].offset):
            doubled = any(iou(look.box_xyxy, other.box_xyxy) > SAME_PLACE for other in kept)
            if doubled or look.offset > farthest or not track.accepts(look):
                lost.append(track)
            else:
                track.move(look, self._time_s)
                kept.append(track)
        self._tracks = kept
        return lost

    def _discover(self, frame_bgr: np.ndarray) -> None:
        """Run the detector. What it sees beside the tracks is a lost face or a new one."""
        detections = self.aligner.detect(frame_bgr)
        seen = match([found.box_xyxy for found in detections], [track.box_xyxy for track in self._tracks])
        for found, track in seen.items():
            self._tracks[track].score = detections[found].score
        self._drop_unproven(set(seen.values()))
        self._start(frame_bgr, [detections[i] for i in range(len(detections)) if i not in seen])

    def _drop_unproven(self, seen: set[int]) -> None:
        """Where the probe says nothing, as of a network that is unsteady on faces too, the detector decides."""
        kept = [track for i, track in enumerate(self._tracks) if track.proven or i in seen]
        self._lost += [track for track in self._tracks if track not in kept]
        self._tracks = kept

    def _start(self, frame_bgr: np.ndarray, detections: Sequence[Detection]) -> None:
        for score, look in self._settled(frame_bgr, detections):
            if any(iou(look.box_xyxy, track.box_xyxy) > TRACKED_FACE for track in self._tracks):
                continue  # followed already: the detector's box was off
            known = match([look.box_xyxy], [track.box_xyxy for track in self._lost])
            if known:
                number = self._lost.pop(known[0]).id
            else:
                number = self._last_id = self._last_id + 1
            smoother = _Smoother(self.options.smoothing) if self.options.smoothing else None
            self._tracks.append(_Track(number, look, score, look.is_steady, self._time_s, smoother))

    def _settled(self, frame_bgr: np.ndarray, detections: Sequence[Detection]) -> list[tuple[float, Look]]:
        """Scores and second looks: a detector's box is often off by more than a landmarks' box."""
        if not detections:
            return []
        faces = self.aligner.align(frame_bgr, np.stack([found.box_xyxy for found in detections]))
        first = [Look.of(face, frame_bgr.shape) for face in faces]
        good = [i for i, look in enumerate(first) if look.can_be_face]
        second = self._look(frame_bgr, [first[i].next_roi for i in good], probe=True)
        return [(detections[i].score, look) for i, look in zip(good, second, strict=True) if look.can_be_face]

    def _look(self, frame_bgr: np.ndarray, rois: Sequence[np.ndarray], probe: bool) -> list[Look]:
        """One engine run for all regions (4,), and, with the probe, for each of them moved."""
        if not rois:
            return []
        moved = [probe_roi(roi) for roi in rois] if probe else []
        faces = self.aligner.align_rois(frame_bgr, np.stack([*rois, *moved]))
        probes = faces[len(rois) :] if probe else [None] * len(rois)
        return [Look.of(face, frame_bgr.shape, other) for face, other in zip(faces, probes, strict=False)]


@dataclass(eq=False)
class _Track:
    """A followed face. proven: the probe found it steady once, so that its word counts."""

    id: int
    look: Look
    score: float
    proven: bool
    seen_s: float
    smoother: _Smoother | None

    @property
    def face(self) -> Face:
        return self.look.face

    @property
    def box_xyxy(self) -> np.ndarray:
        return self.look.box_xyxy

    @property
    def roi_xyxy(self) -> np.ndarray:
        """Where to look in the next frame."""
        return self.face.roi_xyxy if self.look.offset <= STAY else self.look.next_roi

    def accepts(self, look: Look) -> bool:
        """Whether the look shows the same face a frame later."""
        if not look.can_be_face or (self.proven and look.unsteady is not None and not look.is_steady):
            return False
        growth = look.side / self.look.side
        turn = _turn_deg(self.face.rotation, look.face.rotation)
        return 1 / MAX_GROWTH <= growth <= MAX_GROWTH and turn <= MAX_TURN_DEG

    def move(self, look: Look, time_s: float) -> None:
        self.look, self.seen_s = look, time_s
        self.proven = self.proven or look.is_steady

    def shown(self, time_s: float, convention: PoseRule) -> TrackedFace:
        changes = {"box_xyxy": self.box_xyxy} if self.smoother is None else self.smoother(self.face, time_s, convention)
        return TrackedFace(**{**vars(self.face), **changes, "score": self.score}, id=self.id)


class _Smoother:
    """One face's filter: of its landmarks, the refined ones, and the rows of its rotation; angles jump at 180 degrees,
    these do not."""

    def __init__(self, constants: OneEuro) -> None:
        self._filter = OneEuroFilter(constants)

    def __call__(self, face: Face, time_s: float, convention: PoseRule) -> dict[str, Any]:
        """The face's fields that change."""
        refined = () if face.refined_landmarks is None else (face.refined_landmarks,)
        points = np.concatenate([face.rotation[:2], face.landmarks, *refined])
        units = np.full((len(points), 1), face_size(face.landmarks))
        units[:2] = 1.0  # the rotation's speed is in radians, the landmarks' in face sizes
        smooth = self._filter(points, time_s, units)
        rotation, landmarks = rows_to_rotation(smooth[None, :2])[0], smooth[2:].astype(np.float32)
        return {
            "landmarks": landmarks[:68],
            "refined_landmarks": landmarks[68:] if refined else None,
            "rotation": rotation,
            "pose": Pose(*rotation_to_euler_deg(rotation[None], convention)[0].tolist()),
            "box_xyxy": box_of(landmarks[:68]),
        }


class _Search:
    """When the detector is due."""

    def __init__(self, every: int) -> None:
        self._every, self._least = every, min(SEARCH_AGAIN, every)
        self._wait, self._next, self._soonest = 0, 0, 0

    def is_due(self, frame: int, news: bool) -> bool:
        """news: a face was lost or the scene changed."""
        if news:
            self._wait, self._next = 0, min(self._next, self._soonest)
        return frame >= self._next

    def done(self, frame: int, in_vain: bool) -> None:
        self._wait = min(max(2 * self._wait, self._least), self._every) if in_vain else 0
        self._next, self._soonest = frame + (self._wait or self._every), frame + self._least


def _colours(frame_bgr: np.ndarray) -> np.ndarray:
    """How often (8,8,8) each of 512 colours comes in a sample of the picture."""
    coarse = cv2.resize(frame_bgr, CUT_SAMPLES_WH, interpolation=cv2.INTER_NEAREST)
    return cv2.calcHist([coarse], [0, 1, 2], None, [8, 8, 8], [0, 256] * 3)


def _turn_deg(one: np.ndarray, other: np.ndarray) -> float:
    """The angle between two rotations (3,3)."""
    cosine = (float((one * other).sum()) - 1) / 2
    return math.degrees(math.acos(min(max(cosine, -1.0), 1.0)))
