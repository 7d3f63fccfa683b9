"""Compares every artifact, on every engine here, with the Cell that it was exported from.

Each engine runs in a process of its own, as on a device.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from synergy.benchmarks.parity.cell import cell_vertices
from synergy.benchmarks.parity.golden import cell_reference
from synergy.benchmarks.sample_crops import real_crops
from synergy.runtime.aligner import FaceAligner
from synergy.runtime.errors import EngineError
from synergy.runtime.variants import Variant, VariantEngines, runnable_variants
from synergy.runtime.verification.golden import Golden
from synergy.runtime.verification.parity_record import Check, ParityReport
from synergy.runtime.verification.reference import Reference, check_engine, missing_outputs
from synergy.runtime.verification.replay import check_decoding, check_picture
from synergy.synergy_model.checkpoints.checkpoint import Checkpoint


def check_bundle(engines: VariantEngines, checkpoint: Checkpoint, golden: Golden) -> ParityReport:
    """Run every artifact on every engine present. An artifact that no engine here can run is a failure.

    golden: what `checkpoint` gives for the golden inputs.
    """
    bundle = engines.bundle
    reference = make_reference(checkpoint, golden)
    checks: list[Check] = []
    failures = [
        f"output {name} cannot be compared: this checkpoint does not give it, use the one the bundle was exported from"
        for name in missing_outputs(bundle.manifest, reference)
    ]
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
                checks.extend(_check_variant(engines, variant, reference, golden))
            except EngineError as error:
                failures.append(f"{variant}: {error}")
    checks += check_decoding(bundle, golden) if checks else ()
    passed = bool(checks) and not failures and all(check.passed for check in checks)
    return ParityReport(passed, tuple(checks), failures=tuple(failures))


def make_reference(checkpoint: Checkpoint, golden: Golden) -> Reference:
    """The golden crops, and ten crops of a real face between their faces and their noise."""
    known, faces = golden.reference, golden.reference.faces
    portrait = cell_reference(checkpoint, real_crops(), len(real_crops()))
    crops = np.concatenate([known.crops[:faces], portrait.crops, known.crops[faces:]])
    outputs = {
        name: np.concatenate([values[:faces], portrait.outputs[name], values[faces:]])
        for name, values in known.outputs.items()
    }
    if "vertices" in outputs:  # golden values hold a part of them
        outputs["vertices"] = cell_vertices(checkpoint, outputs["params"])
    return Reference(crops, faces + portrait.faces, outputs, {})


def _check_variant(engines: VariantEngines, variant: Variant, reference: Reference, golden: Golden) -> Iterator[Check]:
    engine, bundle = engines.engine(variant), engines.bundle
    yield from check_engine(engine, variant, bundle.manifest, reference)
    yield from check_picture(FaceAligner(bundle, variant.artifact, engine), variant, golden)
