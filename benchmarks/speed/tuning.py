"""Measure again what `engine="auto"` selects for a bundle."""

from __future__ import annotations

from pathlib import Path

import msgspec

from synergy.runtime.autotune import TuneRequest, tune
from synergy.runtime.bundle import Bundle
from synergy.runtime.diagnostics.host import Host, describe_host
from synergy.runtime.inference.worker import POOL_BATCH
from synergy.runtime.specs import DEFAULT_OPTIONS, DYNAMIC, Device, EngineOptions, engine_label

SESSION, WORKER = "single session", "pool worker"


class TuneRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """Median time in ms of one run of the batch.

    purpose: "single session", for one `FaceAligner`, or "pool worker", for one of several worker processes.
    """

    purpose: str
    engine: str
    artifact: str
    device: str
    threads: int
    batch: int
    median_ms: float
    compute_precision: str = msgspec.field(default="fp32", name="computing")

    @property
    def where(self) -> str:
        """The engine, with its compute precision if that is not float32."""
        return engine_label(self.engine, self.compute_precision)


class TuneReport(msgspec.Struct, frozen=True):
    """The rows of each purpose, the selected one first."""

    host: Host
    rows: tuple[TuneRow, ...]


def bench_tuning(folder: str | Path, device: str = "cpu", options: EngineOptions = DEFAULT_OPTIONS) -> TuneReport:
    """Measure a bundle and store the result beside it, where `engine="auto"` reads it.

    Raises BundleError for a bad bundle, EngineUnavailableError or EngineError if no engine runs it.
    """
    bundle, target = Bundle.open(folder), Device.parse(device)
    fixed = bundle.manifest.inputs[0].shape[0]
    requests = {
        SESSION: TuneRequest(options=options),
        WORKER: TuneRequest(1, options=options, batch=POOL_BATCH),
    }
    rows = [
        TuneRow(
            purpose,
            each.engine,
            each.artifact,
            str(target),
            each.threads,
            request.batch if fixed == DYNAMIC else fixed,
            each.median_ms,
            each.compute_precision,
        )
        for purpose, request in requests.items()
        for each in tune(bundle, target, request, again=True)
    ]
    return TuneReport(describe_host(), tuple(rows))
