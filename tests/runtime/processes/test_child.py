"""How long a child polls for its next request."""

from __future__ import annotations

import socket
import time

import pytest

from synergy.runtime.engines import isolated
from synergy.runtime.processes.child import Child, spin_wait
from synergy.runtime.specs import Device, ModelFile


def test_it_looks_for_as_long_as_it_is_told() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        start = time.perf_counter()
        spin_wait(theirs.fileno(), 0.1)
        assert 0.1 <= time.perf_counter() - start < 1.0


@pytest.mark.parametrize("end", ["bytes", "closed"])
def test_it_stops_when_there_is_something(end: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.send(b"x") if end == "bytes" else ours.close()
        start = time.perf_counter()
        spin_wait(theirs.fileno(), 30.0)
        assert time.perf_counter() - start < 10.0


def test_engines_stay_awake(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    class Seen(Child):
        def __init__(
            self,
            title: str,
            module: str,
            function: str,
            descriptors: object,
            spin_wait_s: float = 0.0,
            environment: object = None,
        ) -> None:
            asked.append(spin_wait_s)
            raise OSError("enough seen")

    monkeypatch.setattr(isolated, "Child", Seen)
    with pytest.raises(OSError, match="enough seen"):
        isolated.IsolatedEngine("onnx", ModelFile(b"", "onnx", (), ()), Device(), 1)
    assert asked == [isolated.SPIN_WAIT_S] and isolated.SPIN_WAIT_S > 0
