"""From a picture to faces: detect, crop, run the engine, decode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType

import numpy as np

from runtime.bundle import Bundle, DenseBasis
from runtime.crop import check_boxes, crop_resize, roi_from_box, roi_to_image
from runtime.decode import PoseRule, dewhiten, euler_deg, rotation, vertices
from runtime.detection import Detection, Detector, HaarDetector
from runtime.engines import DEFAULT_OPTIONS, Device, Engine, EngineOptions, engine_formats, open_engine
from runtime.engines.base import DYNAMIC
from runtime.errors import BundleError
from runtime.manifest import Artifact
from runtime.tuning import Wish, tune

MAX_BATCH = 64  # crops per engine run; more saves nothing and costs memory


@dataclass(frozen=True)
class Pose:
    """Head pose in degrees, by the convention of the network that made it (`pose` in the manifest)."""

    yaw: float
    pitch: float
    roll: float


@dataclass(frozen=True)
class PoseDecoder:
    """From a network's parameters to angles: its whitening (62,) and its convention."""

    param_mean: np.ndarray
    param_std: np.ndarray
    rule: PoseRule

    def euler_deg(self, params: np.ndarray) -> np.ndarray:
        """Whitened parameters (N,62) -> yaw, pitch, roll (N,3) float64 in degrees."""
        return euler_deg(dewhiten(params, self.param_mean, self.param_std), self.rule)


@dataclass(frozen=True)
class Prediction:
    """For N crops: params (N,62) float32 whitened; landmarks (N,3,68) float32 crop px, y down, z depth.

    As landmarks, where the bundle's head gives them: refined_landmarks (N,3,68), vertices (N,3,V) of the mesh.
    """

    params: np.ndarray
    landmarks: np.ndarray
    refined_landmarks: np.ndarray | None = None
    vertices: np.ndarray | None = None
    pose: PoseDecoder = field(kw_only=True, repr=False)

    @cached_property
    def euler_deg(self) -> np.ndarray:
        """(N,3) float64 yaw, pitch, roll in degrees. Computed when first asked for."""
        return self.pose.euler_deg(self.params)


@dataclass(frozen=True)
class Face:
    """One face in image coordinates.

    landmarks (68,3) float32 px: x right, y down, z in the same scale; pose in degrees; rotation (3,3), rows are
    the image's x, y (up) and z axes in the head's frame; box_xyxy (4,) as detected or given, roi_xyxy (4,) the
    square that was cropped; score of the detector, 1.0 for given boxes; params (62,) whitened. As landmarks, where
    the bundle's head gives them: refined_landmarks (68,3), vertices (V,3).
    """

    landmarks: np.ndarray
    pose: Pose
    rotation: np.ndarray
    box_xyxy: np.ndarray
    roi_xyxy: np.ndarray
    score: float
    params: np.ndarray
    refined_landmarks: np.ndarray | None = None
    vertices: np.ndarray | None = None


