"""Who may import whom: cli -> benchmarks -> export -> {synergy_model, runtime}; heavy packages have one place each."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# package: what of ours it may import besides itself
OURS = {
    "synergy_model": set(),
    "runtime": set(),
    "export": {"synergy_model", "runtime"},
    "benchmarks": {"export", "synergy_model", "runtime"},
    "cli": {"benchmarks", "export", "synergy_model", "runtime"},
}

# package: what of others it may import, anywhere in it
THEIRS = {
    "synergy_model": {"numpy", "cv2", "mindspore"},
    "runtime": {
        "numpy",
        "cv2",
        "msgspec",
        "platformdirs",
        "mindspore",
        "mindspore_lite",
        "onnxruntime",
        "openvino",
        "ray",
    },
    "export": {"numpy", "msgspec", "mindspore", "onnx", "onnxruntime", "google"},
    "benchmarks": {"numpy", "cv2", "msgspec", "rich", "typer", "mindspore", "onnx", "openvino", "onnxruntime"},
    "cli": {"typer", "rich", "msgspec"},
}

# package of others: where alone in `runtime` it may be imported
PLACES = {
    "mindspore": ("runtime/engines/mindspore.py",),
    "onnxruntime": ("runtime/engines/onnx.py",),
    "openvino": ("runtime/engines/openvino.py",),
    "ray": ("runtime/ray_workers.py",),
    "mindspore_lite": ("runtime/native/", "runtime/engines/lite.py"),
}

HEAVY = ("cv2", "mindspore", "mindspore_lite", "onnx", "onnxruntime", "openvino", "ray", "scipy", "skimage")
EXTRAS = ("mindspore", "mindspore_lite", "onnx", "onnxruntime", "openvino", "ray", "skimage", "google", "matplotlib")


def sources() -> list[Path]:
    return [ROOT / "cli.py", *(path for name in OURS if name != "cli" for path in sorted((ROOT / name).rglob("*.py")))]


def package(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Full names of all that a file imports, anywhere in it, with the line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from ((str(text.value), node.lineno) for text in node.args if isinstance(text, ast.Constant))


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_is_something_to_check() -> None:
    assert {package(path) for path in sources()} == set(OURS) and len(sources()) > 40


@pytest.mark.parametrize("path", sources(), ids=ids)
def test_imports_of_ours(path: Path) -> None:
    allowed = OURS[package(path)] | {package(path)}
    wrong = [f"{name} (line {line})" for name, line in imports(path) if name.split(".")[0] in set(OURS) - allowed]
    assert not wrong, f"{ids(path)} may import {', '.join(sorted(allowed))} only, not {', '.join(wrong)}"


@pytest.mark.parametrize("path", sources(), ids=ids)
def test_imports_of_others(path: Path) -> None:
    known = set(sys.stdlib_module_names) | set(OURS) | THEIRS[package(path)]
    wrong = [f"{name} (line {line})" for name, line in imports(path) if name.split(".")[0] not in known]
    assert not wrong, f"{ids(path)} imports {', '.join(wrong)}"


@pytest.mark.parametrize("path", [path for path in sources() if package(path) == "runtime"], ids=ids)
def test_each_heavy_package_has_one_place(path: Path) -> None:
    for name, line in imports(path):
        places = PLACES.get(name.split(".")[0], (ids(path),))
        assert ids(path).startswith(places), (
            f"{ids(path)}:{line} imports {name}, which belongs in {' or '.join(places)}"
        )


@pytest.mark.parametrize("path", [path for path in sources() if package(path) == "runtime"], ids=ids)
def test_engines_are_imported_when_chosen(path: Path) -> None:
    """Not at the top of a module: a device has one of them, and loading two breaks both."""
    top = {
        name.name.split(".")[0]
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Import)
        for name in node.names
    }
    top |= {
        (node.module or "").split(".")[0]
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ImportFrom)
    }
    assert not top & set(PLACES)


def loaded_after(statement: str, blocked: tuple[str, ...] = ()) -> set[str]:
    """Packages loaded by a statement in a fresh process, in which `blocked` ones do not exist."""
    program = (
        "import sys\nfrom importlib.machinery import PathFinder\nfind = PathFinder.find_spec\n"
        "def look(name, *arguments):\n"
        f"    return None if name.split('.')[0] in {blocked!r} else find(name, *arguments)\n"
        "PathFinder.find_spec = look\n"
        f"{statement}\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import runtime",
        "import cli",
        "import runtime.engines, runtime.errors",
        "import runtime.aligner, runtime.tuning",
    ],
)
def test_light_imports(statement: str) -> None:
    """What every start, and every child process, pays for."""
    assert not loaded_after(statement) & set(HEAVY)


@pytest.mark.parametrize("name", ["lite", "onnx", "openvino", "mindspore"])
def test_looking_for_an_engine_loads_none(name: str) -> None:
    assert not loaded_after(f"from runtime.engines import available; available({name!r})") & set(HEAVY)


@pytest.mark.parametrize(
    "statement",
    [
        "import cli",
        "import runtime; [getattr(runtime, name) for name in runtime.__all__]",
        "import runtime.pictures, runtime.video_faces, runtime.media, runtime.drawing, runtime.mesh, runtime.detection",
        "from runtime.engines import ENGINES, available; [available(name) for name in ENGINES]",
        "import benchmarks.doctor, benchmarks.latency",
    ],
)
def test_a_base_install_is_enough(statement: str) -> None:
    """numpy, OpenCV, typer and what they bring; no extra."""
    loaded_after(statement, EXTRAS)


def test_the_aligner_loads_no_engine() -> None:
    assert not loaded_after("from runtime import FaceAligner") & set(PLACES)


FIRST_FACE = """
import sys
import numpy as np
from runtime import FaceAligner
aligner = FaceAligner.load(sys.argv[1], engine="onnx")
{}
aligner.close()
print(*sys.modules)
"""
# what only other engines, a measurement, a detector, files, videos or an error need
NOT_FOR_A_FACE = {
    *("runtime.tuning", "runtime.detection", "runtime.media", "runtime.drawing", "runtime.video", "runtime.tracking"),
    *("runtime.engines.lite", "runtime.engines.mindspore", "runtime.engines.child", "runtime.engines.isolated"),
    *("runtime.native", "mindspore", "mindspore_lite", "typer", "rich", "statistics", "subprocess", "tempfile", "json"),
    *("importlib.metadata", "configparser", "platformdirs", "concurrent.futures", "multiprocessing"),
}


@pytest.mark.parametrize(
    ("face", "unused"),
    [
        ("aligner.predict(np.zeros((1, 120, 120, 3), np.uint8)).euler_deg", NOT_FOR_A_FACE | {"cv2"}),
        ("aligner.align(np.zeros((200, 200, 3), np.uint8), [(20, 20, 90, 90)])", NOT_FOR_A_FACE),
    ],
    ids=["predict", "align"],
)
def test_the_first_face_loads_what_it_uses(bundles: dict[str, Path], face: str, unused: set[str]) -> None:
    pytest.importorskip("onnxruntime")
    program = [sys.executable, "-c", FIRST_FACE.format(face), str(bundles["mb05"])]
    done = subprocess.run(program, capture_output=True, text=True, cwd=ROOT, check=True)
    assert not set(done.stdout.split()) & unused


@pytest.mark.parametrize("arguments", [("--help",), ("infer", "--help"), ("bench", "--help"), ("lite", "--help")])
def test_help_loads_nothing_of_the_work(arguments: tuple[str, ...]) -> None:
    ask = f"import cli, contextlib, io; sys.argv[1:] = {list(arguments)!r}\n"
    ask += "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as said: cli.main()\n"
    loaded = loaded_after(ask + "assert 'Usage' in said.getvalue()")
    assert not loaded & {*HEAVY, *EXTRAS, "numpy", "msgspec", "platformdirs", "runtime", "export", "synergy_model"}


def test_public_names() -> None:
    import runtime

    assert sorted(runtime.__all__) == list(runtime.__all__)
    assert {"FaceAligner", "Face", "Prediction", "BundleError", "EngineError"} <= set(runtime.__all__)
    assert all(hasattr(runtime, name) for name in runtime.__all__)
    assert set(dir(runtime)) >= set(runtime.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        runtime.nonsense  # noqa: B018


def test_nothing_reads_pytorch() -> None:
    """Checkpoints are read without it."""
    for path in sources():
        assert not {name.split(".")[0] for name, _ in imports(path)} & {"torch", "pickle5", "cloudpickle"}, ids(path)


def test_pickle_is_where_it_is_tamed() -> None:
    """`pickle.loads` runs what it reads; one file may use the module, to refuse that."""
    users = {ids(path) for path in sources() for name, _ in imports(path) if name.split(".")[0] == "pickle"}
    assert users <= {"synergy_model/torch_checkpoint.py"}
