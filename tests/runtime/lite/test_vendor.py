"""The vendor's Python package, replaced by a stub that uses the binding."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synergy.runtime.engines.lite import LiteEngine, readable_formats
from synergy.runtime.errors import EngineError, EngineUnavailableError
from synergy.runtime.lite.binding import is_loaded
from synergy.runtime.lite.config import LiteSettings
from synergy.runtime.lite.vendor import VendorModel, package_version
from synergy.runtime.specs import DYNAMIC, Device, ModelFile, TensorSpec

CPU = Device()

# As in the vendor's sources: tensors alias their arrays, outputs are overwritten, `predict` takes tensors only.
STAND_IN = """
import enum
import pathlib
import numpy as np
from synergy.runtime.specs import Device
from synergy.runtime.lite.binding import LiteModel

__version__ = "{version}"
built = []  # (path, context) of every build
configs = []  # the text of every configuration file


class ModelType(enum.Enum):
    MINDIR = 0
    MINDIR_LITE = 4


class DataType(enum.Enum):
    UINT8 = 37
    FLOAT32 = 43


class Tensor:
    def __init__(self, name, dtype, shape):
        self.name, self.dtype, self.shape, self._array = name, DataType[dtype.upper()], list(shape), None

    def set_data_from_numpy(self, array):
        if array.nbytes != np.prod(self.shape) * array.itemsize:
            raise RuntimeError("data size is not equal")
        self._array = array

    def get_data_to_numpy(self):
        return self._array


class Part:
    thread_num = 0
    device_id = 0


class Context:
    def __init__(self):
        self.target, self.cpu, self.gpu, self.ascend = ["cpu"], Part(), Part(), Part()


class Model:
    def build_from_file(self, model_path, model_type, context=None, config_path=""{more_parameters}):
        built.append((model_path, context))
        configs.append(config_path and pathlib.Path(config_path).read_text())
        kind = {{ModelType.MINDIR: "mindir", ModelType.MINDIR_LITE: "ms"}}[model_type]
        device = Device(context.target[0], getattr(context, context.target[0]).device_id)
        try:
            self._model = LiteModel(pathlib.Path(model_path).read_bytes(), kind, device, context.cpu.thread_num)
        except Exception as error:
            import os
            os.write(2, self.log.encode())
            raise RuntimeError("build_from_file failed! Error is Common error code.")
        self._inputs = [Tensor(spec.name, spec.dtype, spec.shape) for spec in self._model.inputs]
        self._outputs = {{}}

    log = ""

    def get_inputs(self):
        return list(self._inputs)

    def resize(self, inputs, dims):
        if not all(type(dim) is int for shape in dims for dim in shape):
            raise TypeError("dims element's element must be int")
        self._inputs = [Tensor(old.name, old.dtype.name, shape) for old, shape in zip(inputs, dims)]

    def predict(self, inputs{outputs_parameter}):
        if not all(isinstance(tensor, Tensor) for tensor in inputs):
            raise TypeError("inputs element must be Tensor")
        results = []
        for spec, array in zip(self._model.outputs, self._model.run([tensor._array for tensor in inputs])):
            buffer = self._outputs.setdefault((spec.name, array.shape), np.empty_like(array))
            buffer[...] = array
            tensor = Tensor(spec.name, spec.dtype, array.shape)
            tensor._array = buffer
            results.append(tensor)
        return results
