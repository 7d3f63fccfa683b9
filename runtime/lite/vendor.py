"""Run models through the vendor's own `mindspore_lite` package, where this interpreter can import it.

Written for the Python API as it is in 2.0 and in 2.7: both take `Context().target`, `build_from_file(path, type,
context, config_path)`, tensors from `get_inputs()`, and give tensors whose arrays the next run overwrites.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from synergy.runtime.errors import EngineError, EngineUnavailableError
from synergy.runtime.lite.checks import check_arrays, check_process, check_request, open_failure
from synergy.runtime.lite.config import NO_SETTINGS, LiteSettings, applied
from synergy.runtime.lite.locate import read_version
from synergy.runtime.lite.stderr import captured, cause
from synergy.runtime.specs import Device, TensorSpec

# What the package raises where it refuses something; it has no exception classes of its own.
_FAILURES = (RuntimeError, ValueError, TypeError, OSError)


class VendorModel:
    """As `LiteModel`, but `outputs` is empty until the first run: the 2.0 package does not tell them before."""

    def __init__(
        self, data: bytes, model_type: str, device: Device, threads: int, settings: LiteSettings = NO_SETTINGS
    ) -> None:
        """As `LiteModel`; EngineUnavailableError also if the package does not import."""
        check_request(model_type, threads)
        lite = import_package()
        self._model = lite.Model()
        with captured() as log:
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
        with captured() as log:
            try:
                self._model.resize(self._tensors, shapes)
                self._tensors = self._model.get_inputs()  # those from before keep their old shapes
                return self._predict(arrays)
            except _FAILURES as error:
                status = str(error)
        raise EngineError(f"MindSpore Lite cannot run shapes {shapes}: {cause(log.text, status)}")

    def close(self) -> None:
        """Free the model; calling it twice is harmless."""
        self._model, self._tensors = None, []

    def _predict(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        for tensor, array in zip(self._tensors, arrays, strict=True):
            tensor.set_data_from_numpy(array)
        results = self._model.predict(self._tensors)
        outputs = [np.array(tensor.get_data_to_numpy()) for tensor in results]  # the next run overwrites the tensors
        self.outputs = tuple(map(_spec, results))
        return outputs


def package_version() -> str | None:
    """Version of the vendor's package, "unknown" if it does not tell, None if there is none. Imports nothing."""
    spec = importlib.util.find_spec("mindspore_lite")
    if spec is None or spec.origin is None:  # a folder of that name without code is no package
        return None
    from importlib import metadata  # takes as long to import as half of numpy, and few have the package

    try:
        return metadata.version("mindspore-lite")
    except metadata.PackageNotFoundError:
        folder = Path(spec.origin).parent
        return read_version(folder, folder)


def import_package() -> ModuleType:
    """The package `mindspore_lite`. Raises EngineUnavailableError with the loader's reason."""
    check_process()
    with captured() as log:
        try:
            import mindspore_lite
        except (ImportError, OSError, RuntimeError) as error:
            reason = str(error)
        else:
            return mindspore_lite
    raise EngineUnavailableError(
        f"the installed package mindspore_lite does not import: {cause(log.text, reason)}; "
        "uninstall it to use this program's own binding, or install one built for this interpreter"
    )


def _build(
    lite: ModuleType, model: Any, data: bytes, model_type: str, device: Device, threads: int, settings: LiteSettings
) -> None:
    kind = lite.ModelType.MINDIR if model_type == "mindir" else lite.ModelType.MINDIR_LITE
    # The package reads paths only: a private copy keeps what was hashed and what is loaded the same bytes.
    with tempfile.TemporaryDirectory(prefix="synergy-lite-") as folder, applied(settings) as config:
        path = Path(folder) / f"model.{model_type}"
        path.write_bytes(data)
        model.build_from_file(str(path), kind, _context(lite, device, threads, settings), config)


def _context(lite: ModuleType, device: Device, threads: int, settings: LiteSettings) -> Any:
    """Of the precision only the file speaks, since the package's names for it change between releases."""
    context = lite.Context()
    context.target = [device.kind]  # Lite adds the CPU behind another device itself
    context.cpu.thread_num = threads
    if settings.affinity:
        context.cpu.thread_affinity_core_list = list(settings.affinity)
    if device.kind != "cpu":
        getattr(context, device.kind).device_id = device.index
    return context


def _spec(tensor: Any) -> TensorSpec:
    return TensorSpec(tensor.name, tuple(tensor.shape), tensor.dtype.name.lower())
