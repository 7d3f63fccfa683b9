"""Engines in a child process: a crash is an error, and no process remains."""

from __future__ import annotations

import gc
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synergy.runtime.engines import open_engine
from synergy.runtime.engines.isolated import IsolatedEngine
from synergy.runtime.errors import ChildDiedError, EngineError, EngineUnavailableError
from synergy.runtime.lite.locate import RECORD, gpu_library_folder, vendor_installation
from synergy.runtime.specs import Device, EngineOptions, ModelFile, TensorSpec, available_cores

PATIENCE_S = 30.0  # for processes to go on a busy machine

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="processes are looked up in /proc")


@pytest.fixture
def model(tiny_onnx: Path) -> ModelFile:
    pytest.importorskip("onnxruntime")
    images = (TensorSpec("images", (-1, 8, 8, 3), "uint8"),)
    outputs = (TensorSpec("pooled", (-1, 4), "float32"), TensorSpec("scores", (-1, 5), "float32"))
    return ModelFile(tiny_onnx.read_bytes(), "onnx", images, outputs)


@pytest.fixture
def engine(model: ModelFile) -> Iterator[IsolatedEngine]:
    with IsolatedEngine("onnx", model, Device(), 1) as engine:
        yield engine


def processes() -> dict[int, tuple[int, str]]:
    """Parent and state of every process."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(") ")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        found[int(stat.parent.name)] = int(parent), state
    return found


def children(parent: int) -> set[int]:
    """Running child processes and zombies."""
    return {child for child, (its_parent, _) in processes().items() if its_parent == parent}


def gone(pid: int) -> bool:
    """Dead, and not a zombie of this process; one whose parent died too may wait for init."""
    parent, state = processes().get(pid, (0, "X"))
    return state in "XZ" and parent != os.getpid()


def soon(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def child_of(make: Callable[[], IsolatedEngine]) -> tuple[IsolatedEngine, int]:
    before = children(os.getpid())
    engine = make()
    (pid,) = children(os.getpid()) - before
    return engine, pid


def start_script(tmp_path: Path, text: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    path = tmp_path / "script.py"
    path.write_text(text)
    command = [sys.executable, "-u", str(path), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


OPEN = """
import sys
from pathlib import Path
import numpy as np
from synergy.runtime.engines import open_engine
from synergy.runtime.specs import ModelFile, TensorSpec
from synergy.runtime.errors import EngineError