"""
NEWER = {"more_parameters": ", config_dict: dict = None, dec_key=None", "outputs_parameter": ", outputs=None"}
OLDER = {"more_parameters": "", "outputs_parameter": ""}


@pytest.fixture(params=["2.0.0", "2.7.1"])
def package(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "site" / "mindspore_lite"
    folder.mkdir(parents=True)
    signatures = OLDER if request.param == "2.0.0" else NEWER
    (folder / "__init__.py").write_text(STAND_IN.format(version=request.param, **signatures))
    (folder / "version.py").write_text(f"__version__ = '{request.param}'\n")
    monkeypatch.syspath_prepend(str(folder.parent))
    monkeypatch.delenv("SYNERGY_LITE_HOME", raising=False)
    monkeypatch.delitem(sys.modules, "mindspore_lite", raising=False)
    yield request.param
    sys.modules.pop("mindspore_lite", None)


@pytest.fixture
def broken_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mindspore_lite.py").write_text(
        "import os\nos.write(2, b'noise\\n')\nraise ImportError('built for 3.7')"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mindspore_lite", raising=False)


def test_version_is_read_without_importing(package: str) -> None:
    assert package_version() == package
    assert "mindspore_lite" not in sys.modules and LiteEngine.available().ok
    assert package in LiteEngine.available().detail and "vendor" in LiteEngine.available().detail


def test_a_folder_of_that_name_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mindspore_lite").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert package_version() is None


def test_newer_releases_read_mindir_of_today(package: str) -> None:
    assert ("mindir" in readable_formats()) == (package == "2.7.1")


def test_the_named_home_comes_first(package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SYNERGY_LITE_HOME", str(tmp_path))
    assert not LiteEngine.available().ok and "SYNERGY_LITE_HOME" in LiteEngine.available().detail


@pytest.mark.lite_process
def test_the_engine_uses_the_package(package: str, tiny_ms: bytes, tiny: Any) -> None:
    inputs = (TensorSpec("images", (DYNAMIC, 8, 8, 3), "uint8"),)
    outputs = (TensorSpec("scores", (DYNAMIC, 5), "float32"), TensorSpec("pooled", (DYNAMIC, 4), "float32"))
    with LiteEngine(ModelFile(tiny_ms, "ms", inputs, outputs), CPU, threads=2) as engine:
        import mindspore_lite

        ((path, context),) = mindspore_lite.built
        assert context.cpu.thread_num == 2 and context.target == ["cpu"]
        assert not Path(path).exists()  # the private copy is gone
        for count in (1, 3, 3, 2):
            images = tiny.images(count, seed=count)
            result = engine.run({"images": images})
            pooled, scores = tiny.expected(images)
            np.testing.assert_allclose(result["pooled"], pooled, atol=1e-4)
            np.testing.assert_allclose(result["scores"], scores, atol=1e-4)
    assert is_loaded()


@pytest.mark.lite_process
def test_results_are_new_arrays(package: str, tiny_ms: bytes, tiny: Any) -> None:
    model = VendorModel(tiny_ms, "ms", CPU, 1)
    first = model.run([tiny.images(2, seed=1)])
    kept = [output.copy() for output in first]
    model.run([tiny.images(2, seed=2)])
    assert all(map(np.array_equal, first, kept))


@pytest.mark.lite_process
def test_wrong_arrays_that_lite_would_accept(package: str, tiny_ms: bytes, tiny: Any) -> None:
    model = VendorModel(tiny_ms, "ms", CPU, 1)
    with pytest.raises(ValueError, match="the model takes uint8"):
        model.run([tiny.images(1).transpose(0, 3, 1, 2)])
    with pytest.raises(ValueError, match="ms or mindir"):
        VendorModel(tiny_ms, "onnx", CPU, 1)
    model.close()
    model.close()
    with pytest.raises(EngineError, match="closed"):
        model.run([tiny.images(1)])


@pytest.mark.lite_process
def test_a_model_that_does_not_load(package: str, lite_home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import mindspore_lite

    line = "[ERROR] ME(1,7f,python):2026-11-22-10:52:30.777 [a.cc:46] Build] The model buffer is invalid\n"
    monkeypatch.setattr(mindspore_lite.Model, "log", line)
    with pytest.raises(EngineError, match="cannot load the model: The model buffer is invalid; the file is damaged"):
        VendorModel(b"garbage", "ms", CPU, 1)


@pytest.mark.lite_process
def test_a_device_that_is_not_here(package: str, tiny_ms: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    import mindspore_lite

    line = "[WARNING] ME(1,7f,python):2026 [a.cc:4] Open] error: libgraph.so: cannot open shared object file: No such\n"
    monkeypatch.setattr(mindspore_lite.Model, "log", line)
    with pytest.raises(EngineUnavailableError, match=r"cannot use ascend:2: libgraph\.so: cannot open .*CANN"):
        VendorModel(tiny_ms, "ms", Device("ascend", 2), 1)
    assert mindspore_lite.built[-1][1].ascend.device_id == 2


@pytest.mark.lite_process
def test_settings_reach_the_package(package: str, tiny_ms: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    import mindspore_lite

    VendorModel(tiny_ms, "ms", CPU, 1)
    assert mindspore_lite.configs == [""] and not hasattr(mindspore_lite.built[0][1].cpu, "thread_affinity_core_list")
    VendorModel(tiny_ms, "ms", CPU, 1, LiteSettings("", (1, 0), "[ascend_context]\nprovider=ge\n"))
    assert mindspore_lite.configs[1] == "[ascend_context]\nprovider=ge\n"
    assert mindspore_lite.built[1][1].cpu.thread_affinity_core_list == [1, 0]


@pytest.mark.lite_process
def test_a_package_for_another_python(broken_package: None, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EngineUnavailableError, match=r"mindspore_lite does not import: built for 3\.7; uninstall it"):
        VendorModel(b"any", "ms", CPU, 1)
    assert capfd.readouterr().err == "noise\n"


def test_refuses_a_process_with_mindspore(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mindspore", sys)
    with pytest.raises(EngineError, match="MindSpore is loaded in this process"):
        VendorModel(b"any", "ms", CPU, 1)
