"""Runs crops through an engine: any number of crops, whatever batch sizes the model has."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from synergy.runtime.bundle import Bundle
from synergy.runtime.decode import choose_pose_rule, dewhiten, vertices
from synergy.runtime.engines import Engine
from synergy.runtime.faces import PoseDecoder, Prediction
from synergy.runtime.processes.sharing import ProcessBound, call_after_fork
from synergy.runtime.specs import DYNAMIC

if TYPE_CHECKING:
    from synergy.runtime.inference.parallel_runs import ParallelRuns

# Crops per engine run. On CPUs more saves nothing and costs memory; an H200 gains up to 1024 with onnxruntime.
MAX_BATCH = 64
MAX_BATCH_ON_CARD = 1024
# From this many crops in a call on, parts of them run side by side, once calls had `PARALLEL_AFTER` such crops in all:
# a second session takes about as long to open as 50 crops take to run.
PARALLEL_FROM, PARALLEL_AFTER = 64, 256
PARALLEL_BATCH = 16


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
        self._parallel: ParallelRuns | None = None
        self._parallel_crops = 0  # in calls that are large enough to run in parallel
        self._lock = Lock()  # protects the two
        self._is_forked = False
        call_after_fork(self)

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

    def close(self) -> None:
        """Free the sessions for large batches, after the runs in progress; the engine must be closed before."""
        with self._lock:
            parallel, self._parallel = self._parallel, None
        if parallel is not None:
            parallel.close()

    def after_fork(self) -> None:
        """In the child: the libraries' threads are missing, and the lock can be held by a thread of the parent."""
        self._parallel, self._lock, self._is_forked = None, Lock(), True

    def _run(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        fixed = self.input.shape[0]
        parallel = self._parallel_runs(len(crops))
        most = PARALLEL_BATCH if parallel else MAX_BATCH if self.engine.device.kind == "cpu" else MAX_BATCH_ON_CARD
        step = most if fixed == DYNAMIC else fixed
        if 0 < len(crops) <= step and fixed in (DYNAMIC, len(crops)):
            return self.engine.run({self.input.name: crops})
        inputs = [self._input(crops[start : start + step], fixed) for start in range(0, len(crops), step)]
        parts = parallel.run(inputs) if parallel else [self.engine.run(each) for each in inputs]
        empty = {t.name: np.zeros((0, *t.shape[1:]), np.float32) for t in self.bundle.manifest.outputs}
        return {
            name: np.concatenate([none, *(part[name] for part in parts)])[: len(crops)] for name, none in empty.items()
        }

    def _parallel_runs(self, count: int) -> ParallelRuns | None:
        """The sessions for `count` crops, opened if it is time to; None if the engine itself is to run them."""
        if count < PARALLEL_FROM or self._is_forked:
            return None
        engine = self.engine
        is_able = engine.several_sessions and engine.threads > 1 and engine.device.kind == "cpu"
        if not is_able or engine.options.affinity:
            return None
        with self._lock:
            self._parallel_crops += count
            if not engine.is_open:  # its `run` raises
                return None
            if self._parallel is None and self._parallel_crops >= PARALLEL_AFTER:
                from synergy.runtime.inference.parallel_runs import ParallelRuns  # large calls only

                self._parallel = ParallelRuns(engine)
            return self._parallel

    def _input(self, crops: np.ndarray, fixed: int) -> dict[str, np.ndarray]:
        """The input of one engine run; for a model with a fixed batch the last crop is repeated."""
        missing = 0 if fixed == DYNAMIC else fixed - len(crops)
        return {self.input.name: np.concatenate([crops, np.repeat(crops[-1:], missing, axis=0)]) if missing else crops}
