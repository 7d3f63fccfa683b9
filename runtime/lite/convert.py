"""Convert ONNX and MindIR files to `.ms` with MindSpore Lite's Converter."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from synergy.runtime.errors import EngineError
from synergy.runtime.files import TemporaryFolder, whole_file
from synergy.runtime.lite.locate import LiteInstallation, locate
from synergy.runtime.lite.stderr import LOG_LEVEL, extract_cause
from synergy.runtime.processes import programs
from synergy.runtime.text import last_line

FRAMEWORKS = {"onnx": 2, "mindir": 3}  # include/registry/converter_context.h: kFmkTypeOnnx, kFmkTypeMs
INPUT_FORMATS = ("NCHW", "NHWC")
_CHILD = Path(__file__).with_name("convert_child.py")


def convert(
    source: Path,
    framework: str,
    output: Path,
    *,
    input_format: str = "NCHW",
    weight_fp16: bool = False,
    config_file: Path | None = None,
) -> None:
    """Write `source` (framework "onnx", or "mindir" of version 1) as the MindSpore Lite file `output`.

    It runs in a child process, so MindSpore can be loaded in this one. If it fails, `output` is unchanged.

    Args:
        source: The model file.
        framework: Its format, "onnx" or "mindir".
        output: The file to write.
        input_format: The layout of all 4-D inputs at run time. Lite converts the declared shapes to it and does not
            always know the layout of the source, so compare the shapes after loading, as `LiteEngine` does.
        weight_fp16: Store weights as float16.
        config_file: Lite's converter configuration (quantisation).

    Raises:
        ValueError: The framework, the format or a path is wrong.
        EngineUnavailableError: MindSpore Lite is not installed.
        EngineError: The conversion failed; the message contains the cause that Lite printed.
        FileWriteError: `output` cannot be written.
    """
    _check(source, framework, output, input_format, config_file)
    installation = locate()
    if not installation.has_converter:
        raise EngineError(
            f"the MindSpore Lite at {installation.root} has no converter: use a release that has tools/converter"
        )
    with whole_file(output) as temporary, TemporaryFolder(".convert-", output.parent) as folder:
        named = Path(folder).absolute() / f"model.{framework}"  # Lite detects the format by the suffix
        named.symlink_to(source.absolute())
        stem = named.with_suffix("")  # Lite appends ".ms"
        job = {
            "shim": str(installation.shim),
            "framework": FRAMEWORKS[framework],
            "model": str(named),
            "output": str(stem),
            "nhwc": input_format == "NHWC",
            "weight_fp16": weight_fp16,
            "config": str(config_file.absolute()) if config_file else None,
        }
        _run(installation, source, job)
        made = stem.with_suffix(".ms")
        if not made.is_file():
            raise EngineError(f"MindSpore Lite reported success for {source}, but wrote no file")
        made.chmod(0o666 & ~_umask())  # Lite makes it 0400
        made.replace(temporary)


def _check(source: Path, framework: str, output: Path, input_format: str, config_file: Path | None) -> None:
    if framework not in FRAMEWORKS:
        raise ValueError(f"unknown framework {framework!r}: use {' or '.join(FRAMEWORKS)}")
    if input_format not in INPUT_FORMATS:
        raise ValueError(f"unknown input format {input_format!r}: use {' or '.join(INPUT_FORMATS)}")
    for path in (source, config_file):
        if path is not None and not path.is_file():
            raise ValueError(f"{path} is not a file: nothing to convert")
    if not output.parent.is_dir():
        raise ValueError(f"{output.parent} is not a folder: create it first")


def _run(installation: LiteInstallation, source: Path, job: dict[str, object]) -> None:
    command = [sys.executable, "-I", str(_CHILD), json.dumps(job)]
    done = programs.run(command, environment={"GLOG_v": LOG_LEVEL})
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise EngineError(
            f"MindSpore Lite's converter crashed ({name}) on {source}: the file is damaged or unsupported"
        )
    if done.returncode != 0:
        status = last_line(done.stderr, default="no reason given")
        raise EngineError(
            f"MindSpore Lite {installation.version} cannot convert {source}: {extract_cause(done.stderr, status)}"
        )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
