"""From measured data to the variables of `report.html.j2`: texts, charts and pictures."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from synergy.benchmarks.accuracy.report import OVERALL
from synergy.benchmarks.report.charts import Bar, Series, above_shown, bar_chart, median_lines, scatter_by_yaw
from synergy.benchmarks.report.collect import ReportData, VariantResult
from synergy.benchmarks.report.limits import limits
from synergy.benchmarks.report.pictures import FacePicture
from synergy.benchmarks.report.verified import verified_failures, verified_rows
from synergy.benchmarks.speed.latency import BenchReport, Row
from synergy.runtime.crop import CROP_SIZE
from synergy.runtime.engines import ENGINES
from synergy.runtime.manifest import Artifact, FileEntry, Manifest
from synergy.runtime.media.drawing import CONTOURS
from synergy.runtime.specs import DYNAMIC
from synergy.runtime.text import counted
from synergy.runtime.verification.parity_record import Check, ParityStatus, ParityVerdict, parity_verdict
from synergy.synergy_model.metrics import YAW_BINS

NOTHING = "–"  # a cell without a value
MB = 1e6
JPEG_QUALITY = 88
FARTHEST = 1e4  # crop px; keeps numbers readable for SVG where a damaged network predicts huge ones
DATA_URI = "data:image/jpeg;base64,"
# The folders of a path that is absolute or starts with ~ or .., with spaces if it is quoted; the file's name is kept.
QUOTED_FOLDERS = r"(?<=['\"])(?:~|\.\.)?/[^'\"\n]*/(?=[^'\"/\n]*['\"])"
FOLDERS = re.compile(QUOTED_FOLDERS + r"|(?<![\w.~/-])(?:file://)?(?:~|\.\.)?/(?:[^\s/:;,'\"()]+/)+")
FAMILIES = {"synergynet": "SynergyNet", "3ddfa_v2": "3DDFA_V2", "3ddfa": "3DDFA"}  # names of networks, by convention
RANKS = {"best": "Smallest error", "median": "Median error", "worst": "Largest error"}


@dataclass(frozen=True)
class Tile:
    """One of the figures at the top of the page."""

    value: str
    what: str
    where: str


@dataclass(frozen=True)
class Face:
    """A crop as a data URI, with SVG paths of true and predicted landmarks in crop px."""

    name: str
    image: str
    truth: str
    predicted: str
    nme: float
    yaw: str


def page_context(data: ReportData) -> dict[str, Any]:
    """All variables of the template. Text is plain and is escaped there; charts are SVG made by `charts`."""
    manifest, verdict = data.manifest, parity_verdict(data.manifest, data.parity)
    return {
        "data": data,
        "manifest": manifest,
        "family": FAMILIES.get(manifest.convention, manifest.convention),
        "parity": data.parity,
        "bench": data.bench,
        "verdict": verdict,
        "verified": list(verified_rows(data.verified)),
        "verified_failures": list(verified_failures(data.verified)),
        "headline": headline(manifest, verdict, ran_here=bool(data.runs)),
        "outputs": ", ".join(tensor.name for tensor in manifest.outputs),
        "batch": manifest.inputs[0].shape[0],
        "tiles": list(_tiles(data)),
        "drift_data": _drift_data(manifest),
        "limits": list(limits(data)),
        "files": list(_files(manifest)),
        "versions": _versions(manifest.toolchain, {"python": data.host.python, **data.host.versions}),
        "face_ranks": list(_face_ranks(data.pictures)),
        "portrait": None if data.portrait_bgr is None else data_uri(data.portrait_bgr),
        "bench_source": f"read from {data.bench_source}" if data.bench_source else "measured for this page",
        "size_chart": size_chart(manifest.artifacts),
        "size_caption": "Size of each artifact, 1 MB = 1,000,000 bytes.",
        "latency_chart": None if data.bench is None else latency_chart(data.bench),
        **_accuracy(data),
        "CROP_SIZE": CROP_SIZE,
        "DYNAMIC": DYNAMIC,
        "NOTHING": NOTHING,
    }


def headline(manifest: Manifest, verdict: ParityVerdict, ran_here: bool = True) -> str:
    """The result of the parity check in one line. ran_here: whether an engine ran the bundle for this page."""
    if verdict.status is ParityStatus.UNCHECKED:
        return "Unchecked: the parity report does not name the files that it is about"
    if verdict.verified and not ran_here:
        return "Unchecked: no engine on this machine ran the bundle; it passed the parity check at export"
    if not verdict.verified:
        return "✗ Not verified: do not ship"
    if verdict.status is ParityStatus.ACCEPTED_DRIFT:
        return "✓ Verified, except for accuracy drift beyond the limit, which was accepted at export"
    count = len(manifest.artifacts)
    exact = all(artifact.precision == "fp32" and not artifact.compute_precisions for artifact in manifest.artifacts)
    agree = "agrees with the Cell" if exact else "is within its limits of the Cell"
    if count > 1:
        agree = agree.replace("agrees", "agree").replace("is within its", "are within their")
    return f"✓ {'The only artifact' if count == 1 else f'All {count} artifacts'} {agree}"


def one_per_precision(runs: Sequence[VariantResult]) -> list[VariantResult]:
    """The first run of each precision: runs of one precision agree within parity, so their lines would overlap."""
    first: dict[str, VariantResult] = {}
    for run in runs:
        first.setdefault(run.variant.precision, run)
    return list(first.values())


def latency_chart(bench: BenchReport) -> str:
    """Median time per face of each configuration, fastest first; the whisker ends at the 95th percentile."""
    rows = sorted(bench.rows, key=lambda row: row.median_ms / row.batch)
    return bar_chart("Milliseconds per face", [_latency_bar(row) for row in rows])


def size_chart(artifacts: Sequence[Artifact]) -> str:
    """Bytes of each artifact."""
    bars = [
        Bar(f"{each.file} ({kind(each)})", each.bytes / MB, f"{each.bytes / MB:.2f} MB", "other") for each in artifacts
    ]
    return bar_chart("Size in MB", bars)


def data_uri(image_bgr: np.ndarray) -> str:
    """A picture (H,W,3) uint8 BGR as a JPEG in a data URI."""
    _, jpeg = cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return f"{DATA_URI}{base64.b64encode(jpeg.tobytes()).decode()}"


def outline(landmarks: np.ndarray) -> str:
    """Landmarks (2,68) crop px as an SVG path; the centre of a crop pixel is at its index plus a half."""
    points = (landmarks[:2].T + 0.5).clip(-FARTHEST, FARTHEST)
    return "".join(
        "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points[first : last + 1].tolist()) + ("Z" if closed else "")
        for first, last, closed in CONTOURS.values()
    )


def kind(artifact: Artifact) -> str:
    """Format, version and precision of an artifact."""
    version = "" if artifact.mind_ir_version is None else f", MindIR {artifact.mind_ir_version}"
    return f"{artifact.format}{version}, {artifact.precision}"


def milliseconds(value: float) -> str:
    """Two decimals below 100, none above."""
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def sci(value: float) -> str:
    """Scientific notation with two digits: 2.0e-4."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits, power = f"{value:.1e}".split("e")
    return f"{digits}e{int(power)}"


