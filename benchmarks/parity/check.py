"""Every artifact on every engine against the Cell it was frozen from.

The Cell is fed by code that shares nothing with the exported graph's preprocessing, and each engine runs in a
process of its own, as it will on the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from synergy.benchmarks.sample_crops import noise_crops, real_crops
from synergy.runtime.decode import LandmarkFrame, dewhiten, vertices
from synergy.runtime.engines import Engine
from synergy.runtime.errors import EngineError
from synergy.runtime.manifest import Manifest
from synergy.runtime.parity_record import Check, ParityReport
from synergy.runtime.specs import DYNAMIC
from synergy.runtime.variants import Variant, VariantEngines, runnable_variants
from synergy.synergy_model.checkpoints.checkpoint import Checkpoint
from synergy.synergy_model.morphable import FRAMES
from synergy.synergy_model.synergynet import PIXEL_MEAN, PIXEL_SCALE, RefinedNetwork, SynergyNet

# Largest difference allowed between float32 implementations. The official PyTorch code meets these against
# itself in float64: params in whitened units, landmarks in crop pixels; nets of 50 layers and more round 5 times worse.
TOLERANCES = {"params": 2e-4, "landmarks": 1e-2, "refined_landmarks": 1e-2, "vertices": 1e-2}
DEEP_ARCHS = ("resnet50", "resnet101", "resnet152", "resnest50")
DEEP_FACTOR = 5.0
# Values up to which these hold: faces stay within 5 standard deviations and within the crop. Beyond, as a random
# network answers noise, float32 rounds in proportion.
NOMINAL = {"params": 5.0, "landmarks": 120.0, "refined_landmarks": 120.0, "vertices": 120.0}
# A reduced precision is judged by its task accuracy (`accuracy_drift`). Its numbers are compared on real crops only,
# noise being outside what int8 was calibrated for, and within this many tolerances: 1 px for fp16, 5 px for bf16, 20 px
# for int8. That is far above their rounding and far below what a wrong layout or colour order does.
PRECISION_FACTORS = {"fp32": 1.0, "fp16": 100.0, "bf16": 500.0, "int8": 2000.0}
CELL_BATCH = 16  # graph mode compiles for each batch size, in seconds, so all runs of a Cell have this one
# Outputs must move between crops of one face by this many tolerances: a network that ignores its input would
# agree with anything.
SENSITIVITY_FACTOR = 100.0


@dataclass(frozen=True)
class Reference:
    """Inputs and what the Cell makes of them. `real` is the number of real crops, which come first."""

    crops: np.ndarray
    real: int
    outputs: dict[str, np.ndarray]

    def tolerance(self, output: str, arch: str) -> float:
        """Largest allowed float32 difference: grows with values beyond the nominal ones, and for deep networks."""
        beyond = max(1.0, float(np.abs(self.outputs[output]).max()) / NOMINAL[output])
        return TOLERANCES[output] * beyond * (DEEP_FACTOR if arch in DEEP_ARCHS else 1.0)

    def compared(self, precision: str) -> int:
        """How many of the crops, from the first, are compared."""
        return len(self.crops) if precision == "fp32" else self.real

    def input_sensitivity(self, output: str) -> float:
        """Median over the output's values of their range over the real crops."""
        return float(np.median(np.ptp(self.outputs[output][: self.real], axis=0)))


def check_bundle(engines: VariantEngines, checkpoint: Checkpoint) -> ParityReport:
    """Run every artifact on every engine present. An artifact that no engine here can run is a failure."""
    bundle = engines.bundle
    reference = make_reference(checkpoint, bundle.manifest)
    checks: list[Check] = []
    failures: list[str] = []
    found = runnable_variants(bundle.manifest.artifacts, include_unverified=True)
    for artifact in bundle.manifest.artifacts:
        if not found.of(artifact):
            reasons = "; ".join(
                f"{each.reason}, {each.fix}"
                for each in found.skipped
                if each.artifact is not None and each.artifact.file == artifact.file
            )
            failures.append(f"{artifact.file} was run on no engine ({reasons})")
        for variant in found.of(artifact):
            try:
                checks.extend(_check_variant(engines, variant, reference))
            except EngineError as error:
                failures.append(f"{variant}: {error}")
    passed = bool(checks) and not failures and all(check.passed for check in checks)
    return ParityReport(passed, tuple(checks), failures=tuple(failures))


