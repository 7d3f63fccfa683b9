"""Libraries used directly against our engines on the same model, and the workloads of the sessions."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from synergy.benchmarks.peers.sessions import BARE_RUNS, PEERS, LibrarySession, PackageSession, bare_run
from synergy.benchmarks.sample_crops import PORTRAIT, PORTRAIT_BOX_XYXY
from synergy.benchmarks.speed.engine_process import (
    ISOLATED,
    NETWORK,
    OVERHEAD,
    PIPELINE,
    Picture,
    SessionInputs,
    SessionProcess,
    SessionSpec,
    Workload,
)
from synergy.benchmarks.speed.timing import MIN_RUNS
from synergy.runtime.bundle import Bundle
from synergy.runtime.engines import ENGINES, Engine, available, open_engine
from synergy.runtime.engines.base import ONEDNN_ISA_LIMIT
from synergy.runtime.errors import EngineError
from synergy.runtime.processes.child import Child

CROPS = np.random.default_rng(1).integers(0, 256, (3, 120, 120, 3), np.uint8)


INPUTS = SessionInputs(CROPS, Picture(PORTRAIT.read_bytes(), PORTRAIT_BOX_XYXY))
SHORT_S = 0.005


def library_spec(folder: Path, name: str, precision: str = "") -> SessionSpec:
    bundle = Bundle.open(folder)
    model = bundle.model_file(bundle.manifest.artifacts[0])
    return SessionSpec(LibrarySession, name, folder, "model.onnx", model, 1, (1, len(CROPS)), precision, is_bare=True)


def package_spec(folder: Path, name: str) -> SessionSpec:
    return dataclasses.replace(library_spec(folder, name), session=PackageSession, is_bare=False)


def test_every_engine_has_a_bare_session() -> None:
    assert set(BARE_RUNS) == set(ENGINES)
    assert {peer.engine for peer in PEERS.values()} <= set(ENGINES)


def test_an_engine_without_one_is_named() -> None:
    class Stranger(Engine):
        name = "stranger"

        def __init__(self) -> None:
            pass

        available = _run = close = None  # type: ignore[assignment]

    with pytest.raises(EngineError, match=r"engine stranger has no bare session: add it to BARE_RUNS in synergy\."):
        bare_run(Stranger())


@pytest.mark.parametrize(
    ("name", "precision"), [("onnxruntime", ""), ("openvino", "f32"), ("openvino", ""), ("openvino queue", "f32")]
)
def test_libraries_give_the_outputs_of_our_engine(tiny_bundle: Path, name: str, precision: str) -> None:
    pytest.importorskip(PEERS[name].package)
    pytest.importorskip("onnxruntime")
    spec = library_spec(tiny_bundle, name, precision)
    with open_engine("onnx", spec.model, threads=1) as engine:
        wanted = engine.run({"images": CROPS})
    run = PEERS[name].open(spec)
    tolerance = 1e-3 if precision or name == "onnxruntime" else 1.0  # the default may be bfloat16
    for outputs in (run(CROPS), run(CROPS)):
        assert [output.shape for output in outputs] == [(3, 62), (3, 3, 68)]
        for output, tensor in zip(outputs, spec.model.outputs, strict=True):
            assert np.allclose(output, wanted[tensor.name], atol=tolerance)
    assert run(CROPS[:1])[0].shape == (1, 62)


def test_the_queue_divides_a_batch_and_keeps_the_order(tiny_bundle: Path) -> None:
    pytest.importorskip("openvino")
    spec = dataclasses.replace(library_spec(tiny_bundle, "openvino queue", "f32"), batches=(1, 36), threads=2)
    run = PEERS[spec.name].open(spec)
    crops = np.repeat(CROPS, 12, axis=0)
    params, landmarks = run(crops)
    assert params.shape == (36, 62) and landmarks.shape == (36, 3, 68)
    for start in (0, 12, 24):
        assert np.allclose(params[start : start + 12], run(crops[start : start + 1])[0], atol=1e-4)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_bare_session_of_an_engine(tiny_bundle: Path, name: str) -> None:
    if not available(name).ok:
        pytest.skip(available(name).detail)
    with open_engine(name, library_spec(tiny_bundle, name).model, threads=1) as engine:
        wanted = engine.run({"images": CROPS})
        for output, spec in zip(bare_run(engine)(CROPS), engine.model.outputs, strict=True):
            assert np.array_equal(output, wanted[spec.name])


def test_default_precision_of_openvino() -> None:
    pytest.importorskip("openvino")
    child = Child("OpenVINO", "synergy.benchmarks.peers.sessions", "make_precision_handler")
    try:
        assert child.ask(None) in ("f32", "bf16", "f16")
    finally:
        child.close()


def test_openvino_drops_the_instruction_limit_of_mindspore(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children of a process that ran MindSpore inherit the limit."""
    pytest.importorskip("openvino")
    monkeypatch.setenv(*ONEDNN_ISA_LIMIT)
    with SessionProcess(library_spec(tiny_bundle, "openvino"), INPUTS) as process:
        assert process.sample(Workload(NETWORK, seconds=SHORT_S))


def test_whether_a_library_is_installed() -> None:
    peer = PEERS["onnxruntime"]
    assert not dataclasses.replace(peer, package="no_such_package").is_installed
    assert dataclasses.replace(peer, package="numpy").is_installed


def test_workloads_of_the_package(tiny_bundle: Path) -> None:
    pytest.importorskip("onnxruntime")
    with SessionProcess(package_spec(tiny_bundle, "onnx"), INPUTS) as process:
        assert 0.05 < process.cold_start_s < 60 and 20 < process.rss_mb < 2000
        found = {kind: process.sample(Workload(kind, 3, SHORT_S)) for kind in (OVERHEAD, ISOLATED, PIPELINE)}
    assert {kind: len(times) for kind, times in found.items()} == {OVERHEAD: 2, ISOLATED: 2, PIPELINE: 1}
    assert all(len(runs) >= MIN_RUNS and 0 < min(runs) < 1 for times in found.values() for runs in times)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_workloads_of_a_library(tiny_bundle: Path, name: str) -> None:
    pytest.importorskip(name)
    session = LibrarySession(library_spec(tiny_bundle, name), INPUTS)
    assert [len(session.sample(Workload(NETWORK, batch, SHORT_S))) for batch in (1, 3)] == [1, 1]
    assert len(session.sample(Workload(PIPELINE, seconds=SHORT_S))) == 1


def test_pipeline_needs_a_picture(tiny_bundle: Path) -> None:
    pytest.importorskip("onnxruntime")
    session = LibrarySession(library_spec(tiny_bundle, "onnxruntime"), SessionInputs(CROPS))
    with pytest.raises(ValueError, match="needs a picture"):
        session.sample(Workload(PIPELINE))


def test_model_that_does_not_load_is_an_error_with_its_cause(tiny_bundle: Path) -> None:
    pytest.importorskip("onnxruntime")
    good = library_spec(tiny_bundle, "onnxruntime")
    broken = dataclasses.replace(good, model=dataclasses.replace(good.model, data=b"no model"))
    with pytest.raises(EngineError, match=r"(?i)protobuf"):
        SessionProcess(broken, INPUTS)
