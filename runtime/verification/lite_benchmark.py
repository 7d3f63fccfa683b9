"""Golden values in the form that the `benchmark` tool of MindSpore Lite reads.

The tool compares the outputs of a model with a text file: for every output, in the order of the model, a line
`NAME RANK DIM0 DIM1 ...` and a line with all values. Names and shapes must be those of the model.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from synergy.runtime.bundle import Bundle
from synergy.runtime.decode import dewhiten, vertices
from synergy.runtime.errors import BundleError
from synergy.runtime.files import write_file
from synergy.runtime.manifest import Artifact
from synergy.runtime.specs import DYNAMIC
from synergy.runtime.verification.golden import Golden, read_golden
from synergy.runtime.verification.reference import PRECISION_FACTORS

BATCHES = (1, 4)  # of a dynamic batch
README = "README.txt"
EXPLANATION = """\
Golden values of the bundle {bundle} for the `benchmark` tool of MindSpore Lite
(folder tools/benchmark of the releases of MindSpore Lite; it is not in the Python package).

Copy {file} and `benchmark` into this folder, and type here:

{commands}

Exit status 0: the outputs agree. "The output tensor name is wrong": the model file is not the one of the bundle.
Releases without the option --modelType: leave it out.

inputs_N.bin: N face crops, uint8 (N,{size},{size},3), BGR. expected_N.txt: the outputs of the Cell for them.

--accuracyThreshold is in percent. The tool takes the mean relative error of all values that differ by more than 1e-5
of themselves, and the mean over the outputs. The threshold given above is what it finds if every value differs by its
whole tolerance. That is weaker than `synergy verify`, which compares each value: one wrong value is lost in the mean.
"""


def write_lite_benchmark(bundle: Bundle, folder: Path) -> list[str]:
    """Write inputs, expected outputs and a README.txt; returns the commands to type in that folder.

    One pair of files for 1 crop and one for 4, or one for the bundle's fixed batch. Raises BundleError for a bundle
    that lacks golden values, a `.ms` file or the names of its outputs, FileWriteError if the folder cannot be written.
    """
    golden, artifact = require_golden(bundle), ms_artifact(bundle)
    if len(artifact.outputs) != len(bundle.manifest.outputs):
        raise BundleError(
            f"the manifest of {bundle.folder} lacks the output names of {artifact.file}: export the bundle again"
        )
    fixed = bundle.manifest.inputs[0].shape[0]
    commands = []
    for batch in BATCHES if fixed == DYNAMIC else (fixed,):
        outputs = _expected(bundle, golden, batch)
        crops = golden.reference.crops[np.arange(batch) % golden.reference.faces]
        write_file(folder / f"inputs_{batch}.bin", crops.tobytes())
        text = expected_text(dict(zip(artifact.outputs, outputs.values(), strict=True)))
        write_file(folder / f"expected_{batch}.txt", text.encode())
        threshold = accuracy_threshold(bundle, golden, outputs, artifact)
        commands.append(_command(artifact, batch, crops.shape, threshold))
    explanation = EXPLANATION.format(
        bundle=bundle.folder.resolve().name,
        file=artifact.file,
        commands="\n\n".join(commands),
        size=bundle.manifest.preprocessing.size,
    )
    write_file(folder / README, explanation.encode())
    return commands


def expected_text(outputs: dict[str, np.ndarray]) -> str:
    """The text that the tool reads, float32 values exactly.

    There is no line break at the end: the tool would read one more output after it.
    """
    lines = []
    for name, values in outputs.items():
        lines.append(" ".join([name, str(values.ndim), *map(str, values.shape)]))
        lines.append(" ".join(f"{value:.9g}" for value in values.ravel().tolist()))
    return "\n".join(lines)


def accuracy_threshold(bundle: Bundle, golden: Golden, outputs: dict[str, np.ndarray], artifact: Artifact) -> float:
    """What the tool finds, in percent, if every value differs by its whole tolerance; rounded up to two digits."""
    factor, arch = PRECISION_FACTORS[artifact.precision], bundle.manifest.arch
    biases = []
    for name, values in outputs.items():
        tolerance = factor * golden.reference.tolerance(name, arch)
        biases.append(float(np.mean(tolerance / np.maximum(np.abs(values), tolerance))))
    percent = 100 * sum(biases) / len(biases)
    step = 10.0 ** (math.floor(math.log10(percent)) - 1)
    return math.ceil(percent / step) * step


def ms_artifact(bundle: Bundle) -> Artifact:
    """The artifact of a bundle in the format `.ms`. Raises BundleError if it has none."""
    artifacts = [artifact for artifact in bundle.manifest.artifacts if artifact.format == "ms"]
    if not artifacts:
        raise BundleError(f"{bundle.folder} has no .ms file: export it with --formats lite")
    return artifacts[0]


def require_golden(bundle: Bundle) -> Golden:
    """The golden values of a bundle. Raises BundleError if it has none."""
    golden = read_golden(bundle)
    if golden is None:
        raise BundleError(f"{bundle.folder} has no golden values: export it again with this version")
    return golden


def _expected(bundle: Bundle, golden: Golden, batch: int) -> dict[str, np.ndarray]:
    """Every output of the graph for the first crops of faces, by its name in the manifest and in its order."""
    rows, reference = np.arange(batch) % golden.reference.faces, golden.reference
    expected = {}
    for tensor in bundle.manifest.outputs:
        if tensor.name not in reference.outputs:
            raise BundleError(f"the golden values of {bundle.folder} lack {tensor.name}: export the bundle again")
        expected[tensor.name] = reference.outputs[tensor.name][rows]
        if tensor.name in reference.points:  # they hold a part of the points only
            expected[tensor.name] = _mesh(bundle, reference.outputs["params"][rows])
    return expected


def _mesh(bundle: Bundle, params: np.ndarray) -> np.ndarray:
    """All vertices (N,3,V) for whitened parameters (N,62), decoded with the bundle's own bases."""
    morphable = bundle.morphable()
    if morphable.dense is None:
        raise BundleError(f"{bundle.manifest.morphable.file} has no dense basis: export the bundle again")
    physical = dewhiten(params, morphable.param_mean, morphable.param_std)
    dense = morphable.dense
    return vertices(physical, dense.u, dense.w_shp, dense.w_exp, bundle.manifest.landmark_frame).astype(np.float32)


def _command(artifact: Artifact, batch: int, shape: tuple[int, ...], threshold: float) -> str:
    options = {
        "modelFile": artifact.file,
        "modelType": "MindIR_Lite",
        "inDataFile": f"inputs_{batch}.bin",
        "benchmarkDataFile": f"expected_{batch}.txt",
        "inputShapes": ",".join(map(str, shape)),
        "accuracyThreshold": f"{threshold:.2g}",
    }
    return " ".join(["./benchmark", *(f"--{name}={value}" for name, value in options.items())])
