"""No engine opens a network connection or writes into the user's folders."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from synergy.runtime.engines import available

ROOT = Path(__file__).resolve().parents[3]
RUN = """
import sys
import numpy as np
from synergy import FaceAligner
bundle, engine = sys.argv[1:]
with FaceAligner.load(bundle, engine=engine, threads=1) as aligner:
    aligner.predict(np.zeros((1, 120, 120, 3), np.uint8))
"""
NETWORK = ("AF_INET", "sin_addr", "sin6_addr")


@pytest.mark.parametrize("engine", ["onnx", "openvino", "lite", "mindspore"])
def test_opens_no_connection(engine: str, bundles: dict[str, Path], tmp_path: Path) -> None:
    """Counted by strace; without it, only the files are checked that telemetry writes."""
    if not available(engine).ok:
        pytest.skip(available(engine).detail)
    trace = tmp_path / "calls"
    folders = {name: str(tmp_path / "home") for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    (tmp_path / "home").mkdir()
    left_out = ("CI", "TF_BUILD", "JENKINS_URL", "ORT_DISABLE_TELEMETRY")  # they switch telemetry off
    environment = {name: value for name, value in os.environ.items() if name not in left_out} | folders
    if engine == "lite":
        from synergy.runtime.lite.locate import locate

        environment["SYNERGY_DATA_HOME"] = str(locate().root.parents[1])
    command = [sys.executable, "-c", RUN, str(bundles["mb05"]), engine]
    strace = shutil.which("strace")
    if strace:
        calls = "trace=socket,connect,sendto,sendmsg"
        command = [strace, "--seccomp-bpf", "-f", "-qq", "-e", calls, "-o", str(trace), *command]
    subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True)
    assert list((tmp_path / "home").rglob("*")) == []
    if strace:
        assert [line for line in trace.read_text().splitlines() if any(word in line for word in NETWORK)] == []
