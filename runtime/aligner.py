"""From a picture to faces: detect, crop, run the engine, decode."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from synergy.runtime.bundle import BUILTIN, Bundle, DenseBasis
from synergy.runtime.crop import check_image, roi_to_image
from synergy.runtime.cropping.cutting import cut_faces, cut_regions
from synergy.runtime.cropping.levelling import turn_back
from synergy.runtime.cropping.stability import judged
from synergy.runtime.decode import choose_pose_rule, dewhiten, vertices
from synergy.runtime.detection.limits import check_limits
from synergy.runtime.engines import Engine, load_library, open_engine
from synergy.runtime.errors import BundleError, EngineError
from synergy.runtime.faces import Detection, Face, FaceCrops, Prediction, detections_from_boxes, make_faces
from synergy.runtime.inference.predictor import CropPredictor
from synergy.runtime.manifest import Artifact
from synergy.runtime.processes.sharing import ProcessBound
from synergy.runtime.specs import DEFAULT_OPTIONS, Device, EngineOptions

if TYPE_CHECKING:
    from synergy.runtime.detection.detector import Detector


class FaceAligner(ProcessBound):
    """Finds faces, 68 3-D landmarks and head pose with a bundle opened on one engine.

    Use it as a context manager, or call `close`. Images are uint8 arrays (H,W,3) in BGR order, as from `cv2.imread`.
    Coordinates are pixels of the image: x to the right, y down.

    Safe to share between threads. Runs of onnx and openvino can be parallel; those of lite, mindspore and isolated
    engines wait for each other, and so do calls of the detector. `close` waits for the runs in progress. In a forked
    child process onnx and openvino work; other engines raise EngineError, as every engine does after `close`.

    Attributes:
        bundle: The bundle that was opened.
        artifact: The model file in use.
        engine: The engine that runs it; `engine.label` is its name and compute precision.
        unverified: True if the device is not a CPU and its results were not compared with the golden values.

    Example:
        >>> with FaceAligner.load(bundle, engine="onnx") as aligner:
        ...     faces = aligner.align(image_bgr, [[180, 72, 270, 184]])
        ...     prediction = aligner.predict(np.zeros((2, 120, 120, 3), np.uint8))
        >>> faces[0].landmarks.shape, faces[0].params.shape
        ((68, 3), (62,))
        >>> prediction.landmarks.shape, prediction.euler_deg.shape
        ((2, 3, 68), (2, 3))
    """

    def __init__(
        self,
        bundle: Bundle,
        artifact: Artifact,
        engine: Engine,
        detector: Detector | None = None,
        angles: str = "common",
        detector_limits: tuple[float | None, int | None] = (None, None),
    ) -> None:
        self.bundle = bundle
        self.artifact = artifact
        self.engine = engine
        self.detector = detector
        self._detector_limits = detector_limits  # min_score, max_faces of the detector that `detect` makes
        self.predictor = CropPredictor(bundle, engine, angles)
        self.morphable = self.predictor.morphable
        self.pose = self.predictor.pose
        self.unverified = False  # on a card without comparison with the golden values

    @classmethod
    def load(
        cls,
        folder: str | Path | None = None,
        engine: str = "auto",
        device: str = "cpu",
        threads: int | None = None,
        artifact: str | None = None,
        detector: Detector | None = None,
        isolated: bool = False,
        options: EngineOptions = DEFAULT_OPTIONS,
        verify: bool | None = None,
        angles: str = "common",
        min_score: float | None = None,
        max_faces: int | None = None,
    ) -> FaceAligner:
        """Open the bundle in `folder`; without one, the built-in bundle.

        Args:
            folder: Folder that `synergy export` made; None for the built-in bundle.
            engine: "lite", "onnx", "openvino", "mindspore", or "auto" for the fastest engine, artifact, number of
                threads and verified compute precision, measured once per machine and bundle.
            device: "cpu", "gpu[:N]" or "ascend[:N]".
            threads: CPU threads, at most the number of cores; None for all cores.
            artifact: File name or format of the model in the bundle; None for the one that the engine prefers.
            detector: Face detector for `detect`; None for YuNet if it is installed, else the cascades of OpenCV.
            isolated: Run the engine in a child process, so that a crash in a native library is an EngineError.
            options: Compute precision, CPU cores and MindSpore Lite settings.
            verify: Compare the engine with the golden values of the bundle before the first result, and refuse it if
                they differ. None: only on GPU and Ascend, whose libraries can give wrong numbers without an error; a
                bundle without golden values is refused there. False: never; `unverified` is then True.
            angles: "common" for yaw, pitch and roll with the same signs for every bundle, those of SynergyNet's code;
                "official" for those of the official code of the network, SynergyNet or 3DDFA_V2.
            min_score: Drop detected faces with a lower score, 0 to 1; None for the default of the detector.
            max_faces: Keep only so many detected faces of an image, those with the highest scores; None for all.

        Returns:
            An open aligner.

        Raises:
            BundleError: The folder is no bundle, or a file in it was changed.
            EngineUnavailableError: The engine or the device is not available; the message says how to install it.
            EngineError: The engine cannot run the model, or its results differ from the golden values.
            ValueError: The engine, the device, the artifact or `angles` is unknown, or a limit is out of range.
        """
        check_limits(min_score, max_faces, detector)
        bundle = Bundle.open(BUILTIN if folder is None else folder)
        choose_pose_rule(angles, bundle.manifest.pose)  # refuses an unknown name before the engine is opened
        where = Device.parse(device)
        if engine == "auto":
            from synergy.runtime.autotune import TuneRequest, tune  # an engine that is named needs none of it

            best = tune(bundle, where, TuneRequest(threads, artifact, options))[0]
            engine, artifact, threads = best.engine, best.artifact, best.threads
            options = replace(options, precision=best.compute_precision)
        chosen = bundle.artifact(artifact) if artifact else bundle.artifact_for(engine, where)
        model = bundle.start_reading(chosen)
        if not isolated:
            load_library(engine)  # while the model is hashed
        opened = open_engine(engine, model(), where, threads, isolated, options)
        try:
            aligner = cls(bundle, chosen, opened, detector, angles, (min_score, max_faces))
            is_card = where.kind != "cpu"
            if verify or (verify is None and is_card):
                from synergy.runtime.verification.replay import require_golden_answers  # CPUs are not checked each time

                require_golden_answers(aligner)
            aligner.unverified = is_card and verify is False
            return aligner
        except (BundleError, EngineError):
            opened.close()
            raise

    def __call__(self, image: np.ndarray | str | Path, confidence: bool = False) -> list[Face]:
        """Detect and align all faces of an image.

        Args:
            image: Image (H,W,3) uint8, BGR, or the path of an image file.
            confidence: As for `align`.

        Returns:
            The faces, best detection first; an empty list if there are none.

        Raises:
            MediaError: The file cannot be read.
            ValueError: The array has another shape or dtype.
            EngineError: The engine failed.
        """
        if isinstance(image, (str, Path)):
            from synergy.runtime.media.image import read_image  # images in memory need no decoder

            image_bgr = read_image(image)
        else:
            image_bgr = image
        return self.align_crops([self.cut(image_bgr, self.detect(image_bgr), confidence)])[0]

    def detect(self, image_bgr: np.ndarray) -> list[Detection]:
        """Detect faces with the detector that was given, else with YuNet if it is installed, else OpenCV's cascades.

        Args:
            image_bgr: Image (H,W,3) uint8, BGR.

        Returns:
            Boxes (4,) x1, y1, x2, y2 in image pixels, with a score from 0 to 1.

        Raises:
            ValueError: The image has another shape or dtype.
        """
        check_image(image_bgr)
        if self.detector is None:
            from synergy.runtime.detection.detector import make_detector  # known boxes and ready crops need none

            self.detector = make_detector("auto", None, *self._detector_limits)
        return self.detector.detect(image_bgr)

    def align(
        self, image_bgr: np.ndarray, boxes_xyxy: Sequence[Sequence[float]] | np.ndarray, confidence: bool = False
    ) -> list[Face]:
        """Align faces whose boxes are known.

        Args:
            image_bgr: Image (H,W,3) uint8, BGR.
            boxes_xyxy: Boxes (F,4) x1, y1, x2, y2 in image pixels, tight around the face. A fifth column (score) is
                ignored.
            confidence: Compute `Face.confidence`, which takes one more run of the network per face.

        Returns:
            One face per box, in the same order.

        Raises:
            ValueError: The image or the boxes have another shape, or a box is empty, not finite or entirely outside
                the image.
            EngineError: The engine failed.
        """
        return self.align_crops([self.cut(image_bgr, detections_from_boxes(boxes_xyxy), confidence)])[0]

    def align_rois(self, image_bgr: np.ndarray, rois_xyxy: Sequence[Sequence[float]] | np.ndarray) -> list[Face]:
        """Align faces whose crop regions are known.

        Args:
            image_bgr: Image (H,W,3) uint8, BGR.
            rois_xyxy: Square regions (F,4) x1, y1, x2, y2 in image pixels. They are cropped as they are; the crop rule
                of the bundle is not applied.

        Returns:
            One face per region, in the same order.

        Raises:
            ValueError: The image or the regions have another shape, or a region is empty, not finite or entirely
                outside the image.
            EngineError: The engine failed.
        """
        return self.align_crops([cut_regions(image_bgr, rois_xyxy, self.bundle.manifest)])[0]

    def predict(self, crops_bgr_u8: np.ndarray) -> Prediction:
        """Run the network on face crops.

        Args:
            crops_bgr_u8: Crops (N,120,120,3) uint8, BGR, not normalised. N may be 0.

        Returns:
            For N crops: `params` (N,62) float32 whitened, `landmarks` (N,3,68) float32 in crop pixels, `euler_deg`
            (N,3) yaw, pitch, roll in degrees.

        Raises:
            ValueError: The crops have another shape or dtype.
            EngineError: The engine failed.
        """
        return self.predictor.predict(crops_bgr_u8)

    def mesh(self, face: Face) -> np.ndarray:
        """The dense mesh of a face.

        Args:
            face: A face from this aligner.

        Returns:
            Vertices (V,3) float32 in image pixels, as `Face.landmarks`.

        Raises:
            BundleError: The bundle has no dense basis.
        """
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
        """Free the engine, after the runs in progress in other threads. Safe to call twice."""
        self.engine.close()
        self.predictor.close()

    def __enter__(self) -> FaceAligner:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def cut(self, image_bgr: np.ndarray, detections: Sequence[Detection], confidence: bool = False) -> FaceCrops:
        """Cut detected faces out of an image, for `align_crops`. Raises ValueError as `align`."""
        return cut_faces(image_bgr, detections, self.bundle.manifest, confidence)

    def align_crops(self, face_crops: Sequence[FaceCrops]) -> list[list[Face]]:
        """The faces of several images, all through the engine together, image by image."""
        crops = [cut.crops_bgr for cut in face_crops if len(cut.crops_bgr)]
        if not crops:
            return [[] for _ in face_crops]
        rois = np.concatenate([cut.rois_xyxy for cut in face_crops])
        detections = [detection for cut in face_crops for detection in cut.detections]
        prediction = turn_back(self.predict(np.concatenate(crops)), detections, self.bundle.manifest)
        faces = iter(make_faces(prediction, rois, detections, self.unverified))
        return [judged(list(itertools.islice(faces, len(cut.detections))), cut) for cut in face_crops]
