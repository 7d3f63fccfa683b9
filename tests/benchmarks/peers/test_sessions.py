"""Peers' sessions against ours on the same model, and the bare session inside ours."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from synergy.benchmarks.peers.pipeline import Picture
from synergy.benchmarks.peers.process import NETWORK, SessionInputs, SessionProcess, SessionSpec, Workload
from synergy.benchmarks.peers.sessions import BARE_RUNS, PEERS, PeerModel, bare_run
from synergy.runtime.bundle import Bundle
from synergy.runtime.engines import ENGINES, Engine, available, open_engine
from synergy.runtime.engines.base import ONEDNN_ISA_LIMIT
from synergy.runtime.errors import EngineError
from synergy.runtime.processes.child import Child

CROPS = np.random.default_rng(1).integers(0, 256, (3, 120, 120, 3), np.uint8)


def peer_model(bundle: Bundle, precision: str = "") -> PeerModel:
    model = bundle.model_file(bundle.manifest.artifacts[0])
    return PeerModel(model, 1, precision, (1, len(CROPS)))


def test_every_engine_has_a_bare_session() -> None:
    assert set(BARE_RUNS) == set(ENGINES)
    assert {peer.engine for peer in PEERS.values()} <= set(ENGINES)


def test_an_engine_without_one_is_named() -> None:
    class Stranger(Engine):
        name = "stranger"

        def __init__(self) -> None:
            pass

        available = _run = close = None  # type: ignore[assignment]

    with pytest.raises(EngineError, match=r"engine stranger has no bare session in benchmarks/peer_sessions\.py"):
        bare_run(Stranger())


@pytest.mark.parametrize(("name", "precision"), [("onnxruntime", ""), ("openvino", "f32"), ("openvino", "")])
def test_peers_compute_what_our_engine_does(tiny_bundle: Path, name: str, precision: str) -> None:
    pytest.importorskip(PEERS[name].package)
    pytest.importorskip("onnxruntime")
    bundle = Bundle.open(tiny_bundle)
    model = peer_model(bundle, precision)
    with open_engine("onnx", model.model, threads=1) as engine:
        wanted = engine.run({"images": CROPS})
    run = PEERS[name].open(model)
    slack = 1e-3 if precision or name == "onnxruntime" else 1.0  # by default bfloat16, where there is
    for outputs in (run(CROPS), run(CROPS)):
        assert [output.shape for output in outputs] == [(3, 62), (3, 3, 68)]
        for output, spec in zip(outputs, model.model.outputs, strict=True):
            assert np.allclose(output, wanted[spec.name], atol=slack)
    assert run(CROPS[:1])[0].shape == (1, 62)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_the_session_within_an_engine(tiny_bundle: Path, name: str) -> None:
    if not available(name).ok:
        pytest.skip(available(name).detail)
    with open_engine(name, peer_model(Bundle.open(tiny_bundle)).model, threads=1) as engine:
        wanted = engine.run({"images": CROPS})
        for output, spec in zip(bare_run(engine)(CROPS), engine.model.outputs, strict=True):
            assert np.array_equal(output, wanted[spec.name])


def test_openvino_tells_its_precision() -> None:
    pytest.importorskip("openvino")
    child = Child("OpenVINO", "synergy.benchmarks.peers.sessions", "make_precision_handler")
    try:
        assert child.ask(None) in ("f32", "bf16", "f16")
    finally:
        child.close()


def test_openvino_is_not_held_back_by_what_mindspore_needs(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ran MindSpore hands the limit down to its children; theirs is to drop it."""
    pytest.importorskip("openvino")
    monkeypatch.setenv(*ONEDNN_ISA_LIMIT)
    bundle = Bundle.open(tiny_bundle)
    spec = SessionSpec("openvino", False, tiny_bundle, "model.onnx", peer_model(bundle).model, 1, (1,))
    process = SessionProcess(spec, SessionInputs(CROPS, Picture(b"", (0, 0, 1, 1))))
    try:
        assert process.turn(Workload(NETWORK))
    finally:
        process.close()


def test_a_package_that_is_not_here() -> None:
    peer = PEERS["onnxruntime"]
    assert not dataclasses.replace(peer, package="no_such_package").is_here
    assert dataclasses.replace(peer, package="numpy").is_here