def make_reference(checkpoint: Checkpoint, manifest: Manifest) -> Reference:
    """What the Cell makes of real crops and of noise, for each of the bundle's outputs."""
    size = manifest.preprocessing.size
    real = real_crops(size)
    crops = np.concatenate([real, noise_crops(size)])
    found = cell_outputs(checkpoint.network, crops, refined=manifest.head == "refined")
    if manifest.head == "mesh":
        found["vertices"] = cell_vertices(checkpoint, found["params"])
    return Reference(crops, len(real), {tensor.name: found[tensor.name] for tensor in manifest.outputs})


def cell_outputs(network: SynergyNet, crops_bgr_u8: np.ndarray, refined: bool = False) -> dict[str, np.ndarray]:
    """The training-side Cell on crops (N,120,120,3), normalised here, by NumPy.

    params (N,62), landmarks (N,3,68), and refined_landmarks (N,3,68) where they are wanted.
    """
    import mindspore as ms

    ms.set_context(mode=ms.GRAPH_MODE)
    padded = np.concatenate([crops_bgr_u8, crops_bgr_u8[:1].repeat(-len(crops_bgr_u8) % CELL_BATCH, axis=0)])
    images = (padded.astype(np.float32).transpose(0, 3, 1, 2) - PIXEL_MEAN) / PIXEL_SCALE
    network.set_train(False)
    run = RefinedNetwork(network) if refined else network
    parts = [
        run(ms.Tensor(np.ascontiguousarray(images[start : start + CELL_BATCH])))
        for start in range(0, len(images), CELL_BATCH)
    ]
    outputs = [np.concatenate([each.asnumpy() for each in output]) for output in zip(*parts, strict=True)]
    names = ("params", "landmarks", "refined_landmarks")[: len(outputs)]
    return {name: output[: len(crops_bgr_u8)] for name, output in zip(names, outputs, strict=True)}


def cell_vertices(checkpoint: Checkpoint, params: np.ndarray) -> np.ndarray:
    """Whitened parameters (N,62) of the Cell -> vertices (N,3,V) crop px, in float64 by NumPy."""
    dense, morphable = checkpoint.dense, checkpoint.network.morphable
    if dense is None:
        raise ValueError("the bundle has a mesh, but this checkpoint no dense basis: give the one it was exported from")
    mean, std = (getattr(morphable, name).asnumpy().astype(np.float64) for name in ("param_mean", "param_std"))
    frame = LandmarkFrame(**asdict(FRAMES[morphable.convention]))
    return vertices(dewhiten(params.astype(np.float64), mean, std), dense.u, dense.w_shp, dense.w_exp, frame)


def _check_variant(engines: VariantEngines, variant: Variant, reference: Reference) -> Iterator[Check]:
    count, manifest, engine = reference.compared(variant.precision), engines.bundle.manifest, engines.engine(variant)
    crops = reference.crops[:count]
    runs = [_run_in_batches(engine, crops, size) for size in _batch_sizes(manifest, count)]
    for output, expected in reference.outputs.items():
        differences = [np.abs(run[output] - expected[:count]).max() for run in runs]
        max_abs = float(np.max(differences))  # max() would lose a NaN
        rounding, input_sensitivity = reference.tolerance(output, manifest.arch), reference.input_sensitivity(output)
        tolerance = rounding * PRECISION_FACTORS[variant.precision]
        passed = max_abs <= tolerance and input_sensitivity >= SENSITIVITY_FACTOR * rounding
        yield Check(
            variant.artifact.file,
            variant.engine,
            output,
            max_abs,
            input_sensitivity,
            tolerance,
            passed,
            variant.compute_precision,
        )


def _batch_sizes(manifest: Manifest, count: int) -> tuple[int, ...]:
    """One by one, and all at once; a model with a fixed batch has no choice."""
    fixed = manifest.inputs[0].shape[0]
    return (1, count) if fixed == DYNAMIC else (fixed,)


def _run_in_batches(engine: Engine, crops: np.ndarray, size: int) -> dict[str, np.ndarray]:
    padded = np.concatenate([crops, crops[:1].repeat(-len(crops) % size, axis=0)])
    name = engine.model.inputs[0].name
    parts = [engine.run({name: padded[start : start + size]}) for start in range(0, len(padded), size)]
    return {key: np.concatenate([part[key] for part in parts])[: len(crops)] for key in parts[0]}
