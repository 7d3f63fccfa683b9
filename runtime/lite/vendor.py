"""Run models through the vendor's own `mindspore_lite` package, where this interpreter can import it.

It uses the part of the Python API that 2.0 and 2.7 have in common: `Context().target`, `build_from_file(path, type,
context, config_path)`, tensors from `get_inputs()`. The arrays of output tensors are overwritten by the next run.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from synergy.runtime.errors import EngineError, EngineUnavailableError
from synergy.runtime.files import TemporaryFolder
from synergy.runtime.lite.checks import check_arrays, check_process, check_request, open_failure
from synergy.runtime.lite.config import NO_SETTINGS, LiteSettings, config_file_for
from synergy.runtime.lite.locate import read_version
from synergy.runtime.lite.stderr import capture_stderr, extract_cause
from synergy.runtime.specs import Device, TensorSpec

# What the package raises; it has no exception classes of its own.
_FAILURES = (RuntimeError, ValueError, TypeError, OSError)


class VendorModel:
    """As `LiteModel`, but `outputs` is empty until the first run: the 2.0 package does not describe them before."""

    def __init__(
        self, data: bytes, model_type: str, device: Device, threads: int, settings: LiteSettings = NO_SETTINGS
    ) -> None:
        """As `LiteModel`; EngineUnavailableError also if the package does not import."""
        check_request(model_type, threads)
        lite = import_package()
        self._model = lite.Model()
        with capture_stderr() as log:
            try:
                _build(lite, self._model, data, model_type, device, threads, settings)
            except _FAILURES as error:
                status = str(error)
            else:
                status = ""
        if status:
            raise open_failure(model_type, device, log.text, status)
        self._tensors: list[Any] = self._model.get_inputs()
        self.inputs = tuple(map(_spec, self._tensors))
        self.outputs: tuple[TensorSpec, ...] = ()

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """As `LiteModel.run`."""
        if self._model is None:
            raise EngineError("this MindSpore Lite model is closed")
        arrays = check_arrays(self.inputs, arrays)
        shapes = [list(array.shape) for array in arrays]
        if shapes == [list(tensor.shape) for tensor in self._tensors]:
            return self._predict(arrays)
        with capture_stderr() as log:
            try:
                self._model.resize(self._tensors, shapes)
                self._tensors = self._model.get_inputs()  # the previous tensors keep their old shapes
                return self._predict(arrays)
            except _FAILURES as error:
                status = str(error)
        raise EngineError(f"MindSpore Lite cannot run shapes {shapes}: {extract_cause(log.text, status)}")

    def close(self) -> None:
        """Free the model. Safe to call twice."""
        self._model, self._tensors = None, []

    def _predict(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        for tensor, array in zip(self._tensors, arrays, strict=True):
            tensor.set_data_from_numpy(array)
        results = self._model.predict(self._tensors)
        outputs = [np.array(tensor.get_data_to_numpy()) for tensor in results]  # the next run overwrites the tensors
        self.outputs = tuple(map(_spec, results))
        return outputs


def package_version() -> str | None:
    """Version of the vendor's package, "unknown" if not stated, None if not installed. Does not import it."""
    spec = importlib.util.find_spec("mindspore_lite")
    if spec is None or spec.origin is None:  # not installed, or a folder of that name without code
        return None
    from importlib import metadata  # not at the top: slow to import and rarely needed

    try:
        return metadata.version("mindspore-lite")
    except metadata.PackageNotFoundError:
        folder = Path(spec.origin).parent
        return read_version(folder, folder)


def import_package() -> ModuleType:
    """The package `mindspore_lite`. Raises EngineUnavailableError with the loader's reason."""
    check_process()
    with capture_stderr() as log:
        try:
            import mindspore_lite
        except (ImportError, OSError, RuntimeError) as error:
            reason = str(error)
        else:
            return mindspore_lite
    raise EngineUnavailableError(
        f"the installed package mindspore_lite does not import: {extract_cause(log.text, reason)}; "
        "uninstall it to use this program's own binding, or install one built for this interpreter"
    )


def _build(
    lite: ModuleType, model: Any, data: bytes, model_type: str, device: Device, threads: int, settings: LiteSettings
) -> None:
    kind = lite.ModelType.MINDIR if model_type == "mindir" else lite.ModelType.MINDIR_LITE
    # The package loads from paths only. A private copy ensures that the verified bytes are loaded.
    with TemporaryFolder("synergy-lite-") as folder, config_file_for(settings) as config:
        path = Path(folder) / f"model.{model_type}"
        path.write_bytes(data)
        model.build_from_file(str(path), kind, _context(lite, device, threads, settings), config)


def _context(lite: ModuleType, device: Device, threads: int, settings: LiteSettings) -> Any:
    """The context. The precision is in the configuration file, because its name in the API differs between releases."""
    context = lite.Context()
    context.target = [device.kind]  # Lite adds the CPU as second device itself
    context.cpu.thread_num = threads
    if settings.affinity:
        context.cpu.thread_affinity_core_list = list(settings.affinity)
    if device.kind != "cpu":
        getattr(context, device.kind).device_id = device.index
    return context


def _spec(tensor: Any) -> TensorSpec:
    return TensorSpec(tensor.name, tuple(tensor.shape), tensor.dtype.name.lower())
