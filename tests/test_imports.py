"""Who may import whom: cli > benchmarks > export > synergy_model > runtime; each heavy package has one place."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from synergy.benchmarks.sample_crops import PORTRAIT

ROOT = Path(__file__).resolve().parent.parent

# Each may import itself and what stands after it.
ORDER = ("cli", "benchmarks", "export", "synergy_model", "runtime")

# package: what of others it may import, anywhere in it
THEIRS = {
    "synergy_model": {"numpy", "cv2", "mindspore", "typer", "matplotlib"},
    "runtime": {
        "numpy",
        "cv2",
        "msgspec",
        "platformdirs",
        "rich",
        "typer",
        "mindspore",
        "mindspore_lite",
        "onnx",
        "onnxruntime",
        "openvino",
        "ray",
    },
    "export": {"numpy", "msgspec", "rich", "typer", "mindspore", "onnx", "onnxruntime", "google"},
    "benchmarks": {
        "numpy",
        "cv2",
        "msgspec",
        "rich",
        "typer",
        "mindspore",
        "onnx",
        "openvino",
        "onnxruntime",
        "jinja2",
        "markupsafe",
        "matplotlib",
        "scipy",
    },
    "cli": {"typer", "rich", "msgspec"},
}

# package of others: where alone in `runtime` it may be imported
PLACES = {
    "mindspore": ("runtime/engines/mindspore.py",),
    "onnx": ("runtime/diagnostics/probes.py",),
    "onnxruntime": ("runtime/engines/onnx.py", "runtime/diagnostics/probes.py"),
    "openvino": ("runtime/engines/openvino.py",),
    "ray": ("runtime/inference/ray_pool.py",),
    "mindspore_lite": ("runtime/lite/", "runtime/engines/lite.py"),
}

HEAVY = ("cv2", "mindspore", "mindspore_lite", "onnx", "onnxruntime", "openvino", "ray", "scipy", "skimage")
# packages that a base install lacks
EXTRAS = (
    "mindspore",
    "mindspore_lite",
    "onnx",
    "onnxruntime",
    "openvino",
    "ray",
    "skimage",
    "google",
    "matplotlib",
    "scipy",
    "jinja2",
)


def sources() -> list[Path]:
    return [ROOT / "cli.py", *(path for name in ORDER[1:] for path in sorted((ROOT / name).rglob("*.py")))]


def package(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


parsed = functools.cache(lambda path: ast.parse(path.read_text()))


@functools.cache
def imports(path: Path) -> list[tuple[str, int]]:
    """Full names of all that a file imports, anywhere in it, with the line."""
    return list(_imports(parsed(path)))


def _imports(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from ((str(text.value), node.lineno) for text in node.args if isinstance(text, ast.Constant))


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_is_something_to_check() -> None:
    assert {package(path) for path in sources()} == set(ORDER) and len(sources()) > 40


@pytest.mark.parametrize("path", sources(), ids=ids)
def test_imports_of_ours(path: Path) -> None:
    allowed = ORDER[ORDER.index(package(path)) :]
    wrong = [
        f"{name} (line {line})"
        for name, line in imports(path)
        if (name.startswith("synergy.") and name.split(".")[1] in set(ORDER) - set(allowed))
        or name.split(".")[0] in ORDER
    ]
    assert not wrong, f"{ids(path)} may import {', '.join(allowed)} of synergy only, not {', '.join(wrong)}"


@pytest.mark.parametrize("path", sources(), ids=ids)
def test_imports_of_others(path: Path) -> None:
    known = set(sys.stdlib_module_names) | {"synergy"} | THEIRS[package(path)]
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
    top = {name.name.split(".")[0] for node in parsed(path).body if isinstance(node, ast.Import) for name in node.names}
    top |= {(node.module or "").split(".")[0] for node in parsed(path).body if isinstance(node, ast.ImportFrom)}
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


def test_light_imports() -> None:
    """Every start, and every child process, imports these modules, and tests which engines are available."""
    assert not loaded_after(
        "import synergy, synergy.cli, synergy.runtime.aligner, synergy.runtime.autotune, synergy.runtime.errors\n"
        "from synergy import FaceAligner\n"
        "from synergy.runtime.engines import ENGINES, available; [available(name) for name in ENGINES]"
    ) & set(HEAVY)


def test_a_base_install_is_enough() -> None:
    """numpy, OpenCV, typer and their dependencies; no extra."""
    loaded_after(
        "import synergy, synergy.cli, synergy.runtime.detection.detector, synergy.runtime.diagnostics.doctor\n"
        "import synergy.benchmarks.speed.latency\n"
        "[getattr(synergy, name) for name in synergy.__all__]\n"
        "from synergy.runtime.inference import pictures, videos\n"
        "from synergy.runtime.engines import ENGINES, available; [available(name) for name in ENGINES]",
        EXTRAS,
    )


FIRST_FACE = """
import sys
import numpy as np
from synergy import FaceAligner
aligner = FaceAligner.load(sys.argv[1], engine="onnx")
{}
aligner.close()
print(*sys.modules)
"""
# what only other engines, a measurement, a detector, files, videos or an error need
NOT_FOR_A_FACE = {
    *(
        "synergy.runtime.autotune",
        "synergy.runtime.detection.detector",
        "synergy.runtime.media.box_file",
        "synergy.runtime.media.image",
        "synergy.runtime.media.inputs",
        "synergy.runtime.media.drawing",
        "synergy.runtime.media.video",
        "synergy.runtime.tracking.tracker",
    ),
    *(
        "synergy.runtime.engines.lite",
        "synergy.runtime.engines.mindspore",
        "synergy.runtime.processes.child",
        "synergy.runtime.engines.isolated",
    ),
    *(
        "synergy.runtime.lite.binding",
        "mindspore",
        "mindspore_lite",
        "typer",
        "rich",
        "statistics",
        "subprocess",
        "tempfile",
        "json",
    ),
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


def test_help_imports_no_heavy_package() -> None:
    loaded = loaded_after(
        "import contextlib, io\n"
        "from synergy import cli\n"
        "for command in ([], ['infer'], ['bench'], ['lite']):\n"
        "    sys.argv[1:] = [*command, '--help']\n"
        "    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as printed: cli.main()\n"
        "    assert 'Usage' in printed.getvalue(), command\n"
    )
    assert not loaded & {*HEAVY, *EXTRAS, "numpy", "msgspec", "platformdirs", "pydantic"}


def test_importing_the_package_is_light() -> None:
    """Names are imported when they are used, OpenCV when an image is cut or a face is detected."""
    command_line = {"typer", "rich", "pydantic"}
    assert not loaded_after("import synergy") & {*HEAVY, *command_line, "numpy", "msgspec"}
    assert not loaded_after("from synergy import FaceAligner") & {*HEAVY, *command_line, "platformdirs"}


FIRST_CALL = """
import sys
from synergy.cli import main
sys.argv[1:] = sys.argv[1].split("|")
try:
    main()