def shape(sizes: tuple[int, ...]) -> str:
    """N, 3, 68: the shape of a tensor, N for a dynamic batch."""
    return ", ".join("N" if size == DYNAMIC else str(size) for size in sizes)


def margin(check: Check) -> str:
    """How many times smaller than the tolerance the difference is."""
    if not check.max_abs <= check.tolerance:
        return "beyond the limit"
    return "no difference" if check.max_abs == 0 else f"{check.tolerance / check.max_abs:.3g} times below the limit"


def without_folders(text: str) -> str:
    """A text without the folders of absolute paths in it: the page is made to be sent. Data URIs are kept."""
    if text.startswith(DATA_URI):
        return text
    for folder in (str(Path.cwd()), str(Path.home())):
        if len(folder) > 1:
            text = text.replace(f"{folder}/", "/").replace(folder, NOTHING)
    return FOLDERS.sub("", text)


def signed_degrees(angle: float) -> str:
    """+12° or −12°."""
    return f"{angle:+.0f}°".replace("-", "−")


def _tiles(data: ReportData) -> Iterator[Tile]:
    if data.parity is not None and data.parity.checks:
        used, count = max(check.tolerance_used for check in data.parity.checks), len(data.parity.checks)
        value, what = ("beyond", "the tolerance") if used > 1 else (f"{100 * used:.2g} %", "of the tolerance used")
        yield Tile(value, what, f"largest of {counted(count, 'check')}")
    if data.runs:
        nme = data.runs[0].report.nme.mean
        yield Tile(f"{nme:.2f} %", "NME, mean of yaw bins", f"{len(data.yaw_deg)} faces, {data.runs[0]}")
    if data.bench is not None and data.bench.rows:
        row = min(data.bench.rows, key=lambda row: row.median_ms / row.batch)
        where = f"{row.artifact} on {row.where}, {counted(row.threads, 'thread')}"
        yield Tile(f"{milliseconds(row.median_ms / row.batch)} ms", "fastest, per face", where)
    smallest = min(data.manifest.artifacts, key=lambda artifact: artifact.bytes)
    yield Tile(f"{smallest.bytes / MB:.1f} MB", "smallest artifact", smallest.file)


