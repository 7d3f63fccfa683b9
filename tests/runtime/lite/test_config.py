"""The configuration for GPUs and NPUs: its text, and how Lite's own parser reads it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synergy.runtime.lite.binding import LiteModel
from synergy.runtime.lite.build import find_compiler
from synergy.runtime.lite.config import (
    NO_SETTINGS,
    LiteConfig,
    LiteSettings,
    config_file_for,
    lite_settings,
    make_config,
)
from synergy.runtime.lite.convert import convert
from synergy.runtime.lite.locate import LINK_FLAGS, locate
from synergy.runtime.specs import DEFAULT_OPTIONS, DYNAMIC, Device, EngineOptions, TensorSpec

CPU, GPU, ASCEND = Device(), Device("gpu", 1), Device("ascend", 2)
OPEN = (TensorSpec("images", (DYNAMIC, 120, 120, 3), "uint8"),)
FIXED = (TensorSpec("images", (8, 120, 120, 3), "uint8"),)
HALF = EngineOptions(precision="fp16")

ASCEND_OPEN = """[ascend_context]
precision_mode=enforce_origin
op_select_impl_mode=high_precision
input_shape=images:[-1,120,120,3]
dynamic_dims=[1],[2],[4],[8],[16],[32],[64]
"""
GPU_OPEN = """[gpu_context]
precision_mode=enforce_fp32
input_shape=images:[-1,120,120,3]
dynamic_dims=[1~64]
opt_dims=[1]
"""


@pytest.mark.parametrize(
    ("device", "options", "inputs", "text"),
    [
        (CPU, DEFAULT_OPTIONS, OPEN, ""),
        (ASCEND, DEFAULT_OPTIONS, OPEN, ASCEND_OPEN),
        (GPU, DEFAULT_OPTIONS, OPEN, GPU_OPEN),
        (
            ASCEND,
            DEFAULT_OPTIONS,
            FIXED,
            "[ascend_context]\nprecision_mode=enforce_origin\nop_select_impl_mode=high_precision\n",
        ),
        (GPU, DEFAULT_OPTIONS, FIXED, "[gpu_context]\nprecision_mode=enforce_fp32\n"),
        (
            ASCEND,
            HALF,
            FIXED,
            "[ascend_context]\nprecision_mode=enforce_fp16\nop_select_impl_mode=high_performance\n",
        ),
        (GPU, HALF, FIXED, "[gpu_context]\nprecision_mode=preferred_fp16\n"),
    ],
    ids=["cpu", "ascend", "gpu", "ascend fixed", "gpu fixed", "ascend half", "gpu half"],
)
def test_text(device: Device, options: EngineOptions, inputs: tuple[TensorSpec, ...], text: str) -> None:
    assert make_config(device, options, inputs).text() == text
    assert lite_settings(device, options, inputs).config == text


def test_sizes_are_the_callers() -> None:
    options = EngineOptions(batches=(2, 16))
    assert "dynamic_dims=[2],[16]\n" in make_config(ASCEND, options, OPEN).text()
    text = make_config(GPU, options, OPEN).text()
    assert "dynamic_dims=[2~16]\n" in text and "opt_dims=[2]\n" in text


def test_several_inputs() -> None:
    """Lite wants as many entries as there are inputs."""
    text = make_config(
        ASCEND, EngineOptions(batches=(1, 2)), (*OPEN, TensorSpec("more", (DYNAMIC, 4), "float32"))
    ).text()
    assert "input_shape=images:[-1,120,120,3];more:[-1,4]\n" in text and "dynamic_dims=[1],[2];[1],[2]\n" in text


def test_settings_beside_the_file() -> None:
    assert lite_settings(CPU, DEFAULT_OPTIONS, OPEN) == NO_SETTINGS
    affinity = EngineOptions(affinity=(1, 0))
    assert lite_settings(CPU, affinity, OPEN) == LiteSettings(affinity=(1, 0))
    assert lite_settings(GPU, affinity, FIXED).precision_mode == "enforce_fp32"


# --- the user's own entries


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.ini"
    path.write_text("# mine\n[ascend_context]\nprecision_mode = preferred_fp32\nprovider=ge\n\n[Other]\nOp1=x=y\n")
    return path


def test_own_entries_come_first(own: Path) -> None:
    options = replace(DEFAULT_OPTIONS, lite_config=own)
    assert lite_settings(ASCEND, options, FIXED).config == (
        "[ascend_context]\nprecision_mode=preferred_fp32\nop_select_impl_mode=high_precision\nprovider=ge\n"
        "\n[Other]\nOp1=x=y\n"
    )
    assert LiteConfig().text(own).startswith("[ascend_context]\nprecision_mode=preferred_fp32\nprovider=ge\n")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"precision_mode=x\n", "no section"),
        (b"[a]\nx\n", "errors"),
        (b"[a]\nx=\xff", "decode"),
    ],
    ids=["missing", "no section", "no value", "binary"],
)
def test_own_file_that_cannot_be_read(content: bytes | None, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "own.ini"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"configuration {path}: .*{reason}") as raised:
        lite_settings(CPU, replace(DEFAULT_OPTIONS, lite_config=path), OPEN)
    assert "\n" not in str(raised.value)


# --- handing it over


def test_the_file_is_there_while_a_model_is_opened() -> None:
    with config_file_for(LiteSettings(config="[a]\nb=c\n")) as path:
        assert Path(path).read_text() == "[a]\nb=c\n"
    assert not Path(path).exists()
    with config_file_for(NO_SETTINGS) as path:
        assert path == ""


@pytest.mark.lite_process
@pytest.mark.parametrize("device", [ASCEND, GPU], ids=["ascend", "gpu"])
def test_changes_nothing_on_the_cpu(tiny_ms: bytes, tiny: Any, device: Device) -> None:
    inputs = (TensorSpec("images", (DYNAMIC, 8, 8, 3), "uint8"),)
    settings = LiteSettings(config=lite_settings(device, DEFAULT_OPTIONS, inputs).config)
    model = LiteModel(tiny_ms, "ms", CPU, 1, settings)
    np.testing.assert_allclose(model.run([tiny.images(3)])[0], tiny.expected(tiny.images(3))[0], atol=1e-4)


@pytest.mark.parametrize("device", [ASCEND, GPU], ids=["ascend", "gpu"])
def test_the_converter_takes_it(lite_home: Path, tiny_onnx: Path, tmp_path: Path, device: Device) -> None:
    config = tmp_path / "lite.ini"
    config.write_text(make_config(device, DEFAULT_OPTIONS, OPEN).text())
    convert(tiny_onnx, "onnx", tmp_path / "model.ms", config_file=config)
    assert (tmp_path / "model.ms").is_file()


# --- Lite's own parser of these sections, which the libraries export

PARSER = """
#include <cstdint>
#include <iostream>
#include <map>
#include <string>
#include <vector>