model = ModelFile(
    Path(sys.argv[1]).read_bytes(),
    "onnx",
    (TensorSpec("images", (-1, 8, 8, 3), "uint8"),),
    (TensorSpec("pooled", (-1, 4), "float32"), TensorSpec("scores", (-1, 5), "float32")),
)
images = np.zeros((2, 8, 8, 3), np.uint8)
engine = open_engine("onnx", model, isolated=True)
"""


# --- results ---


def test_numbers(engine: IsolatedEngine, tiny: Any) -> None:
    for count in (1, 5, 2, 300, 3):
        images = tiny.images(count, seed=count)
        found = engine.run({"images": images})
        for name, expected in zip(("pooled", "scores"), tiny.expected(images), strict=True):
            assert np.allclose(found[name], expected, atol=1e-4)


def test_outputs_are_new_arrays(engine: IsolatedEngine, tiny: Any) -> None:
    """Not views of what the next run overwrites."""
    first = engine.run({"images": tiny.images(2, seed=1)})
    kept = {name: array.copy() for name, array in first.items()}
    engine.run({"images": tiny.images(2, seed=2)})
    assert all(np.array_equal(first[name], kept[name]) and first[name].flags.writeable for name in kept)


def test_large_arrays(engine: IsolatedEngine) -> None:
    """More than a pipe holds, both ways."""
    assert engine.run({"images": np.zeros((20_000, 8, 8, 3), np.uint8)})["scores"].shape == (20_000, 5)


def test_two_at_once_are_two_processes(model: ModelFile, tiny: Any) -> None:
    with IsolatedEngine("onnx", model, Device(), 1) as first, IsolatedEngine("onnx", model, Device(), 1) as second:
        images = [tiny.images(3, seed=seed) for seed in (1, 2)]
        results: list[dict[str, np.ndarray]] = [{}, {}]

        def work(place: int, engine: IsolatedEngine) -> None:
            for _ in range(20):
                results[place] = engine.run({"images": images[place]})

        threads = [threading.Thread(target=work, args=pair) for pair in enumerate((first, second))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for place in (0, 1):
        assert np.allclose(results[place]["pooled"], tiny.expected(images[place])[0], atol=1e-4)


def test_output_of_the_child_is_not_shown(model: ModelFile, tiny: Any, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EngineError), IsolatedEngine("onnx", replace(model, data=b"x" * 100), Device(), 1):
        pass
    with IsolatedEngine("onnx", model, Device(), 1) as engine:
        engine.run({"images": tiny.images(1)})
    assert capfd.readouterr() == ("", "")


# --- errors ---


def test_errors_keep_their_kind(model: ModelFile) -> None:
    with pytest.raises(EngineError, match="cannot load the model") as refused:
        IsolatedEngine("onnx", replace(model, data=b"text"), Device(), 1)
    assert type(refused.value) is EngineError  # a refusal, not a death: another process would refuse too
    with pytest.raises(EngineUnavailableError, match="--device cpu"):
        IsolatedEngine("onnx", model, Device("gpu"), 1)
    with pytest.raises(EngineError, match="cannot read ms files"):
        IsolatedEngine("onnx", replace(model, format="ms"), Device(), 1)
    with pytest.raises(ValueError, match="use one of"):
        IsolatedEngine("nonsense", model, Device(), 1)
    undead = {pid for pid, (parent, state) in processes().items() if parent == os.getpid() and state == "Z"}
    assert not undead


def test_options_reach_the_child(model: ModelFile) -> None:
    with pytest.raises(EngineError, match="engine onnx computes in float16 only on ascend, not on cpu"):
        IsolatedEngine("onnx", model, Device(), 1, EngineOptions(precision="fp16"))
    with pytest.raises(EngineError, match="with 1 thread there are none"):
        open_engine("onnx", model, "cpu", 1, isolated=True, options=EngineOptions(affinity=(max(available_cores()),)))


def test_a_failed_run_leaves_the_engine_usable(engine: IsolatedEngine, tiny: Any) -> None:
    with pytest.raises(ValueError, match="empty batch"):
        engine.run({"images": np.zeros((0, 8, 8, 3), np.uint8)})
    assert engine.run({"images": tiny.images(1)})["scores"].shape == (1, 5)


def test_an_error_inside_the_child_leaves_the_engine_usable(model: ModelFile, tiny: Any) -> None:
    """A manifest that promises what the model does not take: the child's error, at every run."""
    wrong = replace(model, inputs=(TensorSpec("images", (-1, 9, 9, 3), "uint8"),))
    with IsolatedEngine("onnx", wrong, Device(), 1) as engine:
        for _ in range(2):
            with pytest.raises(EngineError, match="onnxruntime failed"):
                engine.run({"images": np.zeros((1, 9, 9, 3), np.uint8)})


def test_outputs_that_the_manifest_does_not_know(model: ModelFile, tiny: Any) -> None:
    wrong = replace(model, outputs=(model.outputs[0], TensorSpec("scores", (-1, 6), "float32")))
    with (
        IsolatedEngine("onnx", wrong, Device(), 1) as engine,
        pytest.raises(EngineError, match=r"engine onnx returned scores as float32 \(1, 5\)"),
    ):
        engine.run({"images": tiny.images(1)})


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGABRT", "SIGTERM"])
def test_a_crash_is_an_error(model: ModelFile, tiny: Any, name: str) -> None:
    engine, pid = child_of(lambda: IsolatedEngine("onnx", model, Device(), 1))
    os.kill(pid, getattr(signal, name))
    with pytest.raises(ChildDiedError, match=rf"the onnx engine died \(signal {name}\)") as raised:
        for _ in range(100):
            engine.run({"images": tiny.images(1)})
    assert "\n" not in str(raised.value)
    assert pid not in processes()  # not even a zombie
    with pytest.raises(EngineError, match="closed") as refused:
        engine.run({"images": tiny.images(1)})
    assert not isinstance(refused.value, ChildDiedError)
    engine.close()


def test_a_crash_during_a_run_is_an_error(model: ModelFile) -> None:
    engine, pid = child_of(lambda: IsolatedEngine("onnx", model, Device(), 1))
    os.kill(pid, signal.SIGSTOP)  # it will never answer
    killer = threading.Timer(0.3, os.kill, (pid, signal.SIGKILL))
    killer.start()
    with pytest.raises(ChildDiedError, match="SIGKILL"):
        engine.run({"images": np.zeros((1, 8, 8, 3), np.uint8)})
    killer.join()
    assert pid not in processes()


def test_an_idle_child_sleeps(model: ModelFile, tiny: Any) -> None:
    """It polls for the next run only for a moment."""
    engine, pid = child_of(lambda: IsolatedEngine("onnx", model, Device(), 1))

    def ticks() -> int:  # of 10 ms, in user and system mode
        return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))

    engine.run({"images": tiny.images(1)})
    time.sleep(0.3)  # threads of the engine spin on for a while
    before = ticks()
    time.sleep(1.0)
    assert ticks() - before < 10
    engine.close()