def _accuracy(data: ReportData) -> dict[str, Any]:
    """Heads of the accuracy table, and the chart of error over yaw with its caption; empty without runs."""
    if not data.runs:
        return {}
    runs = one_per_precision(data.runs)
    series = [Series(str(run), np.asarray(run.report.nme_per_image)) for run in runs]
    edges = sorted({edge for limits_deg in YAW_BINS for edge in limits_deg})
    beyond, highest = above_shown(series[0].values)
    clipped = f" Triangles: {counted(beyond, 'face')} above {highest:g} %." if beyond else ""
    medians = "; lines are running medians" if median_lines(data.yaw_deg, series) else ""
    bins = [(_degrees(each.range), f"n = {each.count}") for each in data.runs[0].report.nme.bins]
    return {
        "accuracy_heads": ["artifact", *bins, (_degrees(OVERALL), "all bins"), ("MAE °", "yaw pitch roll", "wide")],
        "accuracy_chart": scatter_by_yaw("NME in percent over true yaw in degrees", data.yaw_deg, series, edges),
        "accuracy_caption": (
            f"NME in percent over true yaw. Each dot is one face with {series[0].name}{medians}.{clipped}"
        ),
    }


def _latency_bar(row: Row) -> Bar:
    device = "" if row.device == "cpu" else f", {row.device}"
    batch = "" if row.batch == 1 else f", batch {row.batch}"
    label = f"{row.where}: {row.artifact} ({counted(row.threads, 'thread')}{device}{batch})"
    series = row.engine if row.engine in ENGINES else "other"
    value = row.median_ms / row.batch
    return Bar(label, value, f"{milliseconds(value)} ms", series, row.p95_ms / row.batch)


def _drift_data(manifest: Manifest) -> str:
    faces = {f", on {artifact.drift.data}" for artifact in manifest.artifacts if artifact.drift is not None}
    return "".join(sorted(faces))


def _files(manifest: Manifest) -> Iterator[tuple[FileEntry, str]]:
    yield from ((artifact, kind(artifact)) for artifact in manifest.artifacts)
    yield manifest.morphable, "bases and whitening"
    if manifest.parity is not None:
        yield manifest.parity, "parity report"
    if manifest.golden is not None:
        yield manifest.golden, f"golden values: {manifest.golden.data}"


def _versions(exported: dict[str, str], here: dict[str, str]) -> list[tuple[str, str, str]]:
    """Package, version at export, version on this machine."""
    packages = sorted({*exported, *here})
    return [(package, exported.get(package, NOTHING), here.get(package, NOTHING)) for package in packages]


def _face_ranks(pictures: Sequence[FacePicture]) -> Iterator[tuple[str, list[Face]]]:
    for rank, title in RANKS.items():
        chosen = [_face(picture) for picture in pictures if picture.rank == rank]
        if chosen:
            yield title, chosen


def _face(picture: FacePicture) -> Face:
    return Face(
        name=Path(picture.name).stem,
        image=data_uri(picture.crop_bgr),
        truth=outline(picture.truth),
        predicted=outline(picture.predicted),
        nme=picture.nme,
        yaw=signed_degrees(picture.yaw_deg),
    )


def _degrees(limits_deg: tuple[int, int]) -> str:
    return f"{limits_deg[0]}–{limits_deg[1]}°"
