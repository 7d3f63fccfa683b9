"""The report: it shows the measured numbers, text from a bundle never becomes markup, and browsers display it."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from datetime import datetime, timezone
from html.parser import HTMLParser
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from synergy.benchmarks.accuracy.data import EvaluationData
from synergy.benchmarks.accuracy.predictions import Predictions
from synergy.benchmarks.accuracy.report import evaluate
from synergy.benchmarks.report import collect as collecting
from synergy.benchmarks.report.charts import (
    Bar,
    Series,
    above_shown,
    bar_chart,
    bar_figure,
    running_median,
    scatter_by_yaw,
    yaw_figure,
)
from synergy.benchmarks.report.collect import ReportData, ReportOptions, VariantResult, collect, read_bench, verify
from synergy.benchmarks.report.context import one_per_precision, outline
from synergy.benchmarks.report.limits import limits
from synergy.benchmarks.report.page import render, write_report
from synergy.benchmarks.report.pictures import face_pictures, ranked
from synergy.benchmarks.speed.latency import BenchReport, Row
from synergy.runtime import variants
from synergy.runtime.bundle import Bundle
from synergy.runtime.diagnostics.host import Host
from synergy.runtime.errors import BundleError, EngineError, EngineUnavailableError, MediaError
from synergy.runtime.manifest import Manifest, encode_manifest
from synergy.runtime.specs import Availability
from synergy.runtime.variants import Variant
from synergy.runtime.verification.parity_record import (
    Accuracy,
    Check,
    ParityReport,
    ParityStatus,
    parity_verdict,
    read_parity,
)

FACES = 48
EVIL = '<script>alert("1")</script>&\'>'
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SHA = "0" * 64


def artifact(file: str, kind: str, size: int = 9_000_000, **more: object) -> dict:
    return {"file": file, "sha256": SHA, "bytes": size, "format": kind, "precision": "fp32", **more}


def manifest(**changes: object) -> Manifest:
    content = {
        "schema": 1,
        "arch": "mobilenet_v2",
        "convention": "synergynet",
        "inputs": [
            {"name": "images", "shape": [-1, 120, 120, 3], "dtype": "uint8", "layout": "NHWC", "meaning": "face crops"}
        ],
        "outputs": [
            {"name": "params", "shape": [-1, 62], "dtype": "float32", "layout": "NC", "meaning": "whitened"},
            {"name": "landmarks", "shape": [-1, 3, 68], "dtype": "float32", "layout": "NCP", "meaning": "crop px"},
        ],
        "preprocessing": {"size": 120, "colour": "BGR", "mean": 127.5, "scale": 128.0, "in_graph": True},
        "crop": {"side_of": "height", "scale": 1.2, "round_to": 2, "shift_y": 0.0, "interpolation": "linear"},
        "pose": {"pitch_rc": [1, 2], "roll_rc": [0, 1]},
        "landmark_frame": {"y_from": 121.0, "x_shift": 0.0, "z_shift": 0.0, "z_min_to_zero": False},
        "toolchain": {"mindspore": "2.10.0"},
        "source": {"file": "demo.ckpt", "sha256": "a" * 64},
        "artifacts": [artifact("model.onnx", "onnx"), artifact("model.ms", "ms", 8_123_456)],
        "morphable": {"file": "morphable.npz", "sha256": SHA, "bytes": 43384},
        "parity": {"file": "parity.json", "sha256": SHA, "bytes": 2970},
    }
    return msgspec.convert({**content, **changes}, Manifest)


def check(file: str = "model.onnx", **changes: object) -> Check:
    values = {"artifact": file, "engine": "onnx", "output": "params", "max_abs": 1.5e-6, "input_sensitivity": 0.4}
    return Check(**{**values, "tolerance": 2e-4, "passed": True, **changes})


def parity(*checks: Check, **changes: object) -> ParityReport:
    values = {"passed": True, "checks": checks or (check(), check("model.ms", engine="lite"))}
    hashes = dict.fromkeys(("model.onnx", "model.ms", "morphable.npz"), SHA)
    return ParityReport(**{**values, "sha256": hashes, "source_sha256": "a" * 64, **changes})


def row(engine: str, file: str, median: float, **changes: object) -> Row:
    values = {"engine": engine, "artifact": file, "device": "cpu", "threads": 2, "batch": 1, "median_ms": median}
    rest = {
        "p95_ms": 1.5 * median,
        "fps": 1e3 / median,
        "cold_start_s": 0.4,
        "rss_mb": 290,
        "ratio_to_onnxruntime": 1.1,
    }
    return Row(**{**values, **rest, **changes})


HOST = Host("A processor", 2, 25.3, 0.1, "3.11.7", "Linux", {"onnxruntime": "1.20"})


@pytest.fixture(scope="module")
def faces() -> EvaluationData:
    """Random crops, and landmarks on a circle."""
    random = np.random.default_rng(0)
    angles = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    circle = np.stack([60 + 40 * np.cos(angles), 60 + 40 * np.sin(angles), 0 * angles])
    yaw = np.linspace(-90, 90, FACES)
    return EvaluationData(
        title="circles",
        source="48 circles",
        names=tuple(f"circle-{index}" for index in range(FACES)),
        crops=random.integers(0, 256, (FACES, 120, 120, 3), np.uint8),
        landmarks=np.tile(circle, (FACES, 1, 1)),
        yaw_deg=yaw,
        roi_xyxy=np.tile([0.0, 0.0, 120.0, 120.0], (FACES, 1)),
        pose_deg=np.stack([yaw, 0 * yaw, 0 * yaw], axis=1),
        scored=np.ones(FACES, bool),
    )


@pytest.fixture(scope="module")
def data(faces: EvaluationData) -> ReportData:
    """The result of `collect` for a good bundle: face i has an error of i/10 px to the right."""
    shift = np.zeros((FACES, 3, 68))
    shift[:, 0] = np.arange(FACES)[:, None] / 10
    predictions = Predictions(faces.landmarks + shift, faces.pose_deg + 1.25)
    report = evaluate(lambda crops: predictions, faces)
    pairs = zip(manifest().artifacts, ("onnx", "lite"), strict=True)
    runs = tuple(VariantResult(Variant(each, engine, 1), report) for each, engine in pairs)
    return ReportData(
        name="my-bundle",
        manifest=manifest(),
        parity=parity(accuracy=(Accuracy("Cell", "mindspore", 6.022, 0.0, 6.8, 0.0, True),)),
        host=HOST,
        made=datetime(2024, 5, 6, 7, 8, tzinfo=timezone.utc),
        synthetic=True,
        data_source=faces.source,
        yaw_deg=faces.yaw_deg,
        runs=runs,
        pictures=face_pictures(report, predictions, faces),
        portrait_bgr=np.zeros((480, 480, 3), np.uint8),
        bench=BenchReport(HOST, (row("onnx", "model.onnx", 1.72), row("lite", "model.ms", 1.98))),
        bench_source="",
        not_run=("model.onnx on mindspore: no such thing",),
        failures=(),
    )


class Page(HTMLParser):
    """Every element in order with its attributes, all text, and whether all ends fit their starts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attributes)))
        if name not in ("meta", "img", "wbr"):
            self.open.append(name)

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name

    def handle_data(self, text: str) -> None:
        if "style" not in self.open:
            self.words.append(text)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, name: str, css: str = "") -> list[dict[str, str | None]]:
        named = (each for found, each in self.elements if found == name)
        return [each for each in named if not css or css in (each.get("class") or "").split()]


