"""Figures of the page: charts and pictures with what is said under them."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from synergy.benchmarks.report.charts import Bar, Series, above_shown, bar_chart, scatter_by_yaw
from synergy.benchmarks.report.collect import ReportData, Run
from synergy.benchmarks.report.markup import Html, joined, tag
from synergy.benchmarks.report.pictures import FacePicture
from synergy.benchmarks.report.tables import kind, milliseconds
from synergy.benchmarks.speed.latency import BenchReport, Row
from synergy.runtime.crop import CROP_SIZE
from synergy.runtime.engines import ENGINES
from synergy.runtime.manifest import Artifact
from synergy.runtime.media.drawing import CONTOURS
from synergy.runtime.text import counted
from synergy.synergy_model.metrics import YAW_BINS

JPEG_QUALITY = 88
MB = 1e6
FARTHEST = 1e4  # crop px; what a broken network draws still has to be a number that SVG reads
RANKS = {"best": "Least error", "median": "Middle", "worst": "Largest error"}


def accuracy_figure(data: ReportData) -> Html:
    """Error over yaw, face by face."""
    runs = one_per_precision(data.runs)
    series = [Series(str(run), np.asarray(run.report.nme_per_image)) for run in runs]
    edges = sorted({edge for limits in YAW_BINS for edge in limits})
    chart = scatter_by_yaw("NME in percent over true yaw in degrees", data.yaw_deg, series, edges)
    beyond, highest = above_shown(series[0].values)
    clipped = f" {beyond} with more than {highest:g} % are marked at the upper edge." if beyond else ""
    keys = (joined([tag("i", css=f"key median-{index}"), f" {each.name} "]) for index, each in enumerate(series))
    caption = joined(
        [f"NME in percent over yaw. A dot is a face, by {series[0].name}.{clipped} Running median: ", *keys]
    )
    return figure(chart, caption, "plot-frame")


def one_per_precision(runs: Sequence[Run]) -> list[Run]:
    """The first run of each: artifacts of one precision agree within parity, so more lines would hide each other."""
    first: dict[str, Run] = {}
    for run in runs:
        first.setdefault(run.variant.precision, run)
    return list(first.values())


def latency_figure(bench: BenchReport) -> Html:
    """Median time per face of each configuration, the whisker ends at the 95th percentile."""
    bars = [_latency_bar(row) for row in sorted(bench.rows, key=lambda row: row.median_ms / row.batch)]
    caption = "Milliseconds per face: median and, as a line, 95th percentile."
    return figure(bar_chart("Milliseconds per face", bars), caption)


def size_figure(artifacts: Sequence[Artifact]) -> Html:
    """Bytes of each artifact."""
    bars = [
        Bar(f"{each.file} ({kind(each)})", each.bytes / MB, f"{each.bytes / MB:.2f} MB", "size") for each in artifacts
    ]
    return figure(bar_chart("Size in MB", bars), "Size of each artifact, 1 MB = 1,000,000 bytes.")


def faces_figures(pictures: Sequence[FacePicture]) -> Iterator[Html]:
    """Held-out faces with truth and prediction, by rank."""
    for rank, title in RANKS.items():
        chosen = [picture for picture in pictures if picture.rank == rank]
        if chosen:
            tiles = tag("div", *(_face(picture) for picture in chosen), css="faces")
            yield tag("div", tag("h3", title), tiles, css="rank")


def portrait_figure(image_bgr: np.ndarray) -> Html:
    """A photograph with what the network finds in it."""
    about = {"src": data_uri(image_bgr), "alt": "landmarks, head axes and pose drawn on a portrait"}
    caption = "A photograph (Eileen Collins, NASA, public domain). Its true landmarks are not known: judge by eye."
    return figure(tag("img", attributes=about), caption, "portrait")


def figure(content: Html, caption: str, css: str = "") -> Html:
    """Content with what is said under it."""
    return tag("figure", content, tag("figcaption", caption), css=css)


def data_uri(image_bgr: np.ndarray) -> str:
    """A picture as the text that stands for its file."""
    _, jpeg = cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}"


def outline(landmarks: np.ndarray) -> str:
    """Landmarks (2,68) crop px as an SVG path; a crop pixel's centre is at its index plus a half."""
    points = (landmarks[:2].T + 0.5).clip(-FARTHEST, FARTHEST)
    return "".join(
        "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points[first : last + 1].tolist()) + ("Z" if closed else "")
        for first, last, closed in CONTOURS.values()
    )


def _latency_bar(row: Row) -> Bar:
    device = "" if row.device == "cpu" else f", {row.device}"
    batch = "" if row.batch == 1 else f", batch {row.batch}"
    label = f"{row.where}: {row.artifact} ({counted(row.threads, 'thread')}{device}{batch})"
    series = row.engine if row.engine in ENGINES else "other"
    value = row.median_ms / row.batch
    return Bar(label, value, f"{milliseconds(value)} ms", series, row.p95_ms / row.batch)


def _face(picture: FacePicture) -> Html:
    name = Path(picture.name).stem
    image = {"href": data_uri(picture.crop_bgr), "width": str(CROP_SIZE), "height": str(CROP_SIZE)}
    box = {"viewBox": f"0 0 {CROP_SIZE} {CROP_SIZE}", "role": "img"}
    drawn = tag(
        "svg",
        tag("title", f"{name}: true and predicted landmarks"),
        tag("image", attributes=image),
        *_strokes("truth", picture.truth),
        *_strokes("predicted", picture.predicted),
        attributes=box,
    )
    angle = f"{picture.yaw_deg:+.0f}°".replace("-", "−")
    return figure(drawn, joined([f"NME {picture.nme:.2f} %", tag("small", f"yaw {angle}, {name}")]))


def _strokes(css: str, landmarks: np.ndarray) -> Iterable[Html]:
    """A dark line under the coloured one, by which it stands out from any skin."""
    path = outline(landmarks)
    return (tag("path", css=each, attributes={"d": path}) for each in ("halo", css))