except SystemExit as end:
    assert not end.code
print(*sys.modules)
"""


def test_the_first_call_loads_what_it_uses() -> None:
    pytest.importorskip("onnxruntime")
    options = "--engine|onnx|--detector|haar|--json|-"
    program = [sys.executable, "-c", FIRST_CALL, f"infer|{PORTRAIT}|{options}"]
    done = subprocess.run(program, capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "onnxruntime" in loaded
    assert not loaded & {
        *("pydantic", "rich", "urllib.request", "importlib.metadata", "openvino", "multiprocessing"),
        *("synergy.runtime.autotune", "synergy.runtime.engines.lite", "synergy.runtime.engines.openvino"),
        *("synergy.runtime.media.drawing", "synergy.runtime.media.box_file", "synergy.runtime.tracking.smoothing"),
        *("synergy.benchmarks", "synergy.export", "synergy.synergy_model"),
    }


def test_public_names() -> None:
    import synergy

    assert sorted(synergy.__all__) == list(synergy.__all__) == list(synergy.LAZY_EXPORTS)
    assert {"FaceAligner", "Face", "Prediction", "BundleError", "EngineError"} <= set(synergy.__all__)
    assert all(hasattr(synergy, name) for name in synergy.__all__)
    assert set(dir(synergy)) >= set(synergy.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        synergy.nonsense  # noqa: B018


def test_nothing_reads_pytorch() -> None:
    """Checkpoints are read without it."""
    for path in sources():
        assert not {name.split(".")[0] for name, _ in imports(path)} & {"torch", "pickle5", "cloudpickle"}, ids(path)


def test_pickle_is_where_it_is_tamed() -> None:
    """`pickle.loads` runs what it reads; one file may use the module, to refuse that."""
    users = {ids(path) for path in sources() for name, _ in imports(path) if name.split(".")[0] == "pickle"}
    assert users <= {"synergy_model/checkpoints/torch_pickle.py"}