def page(data: ReportData, **changes: object) -> Page:
    return Page(render(dataclasses.replace(data, **changes)))


class TestCharts:
    def test_bars_are_in_proportion(self) -> None:
        axes = bar_figure([Bar("a", 2.0, "2 ms", "lite", 4.0), Bar("b", 1.0, "1 ms", "onnx")]).axes[0]
        assert [bar.get_width() for bar in axes.patches] == [2.0, 1.0]
        assert [text.get_text() for text in axes.texts] == ["a", "2 ms", "b", "1 ms"]
        assert [list(line.get_xdata()) for line in axes.lines] == [[2.0, 4.0]] and axes.get_xlim()[1] > 4.0

    @pytest.mark.parametrize("values", [[], [0.0]])
    def test_nothing_to_draw(self, values: list[float]) -> None:
        Page(bar_chart("t", [Bar("a", value, "0", "lite") for value in values]))

    def test_points_stand_where_they_should(self) -> None:
        yaw, values = np.array([-90.0, 0.0, 45.0]), np.array([0.0, 5.0, 10.0])
        points = yaw_figure(yaw, [Series("s", values)], (0, 30)).axes[0].lines[0]
        np.testing.assert_array_equal(points.get_xydata(), np.stack([yaw, values], axis=1))

    def test_outliers_are_marked_and_counted(self) -> None:
        values = np.r_[np.full(999, 4.0), 80.0]
        points, above, *_ = yaw_figure(np.linspace(-80, 80, 1000), [Series("s", values)], (0,)).axes[0].lines
        assert len(points.get_xdata()) == 999 and above.get_xydata().tolist() == [[80.0, 4.0]]
        assert above_shown(values) == (1, 4.0)

    def test_the_legend_names_what_is_drawn(self) -> None:
        """Eight faces have no running median."""
        for count, names in ((8, ["one face"]), (200, ["one face", "median, s"])):
            axes = yaw_figure(np.linspace(-80, 80, count), [Series("s", np.full(count, 4.0))], (0,)).axes[0]
            assert [text.get_text() for text in axes.get_legend().get_texts()] == names
            assert all(len(line.get_xdata()) for line in axes.lines)

    def test_yaw_beyond_90(self) -> None:
        axes = yaw_figure(np.array([-104.0, 104.0]), [Series("s", np.ones(2))], (0, 90)).axes[0]
        assert axes.get_xlim() == (-110, 110)

    def test_no_error_at_all(self) -> None:
        Page(scatter_by_yaw("t", np.zeros(1), [Series("s", np.zeros(1))], (0,)))

    def test_running_median(self) -> None:
        yaw = np.r_[np.full(5, -3.0), np.full(4, 12.0), np.full(6, 25.0)]
        values = np.r_[1.0, 2.0, 3.0, 4.0, 100.0, np.full(4, 9.0), np.full(6, 7.0)]
        assert running_median(yaw, values) == [(-5.0, 3.0), (25.0, 7.0)]  # four faces are too few

    def test_the_same_input_gives_the_same_text(self) -> None:
        yaw, series = np.linspace(-80, 80, 50), [Series("s", np.linspace(1, 5, 50))]
        assert scatter_by_yaw("t", yaw, series, (0, 30)) == scatter_by_yaw("t", yaw, series, (0, 30))

    def test_names_are_text(self) -> None:
        """No markup, and no formula between dollar signs."""
        found = Page(bar_chart(EVIL, [Bar(EVIL, 1.0, r"$\frac$", "lite")]))
        assert not found.all("script") and r"$\frac$" in found.text and found.text.count(EVIL) == 2