class FaceAligner:
    """A bundle opened on one engine. Use as a context manager, or call `close`."""

    def __init__(self, bundle: Bundle, artifact: Artifact, engine: Engine, detector: Detector | None = None) -> None:
        self.bundle = bundle
        self.artifact = artifact
        self.engine = engine
        self.detector = detector
        self.morphable = bundle.morphable()
        self.pose = PoseDecoder(self.morphable.param_mean, self.morphable.param_std, bundle.manifest.pose)
        self.input = bundle.manifest.inputs[0]

    @classmethod
    def load(
        cls,
        folder: str | Path,
        engine: str = "auto",
        device: str = "cpu",
        threads: int | None = None,
        artifact: str | None = None,
        detector: Detector | None = None,
        isolated: bool = False,
        options: EngineOptions = DEFAULT_OPTIONS,
    ) -> FaceAligner:
        """Open the bundle in `folder`.

        engine: lite, onnx, mindspore, or auto for the fastest engine, artifact and number of threads, measured once
        per machine and bundle (`runtime.tuning`). device: cpu, gpu[:N] or ascend[:N]. threads: None for all cores.
        artifact: a file or format of the bundle instead of the engine's preferred one. isolated: run the engine in
        a child process. options: precision on a card, cores, Lite's own settings.
        Raises BundleError, EngineUnavailableError, EngineError, or ValueError for an unknown engine or device.
        """
        bundle = Bundle.open(folder)
        where = Device.parse(device)
        if engine == "auto":
            best = tune(bundle, where, Wish(threads, artifact, options))[0]
            engine, artifact, threads = best.engine, best.artifact, best.threads
        chosen = bundle.artifact(artifact) if artifact else bundle.best_artifact(engine_formats(engine, where))
        opened = open_engine(engine, bundle.model_file(chosen), where, threads, isolated, options)
        try:
            return cls(bundle, chosen, opened, detector)
        except BundleError:
            opened.close()
            raise

    def __call__(self, image_bgr: np.ndarray) -> list[Face]:
        """Detect and align all faces of an image (H,W,3) uint8 BGR."""
        return self._align(image_bgr, self.detect(image_bgr))

    def detect(self, image_bgr: np.ndarray) -> list[Detection]:
        """Face boxes, by OpenCV's own cascade unless another detector was given."""
        check_image(image_bgr)
        if self.detector is None:
            self.detector = HaarDetector()
        return self.detector.detect(image_bgr)

    def align(self, image_bgr: np.ndarray, boxes_xyxy: Sequence[Sequence[float]] | np.ndarray) -> list[Face]:
        """Align faces whose boxes (F,4) are known, in image px; a fifth column, a score, is ignored."""
        check_image(image_bgr)
        boxes = np.asarray(boxes_xyxy, np.float64)
        if boxes.size == 0:
            return []
        if boxes.ndim != 2 or boxes.shape[1] not in (4, 5):
            raise ValueError(f"boxes must be (F, 4) as x1, y1, x2, y2, not {boxes.shape}")
        return self._align(image_bgr, [Detection(box, 1.0) for box in boxes[:, :4]])

    def align_rois(self, image_bgr: np.ndarray, rois_xyxy: Sequence[Sequence[float]] | np.ndarray) -> list[Face]:
        """Align faces whose square regions (F,4) are known, in image px: the crop rule is not applied to them."""
        check_image(image_bgr)
        rois = np.array(rois_xyxy, np.float64)
        if rois.size == 0:
            return []
        if rois.ndim != 2:
            raise ValueError(f"regions must be (F, 4) as x1, y1, x2, y2, not {rois.shape}")
        rois = check_boxes(rois)
        return self._align_rois(image_bgr, rois, [Detection(roi, 1.0) for roi in rois])

    def predict(self, crops_bgr_u8: np.ndarray) -> Prediction:
        """Run ready crops (N,120,120,3) uint8 BGR; N may be any number from 0."""
        crops = np.asarray(crops_bgr_u8)
        if crops.ndim != 4 or crops.shape[1:] != self.input.shape[1:] or crops.dtype != np.uint8:
            wanted = ", ".join(str(size) for size in self.input.shape[1:])
            raise ValueError(f"crops must be uint8 (N, {wanted}) BGR, not {crops.dtype} {crops.shape}")
        outputs = self._run(crops)
        if "landmarks" not in outputs:  # of the params head
            outputs["landmarks"] = self._sparse_landmarks(outputs["params"])
        return Prediction(pose=self.pose, **outputs)

    def mesh(self, face: Face) -> np.ndarray:
        """Dense vertices (V,3) float32 in image px, as `Face.landmarks`. Raises BundleError without a dense basis."""
        if face.vertices is not None:
            return face.vertices
        basis = self.dense_basis()
        physical = dewhiten(face.params[None], self.morphable.param_mean, self.morphable.param_std)
        frame = self.bundle.manifest.landmark_frame
        dense = vertices(physical, basis.u, basis.w_shp, basis.w_exp, frame)
        return roi_to_image(dense, face.roi_xyxy[None])[0].T

    def dense_basis(self) -> DenseBasis:
        """The dense mesh's basis. Raises BundleError saying how to get one."""
        if self.morphable.dense is None:
            raise BundleError(
                f"{self.bundle.folder} has no dense basis: convert the checkpoint with --morphable FILE.npz "
                "(u, w_shp, w_exp, triangles) and export it again"
            )
        return self.morphable.dense

    def close(self) -> None:
        """Free the engine."""
        self.engine.close()

    def __enter__(self) -> FaceAligner:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _align(self, image_bgr: np.ndarray, detections: Sequence[Detection]) -> list[Face]:
        if not detections:
            return []
        rule = self.bundle.manifest.crop
        rois = np.stack([roi_from_box(detection.box_xyxy, rule) for detection in detections])
        return self._align_rois(image_bgr, rois, detections)

    def _align_rois(self, image_bgr: np.ndarray, rois: np.ndarray, detections: Sequence[Detection]) -> list[Face]:
        manifest = self.bundle.manifest
        size, interpolation = manifest.preprocessing.size, manifest.crop.interpolation
        prediction = self.predict(np.stack([crop_resize(image_bgr, roi, size, interpolation) for roi in rois]))
        landmarks = roi_to_image(prediction.landmarks, rois)
        refined, vertices = (_to_image(part, rois) for part in (prediction.refined_landmarks, prediction.vertices))
        rotations = rotation(dewhiten(prediction.params, self.morphable.param_mean, self.morphable.param_std))
        return [
            Face(
                landmarks=landmarks[i].T,
                pose=Pose(*(float(angle) for angle in prediction.euler_deg[i])),
                rotation=rotations[i],
                box_xyxy=np.array(detection.box_xyxy, np.float64),  # not a view of the caller's boxes
                roi_xyxy=rois[i],
                score=float(detection.score),
                params=prediction.params[i],
                refined_landmarks=refined[i],
                vertices=vertices[i],
            )
            for i, detection in enumerate(detections)
        ]

    def _sparse_landmarks(self, params: np.ndarray) -> np.ndarray:
        basis, frame = self.morphable, self.bundle.manifest.landmark_frame
        physical = dewhiten(params, basis.param_mean, basis.param_std)
        return vertices(physical, basis.u_base, basis.w_shp_base, basis.w_exp_base, frame)

    def _run(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        fixed = self.input.shape[0]
        step = MAX_BATCH if fixed == DYNAMIC else fixed
        if 0 < len(crops) <= step and fixed in (DYNAMIC, len(crops)):
            return self.engine.run({self.input.name: crops})
        parts = [self._run_part(crops[start : start + step], fixed) for start in range(0, len(crops), step)]
        empty = {t.name: np.zeros((0, *t.shape[1:]), np.float32) for t in self.bundle.manifest.outputs}
        return {name: np.concatenate([none, *(part[name] for part in parts)]) for name, none in empty.items()}

    def _run_part(self, crops: np.ndarray, fixed: int) -> dict[str, np.ndarray]:
        """One engine run; a model with a fixed batch gets its last crop repeated and the surplus cut off."""
        count = len(crops)
        if fixed != DYNAMIC and count < fixed:
            crops = np.concatenate([crops, np.repeat(crops[-1:], fixed - count, axis=0)])
        outputs = self.engine.run({self.input.name: crops})
        return {name: array[:count] for name, array in outputs.items()}


def _to_image(points: np.ndarray | None, rois_xyxy: np.ndarray) -> Sequence[np.ndarray | None]:
    """Points (N,3,P) in crop px -> N times (P,3) in image px; N times None where the head gives none."""
    if points is None:
        return [None] * len(rois_xyxy)
    return [placed.T for placed in roi_to_image(points, rois_xyxy)]


def check_image(image_bgr: np.ndarray) -> None:
    """Raise ValueError unless the image is (H,W,3) uint8."""
    if not isinstance(image_bgr, np.ndarray) or image_bgr.dtype != np.uint8 or image_bgr.ndim != 3:
        raise ValueError("the image must be a (H, W, 3) uint8 array in BGR order, as cv2.imread gives")
    if image_bgr.shape[2] != 3 or 0 in image_bgr.shape:
        raise ValueError(f"the image must be (H, W, 3) with H and W above 0, not {image_bgr.shape}")
