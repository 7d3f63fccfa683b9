"""MindIR files as MindSpore writes them, from any process and to any path."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from mindspore.train.mind_ir_pb2 import ModelProto

from synergy.export.formats.mindir import mind_ir_version, write_mindir

ODD_NAMES = ("with blank", "münchen", "(copy)", "it's", "日本")

# The first thing that this process does with MindSpore
FRESH = """
import sys
from pathlib import Path
from synergy.export.graph import DeployGraph
from synergy.export.formats.mindir import write_mindir
from synergy.synergy_model.synergynet import SynergyNet
batch = int(sys.argv[2]) if len(sys.argv) > 2 else None
write_mindir(DeployGraph(SynergyNet("mb05", "3ddfa_v2", False, False)), Path(sys.argv[1]), batch)
"""


class Tiny(nn.Cell):
    """uint8 crops (N,120,120,3) -> their channel means (N,3), twice that (N,3)."""

    def construct(self, images: Tensor) -> tuple[Tensor, Tensor]:
        means = ops.mean(ops.cast(images, ms.float32), (1, 2))
        return means, means * 2.0


def parsed(path: Path) -> ModelProto:
    model = ModelProto()
    model.ParseFromString(path.read_bytes())
    return model


@pytest.mark.parametrize(("batch", "dimension"), [(None, -1), (1, 1), (3, 3)])
def test_batch(tmp_path: Path, batch: int | None, dimension: int) -> None:
    path = tmp_path / "m.mindir"
    write_mindir(Tiny(), path, batch)
    (images,) = parsed(path).graph.input
    assert list(images.tensor[0].dims) == [dimension, 120, 120, 3]


def test_version_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "m.mindir"
    write_mindir(Tiny(), path, None)
    assert mind_ir_version(path) == 3
    assert path.stat().st_mode & 0o777 == 0o644  # MindSpore alone leaves 0400
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.mindir"]


def test_the_file_computes_what_the_cell_does(tmp_path: Path) -> None:
    images = Tensor(np.random.default_rng(0).integers(0, 256, (2, 120, 120, 3), np.uint8))
    write_mindir(Tiny(), tmp_path / "m.mindir", None)
    loaded = nn.GraphCell(ms.load(str(tmp_path / "m.mindir")))
    means, twice = (output.asnumpy() for output in loaded(images))
    assert np.allclose(means, images.asnumpy().mean((1, 2)), rtol=1e-5)
    assert np.allclose(twice, 2 * means)


def test_a_training_network_is_frozen_for_inference(tmp_path: Path) -> None:
    """Otherwise BatchNorm would use batch statistics, and Dropout would be active."""
    graph = nn.SequentialCell(Tiny(), _First(), nn.Dropout(p=0.5)).set_train(True)
    write_mindir(graph, tmp_path / "m.mindir", 1)
    assert "Dropout" not in {primitive.op_type for primitive in parsed(tmp_path / "m.mindir").primitives}


class _First(nn.Cell):
    def construct(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        return pair[0]


def test_older_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "m.mindir"
    path.write_bytes(b"old")
    write_mindir(Tiny(), path, None)
    assert mind_ir_version(path) == 3


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_path(tmp_path: Path, name: str) -> None:
    """MindSpore itself accepts only ASCII paths without spaces."""
    folder = tmp_path / name
    folder.mkdir()
    write_mindir(Tiny(), folder / "m.mindir", None)
    assert mind_ir_version(folder / "m.mindir") == 3


@pytest.mark.parametrize("batch", [None, 2])
def test_export_in_a_new_process(tmp_path: Path, batch: int | None) -> None:
    """MindSpore 2.10's first eager operator of a process fails where NumPy is newer than 1: use none."""
    arguments = [str(tmp_path / "m.mindir"), *([str(batch)] if batch else [])]
    done = subprocess.run([sys.executable, "-c", FRESH, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "NumPy" not in done.stderr
    assert mind_ir_version(tmp_path / "m.mindir") == 3