namespace mindspore {
struct ProfileInputInfo { std::string name; bool is_dynamic; std::vector<int64_t> shape; };
struct ProfileInputRange { std::vector<int64_t> min, opt, max; };
struct ProfileItem { std::vector<ProfileInputRange> inputs; };
struct ProfileConfigs { std::vector<ProfileInputInfo> inputs; std::vector<ProfileItem> profiles; };
class __attribute__((visibility("default"))) ProfileParser {
 public:
  static bool Parse(const std::map<std::string, std::string> &section, bool wants_opt, ProfileConfigs *found);
};
}  // namespace mindspore

// section, then key and value in turn; prints the shape of each input and the sizes of each profile
int main(int count, char **words) {
  std::map<std::string, std::string> section;
  for (int i = 2; i + 1 < count; i += 2) section[words[i]] = words[i + 1];
  mindspore::ProfileConfigs found;
  if (!mindspore::ProfileParser::Parse(section, std::string(words[1]) == "gpu_context", &found)) return 1;
  for (const auto &input : found.inputs) {
    std::cout << input.name;
    for (auto dim : input.shape) std::cout << " " << dim;
    std::cout << std::endl;
  }
  for (const auto &profile : found.profiles) {
    const auto &range = profile.inputs.at(0);
    std::cout << range.min.at(0) << " " << range.opt.at(0) << " " << range.max.at(0) << std::endl;
  }
}
"""


@pytest.fixture(scope="session")
def lite_parser(lite_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = locate()
    if home.version != "2.0.0" or not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("needs a C++ compiler, and the release whose parser is declared here")
    program = tmp_path_factory.mktemp("parser") / "parser"
    library = str(home.libraries[0])
    paths = [f"-Wl,{option},{home.libraries[0].parent}" for option in ("-rpath", "-rpath-link")]
    abi = "-D_GLIBCXX_USE_CXX11_ABI=0"  # as the wheel was built
    command = [*find_compiler(), "-std=c++17", abi, "-x", "c++", "-", "-x", "none", library, *paths, *LINK_FLAGS]
    subprocess.run([*command, "-o", str(program)], input=PARSER, text=True, check=True)
    return program


def parsed(parser: Path, device: Device, options: EngineOptions, inputs: tuple[TensorSpec, ...]) -> list[str]:
    ((name, entries),) = make_config(device, options, inputs).sections().items()
    words = [word for entry in entries.items() for word in entry]
    done = subprocess.run([str(parser), name, *words], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_lite_understands_the_sizes(lite_parser: Path) -> None:
    options = EngineOptions(batches=(1, 4, 64))
    assert parsed(lite_parser, ASCEND, options, OPEN) == ["images -1 120 120 3", "1 1 1", "4 4 4", "64 64 64"]
    assert parsed(lite_parser, GPU, options, OPEN) == ["images -1 120 120 3", "1 1 64"]
    assert parsed(lite_parser, GPU, DEFAULT_OPTIONS, FIXED) == []
    two = (*OPEN, TensorSpec("more", (DYNAMIC, 4), "float32"))
    assert parsed(lite_parser, ASCEND, options, two)[:2] == ["images -1 120 120 3", "more -1 4"]


# --- cores


def cores_of_threads() -> dict[int, str]:
    lines = {}
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it ended meanwhile
            lines[int(task.name)] = (task / "status").read_text().splitlines()
    return {
        task: next(line.split()[1] for line in status if line.startswith("Cpus_allowed_list"))
        for task, status in lines.items()
    }


@pytest.fixture
def cores() -> Iterator[list[int]]:
    if not Path("/proc/self/task").is_dir():
        pytest.skip("threads are looked up in /proc")
    before = os.sched_getaffinity(0)
    yield sorted(before)
    os.sched_setaffinity(0, before)


@pytest.mark.lite_process
def test_threads_are_bound_and_the_callers_is_not(tiny_ms: bytes, tiny: Any, cores: list[int]) -> None:
    before = cores_of_threads()
    model = LiteModel(tiny_ms, "ms", CPU, 2, LiteSettings(affinity=(cores[-1],)))
    np.testing.assert_allclose(model.run([tiny.images(3)])[0], tiny.expected(tiny.images(3))[0], atol=1e-4)
    end, after = time.monotonic() + 10.0, cores_of_threads()
    while {after[task] for task in after.keys() - before.keys()} != {str(cores[-1])} and time.monotonic() < end:
        time.sleep(0.01)  # a worker may bind itself only when it first gets to run
        after = cores_of_threads()
    assert {after[task] for task in after.keys() - before.keys()} == {str(cores[-1])}
    assert all(after[task] == before[task] for task in before.keys() & after.keys())
    assert sorted(os.sched_getaffinity(0)) == cores


def test_the_documentation_shows_what_is_made() -> None:
    page = (Path(__file__).parents[3] / "docs" / "lite.md").read_text()
    assert f"```ini\n{ASCEND_OPEN}```" in page and f"```ini\n{GPU_OPEN}```" in page