class TestPictures:
    @pytest.mark.parametrize(
        ("count", "expected"),
        [
            (1, ([0], [], [])),
            (2, ([0], [], [1])),
            (3, ([0], [1], [2])),
            (7, ([0, 1], [2, 3], [5, 6])),
            (13, ([0, 1, 2, 3], [4, 5, 6, 7], [9, 10, 11, 12])),
        ],
    )
    def test_ranks(self, count: int, expected: tuple[list[int], ...]) -> None:
        errors = np.arange(count)[::-1].astype(float)
        found = ranked(errors)
        rows = tuple([count - 1 - row for row in found[rank]] for rank in ("best", "median", "worst"))
        assert rows == expected

    def test_best_and_worst(self, data: ReportData) -> None:
        by_rank = {rank: [each.nme for each in data.pictures if each.rank == rank] for rank in ("best", "worst")}
        assert by_rank["best"][0] == min(data.runs[0].report.nme_per_image)
        assert by_rank["worst"][-1] == max(data.runs[0].report.nme_per_image)

    def test_outline_starts_at_the_pixel_centre_and_survives_nonsense(self) -> None:
        assert outline(np.full((2, 68), 10.0)).startswith("M10.5 10.5L10.5 10.5")
        assert "e" not in outline(np.full((2, 68), 1e30))

    def test_crops_are_on_the_page(self, data: ReportData) -> None:
        images = page(data).all("image")
        assert len(images) == len(data.pictures) == 12
        assert all(each["href"].startswith("data:image/jpeg;base64,") for each in images)


