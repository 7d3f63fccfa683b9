"""The page itself: one HTML file that needs no network and no script, for screens, phones and paper."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from synergy.benchmarks.report.collect import ReportData, ReportOptions, collect
from synergy.benchmarks.report.figures import (
    accuracy_figure,
    faces_figures,
    latency_figure,
    portrait_figure,
    size_figure,
)
from synergy.benchmarks.report.markup import Html, joined, tag
from synergy.benchmarks.report.tables import (
    accuracy_table,
    drift_table,
    facts_table,
    files_table,
    latency_table,
    milliseconds,
    parity_table,
    tensors_table,
    versions_table,
)
from synergy.benchmarks.report.verdict import limits
from synergy.runtime.errors import MediaError
from synergy.runtime.files import write_file
from synergy.runtime.manifest import Manifest
from synergy.runtime.parity_record import parity_verdict
from synergy.runtime.specs import DYNAMIC
from synergy.runtime.text import counted

STYLE = Path(__file__).parent.parent / "assets" / "report.css"
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # the browser holds the page to its promise
MB = 1e6


def write_report(folder: Path, out: Path, options: ReportOptions, say: Callable[[float, str], None]) -> ReportData:
    """Measure the bundle and write the page, whole or not at all. Raises as `collect`, and MediaError."""
    if out.is_dir():
        raise MediaError(f"{out} is a folder: name a file, for example {out / 'report.html'}")
    data = collect(folder, options, say)
    write_file(out, render(data).encode())
    return data


def render(data: ReportData) -> str:
    """The page as HTML."""
    parts = (_header(data), _subject(data), _parity(data), _accuracy(data), _faces(data), _speed(data))
    body = tag("body", tag("main", *parts, _limits(data), _files(data), _machines(data)), _footer(data))
    return "<!doctype html>\n" + tag("html", _head(data), body, attributes={"lang": "en"}) + "\n"


def _head(data: ReportData) -> Html:
    metas = (
        {"charset": "utf-8"},
        {"name": "viewport", "content": "width=device-width, initial-scale=1"},
        {"name": "color-scheme", "content": "light dark"},
        {"http-equiv": "Content-Security-Policy", "content": POLICY},
    )
    style = tag("style", Html(STYLE.read_text()))
    return tag("head", *(tag("meta", attributes=meta) for meta in metas), tag("title", f"{data.name}: report"), style)


def _header(data: ReportData) -> Html:
    wrong = parity_verdict(data.manifest, data.parity).reasons
    count = len(data.manifest.artifacts)
    verdict = "✗ Not proved: do not ship" if wrong else f"✓ All {count} artifacts agree with the Cell"
    reasons = tag("ul", *(tag("li", reason) for reason in wrong)) if wrong else Html("")
    about = f"SynergyNet on {data.manifest.arch}: a face crop in, {', '.join(_outputs(data.manifest))} out"
    failures = [tag("p", tag("strong", "Failed now: "), failure, css="alarm") for failure in data.failures]
    return tag(
        "header",
        tag("p", "Export report", css="kicker"),
        tag("h1", data.name),
        tag("p", about, css="about"),
        tag("div", tag("strong", verdict), reasons, css="verdict bad" if wrong else "verdict good"),
        *failures,
        _tiles(data),
    )


def _tiles(data: ReportData) -> Html:
    """The figures that are asked for first."""
    smallest = min(data.manifest.artifacts, key=lambda artifact: artifact.bytes)
    tiles = [(f"{smallest.bytes / MB:.1f} MB", "smallest artifact", smallest.file)]
    if data.runs:
        nme = data.runs[0].report.nme
        tiles.insert(0, (f"{nme.mean:.2f} %", "NME, mean of yaw bins", f"{len(data.yaw_deg)} faces, {data.runs[0]}"))
    if data.bench is not None:
        fastest = min(data.bench.rows, key=lambda row: row.median_ms / row.batch)
        what = f"{fastest.artifact} on {fastest.where}, {counted(fastest.threads, 'thread')}"
        tiles.insert(1, (f"{milliseconds(fastest.median_ms / fastest.batch)} ms", "fastest, per face", what))
    if data.parity is not None and data.parity.checks:
        share, count = max(check.tolerance_used for check in data.parity.checks), len(data.parity.checks)
        used = ("beyond", "the tolerance") if share > 1 else (f"{100 * share:.2g} %", "of the tolerance used")
        tiles.insert(0, (*used, f"largest of {counted(count, 'check')}"))
    parts = (tag("div", tag("b", value), tag("span", what), tag("small", where)) for value, what, where in tiles)
    return tag("div", *parts, css="tiles")


def _subject(data: ReportData) -> Html:
    manifest = data.manifest
    batch = manifest.inputs[0].shape[0]
    pixels = manifest.preprocessing
    steps = f"({pixels.colour} − {pixels.mean:g}) / {pixels.scale:g}, {'in' if pixels.in_graph else 'before'} the graph"
    facts = (
        ("Backbone", manifest.arch),
        ("Convention", manifest.convention),
        ("Head", f"{manifest.head}: {', '.join(_outputs(manifest))}"),
        ("Batch", "any" if batch == DYNAMIC else f"{batch} only"),
        ("Normalisation", steps),
        ("Made from", joined([manifest.source.file, tag("small", f"sha256 {manifest.source.sha256}", css="hash")])),
    )
    return _section("What it is", facts_table("The network", facts), tensors_table(manifest))


def _parity(data: ReportData) -> Html:
    intro = tag(
        "p",
        "The Cell is the training-side network that was frozen. Each artifact ran on each engine, in a process of its "
        "own, on crops of a photograph and on noise; these are the largest differences over all values.",
    )
    if data.parity is None:
        return _section("Parity", tag("p", "The bundle has no parity report.", css="alarm"))
    tables = [parity_table(data.parity)] if data.parity.checks else []
    tables += [drift_table(data.parity, data.manifest)] if data.parity.accuracy else []
    return _section("Parity", intro, *tables)


def _accuracy(data: ReportData) -> Html:
    if not data.runs:
        return _section("Accuracy", tag("p", "No engine here ran the bundle.", css="alarm"))
    intro = tag(
        "p",
        f"Measured for this page on {data.data_source}. NME is the mean distance of the 68 landmarks, in percent of "
        "the size of the face; MAE is the mean absolute error of yaw, pitch and roll. Over all faces, whatever their "
        f"yaw, the mean NME of {data.runs[0]} is {data.runs[0].report.nme.image_mean:.3f} %.",
    )
    return _section("Accuracy", intro, accuracy_table(data.runs), accuracy_figure(data))


def _faces(data: ReportData) -> Html:
    if data.portrait_bgr is None:
        return Html("")
    key = tag(
        "p", tag("i", css="key truth"), " truth ", tag("i", css="key predicted"), f" prediction of {data.runs[0]}"
    )
    return _section("Faces", key, *faces_figures(data.pictures), portrait_figure(data.portrait_bgr))


def _speed(data: ReportData) -> Html:
    sizes = size_figure(data.manifest.artifacts)
    if data.bench is None:
        return _section("Latency and size", tag("p", "Latency was not measured.", css="alarm"), sizes)
    source = f"read from {data.bench_source}" if data.bench_source else "measured for this page"
    host = data.bench.host
    intro = tag(
        "p",
        f"Latency was {source}, on {host.cpu} ({counted(host.cores, 'core')}). Configurations took turns in one run; "
        "ratio is the time over onnxruntime's in the same rounds, start is a fresh process up to its first output.",
    )
    charts = tag("div", latency_figure(data.bench), sizes, css="pair")
    return _section("Latency and size", intro, charts, latency_table(data.bench))


def _limits(data: ReportData) -> Html:
    return _section("Limits", tag("ul", *(tag("li", line) for line in limits(data))))


def _files(data: ReportData) -> Html:
    intro = tag("p", "Sizes and hashes were compared with the files when this page was made.")
    return _section("Files", intro, files_table(data.manifest))


def _machines(data: ReportData) -> Html:
    host = data.host
    facts = (
        ("CPU", f"{host.cpu}, {counted(host.cores, 'core')}"),
        ("Memory", f"{host.memory_gb:g} GB"),
        ("System", host.platform),
        ("Load", f"{host.load:g} when this page was begun"),
    )
    versions = versions_table(data.manifest.toolchain, {"python": host.python, **host.versions})
    return _section("Machine and versions", facts_table("Where this page was made", facts), versions)


def _footer(data: ReportData) -> Html:
    return tag("footer", f"Made {data.made:%Y-%m-%d %H:%M} UTC by synergy report.")


def _section(title: str, *parts: Html) -> Html:
    return tag("section", tag("h2", title), *parts)


def _outputs(manifest: Manifest) -> list[str]:
    return [tensor.name for tensor in manifest.outputs]
