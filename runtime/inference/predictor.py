"""Runs crops through an engine: any number of crops, whatever batch sizes the model has."""

from __future__ import annotations

import numpy as np

from synergy.runtime.bundle import Bundle
from synergy.runtime.decode import choose_pose_rule, dewhiten, vertices
from synergy.runtime.engines import Engine
from synergy.runtime.faces import PoseDecoder, Prediction
from synergy.runtime.processes.sharing import ProcessBound
from synergy.runtime.specs import DYNAMIC

# Crops per engine run. On CPUs more saves nothing and costs memory; an H200 gains up to 1024 with onnxruntime.
MAX_BATCH = 64
MAX_BATCH_ON_CARD = 1024


class CropPredictor(ProcessBound):
    """The network of a bundle on an open engine. Safe to share between threads, as the engine is.

    morphable: bases and whitening of the bundle; pose: decodes the angles.
    """

    def __init__(self, bundle: Bundle, engine: Engine, angles: str = "common") -> None:
        """angles: as for `FaceAligner.load`. Raises BundleError if the bundle's bases cannot be read."""
        self.bundle = bundle
        self.engine = engine
        self.morphable = bundle.morphable()
        rule = choose_pose_rule(angles, bundle.manifest.pose)
        self.pose = PoseDecoder(self.morphable.param_mean, self.morphable.param_std, rule)
        self.input = bundle.manifest.inputs[0]

    def predict(self, crops_bgr_u8: np.ndarray) -> Prediction:
        """As `FaceAligner.predict`."""
        crops = np.asarray(crops_bgr_u8)
        if crops.ndim != 4 or crops.shape[1:] != self.input.shape[1:] or crops.dtype != np.uint8:
            wanted = ", ".join(str(size) for size in self.input.shape[1:])
            raise ValueError(f"crops must be uint8 (N, {wanted}) BGR, not {crops.dtype} {crops.shape}")
        outputs = self._run(crops)
        if "landmarks" not in outputs:  # of the params head
            outputs["landmarks"] = self._sparse_landmarks(outputs["params"])
        return Prediction(pose=self.pose, **outputs)

    def _sparse_landmarks(self, params: np.ndarray) -> np.ndarray:
        basis, frame = self.morphable, self.bundle.manifest.landmark_frame
        physical = dewhiten(params, basis.param_mean, basis.param_std)
        return vertices(physical, basis.u_base, basis.w_shp_base, basis.w_exp_base, frame)

    def _run(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        fixed = self.input.shape[0]
        most = MAX_BATCH if self.engine.device.kind == "cpu" else MAX_BATCH_ON_CARD
        step = most if fixed == DYNAMIC else fixed
        if 0 < len(crops) <= step and fixed in (DYNAMIC, len(crops)):
            return self.engine.run({self.input.name: crops})
        parts = [self._run_part(crops[start : start + step], fixed) for start in range(0, len(crops), step)]
        empty = {t.name: np.zeros((0, *t.shape[1:]), np.float32) for t in self.bundle.manifest.outputs}
        return {name: np.concatenate([none, *(part[name] for part in parts)]) for name, none in empty.items()}

    def _run_part(self, crops: np.ndarray, fixed: int) -> dict[str, np.ndarray]:
        """One engine run; for a model with a fixed batch the last crop is repeated and the surplus cut off."""
        count = len(crops)
        if fixed != DYNAMIC and count < fixed:
            crops = np.concatenate([crops, np.repeat(crops[-1:], fixed - count, axis=0)])
        outputs = self.engine.run({self.input.name: crops})
        return {name: array[:count] for name, array in outputs.items()}