class TestPage:
    def test_numbers_are_the_measured_ones(self, data: ReportData) -> None:
        text, report = page(data).text, data.runs[0].report
        for each in report.nme.bins:
            assert f"{each.mean:.3f} ± {each.std:.2f}" in text and f"n = {each.count}" in text
        assert f"{report.nme.mean:.3f}" in text and f"{report.nme.image_mean:.3f} %" in text
        assert "1.250 1.25 1.25 1.25" in text  # MAE
        for number in (
            "1.72 p95 2.58",
            "1.98 ms",
            "8.12 MB",
            "8,123,456",
            "1.5e-6 limit 2.0e-4",
            "133 times below the limit",
        ):
            assert number in text, number

    def test_says_what_it_is(self, data: ReportData) -> None:
        text = page(data).text
        for words in ("my-bundle", "mobilenet_v2", "synergynet", "demo.ckpt", "a" * 64, "landmarks: params, landmarks"):
            assert words in text
        assert "uint8 (N, 120, 120, 3)" in text and "2024-05-06 07:08 UTC" in text and "48 circles" in text
        assert "1.20" in text and "2.10.0" in text and "A processor" in text
        assert "SynergyNet with backbone mobilenet_v2" in text
        other = dataclasses.replace(data, manifest=manifest(convention="3ddfa_v2", arch="mb05"))
        assert "3DDFA_V2 with backbone mb05" in page(other).text

    def test_needs_nothing_from_outside(self, data: ReportData) -> None:
        html, found = re.sub(r' xmlns(:xlink)?="[^"]*"', "", render(data)), page(data)
        assert (
            "http://" not in html
            and "https://" not in html
            and "url(" not in html.replace("url(#", "")
            and "@import" not in html
        )
        assert not {"script", "link", "iframe", "object"} & {name for name, _ in found.elements}
        sources = [each[key] for _, each in found.elements for key in ("src", "href") if each.get(key)]
        assert sources and all(source.startswith("data:image/jpeg;base64,") for source in sources)
        assert any("default-src 'none'" in (each.get("content") or "") for each in found.all("meta"))

    def test_charts_are_inline(self, data: ReportData) -> None:
        found = page(data)
        assert len(found.all("svg", "chart")) == 3
        marks = [each for each in found.all("use") if "fill: #1f6fd6" in (each.get("style") or "")]
        assert len(marks) == FACES + 1  # and the one of the legend

    def test_good_bundle(self, data: ReportData) -> None:
        found = page(data)
        assert found.all("div", "good") and not found.all("div", "bad") and not found.all("span", "fail")
        assert len(found.all("span", "pass")) == 3 and "All 2 artifacts agree with the Cell" in found.text

    @pytest.mark.parametrize(
        ("proof", "reason"),
        [
            (
                parity(check(passed=False, max_abs=0.5), check("model.ms"), passed=False),
                "model.onnx on onnx: params differs by 0.5, the limit is 0.0002",
            ),
            (
                parity(check(passed=False, input_sensitivity=0.001), check("model.ms"), passed=False),
                "model.onnx on onnx: params changes by only 0.001 when the input changes, "
                "so the comparison is meaningless",
            ),
            (  # its result contradicts its numbers
                parity(check(max_abs=0.5), check("model.ms")),
                "model.onnx on onnx: params differs by 0.5, the limit is 0.0002",
            ),
            (
                parity(check(tolerance=0.0), check("model.ms")),
                "model.onnx on onnx: params differs by 1.5e-06, the limit is 0",
            ),
            (parity(check()), "model.ms: not in the parity report"),
            (
                parity(accuracy=(Accuracy("model.ms", "lite", 9.0, 4.0, 9.0, 3.0, False),)),
                "model.ms on lite: NME drifts by 4 points",
            ),
            (parity(passed=False, failures=("model.ms was run on no engine",)), "model.ms was run on no engine"),
            (parity(passed=False), "the parity report says that it failed"),
            (None, "the bundle has no parity report"),
            (
                parity(sha256={"model.onnx": SHA, "model.ms": "1" * 64, "morphable.npz": SHA}),
                "model.ms: not the file that was compared",
            ),
            (parity(sha256={"model.onnx": SHA, "model.ms": SHA}), "morphable.npz: not the file that was compared"),
            (parity(source_sha256="b" * 64), "demo.ckpt: not the checkpoint"),
        ],
    )
    def test_bundle_that_is_not_verified(self, data: ReportData, proof: ParityReport | None, reason: str) -> None:
        found = page(data, parity=proof)
        assert found.all("div", "bad") and not found.all("div", "good")
        assert "Not verified" in found.text and reason in found.text and "agree with the Cell" not in found.text
        assert parity_verdict(data.manifest, proof).reasons[0].startswith(reason)

    def test_what_cannot_be_checked_is_unchecked(self, data: ReportData) -> None:
        """A report of an older version has no hashes; and without an engine nothing was run for the page."""
        old = parity(sha256=msgspec.UNSET, source_sha256=msgspec.UNSET)
        verdict = parity_verdict(data.manifest, old)
        assert verdict.status is ParityStatus.UNCHECKED and not verdict.verified and "no hashes" in verdict.reasons[0]
        assert parity_verdict(data.manifest, parity(check(), sha256=msgspec.UNSET)).status is ParityStatus.FAILED
        for found in (page(data, parity=old), page(data, runs=(), pictures=(), portrait_bgr=None, bench=None)):
            assert not found.all("div", "good") and "Unchecked" in found.text and "✓ All" not in found.text

    def test_failed_check_is_marked(self, data: ReportData) -> None:
        found = page(data, parity=parity(check(max_abs=0.5), check("model.ms")))
        assert len(found.all("span", "fail")) == 1 and "✗ FAIL" in found.text and "beyond the limit" in found.text

    def test_accepted_drift_is_not_a_pass(self, data: ReportData) -> None:
        drift = {"nme": 0.31, "mae": None, "data": "256 faces", "accepted": True}
        reduced = manifest(
            artifacts=[artifact("model.onnx", "onnx", drift=drift) | {"precision": "int8"}, artifact("model.ms", "ms")]
        )
        proof = parity(accuracy=(Accuracy("model.onnx", "onnx", 6.3, 0.31, None, None, False, True),))
        found = page(data, manifest=reduced, parity=proof)
        assert (
            parity_verdict(reduced, proof).status is ParityStatus.ACCEPTED_DRIFT
            and "accepted" in found.text
            and "on 256 faces" in found.text
        )
        assert "it drifts from the Cell by 0.310 points of NME (256 faces). This is beyond the limit" in found.text

    def test_compute_precision_has_its_own_drift(self, data: ReportData) -> None:
        drift = {"nme": 0.02, "mae": 0.1, "data": "256 faces"}
        compute_precision = [{"engine": "openvino", "precision": "bf16", "drift": drift}]
        proved = manifest(
            artifacts=[artifact("model.onnx", "onnx") | {"computing": compute_precision}, artifact("model.ms", "ms")]
        )
        less = Check("model.onnx", "openvino", "params", 0.01, 0.3, 0.1, True, "bf16")
        found = page(data, manifest=proved, parity=parity(check(), less, check("model.ms")))
        assert "may be computed in bf16 on openvino: it drifts from the Cell by 0.020 points of NME" in found.text
        assert "openvino bf16" in found.text and "params in bf16 0.1 whitened units" in found.text

    def test_failures_are_at_the_top(self, data: ReportData) -> None:
        found = page(data, failures=("model.ms on lite: it broke",))
        assert found.text.index("it broke") < found.text.index("Properties")

    def test_no_engine_is_present(self, data: ReportData) -> None:
        found = page(data, runs=(), pictures=(), portrait_bgr=None, bench=None, not_run=("model.ms on lite: absent",))
        assert "No engine on this machine ran the bundle" in found.text and "Latency was not measured" in found.text
        assert "Not run: model.ms on lite: absent." in found.text and found.all("svg", "chart")

    def test_poses_unknown(self, data: ReportData) -> None:
        report = msgspec.structs.replace(data.runs[0].report, mae=None, mae_missing="no pose file")
        found = page(data, runs=(dataclasses.replace(data.runs[0], report=report),))
        assert "Pose error was not measured: no pose file." in found.text

    def test_fixed_batch(self, data: ReportData) -> None:
        inputs = [{**msgspec.to_builtins(data.manifest.inputs[0]), "shape": [4, 120, 120, 3]}]
        bench = BenchReport(HOST, (row("onnx", "model.onnx", 8.0, batch=4),))
        text = page(data, manifest=manifest(inputs=inputs), bench=bench).text
        assert "4 only" in text and "uint8 (4, 120, 120, 3)" in text and "2.00 ms" in text  # per face

    def test_one_line_per_precision(self, data: ReportData) -> None:
        int8 = msgspec.structs.replace(data.runs[0].variant.artifact, precision="int8", file="model.int8.onnx")
        runs = (*data.runs, VariantResult(Variant(int8, "onnx", 1), data.runs[0].report))
        assert one_per_precision(runs) == [runs[0], runs[2]]
        assert "median, model.int8.onnx on onnx" in page(data, runs=runs, yaw_deg=np.linspace(-25, 25, FACES)).text

    def test_hostile_names(self, data: ReportData) -> None:
        proof = parity(
            check(EVIL, engine=EVIL, output=EVIL, passed=False), accuracy=(Accuracy(EVIL, EVIL, 1, 0, 1, 0, True),),
            failures=(EVIL,),
        )  # fmt: skip
        tensors = [{**msgspec.to_builtins(data.manifest.inputs[0]), "name": EVIL, "layout": EVIL, "meaning": EVIL}]
        hostile = manifest(
            arch=EVIL, convention=EVIL, inputs=tensors, toolchain={EVIL: EVIL}, source={"file": EVIL, "sha256": SHA},
            artifacts=[artifact("model.ms", "ms", drift={"nme": 1, "mae": 1, "data": EVIL, "accepted": True})],
        )  # fmt: skip
        bench = BenchReport(odd_host(EVIL), (row(EVIL, EVIL, 1.0, device=EVIL),))
        pictures = tuple(dataclasses.replace(each, name=EVIL) for each in data.pictures)
        found = page(
            data, name=EVIL, parity=proof, manifest=hostile, bench=bench, bench_source=EVIL, pictures=pictures,
            host=odd_host(EVIL), data_source=EVIL, not_run=(EVIL,), failures=(EVIL,),
        )  # fmt: skip
        assert not found.all("script") and found.text.count("alert(") > 20
        assert not [key for _, each in found.elements for key in each if key.startswith("on")]

    def test_extreme_numbers(self, data: ReportData) -> None:
        wild = parity(check(max_abs=1e300, tolerance=1e-300), check("model.ms", max_abs=0.0, tolerance=5e-324))
        found = page(data, parity=wild)
        assert "beyond the limit" in found.text and "no difference" in found.text


