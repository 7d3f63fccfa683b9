"""Reference outputs of the Cell on known crops, and the tolerances that engines must meet.

The parity check, `synergy verify` and the check before a card's first answer all compare by the rules of this file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from synergy.runtime.engines import Engine
from synergy.runtime.manifest import Manifest
from synergy.runtime.specs import DYNAMIC
from synergy.runtime.variants import Variant
from synergy.runtime.verification.parity_record import Check

# Largest difference allowed between float32 implementations. The official PyTorch code meets these against itself in
# float64: params in whitened units, points in crop pixels. Networks of 50 layers and more round 5 times worse.
TOLERANCES = {"params": 2e-4, "landmarks": 1e-2, "refined_landmarks": 1e-2, "vertices": 1e-2}
DEEP_ARCHS = ("resnet50", "resnet101", "resnet152", "resnest50")
DEEP_FACTOR = 5.0
# The tolerances hold for values up to these: faces stay within 5 standard deviations and within the crop. For larger
# values, such as an untrained network gives on noise, float32 rounds in proportion.
NOMINAL = {"params": 5.0, "landmarks": 120.0, "refined_landmarks": 120.0, "vertices": 120.0}
# A reduced precision is judged by its task accuracy. Its numbers are compared on faces only, because noise is outside
# the range that int8 was calibrated for, and within this many tolerances: 1 px for fp16, 5 px for bf16, 20 px for int8.
# That is far above their rounding and far below the effect of a wrong layout or colour order.
PRECISION_FACTORS = {"fp32": 1.0, "fp16": 100.0, "bf16": 500.0, "int8": 2000.0}
# Outputs must vary between the faces by this many tolerances. A network whose output is nearly constant agrees with
# anything, so comparing it is meaningless.
SENSITIVITY_FACTOR = 100.0


@dataclass(frozen=True)
class Reference:
    """Crops and the Cell's outputs for them.

    crops (N,120,120,3) uint8 BGR: `faces` crops of faces, then noise. outputs: params (N,62) whitened; landmarks,
    refined_landmarks (N,3,68) and vertices (N,3,P) in crop px. points: for an output that holds a part of the graph's
    points, the indices (P,) of these.
    """

    crops: np.ndarray
    faces: int
    outputs: dict[str, np.ndarray]
    points: dict[str, np.ndarray]

    def tolerance(self, output: str, arch: str) -> float:
        """Largest float32 difference allowed; larger for values beyond the nominal ones and for deep networks."""
        beyond = max(1.0, float(np.abs(self.outputs[output]).max()) / NOMINAL[output])
        return TOLERANCES[output] * beyond * (DEEP_FACTOR if arch in DEEP_ARCHS else 1.0)

    def compared(self, precision: str) -> int:
        """The number of crops, from the first, that are compared in this precision."""
        return len(self.crops) if precision == "fp32" else self.faces

    def input_sensitivity(self, output: str) -> float:
        """Median, over the output's values, of their range over the faces."""
        return float(np.median(np.ptp(self.outputs[output][: self.faces], axis=0)))

    def first(self, count: int) -> Reference:
        """The reference with its first `count` crops only."""
        outputs = {name: values[:count] for name, values in self.outputs.items()}
        return Reference(self.crops[:count], min(self.faces, count), outputs, self.points)

    def part_of(self, output: str, values: np.ndarray) -> np.ndarray:
        """The points of a graph's output that the reference holds."""
        return values[:, :, self.points[output]] if output in self.points else values


def check_engine(engine: Engine, variant: Variant, manifest: Manifest, reference: Reference) -> Iterator[Check]:
    """Compare a variant's outputs with the reference: one crop per run, and all crops in one run.

    Raises EngineError if a run fails.
    """
    count = reference.compared(variant.precision)
    crops = reference.crops[:count]
    return compare(all_runs(engine, manifest, crops), variant, manifest, reference)


def compare(
    runs: list[dict[str, np.ndarray]], variant: Variant, manifest: Manifest, reference: Reference
) -> Iterator[Check]:
    """A check for each output of the graph that the reference has; each run has the outputs for the compared crops."""
    count = reference.compared(variant.precision)
    for tensor in manifest.outputs:
        output = tensor.name
        if output not in reference.outputs:
            continue
        expected = reference.outputs[output][:count]
        differences = [np.abs(reference.part_of(output, run[output][:count]) - expected).max() for run in runs]
        max_abs = float(np.max(differences))  # max() would lose a NaN
        rounding, sensitivity = reference.tolerance(output, manifest.arch), reference.input_sensitivity(output)
        tolerance = rounding * PRECISION_FACTORS[variant.precision]
        passed = max_abs <= tolerance and sensitivity >= SENSITIVITY_FACTOR * rounding
        file, engine = variant.artifact.file, variant.engine
        yield Check(file, engine, output, max_abs, sensitivity, tolerance, passed, variant.compute_precision)


def missing_outputs(manifest: Manifest, reference: Reference) -> list[str]:
    """Outputs of the graph that the reference does not have."""
    return [tensor.name for tensor in manifest.outputs if tensor.name not in reference.outputs]


def all_runs(engine: Engine, manifest: Manifest, crops: np.ndarray) -> list[dict[str, np.ndarray]]:
    """The outputs for all crops, twice: one crop per run, and all in one run. A fixed batch is run as it is, once."""
    fixed = manifest.inputs[0].shape[0]
    return [run_in_batches(engine, crops, size) for size in ((1, len(crops)) if fixed == DYNAMIC else (fixed,))]


def run_in_batches(engine: Engine, crops: np.ndarray, size: int) -> dict[str, np.ndarray]:
    """The outputs for all crops, `size` crops per run; the last run is filled up with the first crop."""
    padded = np.concatenate([crops, crops[:1].repeat(-len(crops) % size, axis=0)])
    name = engine.model.inputs[0].name
    parts = [engine.run({name: padded[start : start + size]}) for start in range(0, len(padded), size)]
    return {key: np.concatenate([part[key] for part in parts])[: len(crops)] for key in parts[0]}
