"""Settings of MindSpore Lite for GPUs and NPUs, and the text of its configuration file.

Sections and keys follow the vendor's documentation ("Ascend Conversion Tool Description") and Lite's sources
(src/common/common.h, src/common/config_infos.cc). Lite's converter reads the same format.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path

from synergy.runtime.files import TemporaryFolder
from synergy.runtime.specs import DYNAMIC, Device, EngineOptions, TensorSpec

# Lite's default on Ascend is float16. "enforce_fp32" is not strict there: CANN's force_fp32 still uses float16 inputs
# for matrix products and convolutions. "enforce_origin" keeps the original types or fails.
PRECISION_MODES = {
    ("gpu", "fp32"): "enforce_fp32",
    ("gpu", "fp16"): "preferred_fp16",
    ("ascend", "fp32"): "enforce_origin",
    ("ascend", "fp16"): "enforce_fp16",
}
_OPERATORS = {"fp32": "high_precision", "fp16": "high_performance"}


@dataclass(frozen=True)
class AscendContext:
    """Section [ascend_context]; empty entries are omitted."""

    precision_mode: str
    op_select_impl_mode: str
    input_shape: str = ""
    dynamic_dims: str = ""


@dataclass(frozen=True)
class GpuContext:
    """Section [gpu_context], for TensorRT; empty entries are omitted."""

    precision_mode: str
    input_shape: str = ""
    dynamic_dims: str = ""
    opt_dims: str = ""


@dataclass(frozen=True)
class LiteConfig:
    """The configuration file; each field is a section."""

    ascend_context: AscendContext | None = None
    gpu_context: GpuContext | None = None

    def sections(self) -> dict[str, dict[str, str]]:
        """Sections with their non-empty entries."""
        present = {name: entries for name, entries in asdict(self).items() if entries is not None}
        return {name: {key: value for key, value in entries.items() if value} for name, entries in present.items()}

    def text(self, overlay: Path | None = None) -> str:
        """The file's text. Entries of the file `overlay` are added and override the generated ones.

        Raises ValueError if `overlay` cannot be read.
        """
        sections = self.sections()
        for name, entries in _read(overlay).items() if overlay else ():
            sections.setdefault(name, {}).update(entries)
        return "\n".join(_section(name, entries) for name, entries in sections.items())


@dataclass(frozen=True)
class LiteSettings:
    """Settings for loading a model, besides device and threads.

    precision_mode: Lite's name of the precision for a GPU or NPU; empty for the CPU. affinity: CPU cores to which
    threads are bound; empty: not bound. config: text of the configuration file; empty: no file.
    """

    precision_mode: str = ""
    affinity: tuple[int, ...] = ()
    config: str = ""


NO_SETTINGS = LiteSettings()


def lite_settings(device: Device, options: EngineOptions, inputs: Sequence[TensorSpec]) -> LiteSettings:
    """Lite's settings for a model with these inputs. Raises ValueError if `options.lite_config` cannot be read."""
    mode = PRECISION_MODES.get((device.kind, options.compute_precision), "")
    config = make_config(device, options, inputs).text(options.lite_config)
    return LiteSettings(mode, options.affinity, config)


def make_config(device: Device, options: EngineOptions, inputs: Sequence[TensorSpec]) -> LiteConfig:
    """The configuration for `device`; empty for the CPU."""
    is_open = any(spec.shape[0] == DYNAMIC for spec in inputs)
    shapes = ";".join(f"{spec.name}:{_bracketed(spec.shape)}" for spec in inputs) if is_open else ""
    mode = PRECISION_MODES.get((device.kind, options.compute_precision), "")
    if device.kind == "ascend":  # the model is compiled for each batch size
        sizes = ",".join(_bracketed([size]) for size in options.batches) if is_open else ""
        context = AscendContext(mode, _OPERATORS[options.compute_precision], shapes, _for_each(inputs, sizes))
        return LiteConfig(ascend_context=context)
    if device.kind == "gpu":  # TensorRT compiles for a range, optimised for one size: mostly single faces
        first, last = options.batches[0], options.batches[-1]
        span, best = (f"[{first}~{last}]", f"[{first}]") if is_open else ("", "")
        return LiteConfig(gpu_context=GpuContext(mode, shapes, _for_each(inputs, span), _for_each(inputs, best)))
    return LiteConfig()


@contextmanager
def config_file_for(settings: LiteSettings) -> Iterator[str]:
    """Write the configuration file for the block that loads a model; yields its path, "" if there is none.

    Lite also binds the thread that loads a model, which computes nothing: its affinity is restored afterwards.
    """
    with TemporaryFolder("synergy-lite-") as folder, _restore_affinity(bool(settings.affinity)):
        path = Path(folder) / "lite.ini"
        if settings.config:
            path.write_text(settings.config)
        yield str(path) if settings.config else ""


@contextmanager
def _restore_affinity(wanted: bool) -> Iterator[None]:
    cores = os.sched_getaffinity(0) if wanted and hasattr(os, "sched_getaffinity") else None
    try:
        yield
    finally:
        if cores is not None:
            os.sched_setaffinity(0, cores)


def _bracketed(numbers: Sequence[int]) -> str:
    return f"[{','.join(map(str, numbers))}]"


def _for_each(inputs: Sequence[TensorSpec], text: str) -> str:
    return ";".join([text] * len(inputs)) if text else ""


def _section(name: str, entries: Mapping[str, str]) -> str:
    return f"[{name}]\n" + "".join(f"{key}={value}\n" for key, value in entries.items())


def _read(path: Path) -> dict[str, dict[str, str]]:
    from configparser import ConfigParser, Error  # not at the top: rarely needed

    parser = ConfigParser(delimiters=("=",), comment_prefixes=("#",), interpolation=None, default_section="")
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keeps the case of operator names
    try:
        parser.read_file(StringIO(path.read_text()), str(path))
    except (OSError, UnicodeDecodeError, Error) as error:
        raise ValueError(f"cannot read MindSpore Lite's configuration {path}: {' '.join(str(error).split())}") from None
    return {name: dict(parser[name]) for name in parser.sections()}
