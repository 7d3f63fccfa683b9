"""Results of other devices on the page: read strictly, judged by their numbers, and without folders of any machine."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from synergy.benchmarks.parity.verify import VerifiedLatency, VerifyReport
from synergy.benchmarks.report.collect import ReportData
from synergy.benchmarks.report.context import without_folders
from synergy.benchmarks.report.limits import limits
from synergy.benchmarks.report.verified import read_verified, verified_failures, verified_rows
from synergy.runtime.bundle import Bundle
from synergy.runtime.diagnostics.host import Host
from synergy.runtime.verification.parity_record import Accuracy, Check, file_hashes

from .test_report import Page, data, faces, folder, page, render  # noqa: F401

CPU = "Kunpeng-920"
HOST = Host(CPU, 8, 16.0, 0.1, "3.11.7", "Linux-aarch64", {"onnxruntime": "1.31.1", "mindspore-lite": "2.0.0"})
SHA = "a" * 64


def check(**changes: object) -> Check:
    values = {"artifact": "model.onnx", "engine": "onnx", "output": "params", "max_abs": 4e-6, "input_sensitivity": 0.4}
    return Check(**{**values, "tolerance": 2e-4, "passed": True, **changes})


def accuracy(**changes: object) -> Accuracy:
    values = {"artifact": "model.onnx", "engine": "onnx", "nme": 2.9, "nme_drift": 1.5e-6, "mae": 2.7}
    return Accuracy(**{**values, "mae_drift": 7e-7, "passed": True, **changes})


def verified(**changes: object) -> VerifyReport:
    values = {
        "passed": True,
        "bundle": "my-bundle",
        "source_sha256": SHA,
        "golden": "32 procedural faces",
        "device": "ascend:0",
        "host": HOST,
        "checks": (check(), check(output="landmarks", max_abs=1e-3, tolerance=1e-2)),
        "accuracy": (accuracy(),),
        "latency": (VerifiedLatency("model.onnx", "onnx", 8, 1, 3.25),),
    }
    return VerifyReport(**{**values, **changes})


def of_bundle(bundle: Bundle, **changes: object) -> VerifyReport:
    return verified(sha256=file_hashes(bundle.manifest), **changes)


def write(path: Path, report: VerifyReport) -> Path:
    path.write_bytes(msgspec.json.encode(report))
    return path


def test_a_row_shows_device_versions_and_numbers(data: ReportData) -> None:  # noqa: F811
    found = page(data, verified=(verified(),))
    assert (
        f"ascend:0 {CPU} model. onnx onnx, onnxruntime 1.31.1 10 % 1.5e-6 7.0e-7 3.25 ✓ pass".replace(
            "model. ", "model."
        )
        in found.text
    )
    assert "32 procedural faces" in found.text and "Not verified on any device" not in found.text
    assert "Measured on: cpu. Verified with golden values on: ascend. Not run on: gpu." in found.text


def test_without_a_file_the_page_says_that_nothing_was_verified(data: ReportData) -> None:  # noqa: F811
    text = page(data).text
    assert "Not verified on any device." in text and "synergy report BUNDLE --verified FILE" in text
    assert "Measured on: cpu. Not run on: gpu and ascend." in " ".join(limits(data))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"checks": (check(max_abs=0.5),)}, "model.onnx on onnx: params is beyond its limit"),  # says that it passed
        ({"accuracy": (accuracy(passed=False),)}, "model.onnx on onnx: accuracy is beyond its limit"),
        ({"passed": False}, "the file says that the verification failed"),
        ({"accuracy": (), "checks": ()}, "the file says that the verification failed"),
        ({"passed": False, "failures": ("model.ms on lite: params differs",)}, "model.ms on lite: params differs"),
    ],
)
def test_what_failed_is_named(data: ReportData, changes: dict, words: str) -> None:  # noqa: F811
    report = verified(**changes)
    assert [*verified_failures([report])] == [f"on ascend:0 ({CPU}): {words}"]
    assert words in page(data, verified=(report,)).text


def test_a_row_is_judged_by_its_numbers() -> None:
    assert [row.passed for row in verified_rows([verified()])] == [True]
    assert [row.passed for row in verified_rows([verified(checks=(check(max_abs=1.0),))])] == [False]
    assert [row.passed for row in verified_rows([verified(checks=())])] == [False]
    accepted = verified(accuracy=(accuracy(passed=False, accepted=True),))
    assert [(row.passed, row.accepted) for row in verified_rows([accepted])] == [(True, True)]


@pytest.mark.parametrize("reason", ["/opt/secret/libcudnn.so: cannot open", r"C:\secret\x.dll", "~secret is missing"])
def test_reasons_that_may_name_folders_are_left_out(data: ReportData, reason: str) -> None:  # noqa: F811
    report = verified(passed=False, failures=(f"model.ms on lite: {reason}",))
    html = render(replace(data, verified=(report,)))
    assert "model.ms on lite: the reason is in the JSON file" in html and "secret" not in html


def test_files_of_this_and_other_bundles(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    bundle = Bundle.open(folder)
    report = of_bundle(bundle)
    assert read_verified(write(tmp_path / "v.json", report), bundle) == report
    scaled = {**report.sha256, "model.onnx": "b" * 64}
    for sha256, words in (
        (scaled, r"is about another bundle \(my-bundle\): model\.onnx differ"),
        ({}, "has no hashes"),
    ):
        with pytest.raises(ValueError, match=rf"{words}.* run `synergy verify"):
            read_verified(write(tmp_path / "v.json", verified(sha256=sha256)), bundle)
    with pytest.raises(ValueError, match=r"is about a bundle of another checkpoint .* run `synergy verify"):
        read_verified(write(tmp_path / "v.json", verified(source_sha256="b" * 64)), bundle)
    other = of_bundle(bundle, accuracy=(accuracy(artifact="model.ms"),))
    with pytest.raises(ValueError, match=r"is about model\.ms, which .* does not contain: run `synergy verify"):
        read_verified(write(tmp_path / "v.json", other), bundle)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b"[" * 100_000, b'{"checks": 1}'])
def test_files_of_another_form(folder: Path, tmp_path: Path, content: bytes) -> None:  # noqa: F811
    (tmp_path / "v.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"is not what `synergy verify --json` writes: .* To make it, run"):
        read_verified(tmp_path / "v.json", Bundle.open(folder))


def test_a_difference_that_is_not_a_number_is_read_as_a_failure(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    bundle = Bundle.open(folder)
    failed = (check(max_abs=float("nan"), passed=False),)
    broken = of_bundle(bundle, passed=False, checks=failed, failures=("params differs",))
    read = read_verified(write(tmp_path / "v.json", broken), bundle)
    assert [row.tolerance_used for row in verified_rows([read])] == [float("inf")] and not read.passed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/user/.local/share/lite/libx.so: cannot open", "libx.so: cannot open"),
        ("not installed in /opt/a/b (see ~/notes/x.txt)", "not installed in b (see x.txt)"),
        ("22 crops/s, 1/2, model.ms on lite", "22 crops/s, 1/2, model.ms on lite"),
        ("no '/data/Jane Doe/net.onnx', ../../a/b.ckpt, file:///c/d.so", "no 'net.onnx', b.ckpt, d.so"),
    ],
)
def test_folders_are_removed_from_messages(text: str, expected: str) -> None:
    assert without_folders(text) == expected


def test_the_page_names_no_folder_of_a_machine(data: ReportData, tmp_path: Path) -> None:  # noqa: F811
    place = f"{tmp_path}/lib/x.so, {Path.home()}/a b/y.so and {Path.cwd()}"
    report = verified(passed=False, failures=(f"model.ms on lite: {place}",), skipped=(f"model.ms: {place}",))
    html = render(
        replace(data, verified=(report,), not_run=(place,), failures=(place,), data_source=f"8 faces of {tmp_path}")
    )
    for path in (tmp_path, tmp_path.parent, Path.home(), Path.cwd()):
        assert f"{path}/" not in html and not re.search(re.escape(str(path)) + r"\b", html), path


def test_the_command(
    bundles: dict[str, Path], synergy: Callable[..., tuple[int, str, str]], tmp_path: Path, shared: Path
) -> None:
    bundle = bundles["mb05"]
    assert synergy("verify", bundle, "--engine", "onnx", "--json", tmp_path / "v.json")[0] == 0
    given = ("report", bundle, "-o", tmp_path / "r.html", "--engine", "onnx", "--raw", shared / "aflw2000" / "raw")
    code, out, err = synergy(*given, "--verified", tmp_path / "v.json", "--verified", tmp_path / "v.json")
    assert code == 0 and "is verified" in out, err
    html = (tmp_path / "r.html").read_text()
    assert Page(html).text.count("onnxruntime 1.") >= 2
    assert str(tmp_path) not in html and f"{Path.home()}/" not in html and str(shared) not in html
    (tmp_path / "v.json").write_text("{}")
    code, out, err = synergy(*given, "--verified", tmp_path / "v.json")
    assert code == 1 and "is not what `synergy verify --json` writes" in err
