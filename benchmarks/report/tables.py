"""Tables of the page. A cell may have a second, smaller line, so that a table fits a phone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from synergy.benchmarks.accuracy.report import OVERALL, NmeBinRecord, PoseMaeRecord
from synergy.benchmarks.report.collect import Run
from synergy.benchmarks.report.markup import Html, joined, tag
from synergy.benchmarks.speed.latency import BenchReport
from synergy.runtime.manifest import Artifact, FileEntry, Manifest
from synergy.runtime.parity_record import ParityReport
from synergy.runtime.specs import DYNAMIC
from synergy.runtime.text import counted

NOTHING = "–"


def parity_table(parity: ParityReport) -> Html:
    """Every check, with how far below its tolerance the largest difference is."""
    rows = [
        [
            name(check.artifact, check.where),
            cell(check.output, f"moves by {check.input_sensitivity:.2g}"),
            number(tiny(check.max_abs), f"limit {tiny(check.tolerance)}"),
            mark(check.holds, _headroom(check.max_abs, check.tolerance)),
        ]
        for check in parity.checks
    ]
    return table("Largest difference from the Cell", ["artifact", "output", "difference", "result"], rows)


def drift_table(parity: ParityReport, manifest: Manifest) -> Html:
    """Accuracy of the Cell and of every artifact when they were exported."""
    rows = [
        [
            name(row.artifact, row.where),
            number(f"{row.nme:.3f}", f"drift {tiny(row.nme_drift)}"),
            number(NOTHING) if row.mae is None else number(f"{row.mae:.3f}", f"drift {tiny(row.mae_drift or 0.0)}"),
            tag("td", tag("span", "accepted", css="fail")) if row.accepted and not row.passed else mark(row.passed),
        ]
        for row in parity.accuracy
    ]
    faces = {f", on {artifact.drift.data}" for artifact in manifest.artifacts if artifact.drift is not None}
    caption = f"Accuracy when exported, and its drift from the Cell{''.join(sorted(faces))}"
    return table(caption, ["artifact", "NME %", "MAE °", "result"], rows)


def accuracy_table(runs: Sequence[Run]) -> Html:
    """NME by yaw bin and pose error, measured for this page."""
    bins = [lines(span(each.range), f"n = {each.count}") for each in runs[0].report.nme.bins]
    rows = [
        [
            name(run.variant.artifact.file, run.variant.engine_label),
            *(_bin(each) for each in run.report.nme.bins),
            number(f"{run.report.nme.mean:.3f}", f"± {run.report.nme.std:.2f}"),
            _pose(run.report.mae),
        ]
        for run in runs
    ]
    heads = ["artifact", *bins, lines(span(OVERALL), "of bins"), joined(["MAE °", _wide("yaw pitch roll")])]
    return table("NME in percent by yaw, pose error in degrees", heads, rows)


def latency_table(bench: BenchReport) -> Html:
    """Every configuration that was clocked."""
    rows = [
        [
            name(row.artifact, f"{row.where}, {row.device}, {counted(row.threads, 'thread')}, batch {row.batch}"),
            number(milliseconds(row.median_ms), f"p95 {milliseconds(row.p95_ms)}"),
            number(f"{row.fps:.0f}"),
            number(f"{row.cold_start_s:.2f} s", f"{row.rss_mb:.0f} MB"),
            number(NOTHING if row.ratio_to_onnxruntime is None else f"{row.ratio_to_onnxruntime:.2f}"),
        ]
        for row in bench.rows
    ]
    return table("Time of one run", ["artifact", "ms", "crops/s", "start", "ratio"], rows)


def files_table(manifest: Manifest) -> Html:
    """Every file with what it must hash to."""
    entries: list[tuple[FileEntry, str]] = [(artifact, kind(artifact)) for artifact in manifest.artifacts]
    entries.append((manifest.morphable, "bases and whitening"))
    if manifest.parity is not None:
        entries.append((manifest.parity, "the proof"))
    rows = [
        [name(entry.file, what), number(f"{entry.bytes:,}"), cell(entry.sha256, css="hash")] for entry, what in entries
    ]
    return table("Files of the bundle", ["file", "bytes", "sha256"], rows)


def tensors_table(manifest: Manifest) -> Html:
    """Inputs and outputs of the graph."""
    rows = [
        [
            name(tensor.name, role),
            cell(f"{tensor.dtype} ({_shape(tensor.shape)})", f"{tensor.layout}: {tensor.meaning}"),
        ]
        for role, tensors in (("input", manifest.inputs), ("output", manifest.outputs))
        for tensor in tensors
    ]
    return table("Inputs and outputs; N is the batch", ["name", "shape and meaning"], rows)


def versions_table(exported: Mapping[str, str], here: Mapping[str, str]) -> Html:
    """Packages where the bundle was made, and where this page was."""
    rows = [
        [name(package), *(cell(versions.get(package, NOTHING)) for versions in (exported, here))]
        for package in sorted({*exported, *here})
    ]
    return table("Versions", ["package", "at export", "for this page"], rows)


def facts_table(caption: str, facts: Iterable[tuple[str, str]]) -> Html:
    """Names and what they are."""
    rows = (
        tag("tr", tag("th", each, attributes={"scope": "row"}), tag("td", value, css="any")) for each, value in facts
    )
    return tag("table", tag("caption", caption), tag("tbody", *rows), css="facts")


def table(caption: str, heads: Iterable[str], rows: Iterable[Sequence[Html]]) -> Html:
    """Rows of ready cells under heads."""
    titles = (tag("th", head, attributes={"scope": "col"}) for head in heads)
    body = (tag("tr", *row) for row in rows)
    inner = tag("table", tag("caption", caption), tag("thead", tag("tr", *titles)), tag("tbody", *body))
    return tag("div", inner, css="scroll")


def lines(first: str, second: str = "") -> Html:
    """Text with a smaller line under it."""
    return joined([first, tag("small", second)]) if second else joined([first])


def cell(first: str, second: str = "", css: str = "") -> Html:
    """A cell of text."""
    return tag("td", lines(first, second), css=css)


def name(first: str, second: str = "") -> Html:
    """The cell that says what a row is about. A file name may be broken after its dots."""
    broken = joined(first.split("."), Html(".<wbr>"))
    return tag("th", lines(broken, second), attributes={"scope": "row"})


def number(first: str, second: str = "") -> Html:
    """A cell whose digits stand under each other."""
    return cell(first, second, "number")


def mark(passed: bool, second: str = "") -> Html:
    """A cell that says pass or fail, by word and sign as well as by colour."""
    return tag("td", lines(tag("span", "✓ pass" if passed else "✗ FAIL", css="pass" if passed else "fail"), second))


def kind(artifact: Artifact) -> str:
    """Format, version and precision of an artifact."""
    version = "" if artifact.mind_ir_version is None else f", MindIR {artifact.mind_ir_version}"
    return f"{artifact.format}{version}, {artifact.precision}"


def milliseconds(value: float) -> str:
    """Two digits after the point where they mean something."""
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def tiny(value: float) -> str:
    """2.0e-4: a number of which the power of ten says most."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits, power = f"{value:.1e}".split("e")
    return f"{digits}e{int(power)}"


def span(limits: tuple[int, int]) -> str:
    """A range of degrees."""
    return f"{limits[0]}–{limits[1]}°"


def _headroom(difference: float, tolerance: float) -> str:
    """How many times the difference fits into the tolerance."""
    if not difference <= tolerance:
        return "beyond the limit"
    return "no difference" if difference == 0 else f"{tolerance / difference:.3g} times inside"


def _bin(each: NmeBinRecord) -> Html:
    return number(NOTHING) if each.mean is None else number(f"{each.mean:.3f}", f"± {each.std:.2f}")


def _pose(mae: PoseMaeRecord | None) -> Html:
    if mae is None:
        return number(NOTHING)
    return number(joined([f"{mae.mean:.3f}", _wide(f"{mae.yaw:.2f} {mae.pitch:.2f} {mae.roll:.2f}")]))


def _wide(text: str) -> Html:
    """A second line that a phone has no room for."""
    return tag("small", text, css="wide")


def _shape(shape: tuple[int, ...]) -> str:
    return ", ".join("N" if size == DYNAMIC else str(size) for size in shape)
