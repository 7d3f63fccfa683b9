"""The section `Limits` of the page: what was not run, and what the numbers do not show."""

from __future__ import annotations

from collections.abc import Iterator

from synergy.benchmarks.report.collect import ReportData
from synergy.runtime.manifest import Drift, Manifest
from synergy.runtime.specs import Device
from synergy.runtime.verification.parity_record import ParityReport

FEW_FACES = 30  # per yaw bin; with fewer, the mean may change by a fifth with other faces
UNITS = {"params": "whitened units", "picture_landmarks": "image px", "picture_pose": "degrees"}  # others: OTHER_UNIT
OTHER_UNIT = "crop px"


def limits(data: ReportData) -> Iterator[str]:
    """All lines of the section."""
    yield from _devices(data)
    yield from (f"Not run: {line}." for line in data.not_run)
    if data.parity is not None:
        yield _tolerances(data.manifest, data.parity)
    yield from _drifts(data.manifest)
    yield from _faces(data)
    if data.manifest.golden is not None and data.manifest.golden.real_faces:
        yield f"{data.manifest.golden.file} contains photographs of people: {data.manifest.golden.data}."
    if data.bench is not None:
        yield _latency(data)


def _devices(data: ReportData) -> Iterator[str]:
    rows = () if data.bench is None else data.bench.rows
    used = {row.device.partition(":")[0] for row in rows} or {"cpu"}
    verified = {report.device.partition(":")[0] for report in data.verified if report.accuracy}
    unused = [kind for kind in Device.KINDS if kind not in used | verified]
    golden = f" Verified with golden values on: {_listed(sorted(verified))}." if verified else ""
    yield f"Measured on: {_listed(sorted(used))}.{golden} Not run on: {_listed(unused)}."


def _tolerances(manifest: Manifest, parity: ParityReport) -> str:
    precision = {artifact.file: artifact.precision for artifact in manifest.artifacts}
    largest: dict[str, float] = {}
    for check in parity.checks:
        less = precision.get(check.artifact, "") if check.compute_precision == "fp32" else check.compute_precision
        what = f"{check.output} in {less}" if less else check.output
        largest[what] = max(check.tolerance, largest.get(what, 0.0))
    named = [f"{what} {limit:.2g} {UNITS.get(what.split()[0], OTHER_UNIT)}" for what, limit in largest.items()]
    return (
        f"Parity was measured when the bundle was exported and allows differences up to: {'; '.join(named)}. "
        "The checkpoint is not in the bundle, so the Cell was not run again for this page."
    )


def _drifts(manifest: Manifest) -> Iterator[str]:
    for artifact in manifest.artifacts:
        if artifact.drift is not None and (artifact.precision != "fp32" or artifact.drift.accepted):
            yield _drift(f"{artifact.file} is {artifact.precision}", artifact.drift)
        for each in artifact.compute_precisions:
            if each.drift is not None:
                may = "was also" if each.drift.accepted else "may be"
                yield _drift(f"{artifact.file} {may} computed in {each.precision} on {each.engine}", each.drift)


def _drift(what: str, drift: Drift) -> str:
    mae = "" if drift.mae is None else f" and {drift.mae:.3f}° MAE"
    beyond = " This is beyond the limit and was accepted at export." if drift.accepted else ""
    return f"{what}: it drifts from the Cell by {drift.nme:.3f} points of NME{mae} ({drift.data}).{beyond}"


def _faces(data: ReportData) -> Iterator[str]:
    if data.synthetic:
        yield (
            "Synthetic faces show whether artifacts agree and how the error grows with yaw. They do not show the "
            "accuracy on photographs: for that, run synergy report with the option root or raw."
        )
    if data.runs:
        few = [f"{low} to {high}°" for low, high, count in _bins(data) if count < FEW_FACES]
        if few:
            yield f"Fewer than {FEW_FACES} faces have a yaw of {_listed(few)}: their means are uncertain."
        report = data.runs[0].report
        if report.mae is None:
            yield f"Pose error was not measured: {report.mae_missing}."


def _bins(data: ReportData) -> list[tuple[int, int, int]]:
    return [(*each.range, each.count) for each in data.runs[0].report.nme.bins]


def _latency(data: ReportData) -> str:
    assert data.bench is not None
    host = data.bench.host
    busy = f" The machine was busy (load {host.load:g}, cores {host.cores}), so latency is too high."
    return (
        "Latency is that of the network alone, without reading, detection, cropping and drawing."
        f"{busy if host.load > host.cores else ''}"
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1] if names else "nothing"