# --- nothing is left behind ---


def test_closing_ends_the_child(model: ModelFile) -> None:
    engine, pid = child_of(lambda: IsolatedEngine("onnx", model, Device(), 1))
    engine.close()
    assert pid not in processes()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run({"images": np.zeros((1, 8, 8, 3), np.uint8)})


def test_closing_ends_even_a_child_that_hangs(model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    from synergy.runtime.processes import child as module

    monkeypatch.setattr(module, "GRACE_S", 0.2)
    engine, pid = child_of(lambda: IsolatedEngine("onnx", model, Device(), 1))
    os.kill(pid, signal.SIGSTOP)
    engine.close()
    assert pid not in processes()


def test_garbage_collection_ends_the_child(model: ModelFile) -> None:
    engine, pid = child_of(lambda: IsolatedEngine("onnx", model, Device(), 1))
    del engine
    gc.collect()
    assert pid not in processes()


def test_a_failed_start_leaves_no_child(model: ModelFile) -> None:
    before = children(os.getpid())
    with pytest.raises(EngineError):
        IsolatedEngine("onnx", replace(model, data=b"text"), Device(), 1)
    assert children(os.getpid()) == before


def test_file_descriptors_are_closed(model: ModelFile) -> None:
    def cycle() -> int:
        with IsolatedEngine("onnx", model, Device(), 1) as engine:
            engine.run({"images": np.zeros((1, 8, 8, 3), np.uint8)})
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    assert cycle() == cycle()


@pytest.mark.parametrize("end", ["return", "exception", "os._exit", "SIGTERM", "SIGKILL"])
def test_the_child_ends_with_its_parent(tiny_onnx: Path, tmp_path: Path, end: str) -> None:
    """However the parent ends, the child ends too."""
    endings = {"return": "", "exception": "raise SystemError", "os._exit": "import os; os._exit(3)"}
    text = OPEN + "print('ready')\nsys.stdin.readline()\n" + endings.get(end, "")
    script = start_script(tmp_path, text, tiny_onnx, stdin=subprocess.PIPE)
    assert script.stdout is not None and script.stdin is not None
    assert script.stdout.readline() == "ready\n"
    (pid,) = children(script.pid)
    if end.startswith("SIG"):
        script.send_signal(getattr(signal, end))
    script.communicate("\n", timeout=PATIENCE_S)
    assert soon(lambda: gone(pid))


# --- programs that use it ---


def test_a_script_without_a_main_guard(tiny_onnx: Path, tmp_path: Path) -> None:
    """multiprocessing's spawn would run the script a second time."""
    script = start_script(
        tmp_path, "print('started')\n" + OPEN + "print(engine.run({'images': images})['scores'].shape)", tiny_onnx
    )
    out, err = script.communicate(timeout=PATIENCE_S)
    assert (out, err) == ("started\n(2, 5)\n", "")


def test_a_folder_with_files_named_like_modules(tiny_onnx: Path, tmp_path: Path) -> None:
    """The child is started with -c, and Python would look for modules in the current folder first."""
    place = tmp_path / "place"
    place.mkdir()
    for name in ("json", "socket", "signal", "numpy", "runtime", "tempfile"):
        (place / f"{name}.py").write_text("raise SystemError('a file of the user was imported')")
    script = start_script(
        tmp_path, OPEN + "print(engine.run({'images': images})['scores'].shape)", tiny_onnx, cwd=place
    )
    out, err = script.communicate(timeout=PATIENCE_S)
    assert out == "(2, 5)\n", err


def test_the_child_does_not_use_the_programs_streams(tiny_onnx: Path, tmp_path: Path) -> None:
    text = OPEN + "print(engine.run({'images': images})['scores'].shape, sys.stdin.read())"
    script = start_script(tmp_path, text, tiny_onnx, stdin=subprocess.PIPE)
    out, err = script.communicate("typed", timeout=PATIENCE_S)
    assert (out, err) == ("(2, 5) typed\n", "")


CTRL_C = """
import os, signal, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it
first = np.full((1, 8, 8, 3), 255, np.uint8)
right = engine.run({"images": images[:1]})["scores"]
stats = [Path(f"/proc/{entry}/stat") for entry in os.listdir("/proc") if entry.isdigit()]
parents = {int(stat.parent.name): stat.read_text().rpartition(") ")[2].split()[1] for stat in stats if stat.exists()}
(child,) = [pid for pid, parent in parents.items() if parent == str(os.getpid())]
os.kill(child, signal.SIGSTOP)  # so that the signal arrives while the answer is waited for
def press():
    time.sleep(0.3)
    os.kill(0, signal.SIGINT)  # the whole process group, as a terminal does
    os.kill(child, signal.SIGCONT)
threading.Thread(target=press).start()
try:
    engine.run({"images": first})
    print("not interrupted")
except KeyboardInterrupt:
    print("interrupted")
try:
    print(np.array_equal(engine.run({"images": images[:1]})["scores"], right))
except EngineError:
    print(True)
"""


def test_ctrl_c(tiny_onnx: Path, tmp_path: Path) -> None:
    """After it, the engine gives right results or none: never the answer to the run that was interrupted."""
    script = start_script(tmp_path, OPEN + CTRL_C, tiny_onnx, start_new_session=True)
    out, err = script.communicate(timeout=PATIENCE_S)
    assert (out, err, script.returncode) == ("interrupted\nTrue\n", "", 0)


BOTH = """
import sys
import numpy as np
from synergy.runtime.aligner import FaceAligner

crops = np.load(sys.argv[2])["crop_bgr_u8"]
results = []
aligners = [FaceAligner.load(sys.argv[1], engine=name) for name in sys.argv[3:]]
for _ in range(2):
    results += [aligner.predict(crops) for aligner in aligners]
print([type(aligner.engine).__name__ for aligner in aligners])
print(max(np.abs(result.params - results[0].params).max() for result in results) < 1e-4)
for aligner in aligners:
    aligner.close()
"""


@pytest.mark.parametrize(
    ("engines", "kinds"),
    [
        (["lite", "mindspore"], ["LiteEngine", "IsolatedEngine"]),
        (["mindspore", "lite"], ["MindSporeEngine", "IsolatedEngine"]),
        (["lite", "lite", "onnx"], ["LiteEngine", "LiteEngine", "OnnxEngine"]),
    ],
    ids="-".join,
)
def test_engines_in_one_program(bundles: dict[str, Path], shared: Path, engines: list[str], kinds: list[str]) -> None:
    """MindSpore and MindSpore Lite cannot share a process: the second goes to one of its own, by itself."""
    command = [sys.executable, "-c", BOTH, str(bundles["mb05"]), str(shared / "reference" / "real_emma.npz"), *engines]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [str(kinds), "True"], done.stderr[-2000:]
    assert done.returncode == 0


def test_isolation_on_request(model: ModelFile) -> None:
    with open_engine("onnx", model, isolated=True) as isolated, open_engine("onnx", model) as direct:
        assert isinstance(isolated, IsolatedEngine) and not isinstance(direct, IsolatedEngine)
        assert isolated.name == direct.name == "onnx" and isolated.formats == direct.formats


LITE_THAT_EXITS = """
#include <cstdio>
#include <cstdlib>
extern "C" {
void *synergy_lite_open() {
  std::fprintf(stderr, "MPI cannot start; libraries in %s\\n", std::getenv("LD_LIBRARY_PATH"));
  std::exit(1);
}
void synergy_lite_close() {}
void synergy_lite_count() {}
void synergy_lite_describe() {}
void synergy_lite_resize() {}
void synergy_lite_run() {}
void synergy_lite_fetch() {}
}
"""


def test_a_card_library_that_ends_the_process(
    tmp_path: Path, cast_mindirs: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As MPI and NCCL do in Lite's GPU plugin. The libraries of `lite install --gpu` are found without any setting."""
    compiler = shutil.which("c++") or pytest.skip("no compiler to make libraries with")
    release = tmp_path / "release"
    for name in ("include/api/model.h", "include/api/types.h", "include/api/context.h", "lib/libmindspore-lite.so"):
        (release / name).parent.mkdir(parents=True, exist_ok=True)
        (release / name).touch()
    monkeypatch.setenv("SYNERGY_LITE_HOME", str(release))
    monkeypatch.setenv("SYNERGY_DATA_HOME", str(tmp_path / "data"))
    folder = gpu_library_folder()
    folder.mkdir(parents=True)
    (folder / RECORD).write_text("{}")
    (tmp_path / "lite.cpp").write_text(LITE_THAT_EXITS)
    shim = vendor_installation(release).shim
    subprocess.run([compiler, "-shared", "-fPIC", str(tmp_path / "lite.cpp"), "-o", str(shim)], check=True)
    images, y = TensorSpec("images", (1, 4), "uint8"), TensorSpec("y", (1, 4), "float32")
    with pytest.raises(EngineUnavailableError) as raised:
        open_engine("lite", ModelFile(cast_mindirs[0], "mindir_v1", (images,), (y,)), "gpu:0")
    words = (
        rf"exit status 1\): MPI cannot start; libraries in {folder}.*; a library for gpu:0 ended it: run .*doctor.*cpu$"
    )
    assert re.search(words, str(raised.value)) and "\n" not in str(raised.value)