def odd_host(text: str) -> Host:
    return Host(text, 2, 25.3, 9.0, text, text, {text: text})


class TestLimits:
    def said(self, data: ReportData, **changes: object) -> str:
        return " ".join(limits(dataclasses.replace(data, **changes)))

    def test_devices(self, data: ReportData) -> None:
        assert "Measured on: cpu. Not run on: gpu and ascend." in self.said(data)
        bench = BenchReport(HOST, (row("onnx", "model.onnx", 1.0, device="gpu:1"),))
        assert "Measured on: gpu. Not run on: cpu and ascend." in self.said(data, bench=bench)

    def test_tolerances_have_units(self, data: ReportData) -> None:
        proof = parity(check(), check(output="landmarks", tolerance=0.01), check(output="vertices", tolerance=0.01))
        text = self.said(data, parity=proof)
        assert "params in fp32 0.0002 whitened units; landmarks in fp32 0.01 crop px; vertices in fp32 0.01" in text

    def test_golden_values_of_real_faces(self, data: ReportData) -> None:
        entry = {"file": "golden.npz", "sha256": SHA, "bytes": 99, "data": "8 raw samples", "nme": 3.2, "mae": None}
        for real, said in ((True, True), (False, False)):
            found = page(data, manifest=manifest(golden={**entry, "real_faces": real}))
            assert "golden values: 8 raw samples" in found.text
            assert ("golden.npz contains photographs of people" in found.text) == said

    def test_synthetic_faces_do_not_show_accuracy_on_photographs(self, data: ReportData) -> None:
        assert "accuracy on photographs" in self.said(data)
        assert "accuracy on photographs" not in self.said(data, synthetic=False)

    def test_few_faces(self, data: ReportData) -> None:
        assert "Fewer than 30 faces have a yaw of 0 to 30°, 30 to 60° and 60 to 90°" in self.said(data)

    def test_busy_machine(self, data: ReportData) -> None:
        assert "busy" not in self.said(data)
        assert "busy (load 9, cores 2)" in self.said(data, bench=BenchReport(odd_host("x"), data.bench.rows))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle on disk with matching hashes, whose model file is not a model."""
    contents = {"model.onnx": b"no model", "morphable.npz": b"x", "parity.json": msgspec.json.encode(parity(check()))}
    entries = {
        name: {"file": name, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        for name, content in contents.items()
    }
    found = manifest(
        artifacts=[artifact("model.onnx", "onnx") | entries["model.onnx"]],
        morphable=entries["morphable.npz"],
        parity=entries["parity.json"],
    )
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "manifest.json").write_bytes(encode_manifest(found))
    return tmp_path


class TestCollect:
    def test_files_are_verified(self, folder: Path) -> None:
        verify(Bundle.open(folder))
        (folder / "morphable.npz").write_bytes(b"y")
        with pytest.raises(BundleError, match=r"morphable\.npz was altered"):
            collect(folder, ReportOptions(), lambda part, doing: None)

    def test_parity_is_read(self, folder: Path) -> None:
        assert read_parity(Bundle.open(folder)) == parity(check())

    @pytest.mark.parametrize("content", [b"{}", b"\xff\xfe", b'{"pass": 1e999, "checks": []}', b"[" * 100_000])
    def test_other_content_is_not_a_parity_report(self, folder: Path, content: bytes) -> None:
        bundle = Bundle.open(folder)
        entry = {"file": "parity.json", "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        (folder / "parity.json").write_bytes(content)
        (folder / "manifest.json").write_bytes(
            encode_manifest(msgspec.convert({**msgspec.to_builtins(bundle.manifest), "parity": entry}, Manifest))
        )
        with pytest.raises(BundleError, match=r"parity\.json is not a parity report"):
            read_parity(Bundle.open(folder))

    def test_bench_file(self, folder: Path, tmp_path: Path) -> None:
        expected = BenchReport(HOST, (row("onnx", "model.onnx", 1.0),))
        (tmp_path / "bench.json").write_bytes(msgspec.json.encode(expected))
        bundle = Bundle.open(folder)
        assert read_bench(tmp_path / "bench.json", bundle) == expected
        hashes = {"model.onnx": bundle.manifest.artifacts[0].sha256}
        for sha256, accepted in ((hashes, True), ({"model.onnx": SHA}, False)):
            (tmp_path / "bench.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(expected, sha256=sha256)))
            with nullcontext() if accepted else pytest.raises(ValueError, match="about another bundle"):
                read_bench(tmp_path / "bench.json", bundle)

    def test_rows_of_other_libraries_are_left_out(self, folder: Path, tmp_path: Path) -> None:
        ours, theirs = row("onnx", "model.onnx", 1.0), row("openvino bf16 (bare)", "model.onnx", 0.5)
        (tmp_path / "bench.json").write_bytes(msgspec.json.encode(BenchReport(HOST, (theirs, ours))))
        assert read_bench(tmp_path / "bench.json", Bundle.open(folder)).rows == (ours,)

    @pytest.mark.parametrize(
        ("rows", "words"),
        [
            ([], "but nothing"),
            ([row("lite", "other.ms", 1.0)], r"but other\.ms"),
            ([row("onnx", "model.onnx", 1.0, median_ms=-1.0)], "impossible"),
            ([row("onnx", "model.onnx", 1.0, batch=0)], "impossible"),
        ],
    )
    def test_bench_file_of_something_else(self, folder: Path, tmp_path: Path, rows: list[Row], words: str) -> None:
        (tmp_path / "bench.json").write_bytes(msgspec.json.encode(BenchReport(HOST, tuple(rows))))
        with pytest.raises(ValueError, match=words):
            read_bench(tmp_path / "bench.json", Bundle.open(folder))

    @pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b"[" * 100_000])
    def test_other_content_is_not_a_bench_file(self, folder: Path, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "bench.json").write_bytes(content)
        with pytest.raises(ValueError, match="is not what `synergy bench --json` writes"):
            read_bench(tmp_path / "bench.json", Bundle.open(folder))

    @pytest.mark.parametrize("options", [{"engines": ("tflite",)}, {"device": "tpu"}])
    def test_unknown_engine_or_device(self, options: dict) -> None:
        with pytest.raises(ValueError, match="unknown"):
            ReportOptions(**options)

    def test_missing_engines_are_noted(
        self, folder: Path, faces: EvaluationData, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def none(*_: object) -> BenchReport:
            raise EngineUnavailableError("no engine here")

        monkeypatch.setattr(collecting, "load_data", lambda options: faces)
        monkeypatch.setattr(variants, "available", lambda name: Availability(False, "it is not here", "get it"))
        monkeypatch.setattr(collecting, "bench_bundle", none)
        data = collect(folder, ReportOptions(), lambda part, doing: None)
        assert data.runs == () and data.bench is None and not data.failures
        absent = [f"model.onnx on {engine}: it is not here" for engine in ("onnx", "openvino")]
        assert data.not_run == (*absent, "latency: no engine here")

    def test_engine_that_breaks(self, folder: Path, faces: EvaluationData, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object, **__: object) -> None:
            raise EngineError("it broke")

        bench = BenchReport(HOST, (row("onnx", "model.onnx", 1.0),), failures=("slow one",))
        monkeypatch.setattr(collecting, "load_data", lambda options: faces)
        monkeypatch.setattr(collecting, "bench_bundle", lambda *_: bench)
        monkeypatch.setattr(variants, "available", lambda name: Availability(True, "here"))
        monkeypatch.setattr(collecting.FaceAligner, "load", broken)
        data = collect(folder, ReportOptions(), lambda part, doing: None)
        broken_ones = [f"model.onnx on {engine}: it broke" for engine in ("onnx", "openvino")]
        assert data.failures == (*broken_ones, "latency: slow one") and data.runs == ()
        assert "it broke" in page(data).text

    def test_engines_that_were_not_asked_for(
        self, folder: Path, faces: EvaluationData, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(collecting, "load_data", lambda options: faces)
        monkeypatch.setattr(collecting, "bench_bundle", lambda *_: BenchReport(HOST, ()))
        data = collect(folder, ReportOptions(engines=("lite",)), lambda part, doing: None)
        assert data.not_run == ("model.onnx on onnx: not asked for", "model.onnx on openvino: not asked for")

    def test_out_is_a_folder(self, folder: Path, tmp_path: Path) -> None:
        with pytest.raises(MediaError, match="is a folder"):
            write_report(folder, tmp_path, ReportOptions(), lambda part, doing: None)


def test_report_command_on_real_faces(
    bundles: dict[str, Path],
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
) -> None:
    from synergy import cli

    out, raw = tmp_path / "pages" / "mb05.html", shared / "aflw2000" / "raw"
    given = ["report", bundles["mb05"], "-o", out, "--raw", raw, "--engine", "onnx"]
    monkeypatch.setattr(sys, "argv", ["synergy", *map(str, given)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0 and "mb05 is verified" in capfd.readouterr().out
    found = Page(out.read_text())
    assert "the mean NME of model.onnx on onnx is 3.225 %" in found.text
    assert "model.ms on lite: not asked for" in found.text and found.all("span", "pass")
    assert len(found.all("image")) == 6 and len(found.all("img")) == 1  # two of each rank of eight, and the portrait
    assert [each.name for each in out.parent.iterdir()] == ["mb05.html"]


@pytest.fixture
def chromium(tmp_path: Path):
    """Run the browser on a file with options."""
    if BROWSER is None:
        pytest.skip("no chromium here")

    def run(path: Path, *options: str) -> None:
        flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run")
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        subprocess.run(
            [BROWSER, *flags, profile, *options, path.as_uri()], check=True, capture_output=True, timeout=120
        )

    return run


class TestBrowser:
    def shot(self, chromium, path: Path, width: int, height: int, *options: str) -> np.ndarray:
        picture = path.with_suffix(".png")
        chromium(path, f"--window-size={width},{height}", f"--screenshot={picture}", *options)
        image = cv2.imread(str(picture))
        assert image is not None and image.shape[:2] == (height, width)
        return image

    def test_light_and_dark(self, chromium, data: ReportData, tmp_path: Path) -> None:
        (tmp_path / "page.html").write_text(render(data))
        light = self.shot(chromium, tmp_path / "page.html", 1280, 4600)
        dark = self.shot(chromium, tmp_path / "page.html", 1280, 4600, "--blink-settings=preferredColorScheme=0")
        assert light[0, 0].tolist() == [255, 255, 255] and dark[0, 0].max() < 40
        blue = (light == (0xD6, 0x6F, 0x1F)).all(axis=2)  # the bar of engine lite, as charts.py has it
        assert blue.sum() > 1000

    def test_fits_a_phone(self, chromium, data: ReportData, tmp_path: Path) -> None:
        """Nothing sticks out to the right of a 360 px screen, even if tables are not allowed to scroll."""
        html = re.sub(r"overflow-x: auto", "overflow-x: visible", render(data))
        (tmp_path / "page.html").write_text(html)
        frame = (
            '<body style="margin:0;background:#fff"><iframe src="page.html" style="width:360px;height:7000px;border:0">'
        )
        (tmp_path / "frame.html").write_text(frame)
        shot = self.shot(chromium, tmp_path / "frame.html", 500, 7000)
        assert (shot[:, 346:360] == 255).all() and not (shot[:, 16:346] == 255).all()

    def test_prints(self, chromium, data: ReportData, tmp_path: Path) -> None:
        (tmp_path / "page.html").write_text(render(data))
        chromium(tmp_path / "page.html", "--no-pdf-header-footer", f"--print-to-pdf={tmp_path / 'page.pdf'}")
        assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
